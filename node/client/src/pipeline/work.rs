//! The workers: ids and compression of chunks, sealing of segments.

use parking_lot::Mutex;
use std::sync::mpsc::{Receiver, SyncSender};

use fincrypt_vault::Root;
use fincrypt_vault::compress::BlobMaker;
use fincrypt_vault::segment::{SealedSegment, Sealer, Unsealed};

use super::batch::{Batch, Stored};
use super::known::Known;
use super::outcome::PipelineError;

/// Something for a worker to do.
pub(super) enum Job {
    /// Names and compresses the chunks of a batch; it goes back through the channel.
    Batch(Batch, SyncSender<Batch>),
    /// Seals a segment and gives it to the sink.
    Seal(Unsealed),
}

pub(super) struct Worker<'a> {
    known: &'a Known,
    maker: BlobMaker,
    sealer: Sealer,
}

impl<'a> Worker<'a> {
    pub(super) fn new(root: &Root, known: &'a Known) -> Result<Self, PipelineError> {
        Ok(Self { known, maker: BlobMaker::new(root)?, sealer: Sealer::new(root) })
    }

    /// Works until there is nothing more to come.
    pub(super) fn run(
        mut self,
        jobs: &Mutex<Receiver<Job>>,
        sink: &(dyn Fn(SealedSegment) -> bool + Sync),
    ) -> Result<(), PipelineError> {
        loop {
            let job = jobs.lock().recv();
            match job {
                Err(_) => return Ok(()),
                Ok(Job::Batch(mut batch, done)) => {
                    self.name(&mut batch)?;
                    // An assembler that has gone needs it no more.
                    let _ = done.send(batch);
                }
                Ok(Job::Seal(segment)) => {
                    if !sink(self.sealer.seal(segment)?) {
                        return Err(PipelineError::SinkClosed);
                    }
                }
            }
        }
    }

    fn name(&mut self, batch: &mut Batch) -> Result<(), PipelineError> {
        for range in &batch.chunks {
            let chunk = &batch.data[range.clone()];
            let id = self.maker.id(chunk);
            let stored = if !self.known.claim(&id)? {
                Stored::Known
            } else {
                let start = batch.packed.len();
                let helps = self.maker.pack(chunk, &mut batch.packed)?;
                if helps { Stored::Packed(start..batch.packed.len()) } else { Stored::Raw }
            };
            batch.ids.push((id, stored));
        }
        Ok(())
    }
}
