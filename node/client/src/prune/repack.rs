//! Blobs from old segments into new ones: fetched, checked, and sealed again under fresh nonces.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use fincrypt_protocol::{Code, Manifest, Redundancy};
use fincrypt_vault::Root;
use fincrypt_vault::blob::{BlobId, BlobKind};
use fincrypt_vault::compress::BlobMaker;
use fincrypt_vault::segment::{Directory, Entry, RunPacker, SealedSegment, Sealer, Unsealed};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::commit::Run;
use crate::error::ClientError;
use crate::pipeline::{PipelineError, SEGMENT_BUFFERS};
use crate::reader::ReadError;
use crate::run_journal::RunJournal;
use crate::segment_reader::{End, Failure, Limits, SegmentReader, Sink, WantedBlobs};
use crate::vault::Vault;

/// Blobs on the way: at up to 4 MiB each, 16 MiB.
const BLOBS_WAITING: usize = 4;

/// Blobs located at once: with their entries some 5 MB.
const LOCATED: usize = 1 << 15;

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
    let (vault, fetcher) = (run.vault, Arc::clone(&run.fetcher));
    let (root, code, redundancy) = (vault.keys.root.clone(), run.code, vault.options.redundancy);
    let (fetched, taken) = mpsc::channel::<Fetched>(BLOBS_WAITING);
    let fetch = async move {
        let reader = SegmentReader::new(vault.keys.root.clone(), &*fetcher, vault.index.clone());
        for some in blobs.chunks(LOCATED) {
            let wanted = locate(vault, some)?.into_segments();
            let (kinds, fetched) = (some.iter().copied().collect(), fetched.clone());
            let packer = Arc::new(ToPacker { kinds, fetched, failed: Mutex::default() });
            let end = reader.read(wanted, Limits::in_order(), &packer).await?;
            if let Some(error) = packer.failed.lock().take() {
                return Err(error);
            }
            if end == End::Stopped {
                break;
            }
        }
        Ok(())
    };
    let store = run.produce(
        move |sink| pack(&root, code, redundancy, taken, sink),
        |sealed| {
            stored.push((sealed.manifest.clone(), sealed.directory.clone()));
            Ok(journal.stored(sealed.manifest, sealed.directory)?)
        },
    );
    let (fetched, made) = tokio::join!(fetch, store);
    fetched?;
    made?;
    Ok(stored)
}

/// Where the blobs lie, in the order in which they are to be packed.
fn locate(vault: &Vault, blobs: &[(BlobId, BlobKind)]) -> Result<WantedBlobs, ReadError> {
    let mut wanted = WantedBlobs::default();
    for (blob, _) in blobs {
        if wanted.is_new(blob) {
            let missing = || ReadError::damaged("a blob is missing from the index");
            wanted.add(vault.index.locate(blob)?.ok_or_else(missing)?);
        }
    }
    Ok(wanted)
}

/// Hands blobs to the packer, until one is lost or the packer takes no more.
struct ToPacker {
    kinds: HashMap<BlobId, BlobKind>,
    fetched: mpsc::Sender<Fetched>,
    failed: Mutex<Option<ReadError>>,
}

impl Sink for ToPacker {
    fn blob(&self, entry: &Entry, plain: &[u8]) -> ControlFlow<()> {
        let kind = self.kinds.get(&entry.blob).copied().unwrap_or(entry.kind);
        match self.fetched.blocking_send((entry.blob, kind, plain.to_vec())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn failure(&self, failure: Failure) -> ControlFlow<()> {
        self.failed.lock().get_or_insert_with(|| failure.error.into());
        ControlFlow::Break(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment_reader::memory::{Fault, Memory, id, manifests, noise, root, seal, wanted};

    /// Reads ten blobs for a packer that takes so many; what it took, how it ended, and the error.
    async fn read(lost: Option<usize>, takes: usize) -> (Vec<BlobId>, End, Option<ReadError>) {
        let plains: Vec<Vec<u8>> = (0..10).map(|seed| noise(400_000, seed)).collect();
        let segments = seal(Code::new(1, 1).expect("valid"), &plains);
        let mut memory = Memory::new(&segments);
        if let Some(manifest) = lost.map(|at| &segments[at].manifest) {
            let missing = |index| ((manifest.id(), index), Fault::Missing);
            memory.faults.extend(manifest.code().indices().map(missing));
        }
        let (fetched, mut taken) = mpsc::channel(BLOBS_WAITING);
        let kinds = HashMap::new();
        let sink = Arc::new(ToPacker { kinds, fetched, failed: Mutex::default() });
        let wanted = wanted(&segments, plains.iter().map(|plain| id(plain)));
        let packer = tokio::task::spawn_blocking(move || {
            let blobs = std::iter::from_fn(|| taken.blocking_recv()).take(takes);
            blobs.map(|(blob, ..)| blob).collect::<Vec<_>>()
        });
        let reader = SegmentReader::new(root(), &memory, manifests(&segments));
        let end = reader.read(wanted, Limits::in_order(), &sink).await.expect("no thread stops");
        let failed = sink.failed.lock().take();
        drop(sink);
        let took = packer.await.expect("no panic");
        assert_eq!(took, plains[..took.len()].iter().map(|plain| id(plain)).collect::<Vec<_>>());
        (took, end, failed)
    }

    #[tokio::test]
    async fn blobs_come_in_the_order_in_which_they_are_to_be_packed() {
        let (took, end, failed) = read(None, usize::MAX).await;
        assert_eq!((took.len(), end), (10, End::Complete));
        assert!(failed.is_none());
    }

    #[tokio::test]
    async fn a_packer_that_takes_no_more_ends_the_reading() {
        let (took, end, failed) = read(None, 2).await;
        assert_eq!((took.len(), end), (2, End::Stopped));
        assert!(failed.is_none());
    }

    #[tokio::test]
    async fn the_first_blob_that_is_lost_ends_the_reading() {
        let (took, end, failed) = read(Some(1), usize::MAX).await;
        assert!(took.len() < 10);
        assert_eq!(end, End::Stopped);
        assert!(matches!(failed, Some(ReadError::Unavailable { found: 0, needed: 1, .. })), "{failed:?}");
    }
}
