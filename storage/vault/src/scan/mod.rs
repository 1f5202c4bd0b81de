//! Walking folders to back them up.
//!
//! A [`Scanner`] goes depth-first, in the order of the names' bytes, and tells a [`Visitor`] what
//! it meets. Each entry costs one `fstatat` relative to its open folder; files are opened, and
//! their extended attributes read, only when the visitor asks, so files known to be unchanged
//! cost nothing more. Symbolic links are never followed. What cannot be read is reported and left
//! out; the rest goes on.

mod error;
mod exclude;
mod holes;
mod meta;
mod visit;
mod walk;

pub use error::ScanError;
pub use exclude::IGNORE_FILE;
pub use holes::{MAX_RANGES, holes};
pub use meta::{Meta, Opened};
pub use visit::{Skipped, Visitor};
pub use walk::Scanner;

#[cfg(test)]
mod tests;
