//! `fincrypt restore`, for good or as a test.

use fincrypt_protocol::ByteSize;

use super::invocation::{Failure, Invocation, NAME};
use super::output::{Exit, counted, printable};
use crate::wording::not_restored;
use fincrypt_client as client;
use fincrypt_client::{RestoreOptions, RestoreReport};

impl Invocation {
    pub(super) async fn restore(&self, options: RestoreOptions) -> Result<Exit, Failure> {
        let vault = self.open()?;
        let report = client::restore(&vault, &options, self.shows_progress()).await?;
        Ok(self.show_restore(&report, "Restored", "not restored", options.overwrite))
    }

    pub(super) async fn test_restore(&self, snapshot: &str, direct: bool) -> Result<Exit, Failure> {
        let vault = self.open()?;
        let report = client::test_restore(&vault, snapshot, direct).await?;
        Ok(self.show_restore(&report, "Could restore", "cannot be restored", false))
    }

    fn show_restore(&self, report: &RestoreReport, done: &str, not_done: &str, overwrite: bool) -> Exit {
        self.print(report, || {
            println!(
                "{done} {}, {}, in {:.1} s from snapshot {}.",
                counted(report.files, "file"),
                ByteSize(report.bytes),
                report.seconds,
                &report.snapshot[..12]
            );
        });
        for warning in &report.warnings {
            eprintln!("{NAME}: {warning}");
        }
        for failed in &report.failed {
            let why = not_restored(&failed.reason, overwrite);
            eprintln!("{NAME}: {not_done}: {}: {why}", printable(&failed.path));
        }
        if report.failed.is_empty() { Exit::Done } else { Exit::Partly }
    }
}
