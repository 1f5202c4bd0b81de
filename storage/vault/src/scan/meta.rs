//! What the file system says about an entry.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Stat};
use xattr::FileExt;

use crate::tree::{Mtime, Xattrs, check_xattrs};

/// Metadata of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The twelve permission bits.
    pub mode: u32,
    /// When the content last changed.
    pub mtime: Mtime,
    /// When content or metadata last changed: seconds and nanoseconds.
    pub ctime: (i64, i64),
    /// The inode's number.
    pub inode: u64,
    /// The device's number.
    pub dev: u64,
    /// How many names the inode has.
    pub nlink: u64,
    /// Length in bytes.
    pub size: u64,
    /// Room taken, in units of 512 bytes.
    pub blocks: u64,
    /// Extended attributes in the order of their names. Filled for folders and opened files.
    pub xattrs: Xattrs,
}

impl Meta {
    /// Whether it takes less room than its size, so that asking for holes may pay.
    #[must_use]
    pub fn may_have_holes(&self) -> bool {
        self.blocks.saturating_mul(512) < self.size
    }

    /// Without attributes.
    // The types of these fields differ between systems. All fit: sizes and counts are never
    // negative, nor is the nanosecond part of a time, and it is below 10⁹.
    #[allow(clippy::unnecessary_cast)]
    pub(super) fn from_stat(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode as u32 & 0o7777,
            mtime: Mtime { secs: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
            ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            inode: stat.st_ino as u64,
            dev: stat.st_dev as u64,
            nlink: stat.st_nlink as u64,
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            xattrs: Xattrs::new(),
        }
    }

    fn same_content(&self, other: &Self) -> bool {
        (self.size, self.mtime, self.ctime) == (other.size, other.mtime, other.ctime)
    }
}

/// A file that a visitor asked to open.
#[derive(Debug)]
pub struct Opened {
    /// The file, at its start.
    pub file: File,
    /// Its metadata, asked of the descriptor after opening, extended attributes included.
    pub meta: Meta,
    /// Why the extended attributes are missing, if they could not be read.
    pub xattrs_lost: Option<io::Error>,
}

impl Opened {
    pub(super) fn new(file: File) -> io::Result<Option<Self>> {
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mut meta = Meta::from_stat(&stat);
        let xattrs_lost = match read_xattrs(&file) {
            Ok(xattrs) => {
                meta.xattrs = xattrs;
                None
            }
            Err(error) => Some(error),
        };
        Ok(Some(Self { file, meta, xattrs_lost }))
    }

    /// Whether the file is as it was when opened: asked after reading, it tells a consistent
    /// content from one that was written meanwhile.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn unchanged(&self) -> io::Result<bool> {
        Ok(self.meta.same_content(&Meta::from_stat(&rustix::fs::fstat(&self.file)?)))
    }
}

/// Reads extended attributes, in the order of their names.
///
/// Labels that belong to the machine rather than the file (SELinux's, overlay file systems') are
/// left out. A file system without attributes has none.
pub(super) fn read_xattrs(file: &File) -> io::Result<Xattrs> {
    let names = match file.list_xattr() {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Xattrs::new()),
        Err(error) => return Err(error),
    };
    let mut xattrs = Xattrs::new();
    for name in names.filter(|name| belongs_to_file(name.as_bytes())) {
        // One that was removed meanwhile is `None`.
        if let Some(value) = file.get_xattr(&name)? {
            xattrs.push((name.as_bytes().to_vec(), value));
        }
    }
    xattrs.sort_unstable();
    check_xattrs(&xattrs).map_err(io::Error::other)?;
    Ok(xattrs)
}

fn belongs_to_file(name: &[u8]) -> bool {
    let machine = name.starts_with(b"security.") && name != b"security.capability"
        || name.starts_with(b"trusted.")
        || name.starts_with(b"system.") && !name.starts_with(b"system.posix_acl_");
    !machine
}
