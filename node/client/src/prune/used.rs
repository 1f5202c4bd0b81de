//! Which blobs the snapshots use.

use std::collections::HashSet;
use std::sync::Arc;

use fincrypt_vault::blob::BlobId;
use fincrypt_vault::snapshot::Snapshot;
use fincrypt_vault::tree::{Content, Node, NodeKind, Piece, decode_tree};

use crate::fetch::Fetcher;
use crate::reader::{BlobReader, ReadError};
use crate::vault::Vault;

/// All blobs of all snapshots but those `without`.
///
/// # Errors
/// If a single tree of any of them cannot be read: what it uses is not known then.
pub(super) async fn used_blobs(
    vault: &Vault,
    fetcher: &Arc<Fetcher>,
    without: &HashSet<BlobId>,
) -> Result<HashSet<BlobId>, ReadError> {
    let reader = BlobReader::new(vault, Arc::clone(fetcher))?;
    let mut walk = Walk { reader, used: HashSet::new(), trees: HashSet::new(), open: Vec::new() };
    for id in vault.index.snapshots()?.into_iter().filter(|id| !without.contains(id)) {
        let snapshot = Snapshot::decode(&walk.reader.blob(&id).await?).map_err(ReadError::damaged)?;
        walk.used.insert(id);
        walk.open.extend(snapshot.roots.into_iter().flat_map(|root| root.tree));
        while let Some(tree) = walk.open.pop() {
            // Snapshots share most of their trees.
            if walk.trees.insert(tree) {
                walk.used.insert(tree);
                let nodes = decode_tree(&walk.reader.blob(&tree).await?).map_err(ReadError::damaged)?;
                for node in nodes {
                    walk.node(node).await?;
                }
            }
        }
    }
    Ok(walk.used)
}

struct Walk {
    reader: BlobReader,
    /// A blob takes 32 bytes here, so those of a terabyte about 50 MiB.
    used: HashSet<BlobId>,
    /// Trees that were read, apart from data of the same bytes.
    trees: HashSet<BlobId>,
    open: Vec<BlobId>,
}

impl Walk {
    async fn node(&mut self, node: Node) -> Result<(), ReadError> {
        let pieces = match node.kind {
            NodeKind::Dir { tree } => {
                self.open.extend(tree);
                return Ok(());
            }
            NodeKind::Symlink { .. } => return Ok(()),
            NodeKind::File { content: Content::Inline(pieces), .. } => pieces,
            NodeKind::File { content: Content::Lists(lists), .. } => {
                let pieces = self.reader.lists(&lists).await?;
                self.used.extend(lists);
                pieces
            }
        };
        self.used.extend(pieces.into_iter().filter_map(|piece| match piece {
            Piece::Data { blob, .. } => Some(blob),
            Piece::Hole(_) => None,
        }));
        Ok(())
    }
}
