//! What a backup stores before its head: files, then the index pieces that list them.

use std::path::PathBuf;

use fincrypt_net::Net;
use fincrypt_protocol::UnixTime;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::head::CatalogRef;
use fincrypt_vault::scan::Scanner;

use super::error::BackupError;
use crate::commit::Run;
use crate::error::ClientError;
use crate::index_maker::Listed;
use crate::pipeline::{Counts, Pipeline, workers};
use crate::progress::Progress;
use crate::run_journal::RunJournal;
use crate::self_check::{CheckReport, SelfCheck};

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"));
    name.map(|name| name.trim().chars().take(64).collect()).unwrap_or_default()
}

impl Run<'_> {
    /// Scans and uploads at the same time.
    pub(super) async fn store_files(
        &mut self,
        folders: &[PathBuf],
        journal: &mut RunJournal,
        (started, nanos): (UnixTime, u32),
        progress: &Progress,
    ) -> Result<(BlobId, Counts), ClientError> {
        let scanner =
            Scanner::new(folders.to_vec(), &self.vault.options.exclude).map_err(BackupError::from)?;
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
            |sealed| Ok(journal.stored(sealed.manifest, sealed.directory)?),
        )
        .await
    }

    /// Stores index pieces that list what the run has stored, and meanwhile asks storage for some of
    /// it; the pieces, and what the check found if one was due.
    ///
    /// # Errors
    /// [`BackupError::Unsafe`] if storage does not have what it signed for.
    pub(super) async fn store_catalog(
        &mut self,
        net: &Net,
        journal: &mut RunJournal,
        snapshot: BlobId,
        rebuilt: bool,
    ) -> Result<(Vec<CatalogRef>, Option<CheckReport>), ClientError> {
        let stored = journal.segments();
        let listed = Listed::run(self.vault, stored.clone(), snapshot, rebuilt)?;
        let (news, check) = SelfCheck::before_head(self.vault, net, &self.mediator, stored).await?;
        let early = async {
            match &check {
                Some(check) => check.look(&news).await.map(Some),
                None => Ok(None),
            }
        };
        let (pieces, found) = tokio::join!(self.store_index(listed, 0), early);
        let (pieces, found) = (pieces?, found?);
        let report = match check.zip(found) {
            Some((check, found)) => Some(check.finish(&self.pieces, found, journal).await?),
            None => None,
        };
        Ok((pieces, report))
    }
}
