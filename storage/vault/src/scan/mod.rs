//! Walking folders to back them up.
//!
//! A [`Scanner`] goes depth-first, in the order of the names' bytes, and tells a [`Visitor`] what
//! it meets. Each entry costs one `fstatat` relative to its open folder; files are opened, and
//! their extended attributes read, only when the visitor asks, so files known to be unchanged
//! cost nothing more. Symbolic links are never followed. What cannot be read is reported and left
//! out; the rest goes on.

mod exclude;
mod holes;
mod meta;
mod visit;
mod walk;

use std::io;
use std::path::PathBuf;

pub use holes::{MAX_RANGES, holes};
pub use meta::{Meta, Opened};
pub use visit::{Skipped, Visitor};
pub use walk::Scanner;

/// The name of the files that exclude entries of their folder and those below it.
pub const IGNORE_FILE: &str = ".fincryptignore";

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

#[cfg(test)]
mod tests;
