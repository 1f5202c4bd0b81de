//! Records of segments, with what follows from each: its holders' shards, its account's holders, and
//! whether it lacks a holder. One batch changes all of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use fincrypt_accounts::releases::Holdings;
use fincrypt_protocol::shard::HeldSegment;
use fincrypt_protocol::{AccountId, Clock, NodeId, RunId, SegmentId, ShardIndex, UnixTime};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::{Everything, Table};
use parking_lot::{Mutex, MutexGuard};

use super::account_holders::AccountHolders;
use super::held_shards::{HeldShard, HeldShards, HolderChange};
use super::segment_cache::{Place, SegmentCache};
use super::segment_record::{MAX_RECORD, SegmentRecord, ShardPlacement};
use crate::error::{StoreError, blocking};

/// `(account, segment)` → its record.
pub(super) const SEGMENTS: Table<Place, SegmentRecord> = Table::new("segments", MAX_RECORD);
/// `(account, segment)` of segments of which a shard lacks a holder.
const LACKING: Table<Place, ()> = Table::new("lacking", 1);
/// `(account, segment)` of segments without any holder → when they were announced.
pub(super) const ANNOUNCED: Table<Place, UnixTime> = Table::new("announced", 16);

/// Entries read at once.
const PAGE: usize = 256;
/// Locks that segments share: a change of a segment waits for its lock.
const TURNS: usize = 64;

/// Records of segments: on disk, and the newest decoded in memory. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SegmentStore {
    pub(super) state: State,
    clock: Clock,
    cache: Arc<Mutex<SegmentCache>>,
    turns: Arc<[Mutex<()>; TURNS]>,
    held: HeldShards,
    holders: AccountHolders,
}

impl SegmentStore {
    /// Records that keep `held` and `holders` in step.
    pub(super) fn new(state: State, clock: Clock, held: HeldShards, holders: AccountHolders) -> Self {
        let turns = Arc::new(std::array::from_fn(|_| Mutex::default()));
        Self { state, clock, cache: Arc::default(), turns, held, holders }
    }

    /// A segment, from memory or from the disk, which is waited for on another thread.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn find(
        &self,
        account: AccountId,
        segment: SegmentId,
    ) -> Result<Option<Arc<SegmentRecord>>, StoreError> {
        let cached = self.cache.lock().get(&(account, segment));
        if cached.is_some() {
            return Ok(cached);
        }
        let this = self.clone();
        blocking(move || this.read((account, segment))).await
    }

    /// The known ones of some segments.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn find_all(
        &self,
        account: AccountId,
        segments: Vec<SegmentId>,
    ) -> Result<Vec<Arc<SegmentRecord>>, StoreError> {
        let this = self.clone();
        let find = move |segment| {
            let cached = this.cache.lock().get(&(account, segment));
            if cached.is_some() { Ok(cached) } else { this.read((account, segment)) }
        };
        blocking(move || segments.into_iter().filter_map(|segment| find(segment).transpose()).collect()).await
    }

    fn read(&self, place: Place) -> Result<Option<Arc<SegmentRecord>>, StoreError> {
        let writes = self.cache.lock().writes();
        let record = SEGMENTS.get(&self.state, &place)?.map(Arc::new);
        if let Some(record) = &record {
            self.cache.lock().insert_read(place, Arc::clone(record), writes);
        }
        Ok(record)
    }

    /// A segment, from the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn get(
        &self,
        account: &AccountId,
        segment: &SegmentId,
    ) -> Result<Option<SegmentRecord>, StoreError> {
        Ok(SEGMENTS.get(&self.state, &(*account, *segment))?)
    }

    /// Held while a segment's record is read, changed and written.
    pub(super) fn turn(&self, segment: &SegmentId) -> MutexGuard<'_, ()> {
        let turn = usize::from(segment.as_bytes()[0]) % TURNS;
        self.turns[turn].lock()
    }

    /// Records a segment and its holders; the nodes that held nothing for the account before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn put(&self, account: &AccountId, record: &SegmentRecord) -> Result<Vec<NodeId>, StoreError> {
        let id = record.manifest.id();
        let _turn = self.turn(&id);
        let old = self.get(account, &id)?;
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

    /// Changes a known segment by `change`, unless that tells that there is nothing to change; the new
    /// record, and the nodes that held nothing for the account before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn change(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        change: impl FnOnce(&mut SegmentRecord) -> bool,
    ) -> Result<Option<(SegmentRecord, Vec<NodeId>)>, StoreError> {
        let _turn = self.turn(segment);
        let Some(old) = self.get(account, segment)? else { return Ok(None) };
        let mut record = old.clone();
        if !change(&mut record) {
            return Ok(None);
        }
        record.sequence += 1;
        let new = self.write(account, Some(&old), &record)?;
        Ok(Some((record, new)))
    }

    /// Records what a node lists of a segment: one of the shards without a holder. A segment that is new
    /// belongs to `run`; whether it is new.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn put_listed(
        &self,
        account: &AccountId,
        node: NodeId,
        run: RunId,
        listed: &HeldSegment,
    ) -> Result<bool, StoreError> {
        let id = listed.manifest.id();
        let _turn = self.turn(&id);
        let old = self.get(account, &id)?;
        let mut record = old.clone().unwrap_or_else(|| {
            let placements = vec![ShardPlacement::planned(None); listed.manifest.code().total().into()];
            SegmentRecord::new(listed.manifest.clone(), listed.tag, run, placements)
        });
        // No two shards of a segment count at one node: it could not lose just one of them.
        if record.holders().any(|(_, holder)| holder == node) {
            return Ok(false);
        }
        let placed = |index: &ShardIndex| record.placements.get(index.get());
        let free = |index: &&ShardIndex| placed(index).is_some_and(|placement| !placement.is_held());
        let index = listed.held.iter().find(free).copied();
        let Some(placement) = index.and_then(|index| record.placement_mut(index)) else { return Ok(false) };
        *placement = ShardPlacement::listed(node);
        record.sequence += u64::from(old.is_some());
        self.write(account, old.as_ref(), &record)?;
        Ok(old.is_none())
    }

    fn write(
        &self,
        account: &AccountId,
        old: Option<&SegmentRecord>,
        record: &SegmentRecord,
    ) -> Result<Vec<NodeId>, StoreError> {
        let (mut batch, place) = (Batch::default(), (*account, record.manifest.id()));
        SEGMENTS.put(&mut batch, &place, record)?;
        let before = old.map(|old| held_of(account, old)).unwrap_or_default();
        let after = held_of(account, record);
        let change = HolderChange::between(&before, &after, record.manifest.shard_len().get());
        self.held.stage(&change, &mut batch)?;
        if !after.is_empty() {
            ANNOUNCED.remove(&mut batch, &place);
        } else if old.is_none() {
            ANNOUNCED.put(&mut batch, &place, &self.clock.now())?;
        }
        // A segment that has no holder at all was only announced.
        if record.is_complete() || after.is_empty() && before.is_empty() {
            LACKING.remove(&mut batch, &place);
        } else {
            LACKING.put(&mut batch, &place, &())?;
        }
        let new = self.holders.stage(account, record.holders().map(|(_, node)| node), &mut batch)?;
        self.commit(place, &batch, change)?;
        Ok(new)
    }

    fn commit(&self, place: Place, batch: &Batch, change: HolderChange) -> Result<(), StoreError> {
        self.state.commit(batch)?;
        self.held.count(change);
        self.cache.lock().invalidate(&place);
        Ok(())
    }

    /// Removes a segment. Its caller has the segment's turn.
    pub(super) fn remove_record(&self, account: &AccountId, segment: &SegmentId) -> Result<(), StoreError> {
        let (mut batch, place) = (Batch::default(), (*account, *segment));
        SEGMENTS.remove(&mut batch, &place);
        LACKING.remove(&mut batch, &place);
        ANNOUNCED.remove(&mut batch, &place);
        let change = match self.get(account, segment)? {
            Some(old) => {
                let length = old.manifest.shard_len().get();
                HolderChange::between(&held_of(account, &old), &BTreeSet::new(), length)
            }
            None => HolderChange::default(),
        };
        self.held.stage(&change, &mut batch)?;
        self.commit(place, &batch, change)
    }

    /// Removes all segments and holders of an account.
    pub(super) fn remove_account(&self, account: &AccountId) -> Result<(), StoreError> {
        loop {
            let page = self.segments(account, None)?;
            if page.is_empty() {
                break;
            }
            page.iter().try_for_each(|segment| self.remove(account, segment).map(drop))?;
        }
        let mut batch = Batch::default();
        self.holders.remove_all(account, &mut batch)?;
        Ok(self.state.commit(&batch)?)
    }

    /// Segments of which a shard lacks a holder, after `after`, at most `most`. One that is open may be
    /// among them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn lacking(&self, after: Option<&Place>, most: usize) -> Result<Vec<Place>, StoreError> {
        let page = LACKING.scan(&self.state, &Everything, after, most)?;
        Ok(page.into_iter().map(|(place, ())| place).collect())
    }

    /// The runs of an account's segments.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn runs(&self, account: &AccountId) -> Result<BTreeSet<RunId>, StoreError> {
        let mut runs = BTreeSet::new();
        SEGMENTS.visit(&self.state, account, |_, record| {
            runs.insert(record.run);
            Ok::<_, KvError>(())
        })?;
        Ok(runs)
    }

    /// The runs of what a node holds for an account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn runs_at(&self, account: &AccountId, node: &NodeId) -> Result<BTreeSet<RunId>, StoreError> {
        let (mut runs, mut after) = (BTreeSet::new(), None);
        loop {
            let page = self.held.of(node, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(runs) };
            after = Some(*last);
            for held in page.iter().filter(|held| held.account == *account) {
                runs.extend(self.get(account, &held.segment)?.map(|record| record.run));
            }
        }
    }

    /// The number of an account's segments.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn count(&self, account: &AccountId) -> Result<u64, StoreError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.segments(account, after.as_ref())?;
            let Some(last) = page.last() else { return Ok(count) };
            after = Some(*last);
            count += page.len() as u64;
        }
    }
}

/// The shards of a segment at their holders.
fn held_of(account: &AccountId, record: &SegmentRecord) -> BTreeSet<(NodeId, HeldShard)> {
    let segment = record.manifest.id();
    let held = |(index, node)| (node, HeldShard { segment, account: *account, index });
    record.holders().map(held).collect()
}

/// A due release removes the records, as storage nodes delete the shards.
impl Holdings for SegmentStore {
    type Error = StoreError;

    fn holds(&self, account: &AccountId, segment: &SegmentId) -> Result<bool, StoreError> {
        Ok(SEGMENTS.contains(&self.state, &(*account, *segment))?)
    }

    fn segments(&self, account: &AccountId, after: Option<&SegmentId>) -> Result<Vec<SegmentId>, StoreError> {
        let after = after.map(|segment| (*account, *segment));
        let keys = SEGMENTS.keys(&self.state, account, after.as_ref(), PAGE)?;
        Ok(keys.into_iter().map(|(_, segment)| segment).collect())
    }

    fn remove(&self, account: &AccountId, segment: &SegmentId) -> Result<u64, StoreError> {
        let _turn = self.turn(segment);
        self.remove_record(account, segment)?;
        Ok(0)
    }

    fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
