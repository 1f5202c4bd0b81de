//! The reader: walks the folders, reads what changed and cuts it into chunks.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use fincrypt_vault::chunk::{MAX_CHUNK, cut};
use fincrypt_vault::filecache::FileCache;
use fincrypt_vault::scan::{Meta, Opened, Scanner, Skipped, Visitor, holes};
use fincrypt_vault::tree::{Name, Node, NodeKind};

use super::batch::{ARENA, Batch, Event, Planned, ReadFile};
use super::known::Known;
use super::outcome::{LeftOut, PipelineError};
use super::work::Job;

/// A batch with so many bytes goes on its way when a file ends.
const SHIP_BYTES: usize = 1 << 20;
/// A batch with so many events does too, at any time.
const SHIP_EVENTS: usize = 1024;

/// Reads into one batch at a time.
pub(super) struct Reader<'a> {
    known: &'a Known,
    cache: &'a FileCache,
    batch: Batch,
    /// Bytes in the batch.
    filled: usize,
    /// Batches that may still be made.
    unmade: usize,
    jobs: SyncSender<Job>,
    tickets: SyncSender<Receiver<Batch>>,
    spare: Receiver<Batch>,
    links: HashMap<(u64, u64), u64>,
    left_out: Vec<LeftOut>,
}

/// Why a file could not be read to its end.
enum ReadError {
    File(io::Error),
    Pipeline(PipelineError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        known: &'a Known,
        cache: &'a FileCache,
        batches: usize,
        jobs: SyncSender<Job>,
        tickets: SyncSender<Receiver<Batch>>,
        spare: Receiver<Batch>,
    ) -> Self {
        let (links, left_out) = (HashMap::new(), Vec::new());
        // The first batch is at hand.
        let (batch, unmade) = (Batch::default(), batches.saturating_sub(1));
        Self { known, cache, batch, filled: 0, unmade, jobs, tickets, spare, links, left_out }
    }

    /// Scans everything; what was left out.
    pub(super) fn run(mut self, scanner: &Scanner) -> Result<Vec<LeftOut>, PipelineError> {
        scanner.scan(&mut self)?;
        self.batch.events.push(Event::End);
        self.ship(0)?;
        Ok(self.left_out)
    }

    /// Sends the batch on its way and goes on with another, which begins with the bytes from
    /// `keep_from` that are not cut yet.
    fn ship(&mut self, uncut: usize) -> Result<(), PipelineError> {
        let mut next = match self.spare.try_recv() {
            Ok(batch) => batch,
            Err(_) if self.unmade > 0 => {
                self.unmade -= 1;
                Batch::default()
            }
            Err(_) => self.spare.recv().map_err(|_| PipelineError::SinkClosed)?,
        };
        if uncut > 0 {
            next.data.resize(ARENA, 0);
            next.data[..uncut].copy_from_slice(&self.batch.data[self.filled - uncut..self.filled]);
        }
        let full = std::mem::replace(&mut self.batch, next);
        self.filled = uncut;
        let (done, ticket) = sync_channel(1);
        self.tickets.send(ticket).map_err(|_| PipelineError::SinkClosed)?;
        self.jobs.send(Job::Batch(full, done)).map_err(|_| PipelineError::SinkClosed)
    }

    fn event(&mut self, event: Event) -> Result<(), PipelineError> {
        self.batch.events.push(event);
        if self.filled >= SHIP_BYTES || self.batch.events.len() >= SHIP_EVENTS {
            self.ship(0)
        } else {
            Ok(())
        }
    }

    /// Notes the chunk of `length` bytes that begins at `start`.
    fn chunk(&mut self, start: usize, length: usize, pieces: &mut Vec<Planned>) {
        self.batch.chunks.push(start..start + length);
        // A chunk is at most 4 MiB.
        pieces.push(Planned::Chunk(length as u32));
    }

    /// Reads a source to its end and cuts it.
    fn read(&mut self, mut source: impl Read, pieces: &mut Vec<Planned>) -> Result<(), ReadError> {
        self.batch.data.resize(ARENA, 0);
        let mut uncut = self.filled;
        loop {
            match source.read(&mut self.batch.data[self.filled..]) {
                Ok(0) => break,
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // What is not cut yet is overwritten by the next file.
                    self.filled = uncut;
                    return Err(error.into());
                }
            }
            while self.filled - uncut >= MAX_CHUNK {
                let length = cut(&self.batch.data[uncut..self.filled]);
                self.chunk(uncut, length, pieces);
                uncut += length;
            }
            if self.filled == ARENA {
                self.ship(self.filled - uncut).map_err(ReadError::Pipeline)?;
                self.batch.data.resize(ARENA, 0);
                uncut = 0;
            }
        }
        while uncut < self.filled {
            let length = cut(&self.batch.data[uncut..self.filled]);
            self.chunk(uncut, length, pieces);
            uncut += length;
        }
        Ok(())
    }

    /// Reads what a file held when it was opened. What is appended meanwhile is for the next
    /// backup, so that a log that grows faster than it is read ends.
    fn read_file(&mut self, opened: &Opened, pieces: &mut Vec<Planned>) -> Result<(), ReadError> {
        let size = opened.meta.size;
        if !opened.meta.may_have_holes() {
            return self.read((&opened.file).take(size), pieces);
        }
        let mut at = 0;
        for range in holes(&opened.file, size)? {
            if range.start > at {
                pieces.push(Planned::Hole(range.start - at));
            }
            (&opened.file).seek(SeekFrom::Start(range.start))?;
            self.read((&opened.file).take(range.end - range.start), pieces)?;
            at = range.end;
        }
        if size > at {
            pieces.push(Planned::Hole(size - at));
        }
        Ok(())
    }

    fn link(&mut self, meta: &Meta) -> Option<u64> {
        let next = self.links.len() as u64;
        (meta.nlink > 1).then(|| *self.links.entry((meta.dev, meta.inode)).or_insert(next))
    }
}

impl Visitor for Reader<'_> {
    type Error = PipelineError;

    fn enter_dir(&mut self, _: &Path, _: Option<&Name>, _: &Meta) -> Result<(), PipelineError> {
        self.event(Event::Enter)
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
            && self.known.is_stored(&cached.content)?
        {
            let kind = NodeKind::File { size: meta.size, link, content: cached.content };
            let (mode, mtime) = (meta.mode, meta.mtime);
            return self.event(Event::Node(Node {
                name: name.clone(),
                mode,
                mtime,
                xattrs: cached.xattrs,
                kind,
            }));
        }
        let mut opened = match open() {
            Ok(opened) => opened,
            Err(reason) => return self.skipped(path, reason),
        };
        if let Some(error) = opened.xattrs_lost.take() {
            self.skipped(path, Skipped::Xattrs(error))?;
        }
        let mut pieces = Vec::new();
        match self.read_file(&opened, &mut pieces) {
            Ok(()) => {}
            Err(ReadError::Pipeline(error)) => return Err(error),
            Err(ReadError::File(error)) => {
                let chunks = pieces.iter().filter(|piece| matches!(piece, Planned::Chunk(_))).count();
                self.event(Event::Dropped(chunks))?;
                return self.skipped(path, Skipped::Unreadable(error));
            }
        }
        let path = opened.unchanged().unwrap_or(false).then(|| path.to_owned());
        let Opened { meta, .. } = opened;
        self.event(Event::File(Box::new(ReadFile { name: name.clone(), meta, link, pieces, path })))
    }

    fn symlink(&mut self, _: &Path, name: &Name, meta: &Meta, target: Vec<u8>) -> Result<(), PipelineError> {
        let (mode, mtime, kind) = (meta.mode, meta.mtime, NodeKind::Symlink { target });
        self.event(Event::Node(Node { name: name.clone(), mode, mtime, xattrs: Vec::new(), kind }))
    }

    fn leave_dir(&mut self, path: &Path, name: Option<&Name>, meta: &Meta) -> Result<(), PipelineError> {
        // Only the scanned folders' paths are kept.
        let path = if name.is_none() { path.to_owned() } else { Default::default() };
        self.event(Event::Leave { path, name: name.cloned(), meta: Box::new(meta.clone()) })
    }

    fn skipped(&mut self, path: &Path, reason: Skipped) -> Result<(), PipelineError> {
        use std::error::Error;
        let missing = !matches!(reason, Skipped::Special | Skipped::Xattrs(_) | Skipped::Pattern { .. });
        let cause = reason.source().map(|cause| format!(" ({cause})")).unwrap_or_default();
        let (path, reason) = (path.display().to_string(), format!("{reason}{cause}"));
        self.left_out.push(LeftOut { path, reason, missing });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::UnixTime;
    use fincrypt_state::kv::MemoryKv;
    use fincrypt_state::state::State;
    use fincrypt_vault::Root;
    use std::sync::Arc;
    use zeroize::Zeroizing;

    /// Gives so many bytes, then fails.
    struct Failing(usize);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.min(buffer.len()).min(100_000);
            if length == 0 {
                return Err(io::Error::other("broken"));
            }
            self.0 -= length;
            buffer[..length].fill(7);
            Ok(length)
        }
    }

    #[test]
    fn what_was_read_of_a_file_that_fails_is_not_taken_for_the_next_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(dir.path()).expect("opens");
        let root = Root::from_bytes(&Zeroizing::new([1; 32]));
        let (known, cache) =
            (Known::new(state), FileCache::new(Arc::new(MemoryKv::default()), &root, UnixTime::from_secs(1)));
        for length in [1, 3 << 20, 6 << 20, 11 << 20] {
            let (jobs, jobs_taken) = sync_channel(8);
            let (tickets, _tickets_taken) = sync_channel(8);
            let (_spare, spare_taken) = sync_channel(8);
            let mut reader = Reader::new(&known, &cache, 8, jobs, tickets, spare_taken);
            let (mut first, mut second, mut broken) = (Vec::new(), Vec::new(), Vec::new());
            assert!(reader.read(&[1; 5000][..], &mut first).is_ok());
            assert!(matches!(reader.read(Failing(length), &mut broken), Err(ReadError::File(_))));
            assert!(reader.read(&[2; 6000][..], &mut second).is_ok());
            assert_eq!((first.len(), second.len()), (1, 1));
            assert!(reader.ship(0).is_ok());
            drop(reader);
            let mut chunks = Vec::new();
            for job in jobs_taken {
                let Job::Batch(batch, _) = job else { panic!("only batches") };
                chunks.extend(batch.chunks.iter().map(|range| batch.data[range.clone()].to_vec()));
            }
            assert_eq!(chunks.len(), 2 + broken.len());
            assert_eq!(chunks.first(), Some(&vec![1; 5000]));
            assert_eq!(chunks.last(), Some(&vec![2; 6000]));
        }
    }
}
