//! The journal of a run: which segments are stored, until a head commits them. A run that was
//! interrupted goes on from there.
//!
//! The first record is `run id 16 ‖ account 32 ‖ start u64le`; each further one an index piece with
//! a stored segment.

use std::path::Path;
use std::time::Duration;

use fincrypt_protocol::{AccountId, Manifest, RunId, UnixTime};
use fincrypt_storage::index::IndexPiece;
use fincrypt_storage::journal::{Journal, JournalError};
use fincrypt_storage::segment::Directory;

use super::error::ClientError;

/// A run older than this is not gone on with: its segments lapse after seven days.
const MAX_AGE: Duration = Duration::from_secs(6 * 24 * 3600);
/// The most bytes of a record: an index piece.
const MAX_RECORD: u32 = 4 << 20;

/// A run and what it has stored so far.
pub(crate) struct RunJournal {
    journal: Journal,
    pub(crate) run: RunId,
    pub(crate) started: UnixTime,
    /// An older run that is not gone on with, and what it stored.
    pub(crate) abandoned: Option<(RunId, Vec<(Manifest, Directory)>)>,
    pub(crate) stored: Vec<(Manifest, Directory)>,
}

fn fail(error: JournalError) -> ClientError {
    match error {
        JournalError::Io { path, source } => ClientError::Io { path, source },
        other => ClientError::Damaged(other.to_string()),
    }
}

fn header(run: RunId, account: &AccountId, started: UnixTime) -> Vec<u8> {
    let mut out = run.as_bytes().to_vec();
    out.extend_from_slice(account.as_bytes());
    out.extend_from_slice(&started.secs().to_le_bytes());
    out
}

fn parse_header(bytes: &[u8]) -> Option<(RunId, AccountId, UnixTime)> {
    let (run, rest) = bytes.split_first_chunk::<16>()?;
    let (account, started) = rest.split_first_chunk::<32>()?;
    let started = UnixTime::from_secs(u64::from_le_bytes(started.try_into().ok()?));
    Some((RunId::from_bytes(*run), AccountId::from_bytes(*account), started))
}

impl RunJournal {
    /// Goes on with the account's interrupted run, or begins a new one.
    pub(crate) fn open(path: &Path, account: &AccountId, now: UnixTime) -> Result<Self, ClientError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(ClientError::io(parent))?;
        }
        let mut records = Vec::new();
        let opened = Journal::open(path, MAX_RECORD, |record| records.push(record.to_vec()));
        let (mut journal, _) = match opened {
            // A damaged run only means that it is begun anew.
            Err(JournalError::Damaged { .. } | JournalError::Format(_)) => {
                std::fs::remove_file(path).map_err(ClientError::io(path))?;
                records.clear();
                Journal::open(path, MAX_RECORD, |_| {}).map_err(fail)?
            }
            other => other.map_err(fail)?,
        };
        let mut abandoned = None;
        if let Some((first, pieces)) = records.split_first()
            && let Some((run, owner, started)) = parse_header(first)
            && owner == *account
        {
            let stored = pieces.iter().filter_map(|piece| IndexPiece::decode(piece).ok());
            let stored = stored.flat_map(|piece| piece.segments).collect();
            if now.since(started) < MAX_AGE {
                return Ok(Self { journal, run, started, abandoned: None, stored });
            }
            abandoned = Some((run, stored));
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| ClientError::Inner)?;
        let run = RunId::from_bytes(random);
        journal.rewrite(std::iter::once(header(run, account, now))).map_err(fail)?;
        Ok(Self { journal, run, started: now, abandoned, stored: Vec::new() })
    }

    /// Notes that a segment is stored. Not synced: a power cut only means that it is sent again.
    pub(crate) fn stored(&mut self, manifest: Manifest, directory: Directory) -> Result<(), ClientError> {
        let segment = (manifest, directory);
        for piece in IndexPiece::encode_all(std::slice::from_ref(&segment)) {
            self.journal.append(&piece).map_err(fail)?;
        }
        self.stored.push(segment);
        Ok(())
    }

    /// Ends the run: a head refers to everything it stored.
    pub(crate) fn finish(self, path: &Path) -> Result<(), ClientError> {
        drop(self.journal);
        std::fs::remove_file(path).map_err(ClientError::io(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_run_goes_on_and_a_stale_or_foreign_one_does_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal/run");
        let (account, now) = (AccountId::from_bytes([1; 32]), UnixTime::from_secs(1_000_000));
        let first = RunJournal::open(&path, &account, now).expect("opens").run;
        assert_eq!(RunJournal::open(&path, &account, now).expect("opens").run, first);
        let other = AccountId::from_bytes([2; 32]);
        let second = RunJournal::open(&path, &other, now).expect("opens").run;
        assert_ne!(second, first);
        let later = now.plus(MAX_AGE);
        assert_ne!(RunJournal::open(&path, &other, later).expect("opens").run, second);
        std::fs::write(&path, b"garbage garbage").expect("writes");
        assert!(RunJournal::open(&path, &other, later).is_ok());
    }
}
