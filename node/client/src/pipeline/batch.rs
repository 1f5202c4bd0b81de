//! What travels from the reader to the assembler.

use std::ops::Range;
use std::path::PathBuf;

use fincrypt_vault::blob::BlobId;
use fincrypt_vault::chunk::MAX_CHUNK;
use fincrypt_vault::scan::Meta;
use fincrypt_vault::tree::{Name, Node};

/// Bytes of a batch: two of the largest chunks, so that one always ends within it.
pub(super) const ARENA: usize = 2 * MAX_CHUNK;

/// A piece of a file whose chunks have no ids yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Planned {
    Hole(u64),
    Chunk(u32),
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct ReadFile {
    pub(super) name: Name,
    pub(super) meta: Meta,
    pub(super) link: Option<u64>,
    pub(super) pieces: Vec<Planned>,
    /// Its path, if its content may be remembered: it did not change while it was read.
    pub(super) path: Option<PathBuf>,
}

/// What the scan met, in order.
#[derive(Debug)]
pub(super) enum Event {
    Enter,
    /// A file that is as it was, or a symbolic link.
    Node(Node),
    File(Box<ReadFile>),
    /// Chunks of a file that could not be read to its end.
    Dropped(usize),
    Leave {
        path: PathBuf,
        name: Option<Name>,
        meta: Box<Meta>,
    },
    /// Everything was scanned.
    End,
}

/// How a chunk is to be stored.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    /// Not at all: it is stored, or some other batch has it.
    Known,
    /// As it is.
    Raw,
    /// Compressed: where in the batch's packed bytes.
    Packed(Range<usize>),
}

/// Chunks and events, in order: an event that needs chunks comes in their batch or a later one.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// [`ARENA`] bytes once it is used.
    pub(super) data: Vec<u8>,
    pub(super) chunks: Vec<Range<usize>>,
    pub(super) events: Vec<Event>,
    pub(super) packed: Vec<u8>,
    /// Filled in by a worker, one for each chunk.
    pub(super) ids: Vec<(BlobId, Stored)>,
}

impl Batch {
    /// Empties it; its memory stays.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.events.clear();
        self.packed.clear();
        self.ids.clear();
    }
}
