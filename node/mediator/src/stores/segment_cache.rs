//! Decoded records of segments in memory.

use std::sync::Arc;

use fincrypt_protocol::{AccountId, SegmentId};
use hashlink::LruCache;

use super::segment_record::SegmentRecord;

/// Records kept in memory, at about 16 KiB each. A restore asks for each of a segment's shards, so it
/// reads and decodes each record once.
pub(super) const CACHED: usize = 512;

/// A segment of an account.
pub(super) type Place = (AccountId, SegmentId);

/// Records of segments that were used last.
pub(super) struct SegmentCache {
    records: LruCache<Place, Arc<SegmentRecord>>,
    /// Grows with each write, so that nothing is cached that was read before it.
    writes: u64,
}

impl Default for SegmentCache {
    fn default() -> Self {
        Self { records: LruCache::new(CACHED), writes: 0 }
    }
}

impl SegmentCache {
    pub(super) fn get(&mut self, place: &Place) -> Option<Arc<SegmentRecord>> {
        self.records.get(place).cloned()
    }

    /// The number of writes until now, for [`Self::insert_read`].
    pub(super) fn writes(&self) -> u64 {
        self.writes
    }

    /// Inserts a record that was read after `writes` writes, unless one came since.
    pub(super) fn insert_read(&mut self, place: Place, record: Arc<SegmentRecord>, writes: u64) {
        if self.writes == writes {
            self.records.insert(place, record);
        }
    }

    /// Evicts a written record: of two writers, the cache cannot know the later.
    pub(super) fn invalidate(&mut self, place: &Place) {
        self.writes += 1;
        self.records.remove(place);
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
            let place = (AccountId::from_bytes([5; 32]), SegmentId::from_bytes(id));
            cache.insert_read(place, Arc::clone(&record), 0);
        }
        assert_eq!(cache.records.len(), CACHED);
    }
}
