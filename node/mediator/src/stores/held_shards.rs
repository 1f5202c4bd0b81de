//! The shards that each storage node holds.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fincrypt_protocol::shard::Challenged;
use fincrypt_protocol::{AccountId, NodeId, SegmentId, ShardIndex};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::{Everything, Key, Table};
use parking_lot::{Mutex, MutexGuard};

use super::loads::{Load, Loads};
use crate::error::StoreError;

/// `(node, shard)` → the shard's length in bytes.
const HELD: Table<(NodeId, HeldShard), u32> = Table::new("held_by", 5);

/// A shard that a node holds. The segment goes first, so that a random one stands for all accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HeldShard {
    pub(crate) segment: SegmentId,
    pub(crate) account: AccountId,
    pub(crate) index: ShardIndex,
}

impl HeldShard {
    /// The place before all shards of `segment`, for a scan that begins with them. Never none: 0 is an
    /// index.
    pub(crate) fn before(segment: SegmentId) -> Option<Self> {
        let (account, index) = (AccountId::from_bytes([0; 32]), ShardIndex::new(0).ok()?);
        Some(Self { segment, account, index })
    }
}

impl From<HeldShard> for Challenged {
    fn from(held: HeldShard) -> Self {
        Self { account: held.account, segment: held.segment, index: held.index }
    }
}

impl Key for HeldShard {
    const LEN: usize = SegmentId::LEN + AccountId::LEN + 1;

    fn write(&self, out: &mut Vec<u8>) {
        (self.segment, self.account, u8::from(self.index)).write(out);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (segment, account, index) = <(SegmentId, AccountId, u8)>::read(bytes)?;
        Some(Self { segment, account, index: ShardIndex::new(index).ok()? })
    }
}

/// A change of the holders of one segment.
#[derive(Default)]
pub(super) struct HolderChange {
    gone: Vec<(NodeId, HeldShard)>,
    new: Vec<(NodeId, HeldShard)>,
    /// Bytes of each shard.
    length: u32,
}

impl HolderChange {
    /// The change from `before` to `after`, of shards of `length` bytes.
    pub(super) fn between(
        before: &BTreeSet<(NodeId, HeldShard)>,
        after: &BTreeSet<(NodeId, HeldShard)>,
        length: u32,
    ) -> Self {
        let gone = before.difference(after).copied().collect();
        Self { gone, new: after.difference(before).copied().collect(), length }
    }
}

/// The shards of each storage node; on disk, and counted in memory. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HeldShards {
    state: State,
    loads: Arc<Mutex<Loads>>,
}

impl HeldShards {
    /// Counts all that nodes hold.
    pub(super) fn open(state: State) -> Result<Self, KvError> {
        let mut loads = Loads::default();
        HELD.visit(&state, &Everything, |(node, shard), length| {
            loads.add(node, shard.account, length.into());
            Ok::<_, KvError>(())
        })?;
        Ok(Self { state, loads: Arc::new(Mutex::new(loads)) })
    }

    fn counts(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock()
    }

    /// Shards of a node after `after`, in the order of segments: at most `most`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn of(
        &self,
        node: &NodeId,
        after: Option<&HeldShard>,
        most: usize,
    ) -> Result<Vec<HeldShard>, StoreError> {
        let after = after.map(|after| (*node, *after));
        let page = HELD.scan(&self.state, node, after.as_ref(), most)?;
        Ok(page.into_iter().map(|((_, shard), _)| shard).collect())
    }

    /// Adds a change to the batch.
    pub(super) fn stage(&self, change: &HolderChange, batch: &mut Batch) -> Result<(), KvError> {
        change.gone.iter().for_each(|key| HELD.remove(batch, key));
        change.new.iter().try_for_each(|key| HELD.put(batch, key, &change.length))
    }

    /// Counts a change that was committed.
    pub(super) fn count(&self, change: HolderChange) {
        let (mut loads, length) = (self.counts(), u64::from(change.length));
        change.gone.into_iter().for_each(|(node, shard)| loads.remove(node, shard.account, length));
        change.new.into_iter().for_each(|(node, shard)| loads.add(node, shard.account, length));
    }

    /// The load of each node.
    pub(crate) fn loads(&self) -> HashMap<NodeId, Load> {
        self.counts().nodes.clone()
    }

    /// Whether a node holds anything, of any account.
    pub(crate) fn holds_anything(&self, node: &NodeId) -> bool {
        self.counts().nodes.contains_key(node)
    }

    /// Bytes that a node holds for each account.
    pub(crate) fn bytes_by_account(&self, node: &NodeId) -> HashMap<AccountId, u64> {
        self.counts().by_account(node)
    }

    /// Bytes that each node holds for an account.
    pub(crate) fn bytes_by_node(&self, account: &AccountId) -> Vec<(NodeId, u64)> {
        self.counts().by_node(account)
    }
}
