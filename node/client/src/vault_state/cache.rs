//! The volatile half of the state: the index of what is stored, which catalog segments are in it, and
//! the tombstones that they list. A crash may lose the latest changes; the catalog has them.
//!
//! A stamp says of which generation the index is. One of another generation than the durable record
//! names is emptied before it is used, so it does not matter where a crash cut the emptying off.

use fincrypt_protocol::{Manifest, SegmentId, UnixTime};
use fincrypt_state::kv::{Batch, KeyValue, KvError};
use fincrypt_state::table::{Everything, Key, Table};
use fincrypt_vault::index::BlobIndex;
use fincrypt_vault::marks::Mark;
use fincrypt_vault::segment::Directory;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Catalog segments whose contents are in the index.
const LOADED: Table<SegmentId, ()> = Table::new("catalog_loaded", 1);
/// Segment → when it was marked and the bytes of its shards, as the catalog lists it.
const TOMBSTONES: Table<SegmentId, (UnixTime, u64)> = Table::new("catalog_tombstones", 32);
/// What the index in the database is.
const STAMP: Table<(), Stamp> = Table::new("index_stamp", 64);
/// Entries removed at once.
const PAGE: usize = 256;

/// What the index in the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// Its generation.
    pub(super) generation: u64,
    /// The last reading of the segments that it knows of; 0 for none.
    pub(super) rebuilds: u64,
}

/// The index and what belongs to it.
pub(crate) struct IndexCache<K> {
    state: K,
    index: BlobIndex<K>,
}

fn clear<K: Key, V: Serialize + DeserializeOwned>(
    state: &impl KeyValue,
    table: &Table<K, V>,
) -> Result<(), KvError> {
    loop {
        let page = table.scan(state, &Everything, None, PAGE)?;
        if page.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        page.iter().for_each(|(key, _)| table.remove(&mut batch, key));
        state.apply(&batch)?;
    }
}

impl<K: KeyValue + Clone> IndexCache<K> {
    pub(super) fn new(state: K) -> Self {
        Self { index: BlobIndex::new(state.clone()), state }
    }

    pub(super) fn stamp(&self) -> Result<Stamp, KvError> {
        Ok(STAMP.get(&self.state, &())?.unwrap_or_default())
    }

    pub(super) fn set_stamp(&self, stamp: &Stamp) -> Result<(), KvError> {
        let mut batch = Batch::default();
        STAMP.put(&mut batch, &(), stamp)?;
        self.state.apply(&batch)
    }

    /// Empties the index. What says that it is filled goes first.
    pub(super) fn clear(&self) -> Result<(), KvError> {
        clear(&self.state, &LOADED)?;
        clear(&self.state, &TOMBSTONES)?;
        self.index.clear()
    }

    /// Whether the contents of a catalog segment are in the index.
    pub(crate) fn is_loaded(&self, segment: &SegmentId) -> Result<bool, KvError> {
        LOADED.contains(&self.state, segment)
    }

    /// Segments that wait to be released, as the catalog lists them.
    pub(crate) fn tombstones(&self) -> Result<Vec<Mark>, KvError> {
        let mut tombstones = Vec::new();
        TOMBSTONES.visit(&self.state, &Everything, |segment, (time, bytes)| {
            tombstones.push(Mark { segment, time, bytes });
            Ok::<_, KvError>(())
        })?;
        Ok(tombstones)
    }

    /// Takes in what catalog segments list, and only then says that they are loaded.
    pub(crate) fn take_in(
        &self,
        segments: &[(Manifest, Directory)],
        tombstones: &[Mark],
        loaded: &[SegmentId],
    ) -> Result<(), KvError> {
        for (manifest, directory) in segments {
            self.index.insert(manifest, directory)?;
        }
        let mut batch = Batch::default();
        for mark in tombstones {
            TOMBSTONES.put(&mut batch, &mark.segment, &(mark.time, mark.bytes))?;
        }
        for segment in loaded {
            LOADED.put(&mut batch, segment, &())?;
        }
        if batch.is_empty() { Ok(()) } else { self.state.apply(&batch) }
    }
}
