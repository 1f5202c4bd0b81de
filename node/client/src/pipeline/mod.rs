//! Folders to sealed segments, on all cores.
//!
//! ```text
//!             batches               blobs, in order            segments
//! reader ──────────────▶ workers ──────────────▶ assembler ──────────────▶ workers ─▶ sink
//! walk, read, chunk      id, compress            trees, pack               seal
//! ```
//!
//! Each stage waits for the next: batches and segment buffers are a fixed number of each, used
//! again and again, so a slow network slows the reader down and memory does not grow with the
//! folder. The threads live as long as [`Pipeline::run`].

mod assemble;
mod batch;
mod known;
mod outcome;
mod read;
mod work;

use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::{Arc, mpsc};

use fincrypt_protocol::{Code, Redundancy, UnixTime};
use fincrypt_state::state::State;
use fincrypt_vault::Root;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::compress::BlobMaker;
use fincrypt_vault::filecache::FileCache;
use fincrypt_vault::scan::Scanner;
use fincrypt_vault::segment::{RunPacker, SealedSegment};

use super::progress::Progress;
use assemble::Assembler;
use known::Known;
pub use outcome::{Counts, LeftOut, PipelineError};
use read::Reader;
use work::{Job, Worker};

/// Workers at most: with more, memory grows and the disk is the limit.
const MAX_WORKERS: usize = 4;
/// Batches on the way beside one for each worker: one being read, one being assembled.
const MORE_BATCHES: usize = 2;
/// Segments packed, waiting to be sealed.
const SEALS_WAITING: usize = 2;
/// Segment buffers: two being packed, two being uploaded, the rest between. At up to 15 MiB each,
/// 105 MiB.
pub(crate) const SEGMENT_BUFFERS: usize = 7;

/// What a pipeline is made from.
pub struct Pipeline {
    /// The vault's root.
    pub root: Root,
    /// Its local state: index and file cache.
    pub state: State,
    /// The code of full segments.
    pub code: Code,
    /// Redundancy of smaller ones.
    pub redundancy: Redundancy,
    /// When the scan began, and the nanoseconds after that second.
    pub started: (UnixTime, u32),
    /// The machine's name.
    pub host: String,
    /// Threads that compress and seal.
    pub workers: usize,
    /// Told of every file.
    pub progress: Progress,
}

/// As many workers as the machine has use for.
#[must_use]
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_WORKERS)
}

impl Pipeline {
    /// Scans the folders and gives every segment to `sink`, which returns false when it takes no
    /// more; the snapshot's id and what was counted.
    ///
    /// # Errors
    /// [`PipelineError`] if anything but a single file fails.
    pub fn run(
        self,
        scanner: &Scanner,
        sink: &(dyn Fn(SealedSegment) -> bool + Sync),
    ) -> Result<(BlobId, Counts), PipelineError> {
        let known = Known::new(self.state.clone());
        let cache = FileCache::new(Arc::new(self.state.clone()), &self.root, self.started.0);
        let workers = self.workers.max(1);
        let batches = workers + MORE_BATCHES;
        let (jobs, jobs_taken) = mpsc::sync_channel::<Job>(SEALS_WAITING);
        let (tickets, tickets_taken) = mpsc::sync_channel(batches);
        let (spare, spare_taken) = mpsc::sync_channel(batches);
        let jobs_taken = Arc::new(Mutex::new(jobs_taken));
        let reader = Reader::new(&known, &cache, batches, jobs.clone(), tickets, spare_taken);
        let assembler = Assembler {
            maker: BlobMaker::new(&self.root)?,
            packer: RunPacker::new(self.code, self.redundancy, SEGMENT_BUFFERS),
            known: &known,
            cache: &cache,
            setup: &self,
            jobs,
            spare,
        };
        std::thread::scope(|scope| {
            let working: Vec<_> = (0..workers)
                .map(|_| {
                    let (root, known, jobs) = (&self.root, &known, Arc::clone(&jobs_taken));
                    scope.spawn(move || Worker::new(root, known)?.run(&jobs, sink))
                })
                .collect();
            // Only workers hold it, so that whoever waits for them notices when all have gone.
            drop(jobs_taken);
            let reading = scope.spawn(move || reader.run(scanner));
            let assembled = assembler.run(&tickets_taken);
            // A reader or worker that waits for the assembler sees that it has gone.
            drop(tickets_taken);
            let read = reading.join().unwrap_or(Err(PipelineError::SinkClosed));
            let mut failures = Vec::new();
            failures.extend(working.into_iter().filter_map(|worker| match worker.join() {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some(PipelineError::SinkClosed),
            }));
            let (left_out, assembled) = match (read, assembled) {
                (Ok(left_out), Ok(assembled)) if failures.is_empty() => (left_out, assembled),
                (read, assembled) => {
                    failures.extend(read.err().into_iter().chain(assembled.err()));
                    // That a neighbour has gone says less than why it went.
                    let why = failures.iter().position(|e| !matches!(e, PipelineError::SinkClosed));
                    return Err(failures.swap_remove(why.unwrap_or(0)));
                }
            };
            let (id, counts) = assembled;
            Ok((id, Counts { left_out, ..counts }))
        })
    }
}

#[cfg(test)]
mod tests;
