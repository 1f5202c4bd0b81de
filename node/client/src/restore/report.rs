//! What a restore did, or a test of one.

use fincrypt_vault::target::TargetError;
use serde::Serialize;

/// A file that did not come back.
#[derive(Debug, Clone, Serialize)]
pub struct Failed {
    /// Its path inside the snapshot.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What a restore did.
#[derive(Debug, Serialize)]
pub struct RestoreReport {
    /// The snapshot's id.
    pub snapshot: String,
    /// Files restored, or found as they should be.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Files that did not come back.
    pub failed: Vec<Failed>,
    /// Smaller things, such as attributes that could not be set.
    pub warnings: Vec<String>,
}

/// Why the target did not take something, for the report.
pub(super) fn reason(error: &TargetError) -> String {
    use std::error::Error;
    match (error, error.source()) {
        (TargetError::Exists { .. }, _) => {
            "something else is already there; --overwrite replaces it".to_owned()
        }
        (_, Some(source)) => source.to_string(),
        (error, None) => error.to_string(),
    }
}

/// A path as the report shows it.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
