//! Why a backup stored nothing, or no head that refers to it.

use std::path::PathBuf;

use fincrypt_protocol::SegmentId;
use fincrypt_vault::scan::ScanError;

use crate::pipeline::PipelineError;
use crate::self_check::findings::CheckReport;

/// Something was not stored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A folder cannot be backed up.
    #[error("cannot back up {path}: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The folders cannot be scanned as they are to be.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The folders could not be made into segments, or the run's journal not be read.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A segment's receipts do not show what they must.
    #[error("segment {segment} was not stored: {reason}")]
    NotStored {
        /// The segment.
        segment: SegmentId,
        /// What the receipts lack.
        reason: &'static str,
    },
    /// Storage does not have what the mediator says it has.
    #[error(
        "{}: storage does not have what it signed for; no new snapshot was written, the older ones stand",
        name_unsafe(.segments)
    )]
    Unsafe {
        /// What the check found.
        report: Box<CheckReport>,
        /// Segments of the run that are not safe.
        segments: Vec<SegmentId>,
    },
}

fn name_unsafe(segments: &[SegmentId]) -> String {
    match segments {
        [one] => format!("segment {one} is not safe"),
        [first, ..] => format!("{} segments are not safe, {first} among them", segments.len()),
        [] => "a segment is not safe".to_owned(),
    }
}
