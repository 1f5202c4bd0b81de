//! What a restore has to do, from the snapshot's trees.

use std::path::PathBuf;

use fincrypt_storage::blob::BlobId;
use fincrypt_storage::snapshot::Snapshot;
use fincrypt_storage::tree::{Content, Mtime, Name, Node, NodeKind, Piece, Xattrs, total_len};

use super::dirs::Dir;
use crate::client::error::ClientError;
use crate::client::reader::BlobReader;
use crate::client::snapshots::root_names;

/// One file to restore.
#[derive(Debug, Clone)]
pub(super) struct FileJob {
    pub(super) dir: usize,
    pub(super) name: Name,
    pub(super) mode: u32,
    pub(super) mtime: Mtime,
    pub(super) xattrs: Xattrs,
    pub(super) size: u64,
    pub(super) link: Option<u64>,
    pub(super) pieces: Vec<Piece>,
}

/// One symbolic link to restore.
#[derive(Debug, Clone)]
pub(super) struct LinkJob {
    pub(super) dir: usize,
    pub(super) name: Name,
    pub(super) target: Vec<u8>,
    pub(super) mtime: Mtime,
}

/// Everything that a restore has to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) dirs: Vec<Dir>,
    pub(super) files: Vec<FileJob>,
    pub(super) links: Vec<LinkJob>,
    /// Paths whose trees could not be read, and why.
    pub(super) unreadable: Vec<(Vec<u8>, String)>,
}

/// Which paths are wanted.
struct Filter {
    paths: Vec<Vec<Vec<u8>>>,
    matched: Vec<bool>,
}

impl Filter {
    fn new(paths: &[PathBuf]) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let split = |path: &PathBuf| {
            let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
            parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
        };
        let paths: Vec<_> = paths.iter().map(split).collect();
        Self { matched: vec![false; paths.len()], paths }
    }

    /// Whether `path` is wanted: inside a wanted path, or on the way to one.
    fn wants(&mut self, path: &[&[u8]]) -> bool {
        let mut wanted = self.paths.is_empty();
        for (pattern, matched) in self.paths.iter().zip(&mut self.matched) {
            let common = pattern.iter().zip(path).all(|(a, b)| a == b);
            if common {
                wanted = true;
                *matched |= path.len() >= pattern.len();
            }
        }
        wanted
    }
}

impl Plan {
    /// Reads the trees of the wanted paths.
    pub(super) async fn make(
        reader: &BlobReader,
        snapshot: &Snapshot,
        paths: &[PathBuf],
    ) -> Result<Self, ClientError> {
        let mut filter = Filter::new(paths);
        let mut plan = Self::default();
        // Folders whose trees are to be read, last first.
        let mut open: Vec<(usize, Vec<BlobId>)> = Vec::new();
        for (name, root) in root_names(snapshot)?.into_iter().zip(&snapshot.roots) {
            if filter.wants(&[name.as_bytes()]) {
                let (mode, mtime) = (root.mode, root.mtime);
                plan.dirs.push(Dir { parent: None, name, mode, mtime, xattrs: Vec::new() });
                open.push((plan.dirs.len() - 1, root.tree.clone()));
            }
        }
        open.reverse();
        while let Some((dir, tree)) = open.pop() {
            let path = super::dirs::path_of(&plan.dirs, dir);
            match reader.folder(&tree).await {
                Ok(nodes) => {
                    let first = open.len();
                    for node in nodes {
                        let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
                        parts.push(node.name.as_bytes());
                        if filter.wants(&parts) {
                            plan.add(reader, dir, node.clone(), &mut open).await;
                        }
                    }
                    open[first..].reverse();
                }
                Err(error) => plan.unreadable.push((path, error.to_string())),
            }
        }
        match filter.matched.iter().position(|matched| !matched) {
            Some(at) => Err(ClientError::NoPath(paths[at].display().to_string())),
            None => Ok(plan),
        }
    }

    async fn add(
        &mut self,
        reader: &BlobReader,
        dir: usize,
        node: Node,
        open: &mut Vec<(usize, Vec<BlobId>)>,
    ) {
        let Node { name, mode, mtime, xattrs, kind } = node;
        match kind {
            NodeKind::Dir { tree } => {
                self.dirs.push(Dir { parent: Some(dir), name, mode, mtime, xattrs });
                open.push((self.dirs.len() - 1, tree));
            }
            NodeKind::Symlink { target } => self.links.push(LinkJob { dir, name, target, mtime }),
            NodeKind::File { size, link, content } => {
                let pieces = match content {
                    Content::Inline(pieces) => Ok(pieces),
                    Content::Lists(lists) => reader.lists(&lists).await,
                };
                let problem = match pieces {
                    Ok(pieces) if total_len(&pieces) == Some(size) => {
                        self.files.push(FileJob { dir, name, mode, mtime, xattrs, size, link, pieces });
                        return;
                    }
                    Ok(_) => "its pieces do not add up to its size".to_owned(),
                    Err(error) => error.to_string(),
                };
                let path = [super::dirs::path_of(&self.dirs, dir).as_slice(), b"/", name.as_bytes()].concat();
                self.unreadable.push((path, problem));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_wants_what_is_inside_and_on_the_way() {
        let mut filter = Filter::new(&[PathBuf::from("root/a/b"), PathBuf::from("/root/c/")]);
        assert!(filter.wants(&[b"root"]));
        assert!(filter.wants(&[b"root", b"a"]));
        assert!(!filter.matched[0]);
        assert!(filter.wants(&[b"root", b"a", b"b", b"deep"]));
        assert!(filter.wants(&[b"root", b"c"]));
        assert!(!filter.wants(&[b"root", b"ab"]));
        assert_eq!(filter.matched, [true, true]);
    }
}
