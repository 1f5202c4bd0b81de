//! The assembler: takes batches in order, packs new blobs into segments and builds the trees.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender};

use fincrypt_state::kv::{Batch as Changes, KeyValue};
use fincrypt_vault::blob::{Blob, BlobId, BlobKind};
use fincrypt_vault::compress::BlobMaker;
use fincrypt_vault::filecache::FileCache;
use fincrypt_vault::scan::Meta;
use fincrypt_vault::segment::RunPacker;
use fincrypt_vault::snapshot::{Root as SnapshotRoot, Snapshot};
use fincrypt_vault::tree::{
    Name, Node, NodeKind, Piece, content_from, encode_list, encode_tree, split, total_len,
};

use super::Pipeline;
use super::batch::{Batch, Event, Planned, ReadFile, Stored};
use super::known::Known;
use super::outcome::{Counts, PipelineError};
use super::work::Job;

/// Files remembered in the cache at once.
const CACHE_BATCH: usize = 1024;

pub(super) struct Assembler<'a> {
    pub(super) maker: BlobMaker,
    pub(super) packer: RunPacker,
    pub(super) known: &'a Known,
    pub(super) cache: &'a FileCache,
    pub(super) setup: &'a Pipeline,
    pub(super) jobs: SyncSender<Job>,
    pub(super) spare: SyncSender<Batch>,
}

/// What is known of the snapshot so far.
#[derive(Default)]
struct Progress {
    counts: Counts,
    /// Ids of chunks whose files are still to come.
    ids: VecDeque<BlobId>,
    /// Entries of the folders that are open.
    frames: Vec<Vec<Node>>,
    roots: Vec<SnapshotRoot>,
    /// What the file cache is to remember.
    remembered: Changes,
    ended: bool,
}

fn tree_error(error: &dyn std::fmt::Display) -> PipelineError {
    PipelineError::Tree(error.to_string())
}

impl Assembler<'_> {
    /// Assembles everything; the snapshot's id and what was counted.
    pub(super) fn run(
        mut self,
        tickets: &Receiver<Receiver<Batch>>,
    ) -> Result<(BlobId, Counts), PipelineError> {
        let mut so_far = Progress::default();
        for ticket in tickets {
            let mut batch = ticket.recv().map_err(|_| PipelineError::SinkClosed)?;
            self.pack(&batch, &mut so_far)?;
            for event in batch.events.drain(..) {
                self.event(event, &mut so_far)?;
            }
            batch.clear();
            // A reader that is done takes none back.
            let _ = self.spare.send(batch);
        }
        if !so_far.ended {
            return Err(PipelineError::SinkClosed);
        }
        self.flush_cache(&mut so_far)?;
        let id = self.snapshot(&mut so_far)?;
        for segment in self.packer.finish() {
            self.jobs.send(Job::Seal(segment)).map_err(|_| PipelineError::SinkClosed)?;
        }
        Ok((id, so_far.counts))
    }

    fn snapshot(&mut self, so_far: &mut Progress) -> Result<BlobId, PipelineError> {
        let snapshot = Snapshot {
            time: self.setup.started.0,
            nanos: self.setup.started.1,
            host: self.setup.host.clone(),
            roots: std::mem::take(&mut so_far.roots),
            files: so_far.counts.files,
            bytes: so_far.counts.bytes_in,
            program: concat!("fincrypt ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let bytes = snapshot.encode().map_err(|error| tree_error(&error))?;
        self.store(BlobKind::Snapshot, &bytes, &mut so_far.counts)
    }

    fn push(packer: &mut RunPacker, jobs: &SyncSender<Job>, blob: &Blob<'_>) -> Result<(), PipelineError> {
        packer.push(blob, |segment| jobs.send(Job::Seal(segment)).map_err(|_| PipelineError::SinkClosed))
    }

    /// Packs a batch's new chunks and remembers the ids of all.
    fn pack(&mut self, batch: &Batch, so_far: &mut Progress) -> Result<(), PipelineError> {
        for (range, (id, stored)) in batch.chunks.iter().zip(&batch.ids) {
            so_far.ids.push_back(*id);
            let stored = match stored {
                Stored::Known => continue,
                Stored::Raw => &batch.data[range.clone()],
                Stored::Packed(range) => &batch.packed[range.clone()],
            };
            so_far.counts.bytes_new += range.len() as u64;
            so_far.counts.bytes_packed += stored.len() as u64;
            // A chunk is at most 4 MiB.
            let blob = Blob { id: *id, kind: BlobKind::Data, raw_len: range.len() as u32, stored };
            Self::push(&mut self.packer, &self.jobs, &blob)?;
        }
        Ok(())
    }

    /// Stores a blob unless it is known.
    fn store(
        &mut self,
        kind: BlobKind,
        plaintext: &[u8],
        counts: &mut Counts,
    ) -> Result<BlobId, PipelineError> {
        let id = self.maker.id(plaintext);
        if self.known.claim(&id)? {
            let blob = self.maker.make(id, kind, plaintext)?;
            counts.bytes_new += plaintext.len() as u64;
            counts.bytes_packed += blob.stored.len() as u64;
            Self::push(&mut self.packer, &self.jobs, &blob)?;
        }
        Ok(id)
    }

    fn event(&mut self, event: Event, so_far: &mut Progress) -> Result<(), PipelineError> {
        match event {
            Event::Enter => so_far.frames.push(Vec::new()),
            Event::Node(node) => {
                if let NodeKind::File { size, .. } = node.kind {
                    self.count(size, so_far);
                }
                Self::add(node, so_far);
            }
            Event::File(file) => self.file(*file, so_far)?,
            Event::Dropped(chunks) => drop(so_far.ids.drain(..chunks.min(so_far.ids.len()))),
            Event::Leave { path, name, meta } => self.leave(path, name, *meta, so_far)?,
            Event::End => so_far.ended = true,
        }
        Ok(())
    }

    fn add(node: Node, so_far: &mut Progress) {
        if let Some(frame) = so_far.frames.last_mut() {
            frame.push(node);
        }
    }

    fn count(&self, size: u64, so_far: &mut Progress) {
        so_far.counts.files += 1;
        so_far.counts.bytes_in += size;
        self.setup.progress.file(size);
    }

    fn file(&mut self, file: ReadFile, so_far: &mut Progress) -> Result<(), PipelineError> {
        let ReadFile { name, meta, link, pieces, path } = file;
        let mut named = Vec::with_capacity(pieces.len());
        for piece in pieces {
            named.push(match piece {
                Planned::Hole(len) => Piece::Hole(len),
                Planned::Chunk(len) => {
                    let blob = so_far.ids.pop_front().ok_or_else(|| tree_error(&"a chunk has no id"))?;
                    Piece::Data { blob, len }
                }
            });
        }
        let size = total_len(&named).unwrap_or(u64::MAX);
        let content = content_from(named, |list| {
            let bytes = encode_list(list).map_err(|error| tree_error(&error))?;
            self.store(BlobKind::List, &bytes, &mut so_far.counts)
        })?;
        let kind = NodeKind::File { size, link, content };
        let (mode, mtime, xattrs) = (meta.mode, meta.mtime, meta.xattrs.clone());
        let node = Node { name, mode, mtime, xattrs, kind };
        if let Some(path) = path {
            self.cache.remember(&path, &meta, &node, &mut so_far.remembered);
            if so_far.remembered.changes().len() >= CACHE_BATCH {
                self.flush_cache(so_far)?;
            }
        }
        self.count(size, so_far);
        Self::add(node, so_far);
        Ok(())
    }

    fn flush_cache(&self, so_far: &mut Progress) -> Result<(), PipelineError> {
        Ok(self.setup.state.apply(&std::mem::take(&mut so_far.remembered))?)
    }

    fn leave(
        &mut self,
        path: PathBuf,
        name: Option<Name>,
        meta: Meta,
        so_far: &mut Progress,
    ) -> Result<(), PipelineError> {
        use std::os::unix::ffi::OsStrExt;
        let nodes = so_far.frames.pop().unwrap_or_default();
        let mut tree = Vec::new();
        for part in split(&nodes) {
            let bytes = encode_tree(part).map_err(|error| tree_error(&error))?;
            tree.push(self.store(BlobKind::Tree, &bytes, &mut so_far.counts)?);
        }
        let (mode, mtime) = (meta.mode, meta.mtime);
        match name {
            Some(name) => {
                let kind = NodeKind::Dir { tree };
                Self::add(Node { name, mode, mtime, xattrs: meta.xattrs, kind }, so_far);
            }
            None => {
                let path = path.as_os_str().as_bytes().to_vec();
                so_far.roots.push(SnapshotRoot { path, tree, mode, mtime });
            }
        }
        Ok(())
    }
}
