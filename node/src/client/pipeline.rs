//! Folders to sealed segments: read, chunk, id, compress, pack, seal. Runs on a blocking thread and
//! hands segments over through a bounded channel, which is what slows it to the network's speed.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use fincrypt_protocol::{Code, Redundancy, UnixTime};
use fincrypt_storage::blob::{BlobId, BlobKind};
use fincrypt_storage::chunk::Chunker;
use fincrypt_storage::compress::{BlobMaker, CompressError};
use fincrypt_storage::filecache::FileCache;
use fincrypt_storage::index::BlobIndex;
use fincrypt_storage::kv::{Batch, KeyValue, KvError, MemoryKv};
use fincrypt_storage::scan::{Meta, Opened, Scanner, Skipped, Visitor, holes};
use fincrypt_storage::segment::{RunPacker, SealedSegment, Sealer, SegmentError};
use fincrypt_storage::snapshot::{Root as SnapshotRoot, Snapshot};
use fincrypt_storage::state::State;
use fincrypt_storage::tree::{
    Content, Name, Node, NodeKind, Piece, content_from, encode_list, encode_tree, split, total_len,
};
use tokio::sync::mpsc;

use super::progress::Progress;

/// Files remembered in the cache at once.
const CACHE_BATCH: usize = 1024;

/// The pipeline stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PipelineError {
    /// Whoever took the segments has gone, with an error of its own.
    #[error("the upload has ended")]
    SinkClosed,
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error(transparent)]
    Compress(#[from] CompressError),
    #[error(transparent)]
    State(#[from] KvError),
    #[error("{0}")]
    Tree(String),
    /// Reading a file failed; the file is skipped, the run goes on.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
}

/// What was counted, and what was left out.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) files: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_new: u64,
    /// Path, reason, and whether something that should have been stored is missing.
    pub(crate) skipped: Vec<(String, String, bool)>,
}

/// Everything the pipeline works with.
pub(crate) struct Pipeline {
    index: BlobIndex<State>,
    /// Blobs of an interrupted run's segments.
    resumed: Arc<BlobIndex<MemoryKv>>,
    state: State,
    cache: FileCache,
    cache_batch: Batch,
    cached: usize,
    chunker: Option<Chunker>,
    maker: BlobMaker,
    packer: RunPacker,
    sealer: Sealer,
    sink: mpsc::Sender<SealedSegment>,
    new: HashSet<BlobId>,
    frames: Vec<Vec<Node>>,
    roots: Vec<SnapshotRoot>,
    links: HashMap<(u64, u64), u64>,
    counts: Counts,
    progress: Progress,
    started: UnixTime,
}

/// What a pipeline is made from.
pub(crate) struct PipelineSetup {
    pub(crate) root: fincrypt_storage::Root,
    pub(crate) state: State,
    pub(crate) resumed: Arc<BlobIndex<MemoryKv>>,
    pub(crate) code: Code,
    pub(crate) redundancy: Redundancy,
    pub(crate) sink: mpsc::Sender<SealedSegment>,
    pub(crate) started: UnixTime,
    pub(crate) progress: Progress,
}

impl Pipeline {
    pub(crate) fn new(setup: PipelineSetup) -> Result<Self, PipelineError> {
        let PipelineSetup { root, state, resumed, code, redundancy, sink, started, progress } = setup;
        Ok(Self {
            index: BlobIndex::new(state.clone()),
            resumed,
            cache: FileCache::new(Arc::new(state.clone()), &root, started),
            state,
            cache_batch: Batch::default(),
            cached: 0,
            chunker: Some(Chunker::new()),
            maker: BlobMaker::new(&root)?,
            packer: RunPacker::new(code, redundancy),
            sealer: Sealer::new(&root),
            sink,
            new: HashSet::new(),
            frames: Vec::new(),
            roots: Vec::new(),
            links: HashMap::new(),
            counts: Counts::default(),
            progress,
            started,
        })
    }

    /// Scans the folders and stores everything new; the snapshot's id and what was counted. The
    /// scan began `nanos` nanoseconds after the second it was set up with.
    pub(crate) fn run(
        mut self,
        scanner: &Scanner,
        host: String,
        nanos: u32,
    ) -> Result<(BlobId, Counts), PipelineError> {
        scanner.scan(&mut self)?;
        self.flush_cache()?;
        let snapshot = Snapshot {
            time: self.started,
            nanos,
            host,
            roots: std::mem::take(&mut self.roots),
            files: self.counts.files,
            bytes: self.counts.bytes_in,
            program: concat!("fincrypt ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let bytes = snapshot.encode().map_err(|error| PipelineError::Tree(error.to_string()))?;
        let id = self.store(BlobKind::Snapshot, &bytes)?;
        for unsealed in self.packer.finish() {
            let sealed = self.sealer.seal(unsealed)?;
            self.sink.blocking_send(sealed).map_err(|_| PipelineError::SinkClosed)?;
        }
        Ok((id, self.counts))
    }

    fn knows(&self, id: &BlobId) -> Result<bool, PipelineError> {
        Ok(self.new.contains(id) || self.index.contains(id)? || self.resumed.contains(id)?)
    }

    /// Stores a blob unless it is known.
    fn store(&mut self, kind: BlobKind, plaintext: &[u8]) -> Result<BlobId, PipelineError> {
        let id = self.maker.id(plaintext);
        if self.knows(&id)? {
            return Ok(id);
        }
        let blob = self.maker.make(id, kind, plaintext)?;
        self.counts.bytes_new += plaintext.len() as u64;
        self.new.insert(id);
        for unsealed in self.packer.push(&blob)? {
            let sealed = self.sealer.seal(unsealed)?;
            self.sink.blocking_send(sealed).map_err(|_| PipelineError::SinkClosed)?;
        }
        Ok(id)
    }

    fn store_data(&mut self, pieces: &mut Vec<Piece>, source: impl Read) -> Result<(), PipelineError> {
        // Out of its place while it calls back; it always returns there.
        let mut chunker = self.chunker.take().unwrap_or_default();
        let result = chunker.chunks(source, |chunk| {
            let blob = self.store(BlobKind::Data, chunk)?;
            // A chunk is at most 4 MiB.
            pieces.push(Piece::Data { blob, len: chunk.len() as u32 });
            Ok::<(), PipelineError>(())
        });
        self.chunker = Some(chunker);
        result.map(|_| ())
    }

    fn read(&mut self, opened: &Opened) -> Result<Vec<Piece>, PipelineError> {
        let mut pieces = Vec::new();
        if !opened.meta.may_have_holes() {
            // What it had when it was opened: a file may grow faster than it is read.
            self.store_data(&mut pieces, (&opened.file).take(opened.meta.size))?;
            return Ok(pieces);
        }
        let mut at = 0;
        for range in holes(&opened.file, opened.meta.size)? {
            if range.start > at {
                pieces.push(Piece::Hole(range.start - at));
            }
            use std::io::{Seek, SeekFrom};
            (&opened.file).seek(SeekFrom::Start(range.start))?;
            self.store_data(&mut pieces, (&opened.file).take(range.end - range.start))?;
            at = range.end;
        }
        if opened.meta.size > at {
            pieces.push(Piece::Hole(opened.meta.size - at));
        }
        Ok(pieces)
    }

    fn content(&mut self, pieces: Vec<Piece>) -> Result<Content, PipelineError> {
        content_from(pieces, |list| {
            let bytes = encode_list(list).map_err(|error| PipelineError::Tree(error.to_string()))?;
            self.store(BlobKind::List, &bytes)
        })
    }

    fn is_stored(&self, content: &Content) -> Result<bool, PipelineError> {
        match content {
            Content::Inline(pieces) => {
                for piece in pieces {
                    if let Piece::Data { blob, .. } = piece
                        && !self.knows(blob)?
                    {
                        return Ok(false);
                    }
                }
            }
            // A list that a head refers to was committed with its data; one of an interrupted run
            // may be stored without it.
            Content::Lists(lists) => {
                for list in lists {
                    if !self.index.contains(list)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn link(&mut self, meta: &Meta) -> Option<u64> {
        let next = self.links.len() as u64;
        (meta.nlink > 1).then(|| *self.links.entry((meta.dev, meta.inode)).or_insert(next))
    }

    fn push(&mut self, node: Node) {
        if let Some(frame) = self.frames.last_mut() {
            frame.push(node);
        }
    }

    fn push_file(&mut self, node: Node, size: u64) {
        self.counts.files += 1;
        self.counts.bytes_in += size;
        self.progress.file(size);
        self.push(node);
    }

    fn flush_cache(&mut self) -> Result<(), PipelineError> {
        self.state.apply(&std::mem::take(&mut self.cache_batch))?;
        self.cached = 0;
        Ok(())
    }

    fn skip(&mut self, path: &Path, reason: String, missing: bool) {
        self.counts.skipped.push((path.display().to_string(), reason, missing));
    }
}

impl Visitor for Pipeline {
    type Error = PipelineError;

    fn enter_dir(&mut self, _: &Path, _: Option<&Name>, _: &Meta) -> Result<(), PipelineError> {
        self.frames.push(Vec::new());
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        name: &Name,
        meta: &Meta,
        open: impl FnOnce() -> Result<Opened, Skipped>,
    ) -> Result<(), PipelineError> {
        let link = self.link(meta);
        if let Some(cached) = self.cache.lookup(path, meta)
            && self.is_stored(&cached.content)?
        {
            let kind = NodeKind::File { size: meta.size, link, content: cached.content };
            let node =
                Node { name: name.clone(), mode: meta.mode, mtime: meta.mtime, xattrs: cached.xattrs, kind };
            self.push_file(node, meta.size);
            return Ok(());
        }
        let mut opened = match open() {
            Ok(opened) => opened,
            Err(reason) => return self.skipped(path, reason),
        };
        if let Some(error) = opened.xattrs_lost.take() {
            self.skipped(path, Skipped::Xattrs(error))?;
        }
        let pieces = match self.read(&opened) {
            Ok(pieces) => pieces,
            Err(PipelineError::Read(error)) => return self.skipped(path, Skipped::Unreadable(error)),
            Err(error) => return Err(error),
        };
        let size = total_len(&pieces).unwrap_or(u64::MAX);
        let content = self.content(pieces)?;
        let meta = opened.meta.clone();
        let kind = NodeKind::File { size, link, content };
        let node = Node {
            name: name.clone(),
            mode: meta.mode,
            mtime: meta.mtime,
            xattrs: meta.xattrs.clone(),
            kind,
        };
        if opened.unchanged().unwrap_or(false) {
            self.cache.remember(path, &meta, &node, &mut self.cache_batch);
            self.cached += 1;
            if self.cached >= CACHE_BATCH {
                self.flush_cache()?;
            }
        }
        self.push_file(node, size);
        Ok(())
    }

    fn symlink(&mut self, _: &Path, name: &Name, meta: &Meta, target: Vec<u8>) -> Result<(), PipelineError> {
        let kind = NodeKind::Symlink { target };
        self.push(Node { name: name.clone(), mode: meta.mode, mtime: meta.mtime, xattrs: Vec::new(), kind });
        Ok(())
    }

    fn leave_dir(&mut self, path: &Path, name: Option<&Name>, meta: &Meta) -> Result<(), PipelineError> {
        use std::os::unix::ffi::OsStrExt;
        let nodes = self.frames.pop().unwrap_or_default();
        let mut tree = Vec::new();
        for part in split(&nodes) {
            let bytes = encode_tree(part).map_err(|error| PipelineError::Tree(error.to_string()))?;
            tree.push(self.store(BlobKind::Tree, &bytes)?);
        }
        let (mode, mtime) = (meta.mode, meta.mtime);
        match name {
            Some(name) => {
                let kind = NodeKind::Dir { tree };
                self.push(Node { name: name.clone(), mode, mtime, xattrs: meta.xattrs.clone(), kind });
            }
            None => {
                let path = path.as_os_str().as_bytes().to_vec();
                self.roots.push(SnapshotRoot { path, tree, mode, mtime });
            }
        }
        Ok(())
    }

    fn skipped(&mut self, path: &Path, reason: Skipped) -> Result<(), PipelineError> {
        use std::error::Error;
        let missing = !matches!(reason, Skipped::Special | Skipped::Xattrs(_) | Skipped::Pattern { .. });
        let cause = reason.source().map(|cause| format!(" ({cause})")).unwrap_or_default();
        self.skip(path, format!("{reason}{cause}"), missing);
        Ok(())
    }
}
