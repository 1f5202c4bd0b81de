//! Index pieces: which segments they list, and the segments that hold them.

use std::collections::HashSet;

use fincrypt_protocol::{Code, Manifest, Redundancy, SegmentId};
use fincrypt_storage::Root;
use fincrypt_storage::blob::BlobKind;
use fincrypt_storage::compress::BlobMaker;
use fincrypt_storage::index::{BlobIndex, PieceWriter};
use fincrypt_storage::segment::{Directory, RunPacker, SealedSegment, Sealer};
use fincrypt_storage::state::State;

use super::pipeline::PipelineError;
use super::run_journal::StoredSegments;
use super::vault::Vault;

/// Segment buffers: one being packed, one being sealed, two being uploaded.
const BUFFERS: usize = 4;

/// The segments that index pieces are to list.
pub(super) enum Listed {
    /// Those of pieces that are merged.
    Pieces(Vec<(Manifest, Directory)>),
    /// Those of a run, and of an index if that is to be written anew.
    Run(StoredSegments, Option<BlobIndex<State>>),
}

impl Listed {
    /// What a run stored; everything if the vault's index was rebuilt from segments.
    pub(super) fn run(vault: &Vault, stored: StoredSegments, rebuilt: bool) -> Self {
        Self::Run(stored, rebuilt.then(|| vault.index.clone()))
    }
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
            Listed::Pieces(segments) => {
                for (manifest, directory) in &segments {
                    writer.push(manifest, directory, |piece| self.piece(piece))?;
                }
            }
            Listed::Run(stored, index) => {
                let mut own: HashSet<SegmentId> = HashSet::new();
                stored.read(|manifest, directory| {
                    if index.is_some() {
                        own.insert(manifest.id());
                    }
                    writer.push(manifest, directory, |piece| self.piece(piece))
                })?;
                for (manifest, directory) in
                    index.map(|index| index.segments()).transpose()?.unwrap_or_default()
                {
                    if !own.contains(&manifest.id()) {
                        writer.push(&manifest, &directory, |piece| self.piece(piece))?;
                    }
                }
            }
        }
        writer.finish(|piece| self.piece(piece))?;
        for segment in self.packer.finish() {
            let sealed = self.sealer.seal(segment)?;
            if !(self.sink)(sealed) {
                return Err(PipelineError::SinkClosed);
            }
        }
        Ok(())
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), PipelineError> {
        let Self { maker, packer, sealer, sink } = self;
        let id = maker.id(piece);
        let blob = maker.make(id, BlobKind::Index, piece)?;
        packer.push(
            &blob,
            |segment| {
                if sink(sealer.seal(segment)?) { Ok(()) } else { Err(PipelineError::SinkClosed) }
            },
        )
    }
}
