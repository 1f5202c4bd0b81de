//! Shards of an open segment to storage nodes, with substitutes for nodes that fail.

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::{Manifest, NodeId, Refusal, RunId, ShardIndex, Tag};

use super::count;
use super::open_segments::OpenSegment;
use crate::directory::Directory;
use crate::placement::Placement;
use crate::records::{SegmentRecord, Slot};
use crate::shard_transfer::{ShardPlace, ShardTransfer};

/// Substitutes tried for one shard before it is left for later.
const MAX_SUBSTITUTES: usize = 4;

/// Assigns nodes to shards and puts the shards there. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ShardPlacer {
    placement: Placement,
    directory: Arc<Directory>,
    transfer: ShardTransfer,
}

impl ShardPlacer {
    pub(crate) fn new(placement: Placement, directory: Arc<Directory>, transfer: ShardTransfer) -> Self {
        Self { placement, directory, transfer }
    }

    pub(super) fn transfer(&self) -> &ShardTransfer {
        &self.transfer
    }

    /// Chooses a node for every shard of a new segment.
    pub(super) async fn assign(
        &self,
        run: RunId,
        manifest: Manifest,
        tag: Tag,
        max_price: Option<Price>,
    ) -> Result<SegmentRecord, Refusal> {
        let (code, total) = (manifest.code(), usize::from(manifest.code().total()));
        let candidates = self.placement.candidates(manifest.shard_len().get().into(), max_price).await;
        let nodes = self.placement.choose(code, &[], &candidates, total);
        // A node or two fewer than when the run was quoted still let the segment count as stored.
        let needed = usize::from(code.stored_threshold());
        if nodes.len() < needed {
            return Err(Refusal::TooFewPeers { eligible: count(nodes.len()), needed: count(needed) });
        }
        let nodes = nodes.into_iter().map(Some).chain(std::iter::repeat(None));
        let slots = nodes.take(total).map(|node| Slot { node, receipt: None }).collect();
        Ok(SegmentRecord { manifest, tag, run, slots, sequence: 1 })
    }

    /// Puts one shard on its node, or on a substitute; the payload is not looked at, as the
    /// node checks it against the client's own id.
    pub(super) async fn place(
        &self,
        segment: &OpenSegment,
        index: ShardIndex,
        payload: Bytes,
    ) -> Result<(), Refusal> {
        for _ in 0..=MAX_SUBSTITUTES {
            let slot = segment.slot(index).ok_or(Refusal::Invalid)?;
            if slot.receipt.is_some() {
                return Ok(());
            }
            if let Some(node) = slot.node {
                match self.put_at(segment, index, node, payload.clone()).await {
                    Ok(()) => return Ok(()),
                    // The client's fault, which another node would not forgive either.
                    Err(
                        refusal @ (Refusal::WrongShard
                        | Refusal::NotMandated
                        | Refusal::Invalid
                        | Refusal::OtherRegistration
                        | Refusal::Dismissed),
                    ) => return Err(refusal),
                    Err(refusal) => {
                        tracing::info!(%node, %refusal, "shard_not_taken");
                        match refusal {
                            // It takes none before it is paid.
                            Refusal::Failed | Refusal::CreditBound => self.directory.rest(&node),
                            // It promised room in an offer that is hours old.
                            Refusal::Full => self.directory.ask(node).await,
                            _ => {}
                        }
                    }
                }
            }
            let length = segment.record().manifest.shard_len().get();
            // Asked first, claimed after: another shard may be looking for a substitute too.
            let candidates = self.placement.candidates(length.into(), segment.max_price()).await;
            let holders: Vec<NodeId> = segment.record().slots.iter().filter_map(|slot| slot.node).collect();
            let code = segment.record().manifest.code();
            let order = self.placement.choose(code, &holders, &candidates, candidates.len());
            if !segment.reassign(index, &order) {
                break;
            }
        }
        let record = segment.record();
        let have = u8::try_from(record.receipts().count()).unwrap_or(u8::MAX);
        Err(Refusal::NotStored { have, need: record.manifest.code().stored_threshold() })
    }

    async fn put_at(
        &self,
        segment: &OpenSegment,
        index: ShardIndex,
        node: NodeId,
        payload: Bytes,
    ) -> Result<(), Refusal> {
        let record = segment.record();
        let place = ShardPlace {
            registration: segment.registration.clone(),
            mandate: segment.mandate.clone(),
            run: record.run,
            index,
            tag: record.tag,
            manifest: record.manifest,
        };
        let receipt = self.transfer.put_shard(segment.account, node, place, payload).await?;
        segment.receipted(index, node, receipt);
        Ok(())
    }
}
