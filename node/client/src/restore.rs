//! Restoring: a plan from the trees, then segments in the order in which files need them, then the next
//! plan, so that memory does not grow with the number of files.

mod dirs;
pub(crate) mod error;
mod links;
mod plan;
mod report;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use fincrypt_vault::target::{Overwrite, Target, TargetError};

use super::error::ClientError;
use super::fetch::Fetcher;
use super::pipeline::workers;
use super::progress::Progress;
use super::reader::BlobReader;
use super::segment_reader::{Limits, SegmentReader};
use super::session::Session;
use super::vault::Vault;

pub use error::RestoreError;
use plan::Planner;
pub(crate) use report::Failed;
pub use report::{NotRestored, RestoreReport};
use write::Writer;

/// What to restore, and where.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// `latest`, or the beginning of a snapshot's id.
    pub snapshot: String,
    /// The folder to restore into.
    pub target: PathBuf,
    /// Paths inside the snapshot; all if there is none.
    pub paths: Vec<PathBuf>,
    /// Replace existing files that differ.
    pub overwrite: bool,
    /// Fetch straight from storage.
    pub direct: bool,
}

/// Restores a snapshot.
///
/// # Errors
/// [`ClientError`] if there is no such snapshot or the target cannot be used; single files that do
/// not come back are in the report.
pub async fn restore(
    vault: &Vault,
    options: &RestoreOptions,
    show: bool,
) -> Result<RestoreReport, ClientError> {
    raise_file_limit();
    let session = Session::open(&vault.options).await?;
    let progress = Progress::new("restored", show);
    let result = restore_in(&session, vault, options, &progress).await;
    progress.done();
    session.close().await;
    result
}

/// Files whose chunks are spread over many segments stay open until the last one comes.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "open_file_limit_unchanged");
    }
}

fn cause(error: &TargetError) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

async fn restore_in(
    session: &Session,
    vault: &Vault,
    options: &RestoreOptions,
    progress: &Progress,
) -> Result<RestoreReport, ClientError> {
    let begun = Instant::now();
    let fetcher = vault.read_from(session, options.direct).await?;
    let reader = BlobReader::new(vault, Arc::clone(&fetcher))?;
    let (id, snapshot) = reader.snapshot(&options.snapshot).await?;
    let mut planner = Planner::new(&reader, &snapshot, &options.paths).await?;
    // Made last, so that a wrong name leaves no empty folder.
    let target = Target::open(&options.target)
        .map_err(|error| RestoreError::Target { path: options.target.clone(), reason: cause(&error) })?;
    let overwrite = if options.overwrite { Overwrite::Different } else { Overwrite::Never };
    let mut writer = Writer::new(target, vault.keys.root.clone(), overwrite, progress.clone());
    while let Some(plan) = planner.next().await {
        writer = aside(writer, |writer| writer.begin(plan)).await?;
        writer = restore_plan(vault, &fetcher, writer).await?;
        writer = aside(writer, Writer::end).await?;
        if let Some(files) = writer.is_full() {
            return Err(RestoreError::Full { path: options.target.clone(), files }.into());
        }
    }
    let finished = tokio::task::spawn_blocking(move || writer.finish()).await;
    let outcome = finished
        .map_err(|_| ClientError::Inner)?
        .map_err(|error| RestoreError::NotOnDisk { path: options.target.clone(), reason: cause(&error) })?;
    if outcome.failed.is_empty() && options.paths.is_empty() {
        vault.notes().note_restore(&id)?;
    }
    Ok(RestoreReport {
        snapshot: id.to_string(),
        files: outcome.files,
        bytes: outcome.bytes,
        seconds: begun.elapsed().as_secs_f64(),
        failed: outcome.failed,
        warnings: outcome.warnings,
    })
}

/// Does something with the writer where it may wait for the disk.
async fn aside(
    mut writer: Writer,
    work: impl FnOnce(&mut Writer) + Send + 'static,
) -> Result<Writer, ClientError> {
    let done = tokio::task::spawn_blocking(move || {
        work(&mut writer);
        writer
    });
    done.await.map_err(|_| ClientError::Inner)
}

/// Fetches and writes the data of the plan that the writer has begun.
async fn restore_plan(vault: &Vault, fetcher: &Fetcher, writer: Writer) -> Result<Writer, ClientError> {
    let wanted = writer.locate(&vault.index);
    let reader = SegmentReader::new(vault.keys.root.clone(), fetcher, vault.index.clone());
    let writer = Arc::new(writer);
    reader.read(wanted, Limits::parallel(workers()), &writer).await?;
    Arc::into_inner(writer).ok_or(ClientError::Inner)
}
