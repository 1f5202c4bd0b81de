//! The index: where every blob lies. Rebuilt from segments alone when it is lost.
//!
//! An index piece, the content of an index blob, lists segments; integers are little-endian:
//!
//! ```text
//! k 1 │ n 1 │ length class 1 │ n × shard id 32 │ entries 4 │ entries × 93      (repeated)
//! ```
//!
//! A segment with very many blobs may stand in several pieces, each with some of its entries.

use std::collections::BTreeMap;

use fincrypt_protocol::limits::FULL_SHARD_LEN;
use fincrypt_protocol::{Code, Manifest, SegmentId, ShardId, ShardLen, cbor};

use crate::blob::{BlobId, BlobKind, MAX_BLOB};
use crate::segment::{Directory, ENTRY_LEN, Entry, SegmentError};
use fincrypt_state::kv::{Batch, Entries, KeyValue, KvError, Tree};

/// The trees of one index.
#[derive(Debug, Clone, Copy)]
struct Trees {
    /// `blob id ‖ split id ‖ u16be part` → `segment id ‖ entry`.
    blobs: Tree,
    /// `segment id` → manifest.
    manifests: Tree,
    /// `blob id` of a snapshot → nothing.
    snapshots: Tree,
}

const COMMITTED: Trees =
    Trees { blobs: Tree("blobs"), manifests: Tree("manifests"), snapshots: Tree("snapshots") };
const PENDING: Trees = Trees {
    blobs: Tree("pending_blobs"),
    manifests: Tree("pending_manifests"),
    snapshots: Tree("pending_snapshots"),
};

/// The most bytes of an encoded manifest.
const MAX_MANIFEST: usize = 2048;
/// Keys read from the state at once.
const PAGE: usize = 4096;

/// Where one part of a blob lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The segment.
    pub segment: SegmentId,
    /// The extent in it.
    pub entry: Entry,
}

/// Segments and their directories, as they are stored in index blobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IndexPiece {
    /// The segments.
    pub segments: Vec<(Manifest, Directory)>,
}

fn put_segment(out: &mut Vec<u8>, manifest: &Manifest, entries: &[Entry]) {
    out.extend_from_slice(&[manifest.code().data(), manifest.code().total(), manifest.shard_len().class()]);
    manifest.ids().iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
    // At most a few ten thousand entries fit a piece.
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    entries.iter().for_each(|entry| entry.encode(out));
}

fn head_len(manifest: &Manifest) -> usize {
    3 + manifest.ids().len() * ShardId::LEN + 4
}

impl IndexPiece {
    /// Encodes segments into pieces that each fit a blob.
    #[must_use]
    pub fn encode_all(segments: &[(Manifest, Directory)]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut writer = PieceWriter::default();
        let mut keep = |piece: &[u8]| {
            pieces.push(piece.to_vec());
            Ok::<(), std::convert::Infallible>(())
        };
        let written = segments
            .iter()
            .try_for_each(|(manifest, directory)| writer.push(manifest, directory, &mut keep))
            .and_then(|()| writer.finish(&mut keep));
        match written {
            Ok(()) => pieces,
        }
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// [`SegmentError::Layout`] if it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        if bytes.len() > MAX_BLOB {
            return Err(SegmentError::Layout);
        }
        let mut rest = bytes;
        let mut segments = Vec::new();
        while let Some(([data, total, class], tail)) = rest.split_first_chunk::<3>() {
            let layout = |_| SegmentError::Layout;
            let code = Code::new(*data, total.saturating_sub(*data)).map_err(layout)?;
            let shard_len = ShardLen::from_class(*class).map_err(layout)?;
            let ids_len = usize::from(code.total()) * ShardId::LEN;
            let (ids, tail) = tail.split_at_checked(ids_len).ok_or(SegmentError::Layout)?;
            let ids = ids.as_chunks().0.iter().copied().map(ShardId::from_bytes).collect();
            let manifest = Manifest::new(code, shard_len, ids)?;
            let (count, tail) = tail.split_first_chunk::<4>().ok_or(SegmentError::Layout)?;
            let length =
                (u32::from_le_bytes(*count) as usize).checked_mul(ENTRY_LEN).ok_or(SegmentError::Layout)?;
            let (entries, tail) = tail.split_at_checked(length).ok_or(SegmentError::Layout)?;
            let directory = Directory::decode(entries, manifest.data_len() as u64)?;
            segments.push((manifest, directory));
            rest = tail;
        }
        if rest.is_empty() { Ok(Self { segments }) } else { Err(SegmentError::Layout) }
    }
}

/// Writes index pieces, one segment after the other.
#[derive(Debug)]
pub struct PieceWriter {
    piece: Vec<u8>,
    most: usize,
}

impl Default for PieceWriter {
    /// Pieces as long as a blob may be.
    fn default() -> Self {
        Self { piece: Vec::new(), most: MAX_BLOB }
    }
}

impl PieceWriter {
    /// Pieces for full segments of `code`: an eighth of one at most, so that segments of pieces, none
    /// of which is split, are nearly full.
    #[must_use]
    pub fn for_code(code: Code) -> Self {
        let capacity = usize::from(code.data()) * FULL_SHARD_LEN as usize;
        Self { piece: Vec::new(), most: (capacity / 8).min(MAX_BLOB) }
    }

    /// Adds a segment and calls `full` with each piece that is full.
    ///
    /// # Errors
    /// What `full` returns.
    pub fn push<E>(
        &mut self,
        manifest: &Manifest,
        directory: &Directory,
        mut full: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut entries = directory.entries();
        loop {
            let room = self.most.saturating_sub(self.piece.len() + head_len(manifest)) / ENTRY_LEN;
            let (now, later) = entries.split_at(room.min(entries.len()));
            if room > 0 {
                put_segment(&mut self.piece, manifest, now);
                if later.is_empty() {
                    return Ok(());
                }
            }
            entries = later;
            full(&self.piece)?;
            self.piece.clear();
        }
    }

    /// Ends the last piece.
    ///
    /// # Errors
    /// What `full` returns.
    pub fn finish<E>(&mut self, mut full: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if !self.piece.is_empty() {
            full(&self.piece)?;
            self.piece.clear();
        }
        Ok(())
    }
}

/// The index over local state. It is volatile: what a crash loses is loaded from the catalog again.
#[derive(Clone)]
pub struct BlobIndex<K> {
    state: K,
    trees: Trees,
}

fn corrupt(tree: Tree) -> KvError {
    KvError::Corrupt { tree: tree.0 }
}

impl<K: KeyValue> BlobIndex<K> {
    /// The index in `state`: what heads refer to.
    #[must_use]
    pub fn new(state: K) -> Self {
        Self { state, trees: COMMITTED }
    }

    /// Another index in `state`: what an interrupted run has stored, to which no head refers yet.
    #[must_use]
    pub fn pending(state: K) -> Self {
        Self { state, trees: PENDING }
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// If the state fails.
    pub fn clear(&self) -> Result<(), KvError> {
        for tree in [self.trees.blobs, self.trees.manifests, self.trees.snapshots] {
            loop {
                let page = self.state.scan(tree, &[], None, PAGE)?;
                if page.is_empty() {
                    break;
                }
                let mut batch = Batch::default();
                page.into_iter().for_each(|(key, _)| batch.remove(tree, key));
                self.state.apply(&batch)?;
            }
        }
        Ok(())
    }

    /// Adds a segment's blobs to a batch.
    ///
    /// # Errors
    /// If the manifest cannot be encoded.
    pub fn insert_segment(
        &self,
        manifest: &Manifest,
        directory: &Directory,
        batch: &mut Batch,
    ) -> Result<(), KvError> {
        let id = manifest.id();
        batch.put(
            self.trees.manifests,
            *id.as_bytes(),
            cbor::encode(manifest).map_err(|_| corrupt(self.trees.manifests))?,
        );
        for entry in directory.entries() {
            let key = [entry.blob.as_bytes().as_slice(), &entry.split, &entry.part.to_be_bytes()].concat();
            let mut value = id.as_bytes().to_vec();
            entry.encode(&mut value);
            batch.put(self.trees.blobs, key, value);
            if entry.kind == BlobKind::Snapshot {
                batch.put(self.trees.snapshots, *entry.blob.as_bytes(), Vec::new());
            }
        }
        Ok(())
    }

    /// Adds a segment's blobs at once.
    ///
    /// # Errors
    /// If the state fails.
    pub fn insert(&self, manifest: &Manifest, directory: &Directory) -> Result<(), KvError> {
        let mut batch = Batch::default();
        self.insert_segment(manifest, directory, &mut batch)?;
        self.state.apply(&batch)
    }

    /// Where a blob's parts lie: a complete set of one split, in order; none if there is none.
    ///
    /// # Errors
    /// If the state fails.
    pub fn locate(&self, blob: &BlobId) -> Result<Option<Vec<Location>>, KvError> {
        let entries = self.state.scan(self.trees.blobs, blob.as_bytes(), None, PAGE)?;
        let mut run: Vec<Location> = Vec::new();
        for (_, value) in entries {
            let (segment, entry) =
                value.split_first_chunk::<32>().ok_or_else(|| corrupt(self.trees.blobs))?;
            let entry: &[u8; ENTRY_LEN] = entry.try_into().map_err(|_| corrupt(self.trees.blobs))?;
            let entry = Entry::decode(entry).map_err(|_| corrupt(self.trees.blobs))?;
            // Keys are in the order of splits and parts.
            if run.first().is_some_and(|first| first.entry.split != entry.split) {
                run.clear();
            }
            let parts = usize::from(entry.parts);
            run.push(Location { segment: SegmentId::from_bytes(*segment), entry });
            if run.len() == parts {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    /// Whether every part of a blob is stored.
    ///
    /// # Errors
    /// If the state fails.
    pub fn contains(&self, blob: &BlobId) -> Result<bool, KvError> {
        Ok(self.locate(blob)?.is_some())
    }

    /// A segment's manifest.
    ///
    /// # Errors
    /// If the state fails.
    pub fn manifest(&self, segment: &SegmentId) -> Result<Option<Manifest>, KvError> {
        let bytes = self.state.get(self.trees.manifests, segment.as_bytes())?;
        bytes
            .map(|bytes| cbor::decode(&bytes, MAX_MANIFEST).map_err(|_| corrupt(self.trees.manifests)))
            .transpose()
    }

    fn all(&self, tree: Tree) -> Result<Entries, KvError> {
        let mut all = Entries::new();
        loop {
            let page = self.state.scan(tree, &[], all.last().map(|(key, _)| key.as_slice()), PAGE)?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// All segments' manifests.
    ///
    /// # Errors
    /// If the state fails.
    pub fn manifests(&self) -> Result<Vec<Manifest>, KvError> {
        let decode = |(_, bytes): (_, Vec<u8>)| {
            cbor::decode(&bytes, MAX_MANIFEST).map_err(|_| corrupt(self.trees.manifests))
        };
        self.all(self.trees.manifests)?.into_iter().map(decode).collect()
    }

    /// Up to `most` segments' manifests in the order of their ids: those after `from`, then, from the
    /// beginning, those up to it. Each comes once.
    ///
    /// # Errors
    /// If the state fails.
    pub fn manifests_after(&self, from: &[u8; 32], most: usize) -> Result<Vec<Manifest>, KvError> {
        let tree = self.trees.manifests;
        let mut found = self.state.scan(tree, &[], Some(from), most)?;
        if found.len() < most {
            let first = self.state.scan(tree, &[], None, most - found.len())?;
            found.extend(first.into_iter().take_while(|(key, _)| key.as_slice() <= from.as_slice()));
        }
        found.iter().map(|(_, bytes)| cbor::decode(bytes, MAX_MANIFEST).map_err(|_| corrupt(tree))).collect()
    }

    /// Everything that the index knows, as it is written into index pieces.
    ///
    /// # Errors
    /// If the state fails.
    pub fn segments(&self) -> Result<Vec<(Manifest, Directory)>, KvError> {
        let mut entries: BTreeMap<SegmentId, Vec<Entry>> = BTreeMap::new();
        for (_, value) in self.all(self.trees.blobs)? {
            let (segment, entry) =
                value.split_first_chunk::<32>().ok_or_else(|| corrupt(self.trees.blobs))?;
            let entry: &[u8; ENTRY_LEN] = entry.try_into().map_err(|_| corrupt(self.trees.blobs))?;
            let entry = Entry::decode(entry).map_err(|_| corrupt(self.trees.blobs))?;
            entries.entry(SegmentId::from_bytes(*segment)).or_default().push(entry);
        }
        let mut segments = Vec::with_capacity(entries.len());
        for (id, mut entries) in entries {
            entries.sort_by_key(|entry| entry.offset);
            let manifest = self.manifest(&id)?.ok_or_else(|| corrupt(self.trees.manifests))?;
            segments.push((manifest, Directory::new(entries)));
        }
        Ok(segments)
    }

    /// The ids of all snapshots.
    ///
    /// # Errors
    /// If the state fails.
    pub fn snapshots(&self) -> Result<Vec<BlobId>, KvError> {
        let id = |(key, _): (Vec<u8>, _)| {
            Ok(BlobId::from_bytes(key.try_into().map_err(|_| corrupt(self.trees.snapshots))?))
        };
        self.all(self.trees.snapshots)?.into_iter().map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_state::kv::MemoryKv;
    use proptest::prelude::*;

    fn manifest(seed: u8) -> Manifest {
        let code = Code::new(2, 3).expect("valid");
        let ids = (0..5).map(|at| ShardId::from_bytes([seed.wrapping_mul(5).wrapping_add(at); 32])).collect();
        Manifest::new(code, ShardLen::FULL, ids).expect("valid")
    }

    fn entry(blob: u8, split: u8, part: u16, parts: u16) -> Entry {
        Entry {
            blob: BlobId::from_bytes([blob; 32]),
            kind: if blob == 9 { BlobKind::Snapshot } else { BlobKind::Data },
            split: [split; 24],
            part,
            parts,
            total: 100 * u32::from(parts),
            offset: 24,
            length: 100,
            raw_len: 5000,
            check: [blob; 16],
        }
    }

    proptest! {
        #[test]
        fn pieces_round_trip(counts in proptest::collection::vec(0usize..300, 0..10)) {
            let segments: Vec<_> = counts.iter().enumerate().map(|(at, count)| {
                let entries = (0..*count).map(|blob| entry(blob as u8, at as u8, 0, 1)).collect();
                (manifest(at as u8), Directory::new(entries))
            }).collect();
            let pieces = IndexPiece::encode_all(&segments);
            let back: Vec<_> = pieces.iter().flat_map(|piece| IndexPiece::decode(piece).expect("decodes").segments).collect();
            prop_assert_eq!(back, segments);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = IndexPiece::decode(&bytes);
        }
    }

    #[test]
    fn a_piece_is_what_the_fixture_says() {
        let segments = [(manifest(1), Directory::new(vec![entry(1, 1, 0, 1), entry(9, 1, 1, 2)]))];
        let pieces = IndexPiece::encode_all(&segments);
        fincrypt_vectors::check("index-piece.txt", &fincrypt_vectors::hex(&pieces.concat()));
    }

    #[test]
    fn a_segment_of_very_many_blobs_spans_pieces() {
        let entries: Vec<_> = (0..100_000).map(|at| entry(at as u8, 1, 0, 1)).collect();
        let pieces = IndexPiece::encode_all(&[(manifest(1), Directory::new(entries.clone()))]);
        assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() <= MAX_BLOB));
        let back: Vec<Entry> = pieces
            .iter()
            .flat_map(|piece| IndexPiece::decode(piece).expect("decodes").segments)
            .flat_map(|(_, directory)| directory.entries().to_vec())
            .collect();
        assert_eq!(back, entries);
    }

    #[test]
    fn manifests_after_a_point_go_on_at_the_beginning_and_come_once() {
        let index = BlobIndex::new(MemoryKv::default());
        let mut ids: Vec<SegmentId> = (1..=5).map(|seed| manifest(seed).id()).collect();
        (1..=5).for_each(|seed| index.insert(&manifest(seed), &Directory::default()).expect("inserted"));
        ids.sort();
        let after = |at: usize, most| {
            let found = index.manifests_after(ids[at].as_bytes(), most).expect("reads");
            found.iter().map(Manifest::id).collect::<Vec<_>>()
        };
        assert_eq!(after(1, 2), ids[2..4]);
        assert_eq!(after(3, 3), [ids[4], ids[0], ids[1]]);
        assert_eq!(after(2, 9), [ids[3], ids[4], ids[0], ids[1], ids[2]]);
    }

    #[test]
    fn a_blob_counts_only_with_all_parts_of_one_split() {
        let index = BlobIndex::new(MemoryKv::default());
        let add = |seed: u8, entries: Vec<Entry>| {
            let mut batch = Batch::default();
            index.insert_segment(&manifest(seed), &Directory::new(entries), &mut batch).expect("encodes");
            index.state.apply(&batch).expect("applies");
        };
        let blob = BlobId::from_bytes([3; 32]);
        add(1, vec![entry(3, 1, 0, 2)]);
        add(2, vec![entry(3, 2, 1, 2)]);
        assert!(!index.contains(&blob).expect("reads"));
        add(3, vec![entry(3, 1, 1, 2), entry(9, 1, 0, 1)]);
        let found = index.locate(&blob).expect("reads").expect("complete");
        assert_eq!(
            found.iter().map(|part| (part.entry.split, part.entry.part)).collect::<Vec<_>>(),
            [([1; 24], 0), ([1; 24], 1)]
        );
        assert_eq!(index.snapshots().expect("reads"), [BlobId::from_bytes([9; 32])]);
        assert_eq!(index.manifests().expect("reads").len(), 3);
        let copy = BlobIndex::new(MemoryKv::default());
        for (manifest, directory) in index.segments().expect("reads") {
            copy.insert(&manifest, &directory).expect("inserted");
        }
        let pending = BlobIndex::pending(copy.state);
        assert!(!pending.contains(&blob).expect("reads"));
        pending.insert(&manifest(1), &Directory::new(vec![entry(3, 1, 0, 1)])).expect("inserted");
        assert!(pending.contains(&blob).expect("reads"));
        pending.clear().expect("cleared");
        assert!(!pending.contains(&blob).expect("reads"));
        let copy = BlobIndex::new(pending.state);
        assert_eq!(copy.locate(&blob).expect("reads"), index.locate(&blob).expect("reads"));
    }
}
