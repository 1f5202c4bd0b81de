//! Owners' doubts: shards that an owner's own check did not find where this mediator said. The
//! mediator looks itself and believes only what its keepers show it. A shard that is not there has no
//! keeper any more, so its segment is among those that lack one.
//!
//! What an owner could gain by false doubts is one challenge for each: at most 64 at a time, one
//! request after the other.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::limits::MAX_DOUBTS;
use fincrypt_protocol::shard::{Challenge, Challenged, Proofs};
use fincrypt_protocol::{AccountId, NodeId, Nonce, Refusal, SegmentId, ShardId, ShardIndex, ShardLen};
use futures::StreamExt;

use super::MediatorRole;
use fincrypt_net::blocking;
use fincrypt_shards::answer::{Shown, judge};

/// How long a keeper may take. One that does not answer is left to the audits.
const ANSWER: Duration = Duration::from_secs(10);
/// Keepers asked at once for one owner.
const KEEPERS_AT_ONCE: usize = 8;
/// Owners whose doubts are looked at at once.
const OWNERS_AT_ONCE: usize = 16;

/// Owners whose doubts are being looked at.
#[derive(Clone, Default)]
pub(super) struct Doubts(Arc<Mutex<HashSet<AccountId>>>);

impl Doubts {
    /// A turn for an owner that has none, while there are any left.
    fn turn(&self, account: AccountId) -> Option<Turn> {
        let mut busy = self.0.lock();
        let free = busy.len() < OWNERS_AT_ONCE && busy.insert(account);
        free.then(|| Turn { doubts: self.clone(), account })
    }
}

/// Ends when it is dropped.
struct Turn {
    doubts: Doubts,
    account: AccountId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.doubts.0.lock().remove(&self.account);
    }
}

/// A doubtful shard at its keeper.
#[derive(Debug, Clone, Copy)]
struct Doubtful {
    segment: SegmentId,
    index: ShardIndex,
    shard: ShardId,
    length: ShardLen,
}

impl MediatorRole {
    /// Begins to look at what an owner doubts.
    ///
    /// # Errors
    /// [`Refusal::Busy`] while the owner's last doubts are still looked at.
    pub(super) async fn doubt(
        self: Arc<Self>,
        account: AccountId,
        shards: Vec<(SegmentId, ShardIndex)>,
    ) -> Result<(), Refusal> {
        if shards.len() > MAX_DOUBTS {
            return Err(Refusal::Invalid);
        }
        let turn = self.doubts.turn(account).ok_or(Refusal::Busy)?;
        let mut by_keeper: BTreeMap<NodeId, Vec<Doubtful>> = BTreeMap::new();
        for (segment, index) in shards {
            let Some(record) = self.records.find(account, segment).await? else { continue };
            let keeper = record.holders().find(|(held, _)| *held == index);
            if let (Some((_, keeper)), Some(shard)) = (keeper, record.manifest.shard(index)) {
                let length = record.manifest.shard_len();
                by_keeper.entry(keeper).or_default().push(Doubtful { segment, index, shard, length });
            }
        }
        let role = Arc::clone(&self);
        self.tasks.spawn(async move {
            let looks = by_keeper
                .into_iter()
                .map(|(keeper, doubtful)| Arc::clone(&role).look(account, keeper, doubtful));
            futures::stream::iter(looks).buffer_unordered(KEEPERS_AT_ONCE).collect::<Vec<()>>().await;
            drop(turn);
        });
        Ok(())
    }

    /// Challenges a keeper, and strikes it out for what it does not have.
    async fn look(self: Arc<Self>, account: AccountId, keeper: NodeId, doubtful: Vec<Doubtful>) {
        let mut random = [0; Nonce::LEN];
        if getrandom::fill(&mut random).is_err() {
            return;
        }
        let nonce = Nonce::from_bytes(random);
        let challenged =
            doubtful.iter().map(|one| Challenged { account, segment: one.segment, index: one.index });
        let request = Challenge { nonce, shards: challenged.collect(), audited: None };
        let asked = async {
            self.net.connect(keeper, self.directory.addresses(&keeper)).await.ok()?;
            self.net.shard_with(keeper, request, Bytes::new()).await.ok()
        };
        let Ok(Some((Proofs { verdicts }, payload))) = tokio::time::timeout(ANSWER, asked).await else {
            return;
        };
        let named: Vec<_> = doubtful.iter().map(|one| (one.shard, one.length)).collect();
        for (one, shown) in doubtful.into_iter().zip(judge(&nonce, &named, &verdicts, &payload)) {
            if shown != Shown::Proved {
                let (role, asked) =
                    (Arc::clone(&self), Challenged { account, segment: one.segment, index: one.index });
                if let Err(refusal) = blocking(move || role.lose(keeper, &asked)).await {
                    tracing::warn!(%refusal, "a lost shard could not be noted");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_one_turn_at_a_time_and_there_are_not_many() {
        let doubts = Doubts::default();
        let account = |at: u8| AccountId::from_bytes([at; 32]);
        let first = doubts.turn(account(0)).expect("free");
        assert!(doubts.turn(account(0)).is_none(), "it has one");
        let others: Vec<_> = (1..=u8::MAX).filter_map(|at| doubts.turn(account(at))).collect();
        assert_eq!(others.len(), OWNERS_AT_ONCE - 1);
        drop(first);
        assert!(doubts.turn(account(0)).is_some());
    }
}
