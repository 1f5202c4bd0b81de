//! Missing-shard reports: shards that an owner's own check did not find at the node that this mediator
//! named. The mediator challenges that node itself before it marks anything as missing.
//!
//! The cost of false reports is one challenge for each shard: at most 64 shards in a report, one report
//! of an account at a time.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::limits::MAX_MISSING_REPORTED;
use fincrypt_protocol::shard::{Challenge, Challenged, Proofs};
use fincrypt_protocol::{AccountId, NodeId, SegmentId, ShardId, ShardIndex, ShardLen};
use futures::StreamExt;

use super::context::{Context, nonce};
use super::error::{StoreError, blocking};
use super::holder_link::HolderLink;
use super::missing_shards::MissingShards;
use super::stores::SegmentStore;
use fincrypt_shards::answer::{ProofVerdict, check_proofs};

/// Time for a storage node to answer. One that does not is left to the audits.
const ANSWER: Duration = Duration::from_secs(10);
/// Storage nodes asked at once for one account.
const NODES_AT_ONCE: usize = 8;
/// Accounts whose reports are examined at once.
const ACCOUNTS_AT_ONCE: usize = 16;

/// Why a report is not examined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// It names more shards than a report may.
    #[error("the report names too many shards")]
    TooMany,
    /// The account's last report is still examined, or too many accounts' are.
    #[error("another report is being examined")]
    Busy,
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Accounts whose reports are being examined.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<HashSet<AccountId>>>);

impl Turns {
    /// A turn for an account that has none, while there are any left.
    fn turn(&self, account: AccountId) -> Option<Turn> {
        let mut busy = self.0.lock();
        let free = busy.len() < ACCOUNTS_AT_ONCE && busy.insert(account);
        free.then(|| Turn { turns: self.clone(), account })
    }
}

/// Ends when it is dropped.
struct Turn {
    turns: Turns,
    account: AccountId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().remove(&self.account);
    }
}

/// A reported shard at its node.
#[derive(Debug, Clone, Copy)]
struct Reported {
    segment: SegmentId,
    index: ShardIndex,
    shard: ShardId,
    length: ShardLen,
}

/// Examines missing-shard reports. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MissingReports {
    segments: SegmentStore,
    missing: MissingShards,
    link: HolderLink,
    context: Context,
    turns: Turns,
}

impl MissingReports {
    pub(crate) fn new(
        segments: SegmentStore,
        missing: MissingShards,
        link: HolderLink,
        context: Context,
    ) -> Self {
        Self { segments, missing, link, context, turns: Turns::default() }
    }

    /// Begins to examine a report.
    ///
    /// # Errors
    /// [`ReportError::Busy`] while the account's last report is still examined.
    pub(crate) async fn report(
        &self,
        account: AccountId,
        shards: Vec<(SegmentId, ShardIndex)>,
    ) -> Result<(), ReportError> {
        if shards.len() > MAX_MISSING_REPORTED {
            return Err(ReportError::TooMany);
        }
        let turn = self.turns.turn(account).ok_or(ReportError::Busy)?;
        let mut by_node: BTreeMap<NodeId, Vec<Reported>> = BTreeMap::new();
        for (segment, index) in shards {
            let Some(record) = self.segments.find(account, segment).await? else { continue };
            if let (Some(node), Some(shard)) = (record.holder(index), record.manifest.shard(index)) {
                let length = record.manifest.shard_len();
                by_node.entry(node).or_default().push(Reported { segment, index, shard, length });
            }
        }
        let this = self.clone();
        self.context.tasks.spawn(async move {
            let asking = by_node.into_iter().map(|(node, reported)| this.challenge(account, node, reported));
            futures::stream::iter(asking).buffer_unordered(NODES_AT_ONCE).collect::<Vec<()>>().await;
            drop(turn);
        });
        Ok(())
    }

    /// Challenges a node, and marks what it does not have as missing.
    async fn challenge(&self, account: AccountId, node: NodeId, reported: Vec<Reported>) {
        let Ok(nonce) = nonce() else { return };
        let challenged =
            reported.iter().map(|one| Challenged { account, segment: one.segment, index: one.index });
        let request = Challenge { nonce, shards: challenged.collect(), audited: None };
        let asked = async {
            if self.link.connect(node).await {
                self.link.call(node, request, Bytes::new()).await.ok()
            } else {
                None
            }
        };
        let Ok(Some((Proofs { verdicts }, payload))) = tokio::time::timeout(ANSWER, asked).await else {
            return;
        };
        let named: Vec<_> = reported.iter().map(|one| (one.shard, one.length)).collect();
        let checked = check_proofs(&nonce, &named, &verdicts, &payload);
        for (one, verdict) in reported.into_iter().zip(checked) {
            if verdict != ProofVerdict::Proved {
                let shard = Challenged { account, segment: one.segment, index: one.index };
                let missing = self.missing.clone();
                if let Err(error) = blocking(move || missing.mark_missing(node, &shard)).await {
                    tracing::error!(%node, %error, "missing_shard_not_marked");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder_link::testing::answering;
    use crate::testing::{Bench, owner};
    use fincrypt_protocol::shard::Verdict;
    use fincrypt_protocol::{Refusal, Response, RunId};

    #[test]
    fn an_account_has_one_turn_at_a_time_and_there_are_not_many() {
        let turns = Turns::default();
        let account = |at: u8| AccountId::from_bytes([at; 32]);
        let first = turns.turn(account(0)).expect("free");
        assert!(turns.turn(account(0)).is_none(), "it has one");
        let others: Vec<_> = (1..=u8::MAX).filter_map(|at| turns.turn(account(at))).collect();
        assert_eq!(others.len(), ACCOUNTS_AT_ONCE - 1);
        drop(first);
        assert!(turns.turn(account(0)).is_some());
    }

    /// Challenges a node that answers `answer` for the first shard of a segment; whether it still counts
    /// as that shard's holder.
    async fn holds_after(answer: Result<Vec<Verdict>, Refusal>) -> bool {
        let node = NodeId::from_bytes([4; 32]);
        let bench = Bench::new(answering(move |_, _| {
            let proofs = answer.clone().map(|verdicts| Proofs { verdicts });
            proofs.map(|proofs| Response::ok::<Challenge>(&proofs).expect("encodes"))
        }));
        let account = owner(1).account();
        let manifest = bench.hold(&account, node, RunId::from_bytes([5; 16])).manifest;
        let index = ShardIndex::new(0).expect("valid");
        let (segment, shard) = (manifest.id(), manifest.shard(index).expect("there"));
        let missing = MissingShards::new(bench.stores.segments.clone());
        let reports = MissingReports::new(
            bench.stores.segments.clone(),
            missing,
            bench.link.clone(),
            bench.context.clone(),
        );
        let reported = Reported { segment, index, shard, length: manifest.shard_len() };
        reports.challenge(account, node, vec![reported]).await;
        let record = bench.stores.segments.get(&account, &segment).expect("reads").expect("known");
        record.holders().any(|(held, _)| held == index)
    }

    #[tokio::test]
    async fn what_a_node_cannot_prove_is_marked_and_silence_is_left_to_the_audits() {
        assert!(!holds_after(Ok(vec![Verdict::Missing])).await, "it says so");
        assert!(!holds_after(Ok(vec![Verdict::Proved])).await, "without a proof");
        assert!(holds_after(Err(Refusal::Busy)).await);
    }
}
