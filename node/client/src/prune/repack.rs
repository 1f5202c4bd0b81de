//! Blobs from old segments into new ones: fetched, checked, and sealed anew under fresh nonces.

use std::sync::Arc;

use fincrypt_protocol::{Code, Manifest, Redundancy};
use fincrypt_vault::Root;
use fincrypt_vault::blob::{BlobId, BlobKind};
use fincrypt_vault::compress::BlobMaker;
use fincrypt_vault::segment::{Directory, RunPacker, SealedSegment, Sealer, Unsealed};
use tokio::sync::mpsc;

use crate::commit::Run;
use crate::error::ClientError;
use crate::pipeline::{PipelineError, SEGMENT_BUFFERS};
use crate::reader::BlobReader;
use crate::run_journal::RunJournal;

/// Blobs on the way: at up to 4 MiB each, 16 MiB.
const BLOBS_WAITING: usize = 4;

/// A blob with its plaintext.
type Fetched = (BlobId, BlobKind, Vec<u8>);

/// Stores these blobs in new segments, each of which the journal notes; the segments.
pub(super) async fn repack(
    run: &mut Run<'_>,
    blobs: Vec<(BlobId, BlobKind)>,
    journal: &mut RunJournal,
) -> Result<Vec<(Manifest, Directory)>, ClientError> {
    let mut stored = Vec::new();
    if blobs.is_empty() {
        return Ok(stored);
    }
    let reader = BlobReader::new(run.vault, Arc::clone(&run.fetcher))?;
    let (root, code, redundancy) = (run.vault.keys.root.clone(), run.code, run.vault.options.redundancy);
    let (fetched, taken) = mpsc::channel::<Fetched>(BLOBS_WAITING);
    let fetch = async move {
        for (id, kind) in blobs {
            let plaintext = reader.blob(&id).await?;
            if fetched.send((id, kind, plaintext)).await.is_err() {
                break;
            }
        }
        Ok::<(), ClientError>(())
    };
    let store = run.produce(
        move |sink| pack(&root, code, redundancy, taken, sink),
        |sealed| {
            stored.push((sealed.manifest.clone(), sealed.directory.clone()));
            journal.stored(sealed.manifest, sealed.directory)
        },
    );
    let (fetched, made) = tokio::join!(fetch, store);
    fetched?;
    made?;
    Ok(stored)
}

fn pack(
    root: &Root,
    code: Code,
    redundancy: Redundancy,
    mut blobs: mpsc::Receiver<Fetched>,
    sink: &(dyn Fn(SealedSegment) -> bool + Sync),
) -> Result<(), PipelineError> {
    let mut maker = BlobMaker::new(root)?;
    let mut sealer = Sealer::new(root);
    let mut packer = RunPacker::new(code, redundancy, SEGMENT_BUFFERS);
    let mut seal = |segment: Unsealed| {
        if sink(sealer.seal(segment)?) { Ok(()) } else { Err(PipelineError::SinkClosed) }
    };
    while let Some((id, kind, plaintext)) = blobs.blocking_recv() {
        let blob = maker.make(id, kind, &plaintext)?;
        packer.push(&blob, &mut seal)?;
    }
    packer.finish().into_iter().try_for_each(seal)
}
