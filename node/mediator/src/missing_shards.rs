//! Shards that a storage node turned out not to have. Audits, missing-shard reports and repairs mark
//! them; repair waits for them.

use std::sync::Arc;

use fincrypt_protocol::shard::Challenged;
use fincrypt_protocol::{NodeId, Refusal};
use tokio::sync::Notify;

use super::records::Records;

/// Marks shards as missing, and wakes repair. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MissingShards {
    records: Records,
    /// A segment may lack a holder.
    changed: Arc<Notify>,
}

impl MissingShards {
    pub(crate) fn new(records: Records) -> Self {
        Self { records, changed: Arc::default() }
    }

    /// Marks that a node does not hold a shard, whatever it signed.
    ///
    /// # Errors
    /// If the segment's record cannot be read or written.
    pub(crate) fn mark_missing(&self, node: NodeId, shard: &Challenged) -> Result<(), Refusal> {
        let changed = self.records.change(&shard.account, &shard.segment, |record| {
            let slot = record.slots.get_mut(shard.index.get()).filter(|slot| slot.node == Some(node));
            slot.is_some_and(|slot| slot.receipt.take().is_some())
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
