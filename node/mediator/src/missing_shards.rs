//! Shards that a storage node turned out not to have. Audits, missing-shard reports and repairs mark
//! them; repair waits for them.

use std::sync::Arc;

use fincrypt_protocol::NodeId;
use fincrypt_protocol::shard::Challenged;
use tokio::sync::Notify;

use super::error::StoreError;
use super::stores::SegmentStore;

/// Marks shards as missing, and wakes repair. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MissingShards {
    segments: SegmentStore,
    /// A segment may lack a holder.
    changed: Arc<Notify>,
}

impl MissingShards {
    pub(crate) fn new(segments: SegmentStore) -> Self {
        Self { segments, changed: Arc::default() }
    }

    /// Marks that a node does not hold a shard, whatever it signed.
    ///
    /// # Errors
    /// If the segment's record cannot be read or written.
    pub(crate) fn mark_missing(&self, node: NodeId, shard: &Challenged) -> Result<(), StoreError> {
        let changed = self.segments.change(&shard.account, &shard.segment, |record| {
            let placement = record.placement_mut(shard.index).filter(|known| known.node == Some(node));
            placement.is_some_and(|placement| placement.evidence.take().is_some())
        })?;
        if changed.is_some() {
            tracing::warn!(%node, segment = %shard.segment, index = shard.index.get(), "shard_missing");
            self.notify();
        }
        Ok(())
    }

    /// Tells repair that a segment may lack a holder.
    pub(crate) fn notify(&self) {
        self.changed.notify_one();
    }

    /// Waits until a segment may lack a holder.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
