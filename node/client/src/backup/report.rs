//! What a backup did.

use fincrypt_vault::blob::BlobId;
use serde::Serialize;

use crate::commit::Traffic;
use crate::pipeline::{Counts, LeftOut};
use crate::prepayment::PrepaymentStatus;
use crate::self_check::CheckReport;

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
    pub prepayment: PrepaymentStatus,
}

impl BackupReport {
    /// Whether something that should have been stored is missing.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.skipped.iter().any(|skipped| skipped.missing)
    }

    /// A backup whose head is committed. What is done after that is filled in later.
    pub(super) fn new(
        snapshot: BlobId,
        counts: Counts,
        traffic: &Traffic,
        self_check: Option<CheckReport>,
    ) -> Self {
        let skipped = counts.left_out.into_iter().map(|LeftOut { path, reason, missing }| Skipped {
            path,
            reason,
            missing,
        });
        Self {
            snapshot: snapshot.to_string(),
            files: counts.files,
            bytes_in: counts.bytes_in,
            bytes_new: counts.bytes_new,
            bytes_packed: counts.bytes_packed,
            bytes_uploaded: traffic.uploaded,
            bytes_stored: traffic.stored,
            segments: traffic.segments,
            merged: 0,
            seconds: 0.0,
            skipped: skipped.collect(),
            self_check,
            prepayment: PrepaymentStatus::default(),
        }
    }
}
