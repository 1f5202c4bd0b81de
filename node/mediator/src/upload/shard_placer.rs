//! Shards of an open segment to storage nodes, with substitutes for nodes that fail.

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::{Manifest, NodeId, Refusal, RunId, ShardIndex, Tag};

use super::error::UploadError;
use super::open_segments::OpenSegment;
use crate::placement::Placement;
use crate::registry::StorageRegistry;
use crate::shard_transfer::{PutError, ShardPlace, ShardTransfer};
use crate::stores::{SegmentRecord, ShardPlacement};

/// Substitutes tried for one shard before it is left for later.
const MAX_SUBSTITUTES: usize = 4;

/// Assigns nodes to shards and puts the shards there. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ShardPlacer {
    placement: Placement,
    registry: Arc<StorageRegistry>,
    transfer: ShardTransfer,
}

impl ShardPlacer {
    pub(crate) fn new(placement: Placement, registry: Arc<StorageRegistry>, transfer: ShardTransfer) -> Self {
        Self { placement, registry, transfer }
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
    ) -> Result<SegmentRecord, UploadError> {
        let (code, total) = (manifest.code(), usize::from(manifest.code().total()));
        let candidates = self.placement.candidates(manifest.shard_len().get().into(), max_price).await;
        let nodes = self.placement.choose(code, &[], &candidates, total);
        // A node or two fewer than when the run was quoted still let the segment count as stored.
        let needed = usize::from(code.stored_threshold());
        if nodes.len() < needed {
            return Err(UploadError::TooFewPeers { eligible: nodes.len(), needed });
        }
        let nodes = nodes.into_iter().map(Some).chain(std::iter::repeat(None));
        let placements = nodes.take(total).map(ShardPlacement::planned).collect();
        Ok(SegmentRecord::new(manifest, tag, run, placements))
    }

    /// Puts one shard on its node, or on a substitute; the payload is not looked at, as the
    /// node checks it against the client's own id.
    pub(super) async fn place(
        &self,
        segment: &OpenSegment,
        index: ShardIndex,
        payload: Bytes,
    ) -> Result<(), UploadError> {
        for _ in 0..=MAX_SUBSTITUTES {
            let placement = segment.placement(index).ok_or(UploadError::Invalid)?;
            if placement.is_held() {
                return Ok(());
            }
            if let Some(node) = placement.node {
                match self.put_at(segment, index, node, payload.clone()).await {
                    Ok(()) => return Ok(()),
                    Err(error) if is_final(error) => return Err(error.into()),
                    Err(error) => {
                        tracing::info!(%node, %error, "shard_not_taken");
                        match error {
                            PutError::NoReceipt | PutError::Refused(Refusal::Failed) => {
                                self.registry.defer(&node);
                            }
                            // It takes none before it is paid.
                            PutError::Refused(Refusal::CreditBound) => self.registry.defer(&node),
                            // It promised room in an offer that is hours old.
                            PutError::Refused(Refusal::Full) => self.registry.ask(node).await,
                            _ => {}
                        }
                    }
                }
            }
            let length = segment.record().manifest.shard_len().get();
            // Asked first, claimed after: another shard may be looking for a substitute too.
            let candidates = self.placement.candidates(length.into(), segment.max_price()).await;
            let record = segment.record();
            let holders: Vec<NodeId> = record.placements.iter().filter_map(|placed| placed.node).collect();
            let code = record.manifest.code();
            let order = self.placement.choose(code, &holders, &candidates, candidates.len());
            if !segment.reassign(index, &order) {
                break;
            }
        }
        let record = segment.record();
        let (have, need) = (record.receipts().count(), record.manifest.code().stored_threshold().into());
        Err(UploadError::TooFewReceipts { have, need })
    }

    async fn put_at(
        &self,
        segment: &OpenSegment,
        index: ShardIndex,
        node: NodeId,
        payload: Bytes,
    ) -> Result<(), PutError> {
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
        segment.receipted(receipt);
        Ok(())
    }
}

/// Whether it is the client's fault that a shard was not put, which another node would not accept either.
fn is_final(error: PutError) -> bool {
    use Refusal::{Dismissed, Invalid, NotMandated, OtherRegistration, WrongShard};
    match error {
        PutError::NoReceipt => false,
        PutError::Departed => true,
        PutError::Refused(refusal) => {
            matches!(refusal, WrongShard | NotMandated | Invalid | OtherRegistration | Dismissed)
        }
    }
}
