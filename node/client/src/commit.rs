//! What a backup and a prune share: segments are uploaded, index pieces that list them are stored, and
//! both are said to be kept before a head refers to them.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::{Code, Manifest, SegmentId, UnixTime};
use fincrypt_vault::head::CatalogRef;
use fincrypt_vault::marks::Mark;
use fincrypt_vault::segment::SealedSegment;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::error::ClientError;
use super::fetch::Fetcher;
use super::index_maker::{IndexMaker, Listed};
use super::mandates;
use super::mediator_client::MediatorClient;
use super::pipeline::PipelineError;
use super::run_journal::RunJournal;
use super::statements::keep;
use super::upload::Upload;
use super::vault::Vault;

/// Segments uploaded at once: what a mediator keeps open for a client.
const SEGMENTS_AT_ONCE: usize = fincrypt_protocol::limits::MAX_OPEN_SEGMENTS;
/// A long run says so often that it is to be kept: its first segments would lapse after seven days.
const KEEP_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// The mark of a catalog segment that is not referred to any more.
pub(super) fn mark_of(reference: &CatalogRef) -> Mark {
    let bytes = u64::from(reference.code.total()) * u64::from(reference.shard_len.get());
    Mark { segment: reference.segment, time: UnixTime::now(), bytes }
}

/// Bytes of a run so far.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) uploaded: u64,
    pub(super) stored: u64,
    pub(super) segments: usize,
}

impl Traffic {
    fn add(&mut self, manifest: &Manifest, sent: u64) {
        self.uploaded += sent;
        self.stored += u64::from(manifest.code().total()) * u64::from(manifest.shard_len().get());
        self.segments += 1;
    }
}

/// What stores segments and their catalog.
pub(super) struct Run<'a> {
    pub(super) vault: &'a Vault,
    pub(super) mediator: MediatorClient,
    pub(super) upload: Upload,
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) code: Code,
    pub(super) traffic: Traffic,
    /// When the run last said that it is to be kept, or began.
    pub(super) kept: UnixTime,
    /// Segments of index pieces that this run made.
    pub(super) pieces: Vec<Manifest>,
    /// Catalog segments that a head of this run does not refer to any more.
    pub(super) marks: Vec<Mark>,
    /// Catalog segments that a list of this run refers to.
    pub(super) listed: Vec<SegmentId>,
}

impl<'a> Run<'a> {
    /// What stores the segments of the run that `journal` is of, under the vault's mandate.
    ///
    /// # Errors
    /// If local state fails or the mandate cannot be made.
    pub(super) fn new(
        vault: &'a Vault,
        mediator: MediatorClient,
        fetcher: Arc<Fetcher>,
        code: Code,
        journal: &RunJournal,
    ) -> Result<Self, ClientError> {
        let mandate = mandates::current(vault, mediator.node())?;
        let upload =
            Upload { mediator: mediator.clone(), network: vault.network(), run: journal.run, mandate };
        Ok(Self {
            vault,
            mediator,
            upload,
            fetcher,
            code,
            traffic: Traffic::default(),
            kept: journal.started,
            pieces: Vec::new(),
            marks: Vec::new(),
            listed: Vec::new(),
        })
    }
}

impl Run<'_> {
    /// Uploads the segments that `make`, on a thread of its own, gives to its sink, and calls
    /// `stored` with each that is stored.
    pub(super) async fn produce<T: Send + 'static>(
        &mut self,
        make: impl FnOnce(&(dyn Fn(SealedSegment) -> bool + Sync)) -> Result<T, PipelineError> + Send + 'static,
        mut stored: impl FnMut(SealedSegment) -> Result<(), ClientError>,
    ) -> Result<T, ClientError> {
        let (sink, mut segments) = mpsc::channel::<SealedSegment>(1);
        let producer =
            tokio::task::spawn_blocking(move || make(&|sealed| sink.blocking_send(sealed).is_ok()));
        let upload = self.upload.clone();
        let uploaded = {
            let mut uploads = futures::stream::poll_fn(|cx| segments.poll_recv(cx))
                .map(|sealed| {
                    let upload = upload.clone();
                    async move { upload.store(&sealed).await.map(|sent| (sealed, sent)) }
                })
                .buffer_unordered(SEGMENTS_AT_ONCE);
            loop {
                match uploads.next().await {
                    None => break Ok(()),
                    Some(Err(error)) => break Err(error),
                    Some(Ok((sealed, sent))) => {
                        self.traffic.add(&sealed.manifest, sent);
                        if let Err(error) = stored(sealed) {
                            break Err(error);
                        }
                        if UnixTime::now().since(self.kept) > KEEP_AGAIN
                            && let Err(error) = self.keep().await
                        {
                            break Err(error);
                        }
                    }
                }
            }
        };
        // Ends a producer whose segments nobody takes any more.
        segments.close();
        while segments.try_recv().is_ok() {}
        let produced = producer.await.map_err(|_| ClientError::Inner)?;
        uploaded?;
        produced.map_err(ClientError::from)
    }

    /// Says that what the run has stored is to be kept.
    pub(super) async fn keep(&mut self) -> Result<(), ClientError> {
        self.mediator.keep(keep(self.vault, self.upload.run)?).await?;
        self.kept = UnixTime::now();
        Ok(())
    }

    /// Says the same of runs whose segments a rebuilt index has found: perhaps their own heads never
    /// came to be.
    pub(super) async fn keep_found(&self) -> Result<(), ClientError> {
        loop {
            let runs = self.vault.lifecycle.found_runs()?;
            if runs.is_empty() {
                return Ok(());
            }
            for run in &runs {
                self.mediator.keep(keep(self.vault, *run)?).await?;
            }
            self.vault.lifecycle.found_runs_kept(&runs)?;
        }
    }

    /// Stores index pieces that list these segments; references to where they lie.
    pub(super) async fn store_index(
        &mut self,
        listed: Listed,
        level: u8,
    ) -> Result<Vec<CatalogRef>, ClientError> {
        let (root, code) = (self.vault.keys.root.clone(), self.code);
        let redundancy = self.vault.options.redundancy;
        let (mut refs, mut pieces) = (Vec::new(), Vec::new());
        self.produce(
            move |sink| IndexMaker::new(&root, code, redundancy, sink)?.make(listed),
            |sealed| {
                let (code, shard_len) = (sealed.manifest.code(), sealed.manifest.shard_len());
                refs.push(CatalogRef { segment: sealed.manifest.id(), code, shard_len, level });
                pieces.push(sealed.manifest);
                Ok(())
            },
        )
        .await?;
        self.pieces.append(&mut pieces);
        Ok(refs)
    }
}
