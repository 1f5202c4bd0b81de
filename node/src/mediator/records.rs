//! What a mediator remembers of segments and heads, durably.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fincrypt_protocol::record::{Head, Receipt};
use fincrypt_protocol::{
    AccountId, Manifest, NodeId, Refusal, RunId, SegmentId, ShardIndex, Signed, Tag, cbor,
};
use fincrypt_storage::kv::{Batch, KeyValue, Tree};
use fincrypt_storage::state::State;
use serde::{Deserialize, Serialize};

use crate::accounts::failed;
use crate::releases::Holdings;
use crate::serve::blocking;

/// `account ‖ segment` → [`SegmentRecord`].
const SEGMENTS: Tree = Tree("segments");
/// `account` → its head.
const HEADS: Tree = Tree("mediated_heads");
/// `account ‖ node` → nothing: the nodes that hold something for the account.
const HOLDERS: Tree = Tree("account_holders");

/// The most bytes of a segment's record: a manifest and 30 receipts.
const MAX_RECORD: usize = 64 << 10;
/// Records looked through at once.
const PAGE: usize = 256;

/// Where one shard went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// The node chosen for it; none while no node qualifies.
    pub(crate) node: Option<NodeId>,
    /// The node's receipt, once it gave one.
    pub(crate) receipt: Option<Signed<Receipt>>,
}

/// A segment as a mediator remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SegmentRecord {
    pub(crate) manifest: Manifest,
    pub(crate) tag: Tag,
    pub(crate) run: RunId,
    pub(crate) slots: Vec<Slot>,
    /// Grows each time that holders change.
    pub(crate) sequence: u64,
}

impl SegmentRecord {
    /// The shards that have a keeper, and their keepers.
    pub(crate) fn holders(&self) -> impl Iterator<Item = (ShardIndex, NodeId)> + '_ {
        let slots = self.manifest.code().indices().zip(&self.slots);
        slots.filter_map(|(index, slot)| {
            slot.node.filter(|_| slot.receipt.is_some()).map(|node| (index, node))
        })
    }

    /// The same segment, of which nothing counts as kept: its keepers were told to delete it.
    pub(crate) fn released(mut self) -> Self {
        self.slots.iter_mut().for_each(|slot| slot.receipt = None);
        self
    }

    pub(crate) fn receipts(&self) -> impl Iterator<Item = &Signed<Receipt>> {
        self.slots.iter().filter_map(|slot| slot.receipt.as_ref())
    }
}

/// Decoded segments kept in memory, at about 8 KiB each. A restore asks for each of a segment's
/// shards, so it reads and decodes each record once.
const CACHED: usize = 512;

type Key = (AccountId, SegmentId);

/// Newest records of segments; the oldest entry goes first.
#[derive(Default)]
struct Cache {
    records: HashMap<Key, Arc<SegmentRecord>>,
    order: VecDeque<Key>,
    /// Grows with each write, so that nothing is cached that was read before it.
    writes: u64,
}

impl Cache {
    fn keep(&mut self, key: Key, record: Arc<SegmentRecord>) {
        if self.records.insert(key, record).is_none() {
            self.order.push_back(key);
        }
        while self.records.len() > CACHED
            && let Some(oldest) = self.order.pop_front()
        {
            self.records.remove(&oldest);
        }
    }
}

#[derive(Clone)]
pub(crate) struct Records {
    state: State,
    cache: Arc<Mutex<Cache>>,
}

fn at(account: &AccountId, rest: &[u8]) -> Vec<u8> {
    [account.as_bytes(), rest].concat()
}

impl Records {
    pub(crate) fn new(state: State) -> Self {
        Self { state, cache: Arc::default() }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, account: AccountId, segment: SegmentId) -> Option<Arc<SegmentRecord>> {
        self.cache().records.get(&(account, segment)).cloned()
    }

    /// A segment, from memory or from the disk, which is waited for on another thread.
    pub(crate) async fn find(
        &self,
        account: AccountId,
        segment: SegmentId,
    ) -> Result<Option<Arc<SegmentRecord>>, Refusal> {
        if let Some(known) = self.cached(account, segment) {
            return Ok(Some(known));
        }
        let records = self.clone();
        blocking(move || records.read(account, segment)).await
    }

    /// Those of some segments that are known.
    pub(crate) async fn find_all(
        &self,
        account: AccountId,
        segments: Vec<SegmentId>,
    ) -> Result<Vec<Arc<SegmentRecord>>, Refusal> {
        let records = self.clone();
        let find = move |segment| match records.cached(account, segment) {
            Some(known) => Ok(Some(known)),
            None => records.read(account, segment),
        };
        blocking(move || segments.into_iter().filter_map(|segment| find(segment).transpose()).collect()).await
    }

    fn read(&self, account: AccountId, segment: SegmentId) -> Result<Option<Arc<SegmentRecord>>, Refusal> {
        let writes = self.cache().writes;
        let record = self.segment(&account, &segment)?.map(Arc::new);
        if let Some(record) = &record {
            let mut cache = self.cache();
            if cache.writes == writes {
                cache.keep((account, segment), Arc::clone(record));
            }
        }
        Ok(record)
    }

    fn segment(&self, account: &AccountId, segment: &SegmentId) -> Result<Option<SegmentRecord>, Refusal> {
        let bytes =
            self.state.get(SEGMENTS, &at(account, segment.as_bytes())).map_err(|error| failed(&error))?;
        bytes.map(|bytes| cbor::decode(&bytes, MAX_RECORD).map_err(|error| failed(&error))).transpose()
    }

    /// Drops a written record from memory: of two writers, the cache cannot know the later.
    fn forget(&self, account: AccountId, segment: SegmentId) {
        let mut cache = self.cache();
        cache.writes += 1;
        cache.records.remove(&(account, segment));
        cache.order.retain(|key| *key != (account, segment));
    }

    /// Remembers a segment, and that its keepers hold something for the account; the nodes that held
    /// nothing for it before.
    pub(crate) fn put_segment(
        &self,
        account: &AccountId,
        record: &SegmentRecord,
    ) -> Result<Vec<NodeId>, Refusal> {
        let mut new = Vec::new();
        let mut batch = Batch::default();
        let bytes = cbor::encode(record).map_err(|error| failed(&error))?;
        let id = record.manifest.id();
        batch.put(SEGMENTS, at(account, id.as_bytes()), bytes);
        for (_, node) in record.holders() {
            let key = at(account, node.as_bytes());
            if self.state.get(HOLDERS, &key).map_err(|error| failed(&error))?.is_none() {
                batch.put(HOLDERS, key, Vec::new());
                new.push(node);
            }
        }
        self.state.commit(&batch).map_err(|error| failed(&error))?;
        self.forget(*account, id);
        Ok(new)
    }

    /// Nodes that hold something for the account, at most `most`.
    pub(crate) fn holders(&self, account: &AccountId, most: usize) -> Result<Vec<NodeId>, Refusal> {
        let entries =
            self.state.scan(HOLDERS, account.as_bytes(), None, most).map_err(|error| failed(&error))?;
        let node =
            |key: &[u8]| key.get(32..64).and_then(|bytes| bytes.try_into().ok()).map(NodeId::from_bytes);
        Ok(entries.iter().filter_map(|(key, _)| node(key)).collect())
    }

    pub(crate) fn head(&self, account: &AccountId) -> Result<Option<Signed<Head>>, Refusal> {
        let bytes = self.state.get(HEADS, account.as_bytes()).map_err(|error| failed(&error))?;
        bytes.map(|bytes| Signed::from_bytes(&bytes).map_err(|error| failed(&error))).transpose()
    }

    pub(crate) fn put_head(&self, account: &AccountId, head: &Signed<Head>) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.put(HEADS, *account.as_bytes(), head.to_bytes().map_err(|error| failed(&error))?);
        self.state.commit(&batch).map_err(|error| failed(&error))
    }
}

/// What a mediator forgets when a release is due: its records, as storage deletes the shards.
impl Holdings for Records {
    fn holds(&self, account: &AccountId, segment: &SegmentId) -> Result<bool, Refusal> {
        Ok(self.segment(account, segment)?.is_some())
    }

    fn segments(&self, account: &AccountId, after: Option<&SegmentId>) -> Result<Vec<SegmentId>, Refusal> {
        let after = after.map(|segment| at(account, segment.as_bytes()));
        let entries = self.state.scan(SEGMENTS, account.as_bytes(), after.as_deref(), PAGE);
        let id = |key: &[u8]| key.get(32..64)?.try_into().ok().map(SegmentId::from_bytes);
        Ok(entries.map_err(|error| failed(&error))?.iter().filter_map(|(key, _)| id(key)).collect())
    }

    fn remove(&self, account: &AccountId, segment: &SegmentId) -> Result<u64, Refusal> {
        let mut batch = Batch::default();
        batch.remove(SEGMENTS, at(account, segment.as_bytes()));
        self.state.commit(&batch).map_err(|error| failed(&error))?;
        self.forget(*account, *segment);
        Ok(0)
    }

    fn settle(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Code, ShardId, ShardLen};

    fn record(sequence: u64) -> SegmentRecord {
        let ids = vec![ShardId::from_bytes([1; 32]), ShardId::from_bytes([2; 32])];
        let manifest = Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::FULL, ids).expect("valid");
        let slots = vec![Slot { node: None, receipt: None }; 2];
        let (tag, run) = (Tag::from_bytes([3; 32]), RunId::from_bytes([4; 16]));
        SegmentRecord { manifest, tag, run, slots, sequence }
    }

    #[tokio::test]
    async fn a_record_is_read_once_until_it_is_written_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(dir.path()).expect("opens");
        let records = Records::new(state.clone());
        let (account, id) = (AccountId::from_bytes([5; 32]), record(1).manifest.id());
        let sequence = async || {
            let found = records.find(account, id).await.expect("no failure");
            found.map(|record| record.sequence)
        };
        assert_eq!(sequence().await, None);
        records.put_segment(&account, &record(1)).expect("written");
        assert_eq!(sequence().await, Some(1));
        // Gone from the disk, it still comes from memory.
        let mut gone = Batch::default();
        gone.remove(SEGMENTS, at(&account, id.as_bytes()));
        state.commit(&gone).expect("removed");
        assert_eq!(sequence().await, Some(1));
        records.put_segment(&account, &record(2)).expect("written");
        assert_eq!(sequence().await, Some(2));
        let all = records.find_all(account, vec![id, SegmentId::from_bytes([9; 32])]).await;
        assert_eq!(all.expect("no failure").len(), 1);
    }

    #[test]
    fn the_cache_is_bounded() {
        let (mut cache, record) = (Cache::default(), Arc::new(record(1)));
        for number in 0..2 * CACHED {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(number as u64).to_le_bytes());
            cache.keep((AccountId::from_bytes([5; 32]), SegmentId::from_bytes(id)), Arc::clone(&record));
        }
        assert_eq!((cache.records.len(), cache.order.len()), (CACHED, CACHED));
    }
}
