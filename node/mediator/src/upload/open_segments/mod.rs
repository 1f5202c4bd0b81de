//! Segments whose shards are arriving.
//!
//! Their data shards are buffered for the parity, within one bound for all clients. Nothing depends on
//! it: a shard that is not buffered is fetched from its holder.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::limits::MAX_OPEN_SEGMENTS;
use fincrypt_protocol::record::{Mandate, Receipt, Registration};
use fincrypt_protocol::{AccountId, NodeId, SegmentId, ShardIndex, Signed, Verified};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::error::UploadError;
use crate::stores::{SegmentRecord, ShardPlacement};

/// Time that an open segment waits for its client before it is closed; its shards stay at their holders.
const ABANDONED: Duration = Duration::from_secs(300);

/// Bytes of data shards buffered over all clients: ten full segments, so that four clients with two each
/// need not wait for one another.
const MAX_BUFFERED: usize = 160 << 20;
/// Time without a new shard after which others may take a segment's memory.
const IDLE: Duration = Duration::from_secs(10);

/// Memory for data shards.
struct Memory {
    free: AtomicUsize,
}

impl Memory {
    fn take(self: &Arc<Self>, payload: Bytes) -> Option<BufferedShard> {
        let length = payload.len();
        let taken =
            self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(length));
        taken.is_ok().then(|| BufferedShard { payload, memory: Arc::clone(self) })
    }
}

/// A data shard, and its share of the memory.
struct BufferedShard {
    payload: Bytes,
    memory: Arc<Memory>,
}

impl Drop for BufferedShard {
    fn drop(&mut self) {
        self.memory.free.fetch_add(self.payload.len(), Ordering::AcqRel);
    }
}

/// One segment on its way to storage nodes.
pub(crate) struct OpenSegment {
    pub(crate) account: AccountId,
    pub(crate) registration: Signed<Registration>,
    pub(crate) mandate: Signed<Mandate>,
    /// The most that a storage node may take, by the mandate.
    max_price: Option<Price>,
    record: Mutex<SegmentRecord>,
    /// Data shards that came, for the parity.
    data: Mutex<Vec<Option<BufferedShard>>>,
    /// When the last of them came.
    grown: Mutex<Instant>,
    memory: Option<Arc<Memory>>,
    /// Set once parity was computed and every parity shard was tried.
    pub(crate) parity: OnceCell<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl OpenSegment {
    pub(crate) fn new(
        account: AccountId,
        registration: Signed<Registration>,
        mandate: Signed<Mandate>,
        record: SegmentRecord,
    ) -> Self {
        let data = std::iter::repeat_with(|| None).take(record.manifest.code().data().into()).collect();
        Self {
            account,
            registration,
            mandate,
            max_price: None,
            record: Mutex::new(record),
            data: Mutex::new(data),
            grown: Mutex::new(Instant::now()),
            memory: None,
            parity: OnceCell::new(),
        }
    }

    /// The same under a mandate that limits the price.
    pub(crate) fn with_limit(self, max_price: Option<Price>) -> Self {
        Self { max_price, ..self }
    }

    pub(crate) fn max_price(&self) -> Option<Price> {
        self.max_price
    }

    pub(crate) fn record(&self) -> SegmentRecord {
        lock(&self.record).clone()
    }

    /// Bit `i` is set if data shard `i` has no receipt.
    pub(crate) fn missing_data(&self) -> u32 {
        let record = lock(&self.record);
        let data = usize::from(record.manifest.code().data());
        let missing = record.placements.iter().take(data).enumerate();
        let missing = missing.filter(|(_, placement)| !placement.is_held());
        missing.fold(0, |bits, (index, _)| bits | 1 << index)
    }

    pub(crate) fn placement(&self, index: ShardIndex) -> Option<ShardPlacement> {
        lock(&self.record).placements.get(index.get()).cloned()
    }

    /// Chooses another node for a shard: the first of `candidates` that has no shard of this
    /// segment. False if there is none.
    pub(crate) fn reassign(&self, index: ShardIndex, candidates: &[NodeId]) -> bool {
        let mut record = lock(&self.record);
        let taken: Vec<NodeId> = record.placements.iter().filter_map(|placement| placement.node).collect();
        let free = candidates.iter().find(|node| !taken.contains(node));
        match (free, record.placement_mut(index)) {
            (Some(node), Some(placement)) => {
                *placement = ShardPlacement::planned(Some(*node));
                true
            }
            _ => false,
        }
    }

    /// Records that a shard's node does not have it.
    pub(crate) fn mark_missing(&self, index: ShardIndex) {
        if let Some(placement) = lock(&self.record).placement_mut(index) {
            *placement = ShardPlacement::planned(None);
        }
    }

    /// Records a node's receipt for one of the shards.
    pub(crate) fn receipted(&self, receipt: Verified<Receipt>) {
        if let Some(placement) = lock(&self.record).placement_mut(receipt.index) {
            *placement = ShardPlacement::receipted(receipt);
        }
    }

    /// Whether data shard `index` is in memory.
    pub(crate) fn is_buffered(&self, index: ShardIndex) -> bool {
        lock(&self.data).get(index.get()).is_some_and(Option::is_some)
    }

    /// Whether every data shard has a holder, or went into the parity.
    pub(crate) fn has_data(&self) -> bool {
        self.missing_data() == 0 || self.parity.initialized() || lock(&self.data).iter().all(Option::is_some)
    }

    /// Buffers a data shard for the parity, if there is room; whether all are buffered now.
    pub(crate) fn buffer(&self, index: ShardIndex, payload: Bytes) -> bool {
        let mut data = lock(&self.data);
        if let Some(slot) = data.get_mut(index.get())
            && slot.is_none()
        {
            *slot = self.memory.as_ref().and_then(|memory| memory.take(payload));
            *lock(&self.grown) = Instant::now();
        }
        data.iter().all(Option::is_some)
    }

    /// Drops a data shard that no node took.
    pub(crate) fn unbuffer(&self, index: ShardIndex) {
        if let Some(slot) = lock(&self.data).get_mut(index.get()) {
            *slot = None;
        }
    }

    /// The data shards in memory.
    pub(crate) fn data(&self) -> Vec<Option<Bytes>> {
        lock(&self.data).iter().map(|slot| slot.as_ref().map(|kept| kept.payload.clone())).collect()
    }

    /// Bytes of all its data shards.
    fn data_len(&self) -> usize {
        let manifest = &lock(&self.record).manifest;
        usize::from(manifest.code().data()) * manifest.shard_len().get() as usize
    }

    fn idle(&self) -> Duration {
        lock(&self.grown).elapsed()
    }

    /// Frees the memory of the data shards.
    pub(crate) fn drop_buffers(&self) {
        lock(&self.data).iter_mut().for_each(|slot| *slot = None);
    }
}

struct Entry {
    segment: Arc<OpenSegment>,
    owner: NodeId,
    touched: Instant,
}

/// All open segments, at most two per client. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OpenSegments {
    segments: Arc<Mutex<HashMap<(AccountId, SegmentId), Entry>>>,
    memory: Arc<Memory>,
    idle: Duration,
}

impl Default for OpenSegments {
    fn default() -> Self {
        Self::new(MAX_BUFFERED, IDLE)
    }
}

impl OpenSegments {
    fn new(bytes: usize, idle: Duration) -> Self {
        let memory = Arc::new(Memory { free: AtomicUsize::new(bytes) });
        Self { segments: Arc::default(), memory, idle }
    }

    /// Opens a segment for the peer `owner`; one that is already open passes to it. While there is
    /// no memory for it, it has to wait.
    pub(crate) fn open(
        &self,
        owner: NodeId,
        id: SegmentId,
        make: impl FnOnce() -> OpenSegment,
        account: AccountId,
    ) -> Result<Arc<OpenSegment>, UploadError> {
        let mut open = lock(&self.segments);
        let touched = Instant::now();
        if let Some(entry) = open.get_mut(&(account, id)) {
            entry.owner = owner;
            entry.touched = touched;
            return Ok(Arc::clone(&entry.segment));
        }
        if open.values().filter(|entry| entry.owner == owner).count() >= MAX_OPEN_SEGMENTS {
            return Err(UploadError::TooManyOpen);
        }
        let mut segment = make();
        self.make_room(&open, segment.data_len())?;
        segment.memory = Some(Arc::clone(&self.memory));
        let segment = Arc::new(segment);
        open.insert((account, id), Entry { segment: Arc::clone(&segment), owner, touched });
        Ok(segment)
    }

    /// Finds memory for a new segment, of idle ones if need be. They keep their place, and fetch
    /// their shards again when it is time for the parity.
    fn make_room(
        &self,
        open: &HashMap<(AccountId, SegmentId), Entry>,
        bytes: usize,
    ) -> Result<(), UploadError> {
        let enough = || self.memory.free.load(Ordering::Acquire) >= bytes;
        if enough() {
            return Ok(());
        }
        let mut idle: Vec<_> = open.values().map(|entry| (entry.segment.idle(), &entry.segment)).collect();
        idle.retain(|(idle, _)| *idle >= self.idle);
        idle.sort_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        for (_, segment) in idle {
            segment.drop_buffers();
            if enough() {
                return Ok(());
            }
        }
        Err(UploadError::TooManyOpen)
    }

    /// Passes an open segment to the peer `owner`; whether there is one.
    pub(crate) fn adopt(&self, owner: NodeId, account: AccountId, id: SegmentId) -> bool {
        let mut open = lock(&self.segments);
        let entry = open.get_mut(&(account, id));
        entry.map(|entry| (entry.owner, entry.touched) = (owner, Instant::now())).is_some()
    }

    /// Whether a segment is open. Unlike [`OpenSegments::get`], this is no sign of its owner.
    pub(crate) fn contains(&self, account: AccountId, id: SegmentId) -> bool {
        lock(&self.segments).contains_key(&(account, id))
    }

    pub(crate) fn get(&self, account: AccountId, id: SegmentId) -> Option<Arc<OpenSegment>> {
        let mut open = lock(&self.segments);
        let entry = open.get_mut(&(account, id))?;
        entry.touched = Instant::now();
        Some(Arc::clone(&entry.segment))
    }

    pub(crate) fn close(&self, account: AccountId, id: SegmentId) {
        lock(&self.segments).remove(&(account, id));
    }

    /// Drops what nobody will finish: its client has gone, or has been silent for long. Those of them
    /// for which nobody signed anything.
    pub(crate) fn drop_abandoned(&self, present: impl Fn(&NodeId) -> bool) -> Vec<(AccountId, SegmentId)> {
        let mut empty = Vec::new();
        lock(&self.segments).retain(|key, entry| {
            let stays = present(&entry.owner) && entry.touched.elapsed() < ABANDONED;
            if !stays && lock(&entry.segment.record).holders().next().is_none() {
                empty.push(*key);
            }
            stays
        });
        empty
    }
}

#[cfg(test)]
mod tests;
