//! One segment's ciphertext from enough of its shards, whoever brings them.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::{Code, Manifest, SegmentId, ShardIndex};
use fincrypt_shards::erasure::rebuild_into;
use fincrypt_shards::proof::shard_id;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::SemaphorePermit;

use super::budget::FetchBudget;
use super::sink::SegmentReadError;

/// A shard that is the one its manifest names at its index.
#[derive(Debug, Clone)]
pub(crate) struct VerifiedShard {
    index: ShardIndex,
    bytes: Bytes,
}

impl VerifiedShard {
    /// Hashes the bytes, once; `None` if they are not shard `index` of the segment.
    pub(crate) fn check(manifest: &Manifest, index: ShardIndex, bytes: Bytes) -> Option<Self> {
        let good = bytes.len() == manifest.shard_len().get() as usize
            && manifest.shard(index) == Some(shard_id(&bytes));
        good.then_some(Self { index, bytes })
    }

    /// The shard's bytes.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// What shards come from: the swarm, or a test's memory.
pub(crate) trait ShardSource: Send + Sync {
    /// Says which segments will be asked for, in this order.
    fn expect(&self, segments: Vec<SegmentId>) -> impl Future<Output = ()> + Send;

    /// All positions of a segment in the order in which they are best asked for.
    fn order(&self, manifest: &Manifest) -> impl Future<Output = Vec<ShardIndex>> + Send;

    /// One shard; `None` if it cannot be had. Ends in any case: a silent holder is given up.
    fn fetch_shard(
        &self,
        manifest: &Manifest,
        index: ShardIndex,
    ) -> impl Future<Output = Option<VerifiedShard>> + Send;

    /// How long a shard may take before another is asked for beside it.
    fn patience(&self) -> Duration;

    /// What bounds the shards asked for at once.
    fn budget(&self) -> &FetchBudget;
}

/// What became of one request for a shard.
enum Answer {
    Good(VerifiedShard),
    Bad(ShardIndex),
}

async fn ask<S: ShardSource>(
    source: &S,
    manifest: &Manifest,
    index: ShardIndex,
    _room: SemaphorePermit<'_>,
) -> Answer {
    source.fetch_shard(manifest, index).await.map_or(Answer::Bad(index), Answer::Good)
}

/// A segment's ciphertext: its data shards, rebuilt from any `k` where some are missing. As many
/// shards are asked for as are missing; beside one that is slow, the next.
///
/// # Errors
/// [`SegmentReadError::Unavailable`] if fewer than `k` good shards can be had.
pub(crate) async fn gather<S: ShardSource>(
    source: &S,
    manifest: &Manifest,
) -> Result<Vec<u8>, SegmentReadError> {
    let needed = usize::from(manifest.code().data());
    let mut waiting: VecDeque<ShardIndex> = source.order(manifest).await.into();
    let mut joined = Joined::new(manifest);
    let mut running = FuturesUnordered::new();
    // Requests that are waited for; slow ones may be answered as well.
    let mut asked = 0;
    let mut slow = false;
    while joined.count() < needed {
        while asked < needed - joined.count() && !waiting.is_empty() {
            let (budget, length) = (source.budget(), manifest.shard_len());
            let room = match (running.is_empty(), slow) {
                (true, _) => budget.wait(length).await,
                (false, true) => budget.beside(length),
                (false, false) => budget.now(length),
            };
            let Some((room, index)) = next(room, &mut waiting) else { break };
            running.push(ask(source, manifest, index, room));
            asked += 1;
        }
        if running.is_empty() && waiting.is_empty() {
            let (segment, found) = (manifest.id(), joined.count());
            return Err(SegmentReadError::Unavailable { segment, found, needed: manifest.code().data() });
        }
        let answer = tokio::time::timeout(source.patience(), running.next()).await;
        slow = answer.is_err();
        match answer {
            Ok(Some(Answer::Good(shard))) => joined.add(shard),
            Ok(Some(Answer::Bad(index))) => tracing::debug!(index = index.get(), "shard_unavailable"),
            Ok(None) => continue,
            // One more is asked for beside the slow ones.
            Err(_) => {}
        }
        asked = asked.saturating_sub(1);
    }
    drop(running);
    if joined.is_whole() {
        return Ok(joined.ciphertext);
    }
    tokio::task::spawn_blocking(move || joined.rebuild()).await.map_err(|_| SegmentReadError::Inner)?
}

/// The next shard to ask for, and room for it. Without room it stays in line.
fn next<R>(room: Option<R>, waiting: &mut VecDeque<ShardIndex>) -> Option<(R, ShardIndex)> {
    let room = room?;
    waiting.pop_front().map(|index| (room, index))
}

/// A segment's ciphertext as its shards come.
struct Joined {
    code: Code,
    length: usize,
    ciphertext: Vec<u8>,
    data: Vec<ShardIndex>,
    parity: Vec<VerifiedShard>,
}

impl Joined {
    fn new(manifest: &Manifest) -> Self {
        let (code, length) = (manifest.code(), manifest.shard_len().get() as usize);
        let ciphertext = vec![0; manifest.data_len()];
        Self { code, length, ciphertext, data: Vec::new(), parity: Vec::new() }
    }

    fn count(&self) -> usize {
        self.data.len() + self.parity.len()
    }

    /// Whether all data is in its place.
    fn is_whole(&self) -> bool {
        self.parity.is_empty()
    }

    /// Takes a shard. Data is in its place at once.
    fn add(&mut self, shard: VerifiedShard) {
        let start = shard.index.get() * self.length;
        match self.ciphertext.get_mut(start..start + self.length) {
            Some(place) => {
                place.copy_from_slice(&shard.bytes);
                self.data.push(shard.index);
            }
            None => self.parity.push(shard),
        }
    }

    /// Computes the data that did not come.
    fn rebuild(self) -> Result<Vec<u8>, SegmentReadError> {
        let Self { code, length, mut ciphertext, data, parity } = self;
        let shards = code.indices().zip(ciphertext.chunks_exact_mut(length));
        let (came, mut missing): (Vec<_>, Vec<_>) = shards.partition(|(index, _)| data.contains(index));
        let came = came.into_iter().map(|(index, shard)| (index, &*shard));
        let parity = parity.iter().map(|shard| (shard.index, shard.bytes.as_ref()));
        let present: Vec<(ShardIndex, &[u8])> = came.chain(parity).collect();
        rebuild_into(code, &present, &mut missing)?;
        Ok(ciphertext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_for_which_there_is_no_room_stays_in_line() {
        let mut waiting: VecDeque<ShardIndex> = Code::new(2, 1).expect("valid").indices().collect();
        let all = waiting.clone();
        assert_eq!(next(None::<()>, &mut waiting), None);
        assert_eq!(waiting, all);
        assert_eq!(next(Some(()), &mut waiting), Some(((), all[0])));
        assert_eq!(waiting.len(), 2);
    }
}
