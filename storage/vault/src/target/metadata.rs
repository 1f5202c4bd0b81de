//! Permissions, times and extended attributes, always through descriptors.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, RawMode, Timespec, Timestamps, UTIME_OMIT};
use xattr::FileExt;

use crate::tree::Mtime;

/// A part of an entry's metadata that this file system or user cannot have.
#[derive(Debug, thiserror::Error)]
#[error("the attribute {} cannot be set", String::from_utf8_lossy(attribute))]
pub struct Warning {
    /// The extended attribute's name.
    pub attribute: Vec<u8>,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Sets everything. The time comes last, because the others change it on some systems; the mode
/// after the attributes, because a read-only file takes none.
pub(super) fn set(
    file: &File,
    mode: u32,
    mtime: Mtime,
    xattrs: &[(Vec<u8>, Vec<u8>)],
) -> io::Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    for (attribute, value) in xattrs {
        if let Err(source) = file.set_xattr(OsStr::from_bytes(attribute), value) {
            warnings.push(Warning { attribute: attribute.clone(), source });
        }
    }
    rustix::fs::fchmod(file, permissions(mode))?;
    rustix::fs::futimens(file, &times(mtime))?;
    Ok(warnings)
}

/// The twelve permission bits.
pub(super) fn permissions(mode: u32) -> Mode {
    // Twelve bits fit every system's mode type, though on some it has only sixteen.
    Mode::from_raw_mode((mode & 0o7777) as RawMode)
}

/// Sets the time of modification and leaves that of the last access alone.
pub(super) fn times(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        // Larger values have special meanings for the system; decoded trees have none.
        last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.min(999_999_999).into() },
    }
}
