//! Index pieces: which segments they list, and the segments that hold them.

use std::collections::HashSet;

use fincrypt_protocol::{Code, Redundancy, SegmentId};
use fincrypt_storage::Root;
use fincrypt_storage::blob::{BlobId, BlobKind};
use fincrypt_storage::compress::BlobMaker;
use fincrypt_storage::index::{BlobIndex, PieceWriter};
use fincrypt_storage::marks::encode_marks;
use fincrypt_storage::segment::{Directory, Entry, RunPacker, SealedSegment, Sealer};
use fincrypt_storage::state::State;

use super::head::Pieces;
use super::pipeline::PipelineError;
use super::run_journal::StoredSegments;
use super::vault::Vault;

/// Segment buffers: one being packed, one being sealed, two being uploaded.
const BUFFERS: usize = 4;

/// The segments that index pieces are to list.
pub(super) enum Listed {
    /// Those of pieces that are merged or written anew, with marks beside them.
    Pieces(Pieces),
    /// Those of a run, and of an index if that is to be written anew. The run ended in this snapshot;
    /// others in it are of tries before, and perhaps not whole.
    Run(StoredSegments, BlobId, Option<BlobIndex<State>>),
}

impl Listed {
    /// What a run stored; everything if the vault's index was rebuilt from segments.
    pub(super) fn run(vault: &Vault, stored: StoredSegments, snapshot: BlobId, rebuilt: bool) -> Self {
        Self::Run(stored, snapshot, rebuilt.then(|| vault.index.clone()))
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
        Ok(Self { maker: BlobMaker::new(root)?, packer, sealer: Sealer::new(root), sink })
    }

    /// Makes all of them.
    pub(super) fn make(mut self, listed: Listed) -> Result<(), PipelineError> {
        let mut writer = PieceWriter::default();
        match listed {
            Listed::Pieces(pieces) => {
                for (manifest, directory) in &pieces.segments {
                    writer.push(manifest, directory, |piece| self.piece(BlobKind::Index, piece))?;
                }
                for list in encode_marks(&pieces.marks) {
                    self.piece(BlobKind::Marks, &list)?;
                }
            }
            Listed::Run(stored, snapshot, index) => {
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
        let Self { maker, packer, sealer, sink } = self;
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
