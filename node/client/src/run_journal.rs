//! The journal of a run: which segments are stored, until a head commits them. A run that was
//! interrupted goes on from there.
//!
//! The first record is `run id 16 ‖ account 32 ‖ start u64le`; each further one an index piece with
//! a stored segment.

use std::path::Path;
use std::time::Duration;

use fincrypt_protocol::{AccountId, Manifest, RunId, SegmentId, UnixTime};
use fincrypt_state::journal::{Journal, JournalError, Records};
use fincrypt_state::kv::KvError;
use fincrypt_state::state::State;
use fincrypt_vault::index::{BlobIndex, IndexPiece};
use fincrypt_vault::segment::Directory;

use super::home::HomeError;

/// A run older than this is not gone on with: its segments lapse after seven days.
const MAX_AGE: Duration = Duration::from_secs(6 * 24 * 3600);
/// The most bytes of a record: an index piece.
const MAX_RECORD: u32 = 4 << 20;

/// A run, and where it notes what it has stored.
pub(crate) struct RunJournal {
    journal: Journal,
    pub(crate) run: RunId,
    pub(crate) started: UnixTime,
    /// An older run that is not gone on with, and the segments it stored.
    pub(crate) abandoned: Option<(RunId, Vec<SegmentId>)>,
}

/// The segments that a run had stored at some time.
#[derive(Clone)]
pub(crate) struct StoredSegments(Records);

impl StoredSegments {
    /// Calls `each` with every segment, in the order in which they were stored.
    pub(crate) fn read<E: From<JournalError>>(
        &self,
        mut each: impl FnMut(&Manifest, &Directory) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut header = true;
        self.0.read(|record| {
            if std::mem::take(&mut header) {
                return Ok(());
            }
            piece(record).segments.iter().try_for_each(|(manifest, directory)| each(manifest, directory))
        })
    }
}

/// Reads a record. Those of ours, whose checksums hold, decode.
fn piece(record: &[u8]) -> IndexPiece {
    IndexPiece::decode(record).unwrap_or_default()
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

/// What the records of a journal say.
struct Found<'a> {
    account: &'a AccountId,
    now: UnixTime,
    pending: &'a BlobIndex<State>,
    header: Option<(RunId, UnixTime)>,
    segments: Vec<SegmentId>,
    failed: Option<KvError>,
    records: usize,
}

impl Found<'_> {
    fn fresh(&self) -> bool {
        self.header.is_some_and(|(_, started)| self.now.since(started) < MAX_AGE)
    }

    fn record(&mut self, bytes: &[u8]) {
        self.records += 1;
        if self.records == 1 {
            let header = parse_header(bytes).filter(|(_, owner, _)| owner == self.account);
            self.header = header.map(|(run, _, started)| (run, started));
        } else if self.header.is_some() && self.failed.is_none() {
            for (manifest, directory) in IndexPiece::decode(bytes).unwrap_or_default().segments {
                if !self.fresh() {
                    self.segments.push(manifest.id());
                } else if let Err(error) = self.pending.insert(&manifest, &directory) {
                    self.failed = Some(error);
                }
            }
        }
    }
}

/// Replaces all records, durably.
fn replace(journal: &mut Journal, records: impl Iterator<Item = Vec<u8>>) -> Result<(), JournalError> {
    journal.rewrite(records.map(Ok::<_, JournalError>))?;
    journal.sync_name()
}

impl RunJournal {
    /// Goes on with the account's interrupted run, whose blobs are in `pending` then, or begins a
    /// new one.
    pub(crate) fn open(
        path: &Path,
        account: &AccountId,
        now: UnixTime,
        pending: &BlobIndex<State>,
    ) -> Result<Self, HomeError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(HomeError::io(parent))?;
        }
        pending.clear()?;
        let new =
            || Found { account, now, pending, header: None, segments: Vec::new(), failed: None, records: 0 };
        let mut found = new();
        let opened = Journal::open(path, MAX_RECORD, |record| found.record(record));
        let (mut journal, _) = match opened {
            // A damaged run only means that it is begun anew.
            Err(JournalError::Damaged { .. } | JournalError::Format(_)) => {
                std::fs::remove_file(path).map_err(HomeError::io(path))?;
                found = new();
                pending.clear()?;
                Journal::open(path, MAX_RECORD, |_| {})?
            }
            other => other?,
        };
        if let Some(error) = found.failed {
            return Err(error.into());
        }
        let mut abandoned = None;
        if let Some((run, started)) = found.header {
            if found.fresh() {
                return Ok(Self { journal, run, started, abandoned });
            }
            abandoned = Some((run, found.segments));
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(HomeError::Randomness)?;
        let run = RunId::from_bytes(random);
        replace(&mut journal, std::iter::once(header(run, account, now)))?;
        Ok(Self { journal, run, started: now, abandoned })
    }

    /// The segments that an interrupted run of the account noted, if it can be gone on with.
    pub(crate) fn noted(
        path: &Path,
        account: &AccountId,
        now: UnixTime,
    ) -> Result<Vec<SegmentId>, HomeError> {
        let mut segments = Vec::new();
        Self::each_noted(path, account, now, |manifest| segments.push(manifest.id()))?;
        Ok(segments)
    }

    /// Calls `each` with every segment that an interrupted run of the account noted, if it can be gone
    /// on with.
    pub(crate) fn each_noted(
        path: &Path,
        account: &AccountId,
        now: UnixTime,
        mut each: impl FnMut(&Manifest),
    ) -> Result<(), HomeError> {
        if !path.exists() {
            return Ok(());
        }
        let (mut goes_on, mut first) = (false, true);
        let opened = Journal::open(path, MAX_RECORD, |record| {
            if std::mem::take(&mut first) {
                goes_on = parse_header(record)
                    .is_some_and(|(_, owner, started)| owner == *account && now.since(started) < MAX_AGE);
            } else if goes_on {
                piece(record).segments.iter().for_each(|(manifest, _)| each(manifest));
            }
        });
        match opened {
            Ok(_) | Err(JournalError::Damaged { .. } | JournalError::Format(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What the run has stored so far.
    pub(crate) fn segments(&self) -> StoredSegments {
        StoredSegments(self.journal.records())
    }

    /// Notes that a segment is stored. Not synced: a power cut only means that it is sent again.
    pub(crate) fn stored(&mut self, manifest: Manifest, directory: Directory) -> Result<(), HomeError> {
        let segment = (manifest, directory);
        for piece in IndexPiece::encode_all(std::slice::from_ref(&segment)) {
            self.journal.append(&piece)?;
        }
        Ok(())
    }

    /// Forgets some of the run's segments, durably: what was in them is stored anew by whoever goes on.
    pub(crate) fn forget(&mut self, lost: &[SegmentId]) -> Result<(), HomeError> {
        let mut left = Vec::new();
        let read = self.journal.records().read(|record| {
            // The first record, which is the header, is no piece with segments.
            let piece = if left.is_empty() { IndexPiece::default() } else { piece(record) };
            if !piece.segments.iter().any(|(manifest, _)| lost.contains(&manifest.id())) {
                left.push(record.to_vec());
            }
            Ok::<(), JournalError>(())
        });
        read.and_then(|()| replace(&mut self.journal, left.into_iter()))?;
        Ok(())
    }

    /// Ends the run: a head refers to everything it stored.
    pub(crate) fn finish(self, path: &Path) -> Result<(), HomeError> {
        drop(self.journal);
        std::fs::remove_file(path).map_err(HomeError::io(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_was_forgotten_is_not_gone_on_with_and_the_others_are() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(&dir.path().join("state")).expect("opens");
        let pending = BlobIndex::pending(state);
        let (account, now) = (AccountId::from_bytes([1; 32]), UnixTime::from_secs(1_000_000));
        let open =
            || RunJournal::open(&dir.path().join("journal/run"), &account, now, &pending).expect("opens");
        let code = fincrypt_protocol::Code::new(1, 1).expect("valid");
        let manifests = [1, 2, 3].map(|seed| {
            let ids = [0, 1].map(|at| fincrypt_protocol::ShardId::from_bytes([2 * seed + at; 32])).to_vec();
            Manifest::new(code, fincrypt_protocol::ShardLen::FULL, ids).expect("valid")
        });
        let mut journal = open();
        let run = journal.run;
        for manifest in &manifests {
            journal.stored(manifest.clone(), Directory::default()).expect("noted");
        }
        journal.forget(&[manifests[1].id()]).expect("forgotten");
        journal.stored(manifests[0].clone(), Directory::default()).expect("it goes on");
        drop(journal);
        let path = dir.path().join("journal/run");
        let noted = |now| RunJournal::noted(&path, &account, now).expect("reads");
        assert_eq!(noted(now), [&manifests[0], &manifests[2], &manifests[0]].map(Manifest::id));
        assert_eq!(noted(now.plus(MAX_AGE)), []);
        assert_eq!(open().run, run);
        let known = manifests.map(|manifest| pending.manifest(&manifest.id()).expect("reads").is_some());
        assert_eq!(known, [true, false, true]);
    }

    #[test]
    fn an_interrupted_run_goes_on_and_a_stale_or_foreign_one_does_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(&dir.path().join("state")).expect("opens");
        let pending = BlobIndex::pending(state);
        let path = dir.path().join("journal/run");
        let open = |account: &AccountId, now| RunJournal::open(&path, account, now, &pending).expect("opens");
        let (account, now) = (AccountId::from_bytes([1; 32]), UnixTime::from_secs(1_000_000));
        let mut first = open(&account, now);
        let run = first.run;
        let code = fincrypt_protocol::Code::new(1, 1).expect("valid");
        let ids = [3, 4].map(|byte| fincrypt_protocol::ShardId::from_bytes([byte; 32])).to_vec();
        let manifest = Manifest::new(code, fincrypt_protocol::ShardLen::FULL, ids).expect("valid");
        first.stored(manifest.clone(), Directory::default()).expect("noted");
        drop(first);
        let again = open(&account, now);
        assert_eq!(again.run, run);
        assert!(pending.manifest(&manifest.id()).expect("reads").is_some());
        let mut listed = Vec::new();
        let read = again.segments().read(|manifest, _| {
            listed.push(manifest.id());
            Ok::<(), JournalError>(())
        });
        assert_eq!((read.is_ok(), listed), (true, vec![manifest.id()]));
        drop(again);
        let later = now.plus(MAX_AGE);
        let second = open(&account, later);
        assert_ne!(second.run, run);
        assert_eq!(second.abandoned, Some((run, vec![manifest.id()])));
        assert!(pending.manifest(&manifest.id()).expect("reads").is_none());
        drop(second);
        let other = AccountId::from_bytes([2; 32]);
        assert_eq!(open(&other, later).abandoned, None);
        std::fs::write(&path, b"garbage garbage").expect("writes");
        assert_eq!(open(&other, later).abandoned, None);
    }
}
