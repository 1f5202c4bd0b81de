//! Index pieces: which segments they list, and the segments that hold them.

use std::collections::HashSet;

use fincrypt_protocol::{Code, Redundancy, SegmentId};
use fincrypt_state::kv::KvError;
use fincrypt_state::state::State;
use fincrypt_vault::Root;
use fincrypt_vault::blob::{BlobId, BlobKind};
use fincrypt_vault::compress::BlobMaker;
use fincrypt_vault::index::{BlobIndex, PieceWriter};
use fincrypt_vault::lists::encode_lists;
use fincrypt_vault::marks::{Mark, encode_marks};
use fincrypt_vault::segment::{Directory, Entry, RunPacker, SealedSegment, Sealer};

use super::catalog_reader::Pieces;
use super::pipeline::PipelineError;
use super::run_journal::StoredSegments;
use super::vault::Vault;

/// Segment buffers: one being packed, one being sealed, two being uploaded.
const BUFFERS: usize = 4;

/// The segments that index pieces are to list.
pub(super) enum Listed {
    /// Those of pieces that are merged or written anew, with marks and lists beside them.
    Pieces(Pieces),
    /// Those of a run, and of an index with its tombstones if that is to be written anew. The run ended
    /// in this snapshot; others in it are of tries before, and perhaps not whole.
    Run(StoredSegments, BlobId, Option<(BlobIndex<State>, Vec<Mark>)>),
}

impl Listed {
    /// What a run stored; everything if the vault's index was rebuilt from segments.
    ///
    /// # Errors
    /// If local state fails.
    pub(super) fn run(
        vault: &Vault,
        stored: StoredSegments,
        snapshot: BlobId,
        rebuilt: bool,
    ) -> Result<Self, KvError> {
        // The new pieces take the place of those that listed the tombstones.
        let tombstones = rebuilt.then(|| vault.lifecycle.cache().tombstones()).transpose()?;
        Ok(Self::Run(stored, snapshot, tombstones.map(|tombstones| (vault.index.clone(), tombstones))))
    }
}

/// What counts of a segment whose run ended in `snapshot`.
pub(super) fn without_other_snapshots(directory: &Directory, snapshot: &BlobId) -> Directory {
    let counts = |entry: &&Entry| entry.kind != BlobKind::Snapshot || entry.blob == *snapshot;
    Directory::new(directory.entries().iter().filter(counts).cloned().collect())
}

/// Makes segments of index pieces.
pub(super) struct IndexMaker<'a> {
    maker: BlobMaker,
    packer: RunPacker,
    code: Code,
    sealer: Sealer,
    sink: &'a (dyn Fn(SealedSegment) -> bool + Sync),
}

impl<'a> IndexMaker<'a> {
    pub(super) fn new(
        root: &Root,
        code: Code,
        redundancy: Redundancy,
        sink: &'a (dyn Fn(SealedSegment) -> bool + Sync),
    ) -> Result<Self, PipelineError> {
        let packer = RunPacker::new(code, redundancy, BUFFERS);
        Ok(Self { maker: BlobMaker::new(root)?, packer, code, sealer: Sealer::new(root), sink })
    }

    /// Makes all of them.
    pub(super) fn make(mut self, listed: Listed) -> Result<(), PipelineError> {
        let mut writer = PieceWriter::for_code(self.code);
        match listed {
            Listed::Pieces(pieces) => {
                for (manifest, directory) in &pieces.segments {
                    writer.push(manifest, directory, |piece| self.piece(BlobKind::Index, piece))?;
                }
                for list in encode_marks(&pieces.marks) {
                    self.piece(BlobKind::Marks, &list)?;
                }
                for list in encode_lists(&pieces.lists) {
                    self.piece(BlobKind::Refs, &list)?;
                }
            }
            Listed::Run(stored, snapshot, rebuilt) => {
                let (index, tombstones) = rebuilt.unzip();
                let mut own: HashSet<SegmentId> = HashSet::new();
                stored.read(|manifest, directory| {
                    if index.is_some() {
                        own.insert(manifest.id());
                    }
                    let directory = without_other_snapshots(directory, &snapshot);
                    writer.push(manifest, &directory, |piece| self.piece(BlobKind::Index, piece))
                })?;
                for (manifest, directory) in
                    index.map(|index| index.segments()).transpose()?.unwrap_or_default()
                {
                    if !own.contains(&manifest.id()) {
                        writer.push(&manifest, &directory, |piece| self.piece(BlobKind::Index, piece))?;
                    }
                }
                for list in encode_marks(&tombstones.unwrap_or_default()) {
                    self.piece(BlobKind::Marks, &list)?;
                }
            }
        }
        writer.finish(|piece| self.piece(BlobKind::Index, piece))?;
        for segment in self.packer.finish() {
            let sealed = self.sealer.seal(segment)?;
            if !(self.sink)(sealed) {
                return Err(PipelineError::SinkClosed);
            }
        }
        Ok(())
    }

    fn piece(&mut self, kind: BlobKind, piece: &[u8]) -> Result<(), PipelineError> {
        let Self { maker, packer, sealer, sink, .. } = self;
        let id = maker.id(piece);
        let blob = maker.make(id, kind, piece)?;
        packer.push(
            &blob,
            |segment| {
                if sink(sealer.seal(segment)?) { Ok(()) } else { Err(PipelineError::SinkClosed) }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Manifest, ShardId, ShardLen};
    use fincrypt_vault::blob::BlobId;
    use fincrypt_vault::index::IndexPiece;
    use fincrypt_vault::segment::{Entry, OpenSegment};
    use parking_lot::Mutex;

    fn listed(number: u16, blobs: u32) -> (Manifest, Directory) {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_le_bytes());
        let ids = (0..8_u8).map(|shard| {
            id[31] = shard;
            ShardId::from_bytes(id)
        });
        let manifest = Manifest::new(Code::new(4, 4).expect("valid"), ShardLen::FULL, ids.collect());
        let entry = |at: u32| {
            // Blob ids are hashes: they do not compress.
            let id = fincrypt_shards::proof::shard_id(
                &[number.to_le_bytes().as_slice(), &at.to_le_bytes()].concat(),
            );
            Entry {
                blob: BlobId::from_bytes(*id.as_bytes()),
                kind: BlobKind::Data,
                split: [0; 24],
                part: 0,
                parts: 1,
                total: 10,
                offset: 24 + at * 10,
                length: 10,
                raw_len: 10,
                check: [0; 16],
            }
        };
        (manifest.expect("valid"), Directory::new((0..blobs).map(entry).collect()))
    }

    #[test]
    fn every_segment_of_a_catalog_can_be_read_by_itself() {
        let root = fincrypt_vault::words::Words::generate().expect("words").vault_keys().root;
        for data in [1, 5] {
            let code = Code::new(data, data).expect("valid");
            let sealed = Mutex::new(Vec::new());
            let sink = |segment: SealedSegment| {
                let capacity = usize::from(data) << 20;
                sealed.lock().push((segment.ciphertext.to_vec(), capacity));
                true
            };
            let segments: Vec<_> = (0..50).map(|number| listed(number, 6_000)).collect();
            let maker = IndexMaker::new(&root, code, Redundancy::MIN, &sink).expect("a maker");
            maker.make(Listed::Pieces(Pieces { segments, ..Pieces::default() })).expect("made");
            let sealed = sealed.into_inner();
            assert!(sealed.len() > 1, "too little to fill one");
            let mut blobs = 0;
            for (number, (ciphertext, capacity)) in sealed.iter().enumerate() {
                assert!(number + 1 == sealed.len() || ciphertext.len() * 4 >= capacity * 3, "nearly full");
                let open = OpenSegment::open(&root, ciphertext.clone()).expect("opens");
                let mut assembler =
                    fincrypt_vault::segment::BlobAssembler::new(root.blob_id_key()).expect("set up");
                for entry in open.directory().entries() {
                    let stored = open.extent(entry).expect("unaltered");
                    let plain = assembler.add(entry, &stored).expect("right").expect("whole");
                    let piece = IndexPiece::decode(&plain).expect("a piece");
                    blobs += piece.segments.iter().map(|(_, list)| list.entries().len()).sum::<usize>();
                }
            }
            assert_eq!(blobs, 50 * 6_000);
        }
    }
}
