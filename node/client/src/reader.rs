//! Single blobs from the swarm: trees, lists and snapshots.

pub(crate) mod error;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fincrypt_protocol::SegmentId;
use fincrypt_state::state::State;
use fincrypt_vault::Root;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::index::{BlobIndex, Location};
use fincrypt_vault::segment::{BlobAssembler, SegmentCipher, SegmentError};
use fincrypt_vault::snapshot::{Snapshot, SnapshotId, select};
use fincrypt_vault::tree::{Name, Node, Piece, check_order, decode_list, decode_tree};
use tokio::sync::Mutex;

use super::fetch::Fetcher;
use super::vault::Vault;
pub use error::ReadError;

/// Segments kept in memory: at up to 15 MiB each, 60 MiB. Trees are written depth-first and read
/// in nearly the same order, so few suffice.
const CACHED: usize = 4;

/// Bytes of snapshots, as they were encoded, that are remembered: an hourly one for seven years.
const MAX_REMEMBERED: usize = 16 << 20;

/// Snapshots read before. Whoever looks for one of them reads them all, and they lie in as many
/// segments as there were runs.
#[derive(Default)]
struct Remembered {
    snapshots: HashMap<SnapshotId, Snapshot>,
    bytes: usize,
}

impl Remembered {
    fn add(&mut self, id: SnapshotId, snapshot: &Snapshot, encoded: usize) {
        if self.bytes + encoded <= MAX_REMEMBERED && self.snapshots.insert(id, snapshot.clone()).is_none() {
            self.bytes += encoded;
        }
    }
}

/// Ciphertexts fetched last, oldest first.
#[derive(Default)]
struct Recent {
    order: VecDeque<SegmentId>,
    segments: HashMap<SegmentId, Arc<Segment>>,
}

/// A segment's ciphertext and what opens it.
struct Segment {
    ciphertext: Vec<u8>,
    cipher: SegmentCipher,
}

/// Reads blobs.
pub(crate) struct BlobReader {
    root: Root,
    index: BlobIndex<State>,
    fetcher: Arc<Fetcher>,
    recent: Mutex<Recent>,
    remembered: Mutex<Remembered>,
    assembler: Mutex<BlobAssembler>,
}

/// Snapshots with their ids.
type Snapshots = Vec<(SnapshotId, Snapshot)>;

impl BlobReader {
    pub(crate) fn new(vault: &Vault, fetcher: Arc<Fetcher>) -> Result<Self, ReadError> {
        let root = vault.keys.root.clone();
        let assembler = BlobAssembler::new(root.blob_id_key()).map_err(ReadError::damaged)?;
        let (recent, remembered, assembler) = (Mutex::default(), Mutex::default(), Mutex::new(assembler));
        Ok(Self { root, index: vault.index.clone(), fetcher, recent, remembered, assembler })
    }

    async fn segment(&self, id: SegmentId) -> Result<Arc<Segment>, ReadError> {
        if let Some(known) = self.recent.lock().await.segments.get(&id) {
            return Ok(Arc::clone(known));
        }
        let manifest = self
            .index
            .manifest(&id)?
            .ok_or_else(|| ReadError::damaged("the index names an unknown segment"))?;
        let ciphertext = self.fetcher.segment(&manifest).await?;
        let nonce = ciphertext.first_chunk().ok_or_else(|| ReadError::damaged(SegmentError::Layout))?;
        let cipher = SegmentCipher::new(&self.root, nonce);
        let segment = Arc::new(Segment { ciphertext, cipher });
        let mut recent = self.recent.lock().await;
        if recent.segments.insert(id, Arc::clone(&segment)).is_none() {
            recent.order.push_back(id);
        }
        if recent.order.len() > CACHED
            && let Some(oldest) = recent.order.pop_front()
        {
            recent.segments.remove(&oldest);
        }
        Ok(segment)
    }

    /// Where a blob lies.
    pub(crate) fn locate(&self, id: &BlobId) -> Result<Vec<Location>, ReadError> {
        self.index.locate(id)?.ok_or_else(|| ReadError::damaged("a blob is missing from the index"))
    }

    /// The segment in which a snapshot begins, if that is known.
    fn first_segment(&self, id: &SnapshotId) -> Option<SegmentId> {
        Some(self.locate(&id.blob()).ok()?.first()?.segment)
    }

    /// A blob's plaintext, checked against its id.
    pub(crate) async fn blob(&self, id: &BlobId) -> Result<Vec<u8>, ReadError> {
        for location in self.locate(id)? {
            let segment = self.segment(location.segment).await?;
            let bytes = segment.cipher.extent(&segment.ciphertext, &location.entry);
            let bytes = bytes.map_err(ReadError::damaged)?;
            let mut assembler = self.assembler.lock().await;
            if let Some(plain) = assembler.add(&location.entry, &bytes).map_err(ReadError::damaged)? {
                return Ok(plain);
            }
        }
        Err(ReadError::damaged("a blob's parts are not all there"))
    }

    /// The entries of a folder.
    pub(crate) async fn folder(&self, tree: &[BlobId]) -> Result<Vec<Node>, ReadError> {
        let mut nodes: Vec<Node> = Vec::new();
        for id in tree {
            nodes.extend(self.folder_part(id, nodes.last().map(|node| &node.name)).await?);
        }
        Ok(nodes)
    }

    /// The entries in one of a folder's blobs, which come after `last`.
    pub(crate) async fn folder_part(&self, id: &BlobId, last: Option<&Name>) -> Result<Vec<Node>, ReadError> {
        let part = decode_tree(&self.blob(id).await?).map_err(ReadError::damaged)?;
        check_order(last, &part).map_err(ReadError::damaged)?;
        Ok(part)
    }

    /// The pieces in a file's List blobs.
    pub(crate) async fn lists(&self, lists: &[BlobId]) -> Result<Vec<Piece>, ReadError> {
        let mut pieces = Vec::new();
        for id in lists {
            pieces.extend(decode_list(&self.blob(id).await?).map_err(ReadError::damaged)?);
        }
        Ok(pieces)
    }

    pub(crate) async fn read_snapshot(&self, id: &SnapshotId) -> Result<Snapshot, ReadError> {
        if let Some(known) = self.remembered.lock().await.snapshots.get(id) {
            return Ok(known.clone());
        }
        let encoded = self.blob(&id.blob()).await?;
        let snapshot = Snapshot::decode(&encoded).map_err(ReadError::damaged)?;
        self.remembered.lock().await.add(*id, &snapshot, encoded.len());
        Ok(snapshot)
    }

    /// All snapshots that can be read, oldest first. One that is lost must not hide the others: it
    /// is named in a warning, and is an error only if there is no other.
    pub(crate) async fn snapshots(&self) -> Result<Vec<(SnapshotId, Snapshot)>, ReadError> {
        let (all, lost) = self.readable_snapshots().await?;
        match lost.into_iter().next() {
            Some((_, error)) if all.is_empty() => Err(error),
            _ => Ok(all),
        }
    }

    /// The snapshots that can be read, oldest first, and those that cannot, with why.
    async fn readable_snapshots(&self) -> Result<(Snapshots, Vec<(SnapshotId, ReadError)>), ReadError> {
        let (mut all, mut lost) = (Vec::new(), Vec::new());
        let mut ids: Vec<_> = self.index.snapshots()?.into_iter().map(SnapshotId::new).collect();
        // Those of one segment after each other, so that it is fetched once; ids have no order.
        ids.sort_by_cached_key(|id| self.first_segment(id));
        for id in ids {
            match self.read_snapshot(&id).await {
                Ok(snapshot) => all.push((id, snapshot)),
                Err(error) => {
                    tracing::warn!(snapshot = %id, %error, "snapshot_unreadable");
                    lost.push((id, error));
                }
            }
        }
        all.sort_by_key(|(id, snapshot)| (snapshot.time, snapshot.nanos, *id));
        Ok((all, lost))
    }

    /// The snapshot that a person named: `latest`, or the beginning of its id. While one cannot be
    /// read, nobody knows whether it is the latest: an older one must not pass for it.
    pub(crate) async fn snapshot(&self, name: &str) -> Result<(SnapshotId, Snapshot), ReadError> {
        if name == "latest" {
            let (mut all, lost) = self.readable_snapshots().await?;
            if let Some((id, error)) = lost.into_iter().next() {
                let newest = all.pop().map(|(id, _)| id.to_string());
                return Err(ReadError::LatestUnknown {
                    lost: id.to_string(),
                    reason: error.to_string(),
                    newest: newest.unwrap_or_else(|| "there is none".to_owned()),
                });
            }
            return all.pop().ok_or(ReadError::NoSnapshots);
        }
        let ids = self.index.snapshots()?.into_iter().map(SnapshotId::new);
        let id = select(name, ids).map_err(|_| ReadError::NoSnapshot(name.to_owned()))?;
        let snapshot = self.read_snapshot(&id).await?;
        Ok((id, snapshot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::UnixTime;

    #[test]
    fn snapshots_are_remembered_up_to_a_bound() {
        let snapshot = |files| Snapshot {
            time: UnixTime::from_secs(1),
            nanos: 0,
            host: String::new(),
            roots: Vec::new(),
            files,
            bytes: 0,
            program: String::new(),
        };
        let id = |byte| SnapshotId::new(BlobId::from_bytes([byte; 32]));
        let mut remembered = Remembered::default();
        remembered.add(id(1), &snapshot(1), MAX_REMEMBERED / 2);
        remembered.add(id(1), &snapshot(1), MAX_REMEMBERED / 2);
        assert_eq!(remembered.bytes, MAX_REMEMBERED / 2, "once is enough");
        remembered.add(id(2), &snapshot(2), MAX_REMEMBERED);
        remembered.add(id(3), &snapshot(3), MAX_REMEMBERED / 2);
        assert_eq!(remembered.snapshots.get(&id(3)).map(|snapshot| snapshot.files), Some(3));
        assert!(!remembered.snapshots.contains_key(&id(2)), "there was no room for it");
    }
}
