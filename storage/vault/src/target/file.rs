//! One file: written beside its place, then moved into it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::TargetError;
use super::dir::{DirHandle, Overwrite, stat_of};
use super::metadata::{self, Warning};
use crate::tree::{Mtime, Name};

/// How names of unfinished entries begin. Random digits follow.
const PREFIX: &str = ".fincrypt-partial-";
/// Times that a random name may be taken before something else must be wrong.
const ATTEMPTS: usize = 8;
const CREATE: OFlags =
    OFlags::RDWR.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How restoring a file begins.
#[derive(Debug)]
pub enum FileStart {
    /// Its content is to be written.
    New(PartialFile),
    /// A file has the name: compare, then accept or replace it.
    Existing(ExistingFile),
}

/// A file that is being written under a temporary name; dropped unfinished, it is removed.
#[derive(Debug)]
pub struct PartialFile {
    file: File,
    dir: DirHandle,
    name: Name,
    overwrite: Overwrite,
    /// `None` once it has its own name.
    temporary: Option<String>,
}

impl PartialFile {
    pub(super) fn create(dir: &DirHandle, name: &Name, overwrite: Overwrite) -> Result<Self, TargetError> {
        let (temporary, file) =
            temporary(|temporary| rustix::fs::openat(&dir.0, temporary, CREATE, Mode::RUSR | Mode::WUSR))
                .map_err(TargetError::entry(name))?;
        let (dir, name) = (dir.clone(), name.clone());
        Ok(Self { file: file.into(), dir, name, overwrite, temporary: Some(temporary) })
    }

    /// Writes `bytes` at `offset`, both in bytes, in any order and from any thread. What is never
    /// written is a hole.
    ///
    /// # Errors
    /// [`TargetError::Entry`] if the system refuses.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
        self.file.write_all_at(bytes, offset).map_err(TargetError::entry(&self.name))
    }

    /// Makes the file `size` bytes long, sets its metadata and moves it into place.
    ///
    /// # Errors
    /// [`TargetError::Exists`] if something has taken the name and may not be replaced;
    /// [`TargetError::Entry`] if the system refuses. Attributes that cannot be set are returned
    /// as warnings.
    pub fn finish(
        mut self,
        size: u64,
        mode: u32,
        mtime: Mtime,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Vec<Warning>, TargetError> {
        let error = TargetError::entry(&self.name);
        self.file.set_len(size).map_err(&error)?;
        let warnings = metadata::set(&self.file, mode, mtime, xattrs).map_err(&error)?;
        if let Some(temporary) = self.temporary.take() {
            move_into_place(&self.dir, &temporary, &self.name, self.overwrite).map_err(&error)?;
        }
        Ok(warnings)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            remove(&self.dir, temporary);
        }
    }
}

/// A regular file that already has the name.
#[derive(Debug)]
pub struct ExistingFile {
    file: File,
    dir: DirHandle,
    name: Name,
}

impl ExistingFile {
    pub(super) fn new(file: File, dir: &DirHandle, name: &Name) -> Self {
        Self { file, dir: dir.clone(), name: name.clone() }
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// [`TargetError::Entry`] if the system refuses.
    pub fn size(&self) -> Result<u64, TargetError> {
        Ok(self.file.metadata().map_err(TargetError::entry(&self.name))?.len())
    }

    /// Fills `buffer` from `offset`, in bytes; false if the file ends before.
    ///
    /// # Errors
    /// [`TargetError::Entry`] if the system refuses.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, TargetError> {
        match self.file.read_exact_at(buffer, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(TargetError::entry(&self.name)(source)),
        }
    }

    /// Keeps the file, whose content is the wanted one, and sets its metadata. Its other names, if
    /// it has any, are the same file and change with it.
    ///
    /// # Errors
    /// [`TargetError::Entry`] if the system refuses, as it does for another user's file. Attributes
    /// that cannot be set are returned as warnings.
    pub fn accept(
        self,
        mode: u32,
        mtime: Mtime,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Vec<Warning>, TargetError> {
        metadata::set(&self.file, mode, mtime, xattrs).map_err(TargetError::entry(&self.name))
    }

    /// Begins a file that takes its place when finished; until then the old one stays.
    ///
    /// # Errors
    /// [`TargetError::Entry`] if the system refuses.
    pub fn replace(self) -> Result<PartialFile, TargetError> {
        PartialFile::create(&self.dir, &self.name, Overwrite::Different)
    }
}

/// Has `make` create an entry under a random name, and returns the name and what `make` returned.
pub(super) fn temporary<T>(mut make: impl FnMut(&str) -> rustix::io::Result<T>) -> io::Result<(String, T)> {
    let mut attempts = 0;
    loop {
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        let name = format!("{PREFIX}{:016x}", u64::from_le_bytes(random));
        match make(&name) {
            Ok(made) => return Ok((name, made)),
            Err(Errno::EXIST) if attempts < ATTEMPTS => attempts += 1,
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Renames an entry from its temporary name; if that fails, removes it.
pub(super) fn move_into_place(
    dir: &DirHandle,
    temporary: &str,
    name: &Name,
    overwrite: Overwrite,
) -> io::Result<()> {
    let moved = match overwrite {
        Overwrite::Different => rustix::fs::renameat(&dir.0, temporary, &dir.0, name.as_bytes()),
        Overwrite::Never => {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&dir.0, temporary, &dir.0, name.as_bytes(), flags) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    rename_without_flag(dir, temporary, name)
                }
                other => other,
            }
        }
    };
    moved.map_err(|errno| {
        remove(dir, temporary);
        errno.into()
    })
}

/// For file systems that cannot rename without replacing: a link fails where a name is taken.
/// Those without links too leave a short time between looking and renaming.
fn rename_without_flag(dir: &DirHandle, temporary: &str, name: &Name) -> rustix::io::Result<()> {
    match rustix::fs::linkat(&dir.0, temporary, &dir.0, name.as_bytes(), AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(&dir.0, temporary, AtFlags::empty()),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => match stat_of(dir, name) {
            Ok(None) => rustix::fs::renameat(&dir.0, temporary, &dir.0, name.as_bytes()),
            Ok(Some(_)) | Err(_) => Err(Errno::EXIST),
        },
        Err(errno) => Err(errno),
    }
}

fn remove(dir: &DirHandle, temporary: &str) {
    if let Err(error) = rustix::fs::unlinkat(&dir.0, temporary, AtFlags::empty()) {
        tracing::debug!(%error, temporary, "an unfinished file was not removed");
    }
}
