//! Rebuilding one segment's missing shards.

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::record::Receipt;
use fincrypt_protocol::shard::Challenged;
use fincrypt_protocol::{AccountId, NodeId, Refusal, SegmentId, ShardIndex, Verified};
use fincrypt_shards::erasure::{ErasureError, rebuild};
use fincrypt_shards::proof::shard_id;
use futures::StreamExt;

use super::Soundness;
use super::rate_limiter::RateLimiter;
use crate::context::Context;
use crate::error::{Interrupted, StoreError, blocking};
use crate::holder_lists::HolderLists;
use crate::missing_shards::MissingShards;
use crate::outbox::Outbox;
use crate::placement::Placement;
use crate::shard_transfer::{PutError, ShardPlace, ShardTransfer};
use crate::stores::{SegmentRecord, ShardPlacement, Stores};
use fincrypt_accounts::Accounts;
use fincrypt_accounts::releases::Releases;
use fincrypt_upkeep::NodeState;

/// Shards fetched at once.
const FETCHES: usize = 8;

/// Why none of a segment's shards found a new holder.
#[derive(Debug, thiserror::Error)]
pub(super) enum RepairError {
    /// The account's mandate has expired, or lacks the rights to put and to get.
    #[error("the account's mandate does not allow repairs")]
    NotMandated,
    /// No storage node may take a shard of it.
    #[error("no storage node may take a shard; {have} of {need} have a holder")]
    NoCandidate {
        /// Shards with a holder.
        have: usize,
        /// All shards.
        need: usize,
    },
    /// Too few shards could be fetched to rebuild others.
    #[error("{have} shards could be fetched of {need} that are needed to rebuild others")]
    TooFewShards {
        /// Shards that were fetched.
        have: usize,
        /// Shards that rebuild any other.
        need: usize,
    },
    /// The erasure code.
    #[error(transparent)]
    Erasure(#[from] ErasureError),
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Interrupted> for RepairError {
    fn from(error: Interrupted) -> Self {
        Self::Store(error.into())
    }
}

/// A shard as it was fetched and checked.
type Fetched = (ShardIndex, Bytes);

/// Repairs one segment at a time. Cheap to clone.
#[derive(Clone)]
pub(super) struct Rebuilder {
    pub(super) accounts: Accounts,
    pub(super) stores: Stores,
    pub(super) releases: Arc<Releases>,
    pub(super) soundness: Soundness,
    pub(super) placement: Placement,
    pub(super) transfer: ShardTransfer,
    pub(super) outbox: Outbox,
    pub(super) holder_lists: HolderLists,
    pub(super) missing: MissingShards,
    pub(super) rate: Arc<RateLimiter>,
    pub(super) context: Context,
}

impl Rebuilder {
    /// Finds new holders for the shards of a segment that lack a good one; how many found one.
    ///
    /// # Errors
    /// Why none did.
    pub(super) async fn repair(&self, account: AccountId, segment: SegmentId) -> Result<usize, RepairError> {
        let (this, now) = (self.clone(), self.context.now());
        let known = blocking(move || {
            let (record, mandate) =
                (this.stores.segments.get(&account, &segment)?, this.stores.mandates.newest(&account)?);
            Ok::<_, StoreError>((record, mandate, this.accounts.registration(&account)?))
        });
        let (Some(record), Some(mandate), Some(registration)) = known.await? else { return Ok(0) };
        if mandate.expiry <= now || !mandate.rights.put || !mandate.rights.get {
            return Err(RepairError::NotMandated);
        }
        let is_good = |node: &NodeId| self.soundness.is_good(node);
        let bad = |index: &ShardIndex| !record.holder(*index).as_ref().is_some_and(is_good);
        let missing: Vec<ShardIndex> = record.manifest.code().indices().filter(bad).collect();
        let new = self.new_holders(&record, missing.len(), mandate.max_price).await;
        if new.is_empty() {
            let (have, need) = (record.holders().count(), record.manifest.code().total().into());
            return Err(RepairError::NoCandidate { have, need });
        }
        let wanted: Vec<ShardIndex> = missing.into_iter().take(new.len()).collect();
        let shards = self.shards_of(account, &record, &wanted).await?;
        self.rate.take(shards.iter().map(|(_, bytes)| bytes.len() as u64).sum()).await;
        // The round may have begun long ago: what was released meanwhile is not stored again.
        let this = self.clone();
        let due = blocking(move || Ok::<_, StoreError>(this.releases.due(&account, &segment)?));
        if due.await?.is_some() {
            return Ok(0);
        }
        let mut placed = Vec::new();
        for ((index, payload), node) in shards.into_iter().zip(new) {
            let place = ShardPlace {
                registration: registration.signed().clone(),
                mandate: mandate.signed().clone(),
                run: record.run,
                manifest: record.manifest.clone(),
                index,
                tag: record.tag,
            };
            match self.transfer.put_shard(account, node, place, payload).await {
                Ok(receipt) => placed.push(receipt),
                Err(error) => {
                    tracing::info!(%node, %error, "rebuilt_shard_not_taken");
                    if matches!(error, PutError::NoReceipt | PutError::Refused(Refusal::Failed)) {
                        self.soundness.registry.defer(&node);
                    }
                }
            }
        }
        self.record_repair(account, &record, placed).await
    }

    /// Nodes that may take a shard of a segment: sound ones that hold none of it.
    async fn new_holders(
        &self,
        record: &SegmentRecord,
        count: usize,
        max_price: Option<Price>,
    ) -> Vec<NodeId> {
        if count == 0 {
            return Vec::new();
        }
        let holders: Vec<NodeId> = record.holders().map(|(_, node)| node).collect();
        let mut candidates =
            self.placement.candidates(record.manifest.shard_len().get().into(), max_price).await;
        candidates.retain(|candidate| !holders.contains(&candidate.node));
        self.placement.choose(record.manifest.code(), &holders, &candidates, count)
    }

    /// Some shards of a segment: from their own holders if these can still be asked, which costs one
    /// transfer each, else rebuilt from `k` others.
    async fn shards_of(
        &self,
        account: AccountId,
        record: &SegmentRecord,
        wanted: &[ShardIndex],
    ) -> Result<Vec<Fetched>, RepairError> {
        let needed = usize::from(record.manifest.code().data());
        let there = |index: &ShardIndex| {
            record.holder(*index).is_some_and(|node| self.soundness.state(&node) < NodeState::Absent)
        };
        let own: Vec<ShardIndex> = wanted.iter().copied().filter(there).collect();
        let mut have = self.fetch_good(account, record, &own, own.len()).await;
        if have.len() == wanted.len() {
            return Ok(have);
        }
        let others: Vec<ShardIndex> =
            record.manifest.code().indices().filter(|index| !wanted.contains(index)).collect();
        let more = self.fetch_good(account, record, &others, needed.saturating_sub(have.len())).await;
        let found = have.len() + more.len();
        if found < needed {
            return Err(RepairError::TooFewShards { have: found, need: needed });
        }
        let (code, missing) = (record.manifest.code(), {
            let missing = wanted.iter().filter(|index| have.iter().all(|(known, _)| known != *index));
            missing.copied().collect::<Vec<_>>()
        });
        let sources: Vec<Fetched> = have.iter().cloned().chain(more).collect();
        let rebuilt = blocking(move || {
            let present: Vec<(ShardIndex, &[u8])> =
                sources.iter().map(|(index, bytes)| (*index, bytes.as_ref())).collect();
            let shards = rebuild(code, &present, &missing)?;
            Ok::<_, RepairError>(
                missing.into_iter().zip(shards.into_iter().map(Bytes::from)).collect::<Vec<_>>(),
            )
        });
        have.extend(rebuilt.await?);
        have.sort_by_key(|(index, _)| *index);
        Ok(have)
    }

    /// Fetches up to `most` of some shards, checked. A holder whose shard is another one has lost it.
    async fn fetch_good(
        &self,
        account: AccountId,
        record: &SegmentRecord,
        indices: &[ShardIndex],
        most: usize,
    ) -> Vec<Fetched> {
        let mut holders: Vec<(ShardIndex, NodeId)> =
            record.holders().filter(|(index, _)| indices.contains(index)).collect();
        // Those that are gone are asked last: perhaps they are not.
        holders.sort_by_key(|(index, node)| (self.soundness.state(node), *index));
        let fetches = holders.into_iter().map(|(index, node)| async move {
            let segment = record.manifest.id();
            let bytes = self.transfer.fetch_from(node, account, segment, index).await.ok()?;
            if record.manifest.shard(index) == Some(shard_id(&bytes)) {
                return Some((index, bytes));
            }
            let missing = self.missing.clone();
            let mark = move || missing.mark_missing(node, &Challenged { account, segment, index });
            if let Err(error) = blocking(mark).await {
                tracing::error!(%node, %error, "missing_shard_not_marked");
            }
            None
        });
        let fetched = futures::stream::iter(fetches).buffer_unordered(FETCHES.min(most.max(1)));
        fetched.filter_map(std::future::ready).take(most).collect().await
    }

    /// Records new holders, and sends them and the others what they must know.
    async fn record_repair(
        &self,
        account: AccountId,
        record: &SegmentRecord,
        placed: Vec<Verified<Receipt>>,
    ) -> Result<usize, RepairError> {
        let (this, segment) = (self.clone(), record.manifest.id());
        let count = placed.len();
        let replaced = |(index, node): &(ShardIndex, NodeId)| {
            placed.iter().any(|receipt| receipt.index == *index && receipt.node != *node)
        };
        let former: Vec<NodeId> = record.holders().filter(replaced).map(|(_, node)| node).collect();
        let recorded = blocking(move || {
            let nodes: Vec<NodeId> = placed.iter().map(|receipt| receipt.node).collect();
            let changed = this.stores.segments.change(&account, &segment, |record| {
                for receipt in placed {
                    if let Some(placement) = record.placement_mut(receipt.index) {
                        *placement = ShardPlacement::receipted(receipt);
                    }
                }
                true
            })?;
            if let Some((record, new)) = &changed {
                // After it is a holder, so that a keep which comes now reaches it as well.
                this.outbox.pin(&account, &record.run, &nodes)?;
                this.outbox.introduce(&account, new)?;
            }
            Ok::<_, StoreError>(changed)
        });
        if let Some((record, _)) = recorded.await? {
            self.outbox.deliver_soon(account);
            // One that leaves waits to hear that it may.
            self.holder_lists.share_soon(account, record, former);
        }
        Ok(count)
    }
}
