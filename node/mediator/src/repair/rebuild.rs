//! Rebuilding one segment's missing shards.

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::shard::{Challenged, PutShard};
use fincrypt_protocol::{AccountId, NodeId, Refusal, SegmentId, ShardIndex, Signed, UnixTime, record};
use fincrypt_shards::erasure::rebuild;
use fincrypt_shards::proof::shard_id;
use futures::StreamExt;

use crate::MediatorRole;
use crate::records::{SegmentRecord, Word};
use fincrypt_accounts::failed;
use fincrypt_net::blocking;
use fincrypt_upkeep::State;
use fincrypt_upkeep::placement::{draw, system_random};

/// Shards fetched at once.
const FETCHES: usize = 8;

/// A shard as it was fetched and checked.
type Fetched = (ShardIndex, Bytes);

impl MediatorRole {
    /// Finds new keepers for the shards of a segment that lack a good one; how many found one.
    pub(super) async fn repair_segment(
        self: &Arc<Self>,
        account: AccountId,
        segment: SegmentId,
    ) -> Result<usize, Refusal> {
        let role = Arc::clone(self);
        let known = blocking(move || {
            let registration = role.accounts.registration(&account)?;
            Ok((role.records.known(&account, &segment)?, role.records.mandate(&account)?, registration))
        });
        let (Some(record), Some(mandate), Some(registration)) = known.await? else { return Ok(0) };
        let given = mandate.verify(self.network, UnixTime::now()).map_err(|_| Refusal::NotMandated)?;
        if !given.rights.put || !given.rights.get {
            return Err(Refusal::NotMandated);
        }
        let keeper = |index| record.holders().find(|(held, _)| *held == index).map(|(_, node)| node);
        let bad = |index: &ShardIndex| keeper(*index).is_none_or(|node| !self.is_good(&node));
        let missing: Vec<ShardIndex> = record.manifest.code().indices().filter(bad).collect();
        let new = self.new_keepers(&record, missing.len(), given.max_price).await;
        if new.is_empty() {
            let have = u8::try_from(record.holders().count()).unwrap_or(u8::MAX);
            return Err(Refusal::NotStored { have, need: record.manifest.code().total() });
        }
        let wanted: Vec<ShardIndex> = missing.into_iter().take(new.len()).collect();
        let shards = self.shards_of(account, &record, &wanted).await?;
        self.repair_pace.take(shards.iter().map(|(_, bytes)| bytes.len() as u64).sum()).await;
        // The round may have begun long ago: what was released meanwhile is not stored again.
        let role = Arc::clone(self);
        if blocking(move || Ok(role.releases.due(&account, &segment)?)).await?.is_some() {
            return Ok(0);
        }
        let mut placed = Vec::new();
        for ((index, payload), node) in shards.into_iter().zip(new) {
            let placement = PutShard {
                registration: registration.signed().clone(),
                mandate: mandate.clone(),
                run: record.run,
                manifest: record.manifest.clone(),
                index,
                tag: record.tag,
            };
            match self.put_shard(account, node, placement, payload).await {
                Ok(receipt) => placed.push((index, node, receipt)),
                Err(refusal) => {
                    tracing::info!(%node, %refusal, "a storage node did not take a rebuilt shard");
                    if refusal == Refusal::Failed {
                        self.directory.rest(&node);
                    }
                }
            }
        }
        self.note_repair(account, &record, placed).await
    }

    /// Nodes that may take a shard of a segment: sound ones that hold none of it.
    async fn new_keepers(
        &self,
        record: &SegmentRecord,
        count: usize,
        max_price: Option<Price>,
    ) -> Vec<NodeId> {
        if count == 0 {
            return Vec::new();
        }
        let holders: Vec<NodeId> = record.holders().map(|(_, node)| node).collect();
        let mut candidates = self.candidates(record.manifest.shard_len().get().into(), max_price).await;
        candidates.retain(|candidate| !holders.contains(&candidate.node));
        let caps = self.caps(record.manifest.code(), &holders, &candidates);
        draw(&candidates, count, &caps, system_random)
    }

    /// Some shards of a segment: from their own keepers if these can still be asked, which costs one
    /// transfer each, else rebuilt from `k` others.
    async fn shards_of(
        self: &Arc<Self>,
        account: AccountId,
        record: &SegmentRecord,
        wanted: &[ShardIndex],
    ) -> Result<Vec<Fetched>, Refusal> {
        let needed = usize::from(record.manifest.code().data());
        let there = |index: &ShardIndex| {
            let keeper = record.holders().find(|(held, _)| held == index);
            keeper.is_some_and(|(_, node)| self.standings.state(&node) < State::Absent)
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
            let (have, need) = (u8::try_from(found).unwrap_or(u8::MAX), record.manifest.code().data());
            return Err(Refusal::NotStored { have, need });
        }
        let (code, missing) = (record.manifest.code(), {
            let missing = wanted.iter().filter(|index| have.iter().all(|(known, _)| known != *index));
            missing.copied().collect::<Vec<_>>()
        });
        let sources: Vec<Fetched> = have.iter().cloned().chain(more).collect();
        let rebuilt = blocking(move || {
            let present: Vec<(ShardIndex, &[u8])> =
                sources.iter().map(|(index, bytes)| (*index, bytes.as_ref())).collect();
            let shards = rebuild(code, &present, &missing).map_err(|error| failed(&error))?;
            Ok(missing.into_iter().zip(shards.into_iter().map(Bytes::from)).collect::<Vec<_>>())
        });
        have.extend(rebuilt.await?);
        have.sort_by_key(|(index, _)| *index);
        Ok(have)
    }

    /// Fetches up to `most` of some shards, checked. A keeper whose shard is another one has lost it.
    async fn fetch_good(
        self: &Arc<Self>,
        account: AccountId,
        record: &SegmentRecord,
        indices: &[ShardIndex],
        most: usize,
    ) -> Vec<Fetched> {
        let mut keepers: Vec<(ShardIndex, NodeId)> =
            record.holders().filter(|(index, _)| indices.contains(index)).collect();
        // Those that are gone are asked last: perhaps they are not.
        keepers.sort_by_key(|(index, node)| (self.standings.state(node), *index));
        let fetches = keepers.into_iter().map(|(index, node)| async move {
            let segment = record.manifest.id();
            let bytes = self.fetch_from(node, account, segment, index).await.ok()?;
            if record.manifest.shard(index) == Some(shard_id(&bytes)) {
                return Some((index, bytes));
            }
            let role = Arc::clone(self);
            let lose = move || role.lose(node, &Challenged { account, segment, index });
            if let Err(refusal) = blocking(lose).await {
                tracing::warn!(%refusal, "a lost shard could not be noted");
            }
            None
        });
        let fetched = futures::stream::iter(fetches).buffer_unordered(FETCHES.min(most.max(1)));
        fetched.filter_map(std::future::ready).take(most).collect().await
    }

    /// Notes new keepers, and tells them and the others what they must know.
    async fn note_repair(
        self: &Arc<Self>,
        account: AccountId,
        record: &SegmentRecord,
        placed: Vec<(ShardIndex, NodeId, Signed<record::Receipt>)>,
    ) -> Result<usize, Refusal> {
        let (role, segment) = (Arc::clone(self), record.manifest.id());
        let count = placed.len();
        let replaced = |(index, node): &(ShardIndex, NodeId)| {
            placed.iter().any(|(placed, new, _)| placed == index && new != node)
        };
        let former: Vec<NodeId> = record.holders().filter(replaced).map(|(_, node)| node).collect();
        let noted = blocking(move || {
            let nodes: Vec<NodeId> = placed.iter().map(|(_, node, _)| *node).collect();
            let changed = role.records.change(&account, &segment, |record| {
                for (index, node, receipt) in placed {
                    if let Some(slot) = record.slots.get_mut(index.get()) {
                        (slot.node, slot.receipt) = (Some(node), Some(Word::Receipt(receipt)));
                    }
                }
                true
            })?;
            if let Some((record, new)) = &changed {
                // After it is a holder, so that a keep which comes now reaches it as well.
                role.tell_kept(&account, &record.run, &nodes)?;
                role.introduce(&account, new)?;
            }
            Ok(changed)
        });
        if let Some((record, _)) = noted.await? {
            self.deliver_soon(account);
            // One that leaves waits to hear that it may.
            self.tasks.spawn(Arc::clone(self).share_holders(account, record, former));
        }
        Ok(count)
    }
}
