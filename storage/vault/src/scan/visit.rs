//! What a scan reports.

use std::io;
use std::path::Path;

use super::meta::{Meta, Opened};
use crate::tree::Name;

/// Receives what a [`super::Scanner`] meets. An error ends the scan.
///
/// Paths are absolute. The name is `None` for the scanned folders themselves.
pub trait Visitor {
    /// Why the visitor ends the scan.
    type Error;

    /// A folder begins; its entries follow. `meta` holds its extended attributes.
    ///
    /// # Errors
    /// To end the scan.
    fn enter_dir(&mut self, path: &Path, name: Option<&Name>, meta: &Meta) -> Result<(), Self::Error>;

    /// A regular file. `meta` is without its extended attributes; `open` opens the file and gives
    /// its descriptor together with metadata that is certainly of this content and complete.
    ///
    /// # Errors
    /// To end the scan. A failure of `open` is better given to [`Visitor::skipped`].
    fn file(
        &mut self,
        path: &Path,
        name: &Name,
        meta: &Meta,
        open: impl FnOnce() -> Result<Opened, Skipped>,
    ) -> Result<(), Self::Error>;

    /// A symbolic link.
    ///
    /// # Errors
    /// To end the scan.
    fn symlink(&mut self, path: &Path, name: &Name, meta: &Meta, target: Vec<u8>) -> Result<(), Self::Error>;

    /// The folder entered last and not yet left ends. `meta` is that of its `enter_dir`.
    ///
    /// # Errors
    /// To end the scan.
    fn leave_dir(&mut self, path: &Path, name: Option<&Name>, meta: &Meta) -> Result<(), Self::Error>;

    /// Something is left out that no pattern excludes.
    ///
    /// # Errors
    /// To end the scan.
    fn skipped(&mut self, path: &Path, reason: Skipped) -> Result<(), Self::Error>;
}

/// Why something is left out.
#[derive(Debug, thiserror::Error)]
pub enum Skipped {
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// It changed into something else between being seen and being opened.
    #[error("it was replaced while the backup looked at it")]
    Replaced,
    /// A socket, a pipe or a device.
    #[error("sockets, pipes and devices are not backed up")]
    Special,
    /// What was asked to be scanned is no folder.
    #[error("it is not a folder")]
    NotAFolder,
    /// Its name has more than 255 bytes.
    #[error("its name is too long")]
    Name,
    /// It lies deeper than [`Skipped::MAX_DEPTH`] folders.
    #[error("it lies more than {} folders deep", Self::MAX_DEPTH)]
    TooDeep,
    /// Its extended attributes cannot be read or are too large; it is kept without them.
    #[error("its extended attributes are left out")]
    Xattrs(#[source] io::Error),
    /// A line of a `.fincryptignore` is not valid; the other lines hold.
    #[error("line {line} is not a valid pattern and is passed over")]
    Pattern {
        /// The line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: Box<ignore::Error>,
    },
}

impl Skipped {
    /// How deep a scan goes. Each level holds a descriptor open, and a process commonly has 1,024.
    pub const MAX_DEPTH: usize = 512;
}
