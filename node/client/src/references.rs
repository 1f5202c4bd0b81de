//! Which segments a snapshot needs: found by walking its trees once, and remembered.
//!
//! Tree `snapshot_references`: snapshot id → CBOR of [`SnapshotReferences`], 34 bytes for each segment,
//! which is up to 15 MiB of data. Rebuildable: what a crash loses is found again.

use std::collections::{BTreeSet, HashSet};

use fincrypt_protocol::{SegmentId, cbor};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::snapshot::SnapshotId;
use fincrypt_vault::tree::{Content, NodeKind, Piece};
use serde::{Deserialize, Serialize};

use super::reader::{BlobReader, ReadError};
use super::vault::Vault;

const SNAPSHOT_REFERENCES: Tree = Tree("snapshot_references");
/// The most bytes that are read back: 1.9 million segments, 29 TB of data.
const MAX_REFERENCES: usize = 64 << 20;
/// Entries looked through at once for snapshots that are gone.
const PAGE: usize = 256;

/// A snapshot, and the segments that hold any part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotReferences {
    /// When it was taken, in seconds since 1970, and nanoseconds after that second.
    pub(crate) time: (u64, u32),
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// In order, each once.
    pub(crate) segments: Vec<SegmentId>,
}

/// What is left to look through, and what was found so far.
#[derive(Default)]
struct Walk {
    trees: Vec<BlobId>,
    /// Folders that did not change are in many places.
    seen: HashSet<BlobId>,
    segments: BTreeSet<SegmentId>,
}

impl Walk {
    fn need(&mut self, reader: &BlobReader, blob: &BlobId) -> Result<(), ReadError> {
        self.segments.extend(reader.locate(blob)?.into_iter().map(|part| part.segment));
        Ok(())
    }

    fn need_pieces(&mut self, reader: &BlobReader, pieces: &[Piece]) -> Result<(), ReadError> {
        pieces.iter().try_for_each(|piece| match piece {
            Piece::Data { blob, .. } => self.need(reader, blob),
            Piece::Hole(_) => Ok(()),
        })
    }

    async fn tree(&mut self, reader: &BlobReader, tree: BlobId) -> Result<(), ReadError> {
        self.need(reader, &tree)?;
        for node in reader.folder(&[tree]).await? {
            match node.kind {
                NodeKind::Dir { tree } => {
                    let new: Vec<_> = tree.into_iter().filter(|id| self.seen.insert(*id)).collect();
                    // The first comes first, as they were written.
                    self.trees.extend(new.into_iter().rev());
                }
                NodeKind::File { content: Content::Inline(pieces), .. } => {
                    self.need_pieces(reader, &pieces)?;
                }
                NodeKind::File { content: Content::Lists(lists), .. } => {
                    for list in &lists {
                        self.need(reader, list)?;
                    }
                    self.need_pieces(reader, &reader.lists(&lists).await?)?;
                }
                NodeKind::Symlink { .. } => {}
            }
        }
        Ok(())
    }
}

/// What is remembered of a snapshot, unless a segment it names is not in the index any more.
pub(crate) fn known_references(
    vault: &Vault,
    id: &SnapshotId,
) -> Result<Option<SnapshotReferences>, ReadError> {
    let bytes = vault.state.get(SNAPSHOT_REFERENCES, id.blob().as_bytes())?;
    let Some(references) =
        bytes.and_then(|bytes| cbor::decode::<SnapshotReferences>(&bytes, MAX_REFERENCES).ok())
    else {
        return Ok(None);
    };
    for segment in &references.segments {
        if vault.index.manifest(segment)?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(references))
}

/// Forgets the references of snapshots that are gone.
pub(crate) fn forget_references(vault: &Vault, snapshots: &HashSet<BlobId>) -> Result<(), ReadError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = vault.state.scan(SNAPSHOT_REFERENCES, &[], after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        let mut batch = Batch::default();
        for (key, _) in page {
            let id = key.as_slice().try_into().ok().map(BlobId::from_bytes);
            if id.is_none_or(|id| !snapshots.contains(&id)) {
                batch.remove(SNAPSHOT_REFERENCES, key);
            }
        }
        vault.state.apply(&batch)?;
    }
}

impl Vault {
    /// Walks a snapshot's trees, and remembers what was found.
    pub(crate) async fn find_references(
        &self,
        reader: &BlobReader,
        id: &SnapshotId,
    ) -> Result<SnapshotReferences, ReadError> {
        let snapshot = reader.read_snapshot(id).await?;
        let mut walk = Walk::default();
        walk.need(reader, &id.blob())?;
        walk.trees.extend(snapshot.roots.iter().rev().flat_map(|root| root.tree.iter().rev()));
        walk.seen.extend(&walk.trees);
        while let Some(tree) = walk.trees.pop() {
            walk.tree(reader, tree).await?;
        }
        let references = SnapshotReferences {
            time: (snapshot.time.secs(), snapshot.nanos),
            files: snapshot.files,
            bytes: snapshot.bytes,
            segments: walk.segments.into_iter().collect(),
        };
        let mut batch = Batch::default();
        let bytes = cbor::encode(&references).map_err(ReadError::damaged)?;
        batch.put(SNAPSHOT_REFERENCES, *id.blob().as_bytes(), bytes);
        self.state.apply(&batch)?;
        Ok(references)
    }
}
