//! Keeps and releases that this client has signed, until every holder has surely heard them. The
//! mediator tells them, and takes its time with a holder that is away; one that takes the vault over
//! gets them with its `Adopt`.
//!
//! Tree `statements`: `kind 1 ‖ run 16` or `kind 1 ‖ sequence u64be` → `time u64le ‖ record`.

use std::time::Duration;

use fincrypt_protocol::limits::{MAX_ADOPT_KEEPS, MAX_ADOPT_RELEASES, RELEASE_DELAY_SECONDS};
use fincrypt_protocol::record::{Keep, Release, Released};
use fincrypt_protocol::{Body, RunId, Signed, UnixTime};
use fincrypt_state::kv::{Batch, KeyValue, Tree};

use super::error::ClientError;
use super::vault::Vault;

const STATEMENTS: Tree = Tree("statements");
const KEEP: u8 = 0;
const RELEASE: u8 = 1;
/// How long they are remembered. A run that was not kept for seven days has lapsed by then, and a
/// holder that was away for longer than that has what it missed told by the next prune.
const REMEMBERED: Duration = Duration::from_secs(2 * RELEASE_DELAY_SECONDS);

/// Keeps and releases, oldest first.
type Statements = (Vec<Signed<Keep>>, Vec<Signed<Release>>);

/// A statement, and when it was made.
struct Remembered<T> {
    key: Vec<u8>,
    time: UnixTime,
    record: Signed<T>,
}

fn parse<T: Body>((key, value): (Vec<u8>, Vec<u8>)) -> Option<Remembered<T>> {
    let (time, record) = value.split_first_chunk::<8>()?;
    let time = UnixTime::from_secs(u64::from_le_bytes(*time));
    Some(Remembered { key, time, record: Signed::from_bytes(record).ok()? })
}

/// The owner's statement that a run is to be kept, remembered.
pub(crate) fn keep(vault: &Vault, run: RunId) -> Result<Signed<Keep>, ClientError> {
    let keep = sign_keep(vault, run)?;
    remember(vault, KEEP, run.as_bytes(), &keep, MAX_ADOPT_KEEPS)?;
    Ok(keep)
}

/// The same for a run that nothing was stored in yet.
pub(crate) fn sign_keep(vault: &Vault, run: RunId) -> Result<Signed<Keep>, ClientError> {
    let account = vault.keys.root.account(vault.slot()?);
    Ok(Signed::seal(&Keep { network: vault.network(), account: account.account(), run }, &account)?)
}

/// Remembers a release that the mediator took.
pub(crate) fn remember_release(
    vault: &Vault,
    sequence: u64,
    release: &Signed<Release>,
) -> Result<(), ClientError> {
    remember(vault, RELEASE, &sequence.to_be_bytes(), release, MAX_ADOPT_RELEASES)
}

/// Forgets all releases: an undo has made them void.
pub(crate) fn forget_releases(vault: &Vault) -> Result<(), ClientError> {
    let mut batch = Batch::default();
    for (key, _) in vault.state.scan(STATEMENTS, &[RELEASE], None, usize::MAX)? {
        batch.remove(STATEMENTS, key);
    }
    Ok(vault.state.commit(&batch)?)
}

fn remember<T: Body>(
    vault: &Vault,
    kind: u8,
    number: &[u8],
    record: &Signed<T>,
    most: usize,
) -> Result<(), ClientError> {
    let (now, mut batch) = (UnixTime::now(), Batch::default());
    let key = [&[kind], number].concat();
    let mut known: Vec<Remembered<T>> = remembered(vault, kind)?;
    known.retain(|known| known.key != key);
    // The oldest give way.
    let superfluous = (known.len() + 1).saturating_sub(most);
    for (at, known) in known.into_iter().enumerate() {
        if at < superfluous || now.since(known.time) > REMEMBERED {
            batch.remove(STATEMENTS, known.key);
        }
    }
    batch.put(STATEMENTS, key, [&now.secs().to_le_bytes()[..], &record.to_bytes()?].concat());
    Ok(vault.state.commit(&batch)?)
}

/// What is remembered of a kind, oldest first.
fn remembered<T: Body>(vault: &Vault, kind: u8) -> Result<Vec<Remembered<T>>, ClientError> {
    let entries = vault.state.scan(STATEMENTS, &[kind], None, usize::MAX)?;
    let mut remembered: Vec<_> = entries.into_iter().filter_map(parse).collect();
    // A stable sort: releases of one second stay in the order of their sequences.
    remembered.sort_by_key(|remembered: &Remembered<T>| remembered.time);
    Ok(remembered)
}

/// Keeps and releases for a mediator that takes the vault over. A release of what counts as stored
/// after all, as after a recovery from an older head, is not among them.
pub(crate) fn statements(vault: &Vault) -> Result<Statements, ClientError> {
    let now = UnixTime::now();
    let keeps = remembered::<Keep>(vault, KEEP)?.into_iter();
    let keeps = keeps.filter(|keep| now.since(keep.time) <= REMEMBERED).map(|keep| keep.record);
    let empty = vault.known_head()?.is_some_and(|head| head.body.refs.is_empty());
    let mut releases = Vec::new();
    for remembered in remembered::<Release>(vault, RELEASE)? {
        let Ok(release) = remembered.record.verify(vault.network(), now) else { continue };
        let void = match &release.what {
            Released::Everything => !empty,
            Released::Segments(segments) => {
                let mut listed = false;
                for segment in segments {
                    listed |= vault.lifecycle.cache().is_loaded(segment)?
                        || vault.index.manifest(segment)?.is_some();
                }
                listed
            }
        };
        if !void && now.since(remembered.time) <= REMEMBERED {
            releases.push(remembered.record);
        }
    }
    Ok((keeps.collect(), releases))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::VaultHome;
    use fincrypt_protocol::SegmentId;
    use fincrypt_vault::words::Words;

    #[test]
    fn the_newest_statements_are_remembered_and_what_an_undo_made_void_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let options = crate::options::ClientOptions::default();
        let keys = Words::generate().expect("words").vault_keys();
        let vault = Vault::begin(VaultHome::new(dir.path().to_owned()), options, keys).expect("begins");
        let account = vault.keys.root.account(0);
        let sequences: Vec<u64> = (1..=MAX_ADOPT_RELEASES as u64 + 2).collect();
        for sequence in &sequences {
            let what = Released::Segments(vec![SegmentId::from_bytes([1; 32])]);
            let key = vault.keys.head_key(0);
            let release = Release {
                network: vault.network(),
                account: account.account(),
                head_key: key.head_key(),
                what,
                sequence: *sequence,
            };
            let release = Signed::seal(&release, &key).expect("seals");
            remember_release(&vault, *sequence, &release).expect("noted");
        }
        for run in [1, 2, 1] {
            keep(&vault, RunId::from_bytes([run; 16])).expect("signed");
        }
        let (keeps, releases) = statements(&vault).expect("read");
        assert_eq!(keeps.len(), 2);
        let now = UnixTime::now();
        let kept =
            releases.iter().map(|release| release.verify(vault.network(), now).expect("ours").sequence);
        assert_eq!(kept.collect::<Vec<_>>(), sequences[2..]);
        forget_releases(&vault).expect("forgotten");
        let (keeps, releases) = statements(&vault).expect("read");
        assert_eq!((keeps.len(), releases.len()), (2, 0));
    }
}
