//! Decoded records of segments in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fincrypt_protocol::{AccountId, SegmentId};

use super::segment_record::SegmentRecord;

/// Records kept in memory, at about 16 KiB each. A restore asks for each of a segment's shards, so it
/// reads and decodes each record once.
pub(super) const CACHED: usize = 512;

/// A segment of an account.
pub(super) type Place = (AccountId, SegmentId);

/// Newest records of segments; the oldest entry is evicted first.
#[derive(Default)]
pub(super) struct SegmentCache {
    records: HashMap<Place, Arc<SegmentRecord>>,
    order: VecDeque<Place>,
    /// Grows with each write, so that nothing is cached that was read before it.
    writes: u64,
}

impl SegmentCache {
    pub(super) fn get(&self, place: &Place) -> Option<Arc<SegmentRecord>> {
        self.records.get(place).cloned()
    }

    /// The number of writes until now, for [`Self::insert_read`].
    pub(super) fn writes(&self) -> u64 {
        self.writes
    }

    /// Inserts a record that was read after `writes` writes, unless one came since.
    pub(super) fn insert_read(&mut self, place: Place, record: Arc<SegmentRecord>, writes: u64) {
        if self.writes == writes {
            self.insert(place, record);
        }
    }

    fn insert(&mut self, place: Place, record: Arc<SegmentRecord>) {
        if self.records.insert(place, record).is_none() {
            self.order.push_back(place);
        }
        while self.records.len() > CACHED
            && let Some(oldest) = self.order.pop_front()
        {
            self.records.remove(&oldest);
        }
    }

    /// Evicts a written record: of two writers, the cache cannot know the later.
    pub(super) fn invalidate(&mut self, place: &Place) {
        self.writes += 1;
        if self.records.remove(place).is_some() {
            self.order.retain(|known| known != place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::tests::record;

    #[test]
    fn the_cache_is_bounded() {
        let (mut cache, record) = (SegmentCache::default(), Arc::new(record(1)));
        for number in 0..2 * CACHED {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(number as u64).to_le_bytes());
            cache.insert((AccountId::from_bytes([5; 32]), SegmentId::from_bytes(id)), Arc::clone(&record));
        }
        assert_eq!((cache.records.len(), cache.order.len()), (CACHED, CACHED));
    }
}
