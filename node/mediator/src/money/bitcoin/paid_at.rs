//! When storage nodes were paid last.

use fincrypt_protocol::{NodeId, UnixTime};
use fincrypt_state::kv::Batch;
use fincrypt_state::state::State;
use fincrypt_state::table::Table;

/// `node` → when it was paid last.
const PAID_AT: Table<NodeId, UnixTime> = Table::new("paid_at", 16);

/// When nodes were paid. Cheap to clone.
#[derive(Clone)]
pub(super) struct PaidAt(State);

impl PaidAt {
    /// What this state remembers.
    pub(super) fn new(state: State) -> Self {
        Self(state)
    }

    /// When a node was paid last; none if never, or if that cannot be read: it is paid in time then.
    pub(super) fn get(&self, node: &NodeId) -> Option<UnixTime> {
        PAID_AT.get(&self.0, node).ok()?
    }

    /// Notes that nodes are paid now. A loss does no harm: they are paid sooner.
    pub(super) fn set(&self, nodes: &[NodeId], now: UnixTime) {
        let mut batch = Batch::default();
        let put = nodes.iter().try_for_each(|node| PAID_AT.put(&mut batch, node, &now));
        if batch.is_empty() {
            return;
        }
        if let Err(error) = put.and_then(|()| self.0.commit(&batch)) {
            tracing::warn!(%error, "payout_time_not_stored");
        }
    }
}
