//! What a mediator remembers of segments and heads, durably.

mod adopted;
mod announced;
mod loads;

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use fincrypt_protocol::record::{Head, Mandate, Receipt};
use fincrypt_protocol::{
    AccountId, Clock, Manifest, NodeId, Refusal, RunId, SegmentId, ShardIndex, Signed, Tag, Verified, cbor,
};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;
use serde::{Deserialize, Serialize};

use announced::ANNOUNCED;
use fincrypt_accounts::failed;
use fincrypt_accounts::releases::Holdings;
use fincrypt_net::blocking;
pub(crate) use loads::Load;
use loads::{Loads, count};

/// `account ‖ segment` → [`SegmentRecord`].
const SEGMENTS: Tree = Tree("segments");
/// `account` → its head.
const HEADS: Tree = Tree("mediated_heads");
/// `account ‖ node` → nothing: the nodes that hold something for the account.
const HOLDERS: Tree = Tree("account_holders");
/// `node ‖ segment ‖ account ‖ position` → length `u32le`: what each node holds. The segment goes
/// first, so that a random one stands for all accounts.
const HELD: Tree = Tree("held_by");
/// `account ‖ segment` → nothing: segments of which a shard lacks a keeper.
const LACKING: Tree = Tree("lacking");
/// `account` → its newest mandate for this mediator.
const MANDATES: Tree = Tree("mediated_mandates");

/// The most bytes of a segment's record: a manifest and 30 receipts.
const MAX_RECORD: usize = 64 << 10;
/// Records looked through at once.
const PAGE: usize = 256;

/// Where one shard went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// The node chosen for it; none while no node qualifies.
    pub(crate) node: Option<NodeId>,
    /// The node's word that it keeps it, once it gave one.
    pub(crate) receipt: Option<Word>,
}

/// Why a shard counts as kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// The keeper signed for it.
    Receipt(Signed<Receipt>),
    /// The keeper listed it when the vault was taken over; audits show whether it is true.
    Listed,
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

    /// Whether every shard has a keeper.
    pub(crate) fn is_complete(&self) -> bool {
        self.holders().count() == usize::from(self.manifest.code().total())
    }

    /// The keepers' signed words alone.
    pub(crate) fn receipts(&self) -> impl Iterator<Item = &Signed<Receipt>> {
        self.slots.iter().filter_map(|slot| match &slot.receipt {
            Some(Word::Receipt(receipt)) => Some(receipt),
            _ => None,
        })
    }

    /// Whether its owner may say that this is its tag: where only holders have told it, they may have
    /// lied.
    pub(crate) fn may_have(&self, tag: Tag) -> bool {
        self.tag == tag || self.receipts().next().is_none()
    }

    /// The same segment, of which only what is signed for counts as kept. Its owner stores it again,
    /// at the same keepers, and counts their receipts.
    pub(crate) fn signed_for(mut self) -> Self {
        for slot in &mut self.slots {
            slot.receipt.take_if(|word| *word == Word::Listed);
        }
        self
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

/// Segments are changed by several at once: each waits for its turn at one of so many locks.
const TURNS: usize = 64;

#[derive(Clone)]
pub(crate) struct Records {
    state: State,
    clock: Clock,
    cache: Arc<Mutex<Cache>>,
    turns: Arc<[Mutex<()>; TURNS]>,
    /// What each node holds, all in all.
    load: Arc<Mutex<Loads>>,
}

/// A shard that a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Held {
    pub(crate) segment: SegmentId,
    pub(crate) account: AccountId,
    pub(crate) index: ShardIndex,
}

impl Held {
    fn key(&self, node: &NodeId) -> Vec<u8> {
        let index = [self.index.into()];
        [node.as_bytes().as_slice(), self.segment.as_bytes(), self.account.as_bytes(), &index].concat()
    }

    /// Where [`Records::held_by`] goes on after this one.
    pub(crate) fn rest(&self) -> Vec<u8> {
        [self.segment.as_bytes().as_slice(), self.account.as_bytes(), &[self.index.into()]].concat()
    }

    fn parse(key: &[u8]) -> Option<Self> {
        let id = |range: std::ops::Range<usize>| key.get(range)?.try_into().ok();
        let (segment, account) = (id(32..64)?, id(64..96)?);
        let index = ShardIndex::new(*key.get(96)?).ok()?;
        Some(Self { segment: SegmentId::from_bytes(segment), account: AccountId::from_bytes(account), index })
    }
}

fn at(account: &AccountId, rest: &[u8]) -> Vec<u8> {
    [account.as_bytes(), rest].concat()
}

impl Records {
    pub(crate) fn new(state: State, clock: Clock) -> Self {
        let turns = Arc::new(std::array::from_fn(|_| Mutex::default()));
        let load = Arc::new(Mutex::new(count(&state)));
        Self { state, clock, cache: Arc::default(), turns, load }
    }

    fn load(&self) -> MutexGuard<'_, Loads> {
        self.load.lock()
    }

    /// What each node holds, all in all.
    pub(crate) fn loads(&self) -> HashMap<NodeId, Load> {
        self.load().nodes.clone()
    }

    /// Bytes that a node holds for each account.
    pub(crate) fn held_for(&self, node: &NodeId) -> HashMap<AccountId, u64> {
        self.load().accounts.get(node).cloned().unwrap_or_default()
    }

    /// Bytes that each node holds for an account.
    pub(crate) fn held_of(&self, account: &AccountId) -> Vec<(NodeId, u64)> {
        let load = self.load();
        let of = |(node, held): (&NodeId, &HashMap<AccountId, u64>)| Some((*node, *held.get(account)?));
        load.accounts.iter().filter_map(of).collect()
    }

    /// Counts what came to be held and what no longer is; keys of [`HELD`], of shards of one length.
    fn recount<'a>(
        &self,
        length: u64,
        gone: impl Iterator<Item = &'a Vec<u8>>,
        new: impl Iterator<Item = &'a Vec<u8>>,
    ) {
        let mut loads = self.load();
        gone.for_each(|key| loads.remove(key, length));
        new.for_each(|key| loads.add(key, length));
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock()
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

    /// A segment, from the disk.
    pub(crate) fn known(
        &self,
        account: &AccountId,
        segment: &SegmentId,
    ) -> Result<Option<SegmentRecord>, Refusal> {
        self.segment(account, segment)
    }

    /// Drops a written record from memory: of two writers, the cache cannot know the later.
    fn forget(&self, account: AccountId, segment: SegmentId) {
        let mut cache = self.cache();
        cache.writes += 1;
        cache.records.remove(&(account, segment));
        cache.order.retain(|key| *key != (account, segment));
    }

    /// Held while a segment's record is read, changed and written.
    fn turn(&self, segment: &SegmentId) -> MutexGuard<'_, ()> {
        let turn = usize::from(segment.as_bytes()[0]) % TURNS;
        self.turns[turn].lock()
    }

    /// Remembers a segment, and that its keepers hold something for the account; the nodes that held
    /// nothing for it before.
    pub(crate) fn put_segment(
        &self,
        account: &AccountId,
        record: &SegmentRecord,
    ) -> Result<Vec<NodeId>, Refusal> {
        let id = record.manifest.id();
        let _turn = self.turn(&id);
        let old = self.segment(account, &id)?;
        // Audits and repairs may have changed it since it was opened: lists of holders must grow newer.
        let newest = old.as_ref().filter(|old| old.sequence >= record.sequence);
        match newest {
            Some(old) if old != record => {
                let record = SegmentRecord { sequence: old.sequence + 1, ..record.clone() };
                self.write(account, Some(old), &record)
            }
            _ => self.write(account, old.as_ref(), record),
        }
    }

    /// Changes a known segment by `change`, unless that says that there is nothing to change; the new
    /// record, and the nodes that held nothing for the account before.
    pub(crate) fn change(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        change: impl FnOnce(&mut SegmentRecord) -> bool,
    ) -> Result<Option<(SegmentRecord, Vec<NodeId>)>, Refusal> {
        let _turn = self.turn(segment);
        let Some(old) = self.segment(account, segment)? else { return Ok(None) };
        let mut record = old.clone();
        if !change(&mut record) {
            return Ok(None);
        }
        record.sequence += 1;
        let new = self.write(account, Some(&old), &record)?;
        Ok(Some((record, new)))
    }

    fn write(
        &self,
        account: &AccountId,
        old: Option<&SegmentRecord>,
        record: &SegmentRecord,
    ) -> Result<Vec<NodeId>, Refusal> {
        let mut new = Vec::new();
        let mut batch = Batch::default();
        let bytes = cbor::encode(record).map_err(|error| failed(&error))?;
        let id = record.manifest.id();
        batch.put(SEGMENTS, at(account, id.as_bytes()), bytes);
        let held =
            |(index, node): (ShardIndex, NodeId)| Held { segment: id, account: *account, index }.key(&node);
        let before: BTreeSet<_> = old.into_iter().flat_map(SegmentRecord::holders).map(held).collect();
        let after: BTreeSet<_> = record.holders().map(held).collect();
        let length = record.manifest.shard_len().get();
        before.difference(&after).for_each(|key| batch.remove(HELD, key.clone()));
        after.difference(&before).for_each(|key| batch.put(HELD, key.clone(), length.to_le_bytes()));
        if !after.is_empty() {
            batch.remove(ANNOUNCED, at(account, id.as_bytes()));
        } else if old.is_none() {
            let now = self.clock.now().secs().to_le_bytes();
            batch.put(ANNOUNCED, at(account, id.as_bytes()), now);
        }
        // A segment that has no keeper at all was only announced.
        if record.is_complete() || after.is_empty() && before.is_empty() {
            batch.remove(LACKING, at(account, id.as_bytes()));
        } else {
            batch.put(LACKING, at(account, id.as_bytes()), Vec::new());
        }
        for (_, node) in record.holders() {
            let key = at(account, node.as_bytes());
            if self.state.get(HOLDERS, &key).map_err(|error| failed(&error))?.is_none() {
                batch.put(HOLDERS, key, Vec::new());
                new.push(node);
            }
        }
        self.state.commit(&batch).map_err(|error| failed(&error))?;
        self.recount(length.into(), before.difference(&after), after.difference(&before));
        self.forget(*account, id);
        Ok(new)
    }

    /// What a node holds, in the order of segments, after `after` (a segment's bytes at least): at
    /// most `most`.
    pub(crate) fn held_by(&self, node: &NodeId, after: &[u8], most: usize) -> Result<Vec<Held>, Refusal> {
        let after = [node.as_bytes().as_slice(), after].concat();
        let entries = self.state.scan(HELD, node.as_bytes(), Some(&after), most);
        let entries = entries.map_err(|error| failed(&error))?;
        Ok(entries.iter().filter_map(|(key, _)| Held::parse(key)).collect())
    }

    /// Whether a node holds anything, of any account.
    pub(crate) fn holds_anything(&self, node: &NodeId) -> bool {
        self.load().nodes.contains_key(node)
    }

    /// The runs of what a node holds for an account.
    pub(crate) fn runs_at(&self, account: &AccountId, node: &NodeId) -> Result<BTreeSet<RunId>, Refusal> {
        let (mut runs, mut after) = (BTreeSet::new(), Vec::new());
        loop {
            let page = self.held_by(node, &after, PAGE)?;
            let Some(last) = page.last() else { return Ok(runs) };
            after = last.rest();
            for held in page.iter().filter(|held| held.account == *account) {
                runs.extend(self.segment(account, &held.segment)?.map(|record| record.run));
            }
        }
    }

    /// Segments of which a shard lacks a keeper, after `after`, at most `most`. One that is open may
    /// be among them.
    pub(crate) fn lacking(
        &self,
        after: Option<(AccountId, SegmentId)>,
        most: usize,
    ) -> Result<Vec<(AccountId, SegmentId)>, Refusal> {
        let after = after.map(|(account, segment)| at(&account, segment.as_bytes()));
        let entries = self.state.scan(LACKING, &[], after.as_deref(), most);
        let parse = |key: &[u8]| {
            let (account, segment) = key.split_first_chunk::<32>()?;
            Some((AccountId::from_bytes(*account), SegmentId::from_bytes(segment.try_into().ok()?)))
        };
        Ok(entries.map_err(|error| failed(&error))?.iter().filter_map(|(key, _)| parse(key)).collect())
    }

    /// The runs of the segments that are known for an account.
    pub(crate) fn runs(&self, account: &AccountId) -> Result<BTreeSet<RunId>, Refusal> {
        let (mut runs, mut after) = (BTreeSet::new(), None);
        loop {
            let page = self.segments(account, after.as_ref())?;
            let Some(last) = page.last() else { return Ok(runs) };
            after = Some(*last);
            for segment in page {
                runs.extend(self.segment(account, &segment)?.map(|record| record.run));
            }
        }
    }

    /// The newest mandate that an account gave to this mediator, which may have expired.
    pub(crate) fn mandate(&self, account: &AccountId) -> Result<Option<Signed<Mandate>>, Refusal> {
        let bytes = self.state.get(MANDATES, account.as_bytes()).map_err(|error| failed(&error))?;
        bytes.map(|bytes| Signed::from_bytes(&bytes).map_err(|error| failed(&error))).transpose()
    }

    /// Remembers a mandate, whose sequence is not below the known one's.
    pub(crate) fn put_mandate(&self, mandate: &Verified<Mandate>) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        let bytes = mandate.signed().to_bytes().map_err(|error| failed(&error))?;
        batch.put(MANDATES, *mandate.account.as_bytes(), bytes);
        self.state.commit(&batch).map_err(|error| failed(&error))
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
        self.replace_head(account, head, &mut batch)?;
        self.state.commit(&batch).map_err(|error| failed(&error))
    }

    /// Puts a head in the place of whatever there is, with the batch.
    pub(crate) fn replace_head(
        &self,
        account: &AccountId,
        head: &Signed<Head>,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        batch.put(HEADS, *account.as_bytes(), head.to_bytes().map_err(|error| failed(&error))?);
        Ok(())
    }
}

/// What a mediator forgets when a release is due: its records, as storage deletes the shards.
impl Holdings for Records {
    type Error = Refusal;

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
        let _turn = self.turn(segment);
        let mut batch = Batch::default();
        batch.remove(SEGMENTS, at(account, segment.as_bytes()));
        batch.remove(LACKING, at(account, segment.as_bytes()));
        batch.remove(ANNOUNCED, at(account, segment.as_bytes()));
        let old = self.segment(account, segment)?;
        let held = |(index, node)| Held { segment: *segment, account: *account, index }.key(&node);
        let gone: Vec<Vec<u8>> = old.iter().flat_map(SegmentRecord::holders).map(held).collect();
        gone.iter().for_each(|key| batch.remove(HELD, key.clone()));
        self.state.commit(&batch).map_err(|error| failed(&error))?;
        let length = old.map_or(0, |old| old.manifest.shard_len().get());
        self.recount(length.into(), gone.iter(), [].iter());
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
        let records = Records::new(state.clone(), Clock::system());
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

    fn keeper(node: u8, index: u8, record: &SegmentRecord) -> Slot {
        let key = fincrypt_protocol::SigningKey::from_seed(&zeroize::Zeroizing::new([node; 32]));
        let index = ShardIndex::new(index).expect("valid");
        let receipt = Receipt {
            network: fincrypt_protocol::Network::Local,
            node: key.node(),
            account: AccountId::from_bytes([5; 32]),
            mandate: fincrypt_protocol::MandateHash::from_bytes([6; 32]),
            segment: record.manifest.id(),
            index,
            shard: record.manifest.shard(index).expect("there"),
            length: record.manifest.shard_len().get(),
            price: fincrypt_protocol::amount::Price::FREE,
            time: fincrypt_protocol::UnixTime::from_secs(1),
            paid_until: fincrypt_protocol::UnixTime::from_secs(2),
        };
        Slot {
            node: Some(key.node()),
            receipt: Some(Word::Receipt(Signed::seal(&receipt, &key).expect("seals"))),
        }
    }

    #[test]
    fn what_nodes_hold_and_what_lacks_keepers_follows_every_change() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(dir.path()).expect("opens");
        let records = Records::new(state, Clock::system());
        let (account, mut record) = (AccountId::from_bytes([5; 32]), record(1));
        let id = record.manifest.id();
        let lacking = || records.lacking(None, 10).expect("no failure");
        records.put_segment(&account, &record).expect("written");
        assert_eq!(lacking(), [], "it was only announced");
        record.slots[0] = keeper(1, 0, &record);
        let node = record.slots[0].node.expect("a keeper");
        assert_eq!(records.put_segment(&account, &record).expect("written"), [node]);
        assert_eq!(lacking(), [(account, id)]);
        record.slots[1] = keeper(2, 1, &record);
        records.put_segment(&account, &record).expect("written");
        assert_eq!(lacking(), []);
        let held = Held { segment: id, account, index: ShardIndex::new(0).expect("valid") };
        assert_eq!(records.held_by(&node, &[], 10).expect("no failure"), [held]);
        let one = Load { shards: 1, bytes: 1 << 20 };
        assert_eq!(records.loads().get(&node), Some(&one));
        assert_eq!(Records::new(records.state.clone(), Clock::system()).loads(), records.loads());
        let lose = |record: &mut SegmentRecord| std::mem::take(&mut record.slots[0].receipt).is_some();
        let (changed, _) = records.change(&account, &id, lose).expect("no failure").expect("changed");
        assert_eq!((changed.sequence, changed.holders().count()), (4, 1));
        assert!(records.change(&account, &id, lose).expect("no failure").is_none(), "nothing to change");
        assert_eq!(records.held_by(&node, &[], 10).expect("no failure"), []);
        assert_eq!(lacking(), [(account, id)]);
        records.remove(&account, &id).expect("removed");
        let other = record.slots[1].node.expect("a keeper");
        assert_eq!((lacking(), records.held_by(&other, &[], 10).expect("no failure")), (vec![], vec![]));
        assert!(records.loads().is_empty());
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
