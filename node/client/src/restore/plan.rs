//! What a restore has to do, from the snapshot's trees: a bounded part of it at a time.
//!
//! Folders are walked depth-first. Only they, and the first names of files with several, are remembered
//! to the end: a folder gets its time after everything in it.

use std::future::Future;
use std::path::PathBuf;

use fincrypt_vault::blob::BlobId;
use fincrypt_vault::snapshot::Snapshot;
use fincrypt_vault::tree::{Content, Mtime, Name, Node, NodeKind, Piece, Xattrs, total_len};

use super::dirs::Dir;
use crate::reader::{BlobReader, ReadError};
use crate::snapshots::root_names;

/// Files, links and pieces planned before they are restored: at some 300 bytes each, 20 MB. A tree
/// blob may bring as many again.
const ENOUGH: usize = 1 << 16;

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

/// A part of what a restore has to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Folders, numbered from where the plan before ended.
    pub(super) dirs: Vec<Dir>,
    pub(super) files: Vec<FileJob>,
    pub(super) links: Vec<LinkJob>,
    /// Paths whose trees could not be read, and why.
    pub(super) unreadable: Vec<(Vec<u8>, String)>,
    /// Pieces of all its files.
    pub(super) pieces: usize,
}

impl Plan {
    /// What it holds in memory, in entries.
    fn held(&self) -> usize {
        self.dirs.len() + self.files.len() + self.links.len() + self.unreadable.len() + self.pieces
    }
}

/// Where trees come from.
pub(super) trait Trees {
    /// The entries in one blob of a folder, which come after `last`.
    fn part(
        &self,
        blob: &BlobId,
        last: Option<&Name>,
    ) -> impl Future<Output = Result<Vec<Node>, ReadError>> + Send;

    /// The pieces in a file's List blobs.
    fn pieces(&self, lists: &[BlobId]) -> impl Future<Output = Result<Vec<Piece>, ReadError>> + Send;
}

impl Trees for BlobReader {
    async fn part(&self, blob: &BlobId, last: Option<&Name>) -> Result<Vec<Node>, ReadError> {
        self.folder_part(blob, last).await
    }

    async fn pieces(&self, lists: &[BlobId]) -> Result<Vec<Piece>, ReadError> {
        self.lists(lists).await
    }
}

/// Which paths are wanted.
struct Filter(Vec<Vec<Vec<u8>>>);

impl Filter {
    fn new(paths: &[PathBuf]) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let split = |path: &PathBuf| {
            let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
            parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
        };
        Self(paths.iter().map(split).collect())
    }

    /// Whether `path` is wanted: inside a wanted path, or on the way to one.
    fn wants(&self, path: &[&[u8]]) -> bool {
        let common = |pattern: &Vec<Vec<u8>>| pattern.iter().zip(path).all(|(a, b)| a == b);
        self.0.is_empty() || self.0.iter().any(common)
    }
}

/// A folder whose entries are still to be planned.
struct Open {
    dir: usize,
    /// Its path inside the snapshot.
    path: Vec<u8>,
    /// Its tree, of which the first `next` blobs were read.
    tree: Vec<BlobId>,
    next: usize,
    last: Option<Name>,
}

/// Walks the trees of the wanted paths.
pub(super) struct Planner<'a, T> {
    trees: &'a T,
    filter: Filter,
    /// Folders to go on with, last first.
    open: Vec<Open>,
    /// Folders planned so far.
    dirs: usize,
    plan: Plan,
}

impl<'a, T: Trees> Planner<'a, T> {
    /// Begins with a snapshot, after making sure that every wanted path is in it.
    pub(super) async fn new(trees: &'a T, snapshot: &Snapshot, paths: &[PathBuf]) -> Result<Self, ReadError> {
        let filter = Filter::new(paths);
        for (pattern, path) in filter.0.iter().zip(paths) {
            if !exists(trees, snapshot, pattern).await? {
                return Err(ReadError::NoPath(path.display().to_string()));
            }
        }
        let mut planner = Self { trees, filter, open: Vec::new(), dirs: 0, plan: Plan::default() };
        for (name, root) in root_names(snapshot)?.into_iter().zip(&snapshot.roots) {
            if planner.filter.wants(&[name.as_bytes()]) {
                let (mode, mtime, path) = (root.mode, root.mtime, name.as_bytes().to_vec());
                let dir = Dir { parent: None, name, mode, mtime, xattrs: Vec::new() };
                planner.push(dir, path, root.tree.clone());
            }
        }
        planner.open.reverse();
        Ok(planner)
    }

    fn push(&mut self, dir: Dir, path: Vec<u8>, tree: Vec<BlobId>) {
        self.plan.dirs.push(dir);
        self.open.push(Open { dir: self.dirs, path, tree, next: 0, last: None });
        self.dirs += 1;
    }

    /// What is to be done next; `None` when everything was planned.
    pub(super) async fn next(&mut self) -> Option<Plan> {
        while self.plan.held() < ENOUGH
            && let Some(mut folder) = self.open.pop()
        {
            let Some(blob) = folder.tree.get(folder.next) else { continue };
            match self.trees.part(blob, folder.last.as_ref()).await {
                Ok(nodes) => {
                    folder.next += 1;
                    folder.last = nodes.last().map(|node| node.name.clone()).or(folder.last);
                    let (dir, path) = (folder.dir, folder.path.clone());
                    self.open.push(folder);
                    let first = self.open.len();
                    for node in nodes {
                        let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
                        parts.push(node.name.as_bytes());
                        if self.filter.wants(&parts) {
                            self.add(dir, &path, node).await;
                        }
                    }
                    self.open[first..].reverse();
                }
                Err(error) => self.plan.unreadable.push((folder.path, error.to_string())),
            }
        }
        let plan = std::mem::take(&mut self.plan);
        (plan.held() > 0).then_some(plan)
    }

    async fn add(&mut self, dir: usize, folder: &[u8], node: Node) {
        let Node { name, mode, mtime, xattrs, kind } = node;
        let path = || [folder, b"/", name.as_bytes()].concat();
        match kind {
            NodeKind::Dir { tree } => {
                let path = path();
                self.push(Dir { parent: Some(dir), name, mode, mtime, xattrs }, path, tree);
            }
            NodeKind::Symlink { target } => self.plan.links.push(LinkJob { dir, name, target, mtime }),
            NodeKind::File { size, link, content } => {
                let pieces = match content {
                    Content::Inline(pieces) => Ok(pieces),
                    Content::Lists(lists) => self.trees.pieces(&lists).await,
                };
                let problem = match pieces {
                    Ok(pieces) if total_len(&pieces) == Some(size) => {
                        self.plan.pieces += pieces.len();
                        let job = FileJob { dir, name, mode, mtime, xattrs, size, link, pieces };
                        return self.plan.files.push(job);
                    }
                    Ok(_) => "its pieces do not add up to its size".to_owned(),
                    Err(error) => error.to_string(),
                };
                self.plan.unreadable.push((path(), problem));
            }
        }
    }
}

/// Whether a path is in a snapshot.
async fn exists<T: Trees>(trees: &T, snapshot: &Snapshot, path: &[Vec<u8>]) -> Result<bool, ReadError> {
    let Some((first, rest)) = path.split_first() else { return Ok(!snapshot.roots.is_empty()) };
    let mut roots = root_names(snapshot)?.into_iter().zip(&snapshot.roots);
    let Some((_, root)) = roots.find(|(name, _)| name.as_bytes() == first) else { return Ok(false) };
    let mut inside = Some(root.tree.clone());
    for wanted in rest {
        let Some(tree) = inside.take() else { return Ok(false) };
        let (mut found, mut last) = (None, None);
        for blob in &tree {
            let nodes = trees.part(blob, last.as_ref()).await?;
            last = nodes.last().map(|node| node.name.clone()).or(last);
            found = nodes.into_iter().find(|node| node.name.as_bytes() == wanted);
            if found.is_some() {
                break;
            }
        }
        match found.map(|node| node.kind) {
            Some(NodeKind::Dir { tree }) => inside = Some(tree),
            Some(NodeKind::File { .. } | NodeKind::Symlink { .. }) => {}
            None => return Ok(false),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
