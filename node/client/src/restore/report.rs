//! What a restore did, or a test of one.

use fincrypt_vault::target::TargetError;
use serde::Serialize;

/// Why something did not come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRestored {
    /// Another file is in its place, and is not to be replaced.
    #[error("another file is already there")]
    OtherFile,
    /// Something else than a file is in its place, and is not to be replaced.
    #[error("something else is already there")]
    SomethingElse,
    /// There is no room for it.
    #[error("no space left")]
    NoSpace,
    /// It could not be read or written.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for NotRestored {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

fn as_text<S: serde::Serializer>(reason: &NotRestored, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reason)
}

/// A file that did not come back.
#[derive(Debug, Clone, Serialize)]
pub struct Failed {
    /// Its path inside the snapshot.
    pub path: String,
    /// Why.
    #[serde(serialize_with = "as_text")]
    pub reason: NotRestored,
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
pub(super) fn reason(error: &TargetError) -> NotRestored {
    use std::error::Error;
    use std::io::{self, ErrorKind};
    let system = error.source().and_then(|source| source.downcast_ref()).map(io::Error::kind);
    match (error, error.source()) {
        (TargetError::Exists { .. }, _) => NotRestored::SomethingElse,
        _ if matches!(system, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)) => {
            NotRestored::NoSpace
        }
        (_, Some(source)) => NotRestored::Failed(source.to_string()),
        (error, None) => NotRestored::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        let sync = |kind: std::io::ErrorKind| reason(&TargetError::Sync(kind.into()));
        assert_eq!(sync(std::io::ErrorKind::StorageFull), NotRestored::NoSpace);
        assert!(matches!(sync(std::io::ErrorKind::TimedOut), NotRestored::Failed(_)));
    }
}
