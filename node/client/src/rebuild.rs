//! The index from the segments alone, for a vault whose heads or catalog are lost.
//!
//! Every holder's list is followed page by page. What it names counts when the holder shows a
//! manifest with the owner's tag, which nobody else can make; a holder that names what it cannot
//! show, or takes its time, is followed no further. Of each segment only its nonce and its end are
//! fetched, which has the directory.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::{Duration, Instant};

use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::{Manifest, NodeId, SegmentId, ShardIndex};
use fincrypt_vault::Root;
use fincrypt_vault::segment::{Directory, OpenSegment, SegmentCipher};
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};

use super::error::ClientError;
use super::fetch::Fetcher;
use super::holders::Holders;
use super::reader::ReadError;
use super::vault::Vault;

/// Holders whose lists are followed at once.
const LISTS_AT_ONCE: usize = 16;
/// Directories read at once: two or three shards of 1 MiB each, within the fetcher's window.
const DIRECTORIES_AT_ONCE: usize = 16;
/// Segments that a holder may name and not show, beside as many as it has shown: some may have been
/// deleted meanwhile, others be somebody's rubbish.
const MAX_DOUBTFUL: u64 = 1 << 14;
/// How long a holder may take in all, beside the time for what it has shown.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Segments that a holder shows in a second, at least.
const PACE: u64 = 64;
/// Times that a holder is asked the same.
const ATTEMPTS: usize = 3;
/// How long it is left alone in between: it may have said that it is busy.
const PAUSE: Duration = Duration::from_secs(1);

/// How far a holder's list is followed. What it can spin out is bounded by what the vault really has.
#[derive(Debug, Default)]
struct Trust {
    /// Segments of the vault that it named.
    shown: u64,
    /// What else it named.
    doubtful: u64,
    /// How long it took to answer.
    waited: Duration,
}

impl Trust {
    fn note(&mut self, named: usize, shown: usize) {
        self.shown += shown as u64;
        self.doubtful += named.saturating_sub(shown) as u64;
    }

    fn holds(&self) -> bool {
        self.doubtful <= MAX_DOUBTFUL.saturating_add(self.shown)
            && self.waited <= MAX_WAIT + Duration::from_secs(self.shown / PACE)
    }

    /// Asks a holder until it answers; the time that this takes counts.
    async fn ask<T, F: Future<Output = Option<T>>>(&mut self, mut question: impl FnMut() -> F) -> Option<T> {
        let begun = Instant::now();
        let mut answer = question().await;
        for _ in 1..ATTEMPTS {
            if answer.is_none() {
                tokio::time::sleep(PAUSE).await;
                answer = question().await;
            }
        }
        self.waited += begun.elapsed();
        answer
    }
}

/// What the lists have brought so far.
struct Search<'a> {
    fetcher: &'a Fetcher,
    holders: &'a Holders,
    /// Segments of the vault that some holder has shown.
    known: Mutex<BTreeSet<SegmentId>>,
}

impl Search<'_> {
    fn known(&self) -> MutexGuard<'_, BTreeSet<SegmentId>> {
        self.known.lock()
    }

    /// Follows one holder's list and hands on what nobody has shown before.
    async fn follow(&self, node: NodeId, mut found: mpsc::Sender<Manifest>) {
        let (mut trust, mut after) = (Trust::default(), None);
        'pages: while trust.holds() {
            let page = trust.ask(|| self.holders.list(node, after)).await;
            let Some((page, more)) = page else { return };
            // A list that does not go on in its order could go round for ever.
            let in_order = page.is_sorted_by(|one, next| one < next) && page.first().copied() > after;
            if !in_order {
                return;
            }
            after = page.last().copied();
            let mut named: Vec<SegmentId> = page.into_iter().map(|(segment, _)| segment).collect();
            named.dedup();
            let (old, new): (Vec<_>, Vec<_>) = {
                let known = self.known();
                named.into_iter().partition(|segment| known.contains(segment))
            };
            trust.note(old.len(), old.len());
            for segments in new.chunks(MAX_LOCATE) {
                if !trust.holds() {
                    break 'pages;
                }
                let held = trust.ask(|| self.holders.locate_at(node, segments)).await;
                let Some(held) = held else { return };
                let ours = held.into_iter().filter(|held| self.fetcher.is_ours(&held.manifest, held.tag));
                let shown: BTreeMap<SegmentId, Manifest> = ours
                    .map(|held| (held.manifest.id(), held.manifest))
                    .filter(|(segment, _)| segments.contains(segment))
                    .collect();
                trust.note(segments.len(), shown.len());
                for (segment, manifest) in shown {
                    let is_new = self.known().insert(segment);
                    if is_new && found.send(manifest).await.is_err() {
                        return;
                    }
                }
            }
            if !more {
                return;
            }
        }
        tracing::warn!(%node, "holder_list_abandoned");
    }
}

/// A segment's directory, from its first and its last data shards; from all of it if these cannot be
/// had.
async fn directory(root: &Root, fetcher: &Fetcher, manifest: &Manifest) -> Result<Directory, ReadError> {
    let data: Vec<ShardIndex> = manifest.code().indices().take(manifest.code().data().into()).collect();
    let (Some((first, rest)), length) = (data.split_first(), manifest.data_len()) else {
        return Err(ReadError::Inner);
    };
    if let Some(shard) = fetcher.shard(manifest, *first).await
        && let Some(nonce) = shard.first_chunk()
    {
        let cipher = SegmentCipher::new(root, nonce);
        let mut end: Vec<u8> = Vec::new();
        for index in rest.iter().rev() {
            let Some(shard) = fetcher.shard(manifest, *index).await else { break };
            end.splice(..0, shard.iter().copied());
            if let Some(directory) = cipher.directory(length, &end).map_err(ReadError::damaged)? {
                return Ok(directory);
            }
        }
        if end.len() + shard.len() == length {
            end.splice(..0, shard.iter().copied());
            let directory = cipher.directory(length, &end).map_err(ReadError::damaged)?;
            return directory.ok_or(ReadError::Inner);
        }
    }
    let ciphertext = fetcher.segment(manifest).await?;
    let open = OpenSegment::open(root, ciphertext).map_err(ReadError::damaged)?;
    Ok(open.directory().clone())
}

/// Rebuilds the index from the segments that any holder lists and shows. Those without enough
/// shards are left out; how many could be read. Runs that were found are kept before the next head.
pub(crate) async fn rebuild_index(vault: &Vault, fetcher: &Fetcher) -> Result<usize, ClientError> {
    let search = Search { fetcher, holders: fetcher.holders().await, known: Mutex::default() };
    // As many as are located at once; the lists wait while they are read.
    let (found, segments) = mpsc::channel::<Manifest>(MAX_LOCATE);
    let follow = |node: &NodeId| search.follow(*node, found.clone());
    let lists: Vec<_> = search.holders.nodes().iter().map(follow).collect();
    drop(found);
    let lists = futures::stream::iter(lists).buffer_unordered(LISTS_AT_ONCE).collect::<()>();
    let read = async move {
        // The lists end when nobody reads any more, as after an error.
        let mut segments = segments;
        let mut read = 0;
        while let Some(manifest) = segments.next().await {
            let mut page = vec![manifest];
            while page.len() < MAX_LOCATE
                && let Ok(manifest) = segments.try_recv()
            {
                page.push(manifest);
            }
            read += read_directories(vault, fetcher, page).await?;
        }
        Ok::<_, ClientError>(read)
    };
    let ((), read) = futures::future::join(lists, read).await;
    let read = read?;
    vault.lifecycle.index_rebuilt(&fetcher.seen_runs())?;
    Ok(read)
}

/// Takes the directories of up to [`MAX_LOCATE`] segments into the index; how many could be read.
async fn read_directories(
    vault: &Vault,
    fetcher: &Fetcher,
    page: Vec<Manifest>,
) -> Result<usize, ClientError> {
    let ids: Vec<SegmentId> = page.iter().map(Manifest::id).collect();
    fetcher.locate_direct(&ids).await;
    let root = &vault.keys.root;
    let readings = page.into_iter().map(|manifest| async move {
        let directory = directory(root, fetcher, &manifest).await;
        (manifest, directory)
    });
    let mut readings = futures::stream::iter(readings).buffer_unordered(DIRECTORIES_AT_ONCE);
    let mut read = 0;
    while let Some((manifest, directory)) = readings.next().await {
        match directory {
            Ok(directory) => {
                vault.index.insert(&manifest, &directory)?;
                read += 1;
            }
            Err(error) => tracing::debug!(segment = %manifest.id(), %error, "a segment is left out"),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::limits::MAX_LIST;

    #[test]
    fn a_list_of_what_nobody_can_show_ends_soon() {
        let mut trust = Trust::default();
        let pages = std::iter::from_fn(|| {
            trust.note(MAX_LIST, 0);
            trust.holds().then_some(())
        });
        assert!(pages.count() < 10);
    }

    #[test]
    fn an_honest_list_is_followed_however_long_and_slow() {
        let mut trust = Trust::default();
        for _ in 0..10_000 {
            trust.note(MAX_LIST, MAX_LIST - MAX_LIST / 10);
            trust.waited += Duration::from_secs(15);
            assert!(trust.holds());
        }
    }

    #[test]
    fn a_holder_that_shows_a_little_and_takes_its_time_is_left() {
        let mut trust = Trust::default();
        let answers = std::iter::from_fn(|| {
            trust.note(1, 1);
            trust.waited += Duration::from_secs(9);
            trust.holds().then_some(())
        });
        assert!(answers.count() < 10);
    }
}
