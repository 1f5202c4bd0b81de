//! Segments whose shards are arriving.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fincrypt_protocol::limits::MAX_OPEN_SEGMENTS;
use fincrypt_protocol::record::{Mandate, Receipt, Registration};
use fincrypt_protocol::{AccountId, NodeId, Refusal, SegmentId, ShardIndex, Signed};
use tokio::sync::OnceCell;

use super::records::{SegmentRecord, Slot};

/// An open segment that nobody touched for so long is given up; its shards stay where they are.
const ABANDONED: Duration = Duration::from_secs(300);

/// One segment on its way to its keepers.
pub(crate) struct OpenSegment {
    pub(crate) account: AccountId,
    pub(crate) registration: Signed<Registration>,
    pub(crate) mandate: Signed<Mandate>,
    record: Mutex<SegmentRecord>,
    /// Data shards that their keepers accepted, for the parity.
    data: Mutex<Vec<Option<Bytes>>>,
    /// Set once parity was computed and every parity shard was tried.
    pub(crate) parity: OnceCell<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenSegment {
    pub(crate) fn new(
        account: AccountId,
        registration: Signed<Registration>,
        mandate: Signed<Mandate>,
        record: SegmentRecord,
    ) -> Self {
        let data = vec![None; usize::from(record.manifest.code().data())];
        Self {
            account,
            registration,
            mandate,
            record: Mutex::new(record),
            data: Mutex::new(data),
            parity: OnceCell::new(),
        }
    }

    pub(crate) fn record(&self) -> SegmentRecord {
        lock(&self.record).clone()
    }

    /// Bit `i` is set if data shard `i` has no receipt.
    pub(crate) fn missing_data(&self) -> u32 {
        let record = lock(&self.record);
        let data = usize::from(record.manifest.code().data());
        let missing = record.slots.iter().take(data).enumerate().filter(|(_, slot)| slot.receipt.is_none());
        missing.fold(0, |bits, (index, _)| bits | 1 << index)
    }

    pub(crate) fn slot(&self, index: ShardIndex) -> Option<Slot> {
        lock(&self.record).slots.get(index.get()).cloned()
    }

    /// Chooses another node for a shard: the first of `candidates` that has no shard of this
    /// segment. Data goes before parity: where all have one, a data shard takes the place of a
    /// parity shard that is not stored yet. False if there is none.
    pub(crate) fn reassign(&self, index: ShardIndex, candidates: &[NodeId]) -> bool {
        let mut record = lock(&self.record);
        let data = usize::from(record.manifest.code().data());
        let taken: Vec<NodeId> = record.slots.iter().filter_map(|slot| slot.node).collect();
        let free = candidates.iter().find(|node| !taken.contains(node)).copied();
        let chosen = free.or_else(|| {
            let parity = record.slots.iter_mut().skip(data).filter(|_| index.get() < data);
            let mut unstored = parity.filter(|slot| slot.receipt.is_none());
            let giver = unstored.find(|slot| slot.node.is_some_and(|node| candidates.contains(&node)))?;
            giver.node.take()
        });
        match (chosen, record.slots.get_mut(index.get())) {
            (Some(node), Some(slot)) => {
                *slot = Slot { node: Some(node), receipt: None };
                true
            }
            _ => false,
        }
    }

    /// Notes a keeper's receipt.
    pub(crate) fn receipted(&self, index: ShardIndex, receipt: Signed<Receipt>) {
        if let Some(slot) = lock(&self.record).slots.get_mut(index.get()) {
            slot.receipt = Some(receipt);
        }
    }

    /// Remembers an accepted data shard for the parity.
    pub(crate) fn remember(&self, index: ShardIndex, payload: Bytes) {
        if let Some(slot) = lock(&self.data).get_mut(index.get()) {
            *slot = Some(payload);
        }
    }

    /// The data shards in memory.
    pub(crate) fn data(&self) -> Vec<Option<Bytes>> {
        lock(&self.data).clone()
    }

    /// Frees the memory of the data shards.
    pub(crate) fn forget_data(&self) {
        lock(&self.data).iter_mut().for_each(|slot| *slot = None);
    }
}

struct Entry {
    segment: Arc<OpenSegment>,
    owner: NodeId,
    touched: Instant,
}

/// All open segments, at most two per client.
#[derive(Default)]
pub(crate) struct OpenSegments(Mutex<HashMap<(AccountId, SegmentId), Entry>>);

impl OpenSegments {
    /// Opens a segment for the peer `owner`; one that is already open passes to it.
    pub(crate) fn open(
        &self,
        owner: NodeId,
        id: SegmentId,
        make: impl FnOnce() -> OpenSegment,
        account: AccountId,
    ) -> Result<Arc<OpenSegment>, Refusal> {
        let mut open = lock(&self.0);
        let touched = Instant::now();
        if let Some(entry) = open.get_mut(&(account, id)) {
            entry.owner = owner;
            entry.touched = touched;
            return Ok(Arc::clone(&entry.segment));
        }
        if open.values().filter(|entry| entry.owner == owner).count() >= MAX_OPEN_SEGMENTS {
            return Err(Refusal::TooManyOpen);
        }
        let segment = Arc::new(make());
        open.insert((account, id), Entry { segment: Arc::clone(&segment), owner, touched });
        Ok(segment)
    }

    /// Passes an open segment to the peer `owner`; whether there is one.
    pub(crate) fn adopt(&self, owner: NodeId, account: AccountId, id: SegmentId) -> bool {
        let mut open = lock(&self.0);
        let entry = open.get_mut(&(account, id));
        entry.map(|entry| (entry.owner, entry.touched) = (owner, Instant::now())).is_some()
    }

    pub(crate) fn get(&self, account: AccountId, id: SegmentId) -> Option<Arc<OpenSegment>> {
        let mut open = lock(&self.0);
        let entry = open.get_mut(&(account, id))?;
        entry.touched = Instant::now();
        Some(Arc::clone(&entry.segment))
    }

    pub(crate) fn close(&self, account: AccountId, id: SegmentId) {
        lock(&self.0).remove(&(account, id));
    }

    /// Drops what nobody will finish: its client has gone, or has been silent for long.
    pub(crate) fn drop_abandoned(&self, present: impl Fn(&NodeId) -> bool) {
        lock(&self.0).retain(|_, entry| present(&entry.owner) && entry.touched.elapsed() < ABANDONED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::record::Rights;
    use fincrypt_protocol::{Code, Manifest, Network, RunId, ShardId, ShardLen, SigningKey, Tag, UnixTime};
    use fincrypt_storage::words::Words;
    use zeroize::Zeroizing;

    fn node(id: u8) -> NodeId {
        NodeId::from_bytes([id; 32])
    }

    /// Two data and two parity shards, at nodes 0 to 3.
    fn segment() -> OpenSegment {
        let keys = Words::generate().expect("words").vault_keys();
        let account = keys.root.account(0);
        let mandate = Mandate {
            network: Network::Local,
            account: account.account(),
            mediator: node(9),
            rights: Rights { put: true, audit: true, get: true },
            byte_cap: 1,
            sequence: 1,
            expiry: UnixTime::from_secs(2),
        };
        let mandate = Signed::seal(&mandate, &account).expect("seals");
        let ids = (0..4).map(|id| ShardId::from_bytes([id; 32])).collect();
        let manifest = Manifest::new(Code::new(2, 2).expect("valid"), ShardLen::FULL, ids).expect("valid");
        let slots = (0..4).map(|id| Slot { node: Some(node(id)), receipt: None }).collect();
        let (tag, run) = (Tag::from_bytes([1; 32]), RunId::from_bytes([1; 16]));
        let record = SegmentRecord { manifest, tag, run, slots, sequence: 1 };
        OpenSegment::new(
            account.account(),
            keys.registration(Network::Local, 0).expect("seals"),
            mandate,
            record,
        )
    }

    fn index(at: u8) -> ShardIndex {
        ShardIndex::new(at).expect("valid")
    }

    fn nodes(segment: &OpenSegment) -> Vec<Option<NodeId>> {
        segment.record().slots.iter().map(|slot| slot.node).collect()
    }

    #[test]
    fn a_node_without_a_shard_is_chosen_first() {
        let segment = segment();
        assert!(segment.reassign(index(0), &[node(1), node(2), node(3), node(7)]));
        assert_eq!(nodes(&segment), [7, 1, 2, 3].map(|id| Some(node(id))));
    }

    #[test]
    fn where_no_node_is_left_data_takes_the_place_of_parity_that_is_not_stored() {
        let segment = segment();
        let key = SigningKey::from_seed(&Zeroizing::new([7; 32]));
        let receipt = Receipt {
            network: Network::Local,
            node: key.node(),
            account: segment.account,
            mandate: segment.mandate.mandate_hash(),
            segment: segment.record().manifest.id(),
            index: index(2),
            shard: ShardId::from_bytes([2; 32]),
            length: 1,
            price: fincrypt_protocol::amount::Price::FREE,
            time: UnixTime::from_secs(1),
            paid_until: UnixTime::from_secs(2),
        };
        segment.receipted(index(2), Signed::seal(&receipt, &key).expect("seals"));
        let others = [node(1), node(2), node(3)];
        assert!(!segment.reassign(index(3), &others), "parity takes nobody's place");
        assert!(segment.reassign(index(0), &others));
        assert_eq!(nodes(&segment), [Some(node(3)), Some(node(1)), Some(node(2)), None]);
        assert!(!segment.reassign(index(1), &others), "what is stored stays");
    }
}
