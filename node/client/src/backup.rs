//! A backup: scan, upload, index, head, keep.

use std::path::PathBuf;
use std::time::Instant;

use fincrypt_protocol::{Refusal, UnixTime};
use fincrypt_vault::head::{CatalogRef, HeadBody};
use fincrypt_vault::index::BlobIndex;
use fincrypt_vault::scan::Scanner;
use serde::Serialize;

use super::commit::Run;
use super::error::ClientError;
use super::head::{OpenHead, follow, settle};
use super::index_maker::{Listed, without_other_snapshots};
use super::invalidated::invalidated;
use super::mandates;
use super::migration::follow_mandate;
use super::pipeline::{Counts, LeftOut, Pipeline, PipelineError, workers};
use super::prepayment::{PurseReport, look_at_purse};
use super::progress::Progress;
use super::prune;
use super::run_journal::RunJournal;
use super::self_check::{CheckReport, SelfCheck};
use super::session::{Session, with_vault};
use super::statements::keep;
use super::vault::Vault;
use super::vault_state::{Followed, IndexOrigin};

/// Something that was left out.
#[derive(Debug, Serialize)]
pub struct Skipped {
    /// Its path.
    pub path: String,
    /// Why.
    pub reason: String,
    /// Whether it should have been stored.
    #[serde(skip)]
    pub missing: bool,
}

/// What a backup did.
#[derive(Debug, Serialize)]
pub struct BackupReport {
    /// The snapshot's id.
    pub snapshot: String,
    /// Files in it.
    pub files: u64,
    /// Bytes of these files.
    pub bytes_in: u64,
    /// Bytes that were not stored before.
    pub bytes_new: u64,
    /// The same after compression.
    pub bytes_packed: u64,
    /// Payload bytes sent.
    pub bytes_uploaded: u64,
    /// Bytes that the new segments take in the swarm.
    pub bytes_stored: u64,
    /// New segments.
    pub segments: usize,
    /// Small segments that were packed together, beside them.
    pub merged: usize,
    /// How long it took.
    pub seconds: f64,
    /// What was left out.
    pub skipped: Vec<Skipped>,
    /// What the client's own look at its storage found; none if nothing new was stored and none was
    /// due.
    pub self_check: Option<CheckReport>,
    /// How the prepayment stands, and what to tell about the money.
    pub purse: PurseReport,
}

impl BackupReport {
    /// Whether something that should have been stored is missing.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.skipped.iter().any(|skipped| skipped.missing)
    }
}

/// Times a head is rebased on another device's before giving up.
const REBASES: usize = 8;

/// Takes a snapshot of `folders`.
///
/// # Errors
/// [`ClientError`] if no new head could be committed; what was stored so far is gone on with by
/// the next backup.
pub async fn backup(vault: &Vault, folders: &[PathBuf], show: bool) -> Result<BackupReport, ClientError> {
    for folder in folders {
        if !folder.is_dir() {
            return Err(ClientError::Folder { path: folder.clone(), reason: "not a folder".to_owned() });
        }
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
            Err(ClientError::Call(error)) if error.refusal() == Some(Refusal::NotMandated) && !followed => {
                followed = true;
                session.forget_login().await;
                if !follow_mandate(vault, &session.net).await? {
                    return Err(error.into());
                }
            }
            // Another device has let go of what nothing used, which this run may have counted on.
            // Stored is what it has stored itself; the next try finds what else there is to store.
            Err(ClientError::Rewritten) => progress.done(),
            Err(error) => return Err(error),
            Ok(mut report) => {
                // The snapshot is stored; what fails here the next run does.
                match prune::merge_small(session, vault).await {
                    Ok(merged) => report.merged = merged,
                    Err(error) => tracing::warn!(%error, "small segments were not merged"),
                }
                report.purse = match session.link(vault).await {
                    Ok(link) => look_at_purse(vault, Some(&link)).await,
                    Err(_) => look_at_purse(vault, None).await,
                };
                report.seconds = begun.elapsed().as_secs_f64();
                return Ok(report);
            }
        }
    }
    Err(ClientError::Contended)
}

async fn backup_once(
    session: &Session,
    vault: &Vault,
    folders: &[PathBuf],
    progress: &Progress,
    (started, nanos): (UnixTime, u32),
) -> Result<BackupReport, ClientError> {
    let link = session.link(vault).await?;
    let fetcher = vault.fetcher(&session.net, Some(link.clone()))?;
    let head = vault.current_head(&link).await?;
    if let Some(head) = &head {
        follow(vault, &fetcher, head).await?;
    }
    settle(vault, &link).await?;
    let quote = link.quote(vault.options.redundancy, mandates::max_price(vault)?).await?;
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
            link.keep(keep(vault, run)?).await?;
        }
    }
    let invalidated = invalidated(vault, &link, &journal.segments()).await?;
    if !invalidated.is_empty() {
        journal.forget(&invalidated)?;
        drop(journal);
        journal = RunJournal::open(&path, &account, started, &pending)?;
    }
    vault.lifecycle.journal_checked()?;
    let mut run = Run::new(vault, link, fetcher, quote.code, &journal)?;
    let (snapshot, counts) = run.store_files(folders, &mut journal, (started, nanos), progress).await?;
    let rebuilt = vault.lifecycle.index_origin()? == IndexOrigin::Segments;
    let stored = journal.segments();
    let listed = Listed::run(vault, stored.clone(), snapshot, rebuilt)?;
    let (news, check) = SelfCheck::before_head(vault, &session.net, &run.link, stored.clone()).await?;
    let early = async {
        match &check {
            Some(check) => check.look(&news).await.map(Some),
            None => Ok(None),
        }
    };
    let (pieces, found) = tokio::join!(run.store_index(listed, 0), early);
    let (pieces, found) = (pieces?, found?);
    let self_check = match check.zip(found) {
        Some((check, found)) => Some(check.finish(&run.pieces, found, &mut journal).await?),
        None => None,
    };
    let head = run.commit(head, pieces, started, rebuilt).await?;

    // The head is committed: what follows only makes it known.
    let index = vault.index.clone();
    let insert = move || {
        stored.read(|manifest, directory| {
            let directory = without_other_snapshots(directory, &snapshot);
            Ok::<(), PipelineError>(index.insert(manifest, &directory)?)
        })
    };
    tokio::task::spawn_blocking(insert).await.map_err(|_| ClientError::Inner)?.map_err(ClientError::from)?;
    let marks = std::mem::take(&mut run.marks);
    let refs = head.body.refs.iter().map(|reference| reference.segment);
    let loaded: Vec<_> = refs.chain(std::mem::take(&mut run.listed)).collect();
    vault.lifecycle.take_in(&[], &marks, &loaded)?;
    drop(journal);
    vault.lifecycle.commit_succeeded(run.upload.run, &head.head)?;

    let skipped = counts.left_out.into_iter().map(|LeftOut { path, reason, missing }| Skipped {
        path,
        reason,
        missing,
    });
    Ok(BackupReport {
        snapshot: snapshot.to_string(),
        files: counts.files,
        bytes_in: counts.bytes_in,
        bytes_new: counts.bytes_new,
        bytes_packed: counts.bytes_packed,
        bytes_uploaded: run.traffic.uploaded,
        bytes_stored: run.traffic.stored,
        segments: run.traffic.segments,
        merged: 0,
        seconds: 0.0,
        skipped: skipped.collect(),
        self_check,
        purse: PurseReport::default(),
    })
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"));
    name.map(|name| name.trim().chars().take(64).collect()).unwrap_or_default()
}

impl Run<'_> {
    /// Scans and uploads at the same time.
    async fn store_files(
        &mut self,
        folders: &[PathBuf],
        journal: &mut RunJournal,
        (started, nanos): (UnixTime, u32),
        progress: &Progress,
    ) -> Result<(fincrypt_vault::blob::BlobId, Counts), ClientError> {
        let scanner = Scanner::new(folders.to_vec(), &self.vault.options.exclude)
            .map_err(|error| ClientError::Damaged(error.to_string()))?;
        let pipeline = Pipeline {
            root: self.vault.keys.root.clone(),
            state: self.vault.state.clone(),
            code: self.code,
            redundancy: self.vault.options.redundancy,
            started: (started, nanos),
            host: host(),
            workers: workers(),
            progress: progress.clone(),
        };
        self.produce(
            move |sink| pipeline.run(&scanner, sink),
            |sealed| journal.stored(sealed.manifest, sealed.directory),
        )
        .await
    }

    /// Commits a new head over `base`, or over whatever another device made of it meanwhile.
    async fn commit(
        &mut self,
        mut base: Option<OpenHead>,
        new: Vec<CatalogRef>,
        started: UnixTime,
        rebuilt: bool,
    ) -> Result<OpenHead, ClientError> {
        let slot = self.vault.slot()?;
        for attempt in 0..REBASES {
            // New pieces of a rebuilt index list all that is in it: they take the place of what it was
            // loaded from, unless another device has written to it meanwhile. What could not be read
            // stays: perhaps it can be another time.
            let replaced = rebuilt && attempt == 0;
            let before = base.as_ref().map(|head| &head.body);
            let mut old = before.map(|body| body.refs.clone()).unwrap_or_default();
            if replaced {
                let unread =
                    |r: &CatalogRef| self.vault.lifecycle.is_loaded(&r.segment).map(|loaded| !loaded);
                let unread: Vec<bool> = old.iter().map(unread).collect::<Result<_, _>>()?;
                let mut unread = unread.into_iter();
                old.retain(|_| unread.next().unwrap_or(true));
            }
            let (slots, releases) =
                before.map(|body| (body.slots, body.releases.clone())).unwrap_or_default();
            self.marks.clear();
            self.listed.clear();
            let (full, small): (Vec<CatalogRef>, _) = new.iter().partition(|r| self.listable(r).is_fixed());
            let mut refs = self.list([old, full].concat()).await?;
            if !replaced {
                refs = self.merge(refs, small.len()).await?;
            }
            let refs = self.list([refs, small].concat()).await?;
            let body = HeadBody {
                refs,
                slots: slots | 1_u32.checked_shl(slot).unwrap_or(0),
                time: started,
                releases,
            };
            let head = self.vault.next_head(base.as_ref(), &body)?;
            // Before the head: what it refers to must not lapse if this is cut off right after it.
            self.keep().await?;
            self.keep_found().await?;
            self.vault.lifecycle.begin_commit(self.upload.run)?;
            if self.link.swap_head(base.as_ref().map(OpenHead::hash), head.clone()).await? {
                return self.vault.open_head(slot, &head);
            }
            self.vault.lifecycle.undo_commit(self.upload.run)?;
            base = self.vault.current_head(&self.link).await?;
            if let Some(base) = &base {
                match follow(self.vault, &self.fetcher, base).await? {
                    Followed::Grew => {}
                    Followed::Rewritten => return Err(ClientError::Rewritten),
                    // Another device has released what this run stored, too.
                    Followed::Released => return Err(ClientError::Contended),
                }
            }
        }
        Err(ClientError::Contended)
    }
}
