//! Why a scan cannot be set up.

use std::io;
use std::path::PathBuf;

/// A scan cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A pattern is not valid gitignore syntax.
    #[error("the pattern \"{pattern}\" is not valid; it should be as in a .gitignore file")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        #[source]
        source: Box<ignore::Error>,
    },
    /// A path that is relative, or has `..` in it, cannot be resolved.
    #[error("the path {} cannot be made absolute", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
