//! A backup: scan, upload, index, head, keep.

pub(crate) mod error;
mod head;
mod report;
mod store;

use std::path::PathBuf;
use std::time::Instant;

use fincrypt_protocol::UnixTime;
use fincrypt_vault::index::BlobIndex;

use super::commit::Run;
use super::error::ClientError;
use super::head::{HeadError, follow, settle};
use super::invalidated::invalidated;
use super::mandates;
use super::mediator_client::{MediatorClient, Refused};
use super::migration::follow_mandate;
use super::prepayment::prepayment_status;
use super::progress::Progress;
use super::prune;
use super::run_journal::RunJournal;
use super::session::{Session, with_vault};
use super::statements::keep;
use super::vault::Vault;
use super::vault_state::IndexOrigin;
pub use error::BackupError;
pub use report::{BackupReport, Skipped};

/// Times a head is rebased on another device's before giving up.
const REBASES: usize = 8;

/// Takes a snapshot of `folders`.
///
/// # Errors
/// [`ClientError`] if no new head could be committed; what was stored so far is gone on with by
/// the next backup.
pub async fn backup(vault: &Vault, folders: &[PathBuf], show: bool) -> Result<BackupReport, ClientError> {
    for folder in folders {
        let reason = match std::fs::metadata(folder) {
            Ok(found) if found.is_dir() => continue,
            Ok(_) => "not a folder".to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(BackupError::Folder { path: folder.clone(), reason }.into());
    }
    with_vault(vault, async |session| {
        let progress = Progress::new("backed up", show);
        let result = backup_in(session, vault, folders, &progress).await;
        progress.done();
        result
    })
    .await
}

async fn backup_in(
    session: &Session,
    vault: &Vault,
    folders: &[PathBuf],
    progress: &Progress,
) -> Result<BackupReport, ClientError> {
    let begun = Instant::now();
    let time = UnixTime::now_with_nanos();
    let mut followed = false;
    for _ in 0..REBASES {
        match backup_once(session, vault, folders, progress, time).await {
            // Another device has given a newer mandate, with another limit of the price.
            Err(error) if error.refused() == Some(Refused::NotMandated) && !followed => {
                followed = true;
                session.forget_login().await;
                if !follow_mandate(vault, &session.net).await? {
                    return Err(error);
                }
            }
            // Another device has let go of what nothing used, which this run may have counted on.
            // Stored is what it has stored itself; the next try finds what else there is to store.
            Err(ClientError::Head(HeadError::Rewritten)) => progress.done(),
            Err(error) => return Err(error),
            Ok(mut report) => {
                // The snapshot is stored; what fails here the next run does.
                match prune::merge_small(session, vault).await {
                    Ok(merged) => report.merged = merged,
                    Err(error) => tracing::warn!(%error, "small_segments_not_merged"),
                }
                report.prepayment = match session.mediator(vault).await {
                    Ok(mediator) => prepayment_status(vault, Some(&mediator)).await,
                    Err(_) => prepayment_status(vault, None).await,
                };
                report.seconds = begun.elapsed().as_secs_f64();
                return Ok(report);
            }
        }
    }
    Err(HeadError::Contended.into())
}

async fn backup_once(
    session: &Session,
    vault: &Vault,
    folders: &[PathBuf],
    progress: &Progress,
    time: (UnixTime, u32),
) -> Result<BackupReport, ClientError> {
    let mediator = session.mediator(vault).await?;
    let fetcher = vault.fetcher(&session.net, Some(mediator.clone()))?;
    let head = vault.current_head(&mediator).await?;
    if let Some(head) = &head {
        follow(vault, &fetcher, head).await?;
    }
    settle(vault, &mediator).await?;
    let quote = mediator.quote(vault.options.redundancy, mandates::max_price(vault)?).await?;
    let mut journal = resume(vault, &mediator, time.0).await?;
    let mut run = Run::new(vault, mediator, fetcher, quote.code, &journal)?;
    let (snapshot, counts) = run.store_files(folders, &mut journal, time, progress).await?;
    let rebuilt = vault.lifecycle.index_origin()? == IndexOrigin::Segments;
    let stored = journal.segments();
    let (pieces, self_check) = run.store_catalog(&session.net, &mut journal, snapshot, rebuilt).await?;
    let head = run.commit(head, pieces, time.0, rebuilt).await?;

    // The head is committed: what follows only makes it known.
    run.enter_into_index(stored, snapshot, &head).await?;
    drop(journal);
    vault.lifecycle.commit_succeeded(run.upload.run, &head.head)?;
    Ok(BackupReport::new(snapshot, counts, &run.traffic, self_check))
}

/// The journal of the run to go on with, or of a new one: it lists only what counts as stored.
async fn resume(
    vault: &Vault,
    mediator: &MediatorClient,
    started: UnixTime,
) -> Result<RunJournal, ClientError> {
    let account = vault.keys.root.account(vault.slot()?).account();
    let path = vault.home.run_journal();
    let pending = BlobIndex::pending(vault.state.clone());
    let mut journal = RunJournal::open(&path, &account, started, &pending)?;
    if let Some((run, stored)) = journal.abandoned.take() {
        // It was committed, but perhaps never said that it is to be kept.
        let mut committed = false;
        for segment in &stored {
            committed |= vault.index.manifest(segment)?.is_some();
        }
        if committed {
            mediator.keep(keep(vault, run)?).await?;
        }
    }
    let invalidated = invalidated(vault, mediator, &journal.segments()).await?;
    if !invalidated.is_empty() {
        journal.forget(&invalidated)?;
        drop(journal);
        journal = RunJournal::open(&path, &account, started, &pending)?;
    }
    vault.lifecycle.journal_checked()?;
    Ok(journal)
}
