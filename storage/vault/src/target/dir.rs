//! Folders, links, and where a file begins.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

use super::file::{ExistingFile, FileStart, PartialFile};
use super::metadata::{self, Warning};
use super::{TargetError, file};
use crate::tree::{Mtime, Name};

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Without `NONBLOCK`, opening a pipe that took a file's place would wait for a writer.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// What may happen to entries that are already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// They stay, and are errors.
    #[default]
    Never,
    /// Those that differ are replaced; folders never are.
    Different,
}

/// An open folder of the target. Clones share one descriptor.
#[derive(Debug, Clone)]
pub struct DirHandle(pub(super) Arc<File>);

/// A folder that is restored into. Its methods may be called by several threads.
#[derive(Debug, Clone)]
pub struct Target {
    root: DirHandle,
    /// A folder on each file system that was entered, by device: others may be mounted inside.
    pub(super) devices: Arc<Mutex<BTreeMap<u64, DirHandle>>>,
}

impl Target {
    /// Opens `dir`, and creates it if it is missing. A link in `dir` itself is followed: the
    /// person who named it meant that.
    ///
    /// # Errors
    /// [`TargetError::Open`] if it cannot be created or is no folder.
    pub fn open(dir: &Path) -> Result<Self, TargetError> {
        let open = || -> io::Result<File> {
            std::fs::create_dir_all(dir)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(rustix::fs::open(dir, flags, Mode::empty())?.into())
        };
        let error = |source| TargetError::Open { path: dir.to_owned(), source };
        let root = DirHandle(Arc::new(open().map_err(error)?));
        let stat = rustix::fs::fstat(&root.0).map_err(|errno| error(errno.into()))?;
        let target = Self { root: root.clone(), devices: Arc::default() };
        target.enter(&stat, &root);
        Ok(target)
    }

    /// The target folder itself.
    #[must_use]
    pub fn root(&self) -> DirHandle {
        self.root.clone()
    }

    /// Creates or enters the folder `name` in `parent`. Until [`Target::finish_dir`] its owner may
    /// read, write and enter it.
    ///
    /// # Errors
    /// [`TargetError::Exists`] if something else has the name, a link to a folder included;
    /// [`TargetError::Entry`] if the system refuses.
    pub fn dir(&self, parent: &DirHandle, name: &Name) -> Result<DirHandle, TargetError> {
        let enter = || -> io::Result<DirHandle> {
            match rustix::fs::mkdirat(&parent.0, name.as_bytes(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let dir = match rustix::fs::openat(&parent.0, name.as_bytes(), DIR, Mode::empty()) {
                // What O_NOFOLLOW says of a link differs between systems.
                Err(Errno::LOOP | Errno::MLINK) => return Err(Errno::NOTDIR.into()),
                other => File::from(other?),
            };
            let stat = rustix::fs::fstat(&dir)?;
            let mode = mode_of(&stat);
            if mode & 0o700 != 0o700 {
                rustix::fs::fchmod(&dir, metadata::permissions(mode | 0o700))?;
            }
            let dir = DirHandle(Arc::new(dir));
            self.enter(&stat, &dir);
            Ok(dir)
        };
        enter().map_err(TargetError::entry(name))
    }

    /// Notes the file system of a folder.
    fn enter(&self, stat: &Stat, dir: &DirHandle) {
        // The device's type has 32 or 64 bits.
        #[allow(clippy::unnecessary_cast)]
        let device = stat.st_dev as u64;
        let mut devices = self.devices.lock();
        devices.entry(device).or_insert_with(|| dir.clone());
    }

    /// Sets a folder's metadata, after everything in it is restored.
    ///
    /// # Errors
    /// [`TargetError::Folder`] if mode or time cannot be set. Attributes that cannot be set are
    /// returned as warnings.
    pub fn finish_dir(
        &self,
        dir: &DirHandle,
        mode: u32,
        mtime: Mtime,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Vec<Warning>, TargetError> {
        metadata::set(&dir.0, mode, mtime, xattrs).map_err(TargetError::Folder)
    }

    /// Begins to restore a file: [`FileStart::Existing`] if a readable regular file has the name,
    /// to be compared, otherwise [`FileStart::New`].
    ///
    /// # Errors
    /// [`TargetError::Exists`] if something has the name and may not be replaced;
    /// [`TargetError::Entry`] if the system refuses.
    pub fn begin_file(
        &self,
        dir: &DirHandle,
        name: &Name,
        overwrite: Overwrite,
    ) -> Result<FileStart, TargetError> {
        match self.look(dir, name, overwrite)? {
            Some(existing) => Ok(FileStart::Existing(existing)),
            None => PartialFile::create(dir, name, overwrite).map(FileStart::New),
        }
    }

    /// The readable regular file that has the name, if there is one.
    ///
    /// # Errors
    /// As [`Target::begin_file`].
    pub fn look(
        &self,
        dir: &DirHandle,
        name: &Name,
        overwrite: Overwrite,
    ) -> Result<Option<ExistingFile>, TargetError> {
        let error = TargetError::entry(name);
        match kind_of(dir, name).map_err(&error)? {
            Some(FileType::Directory) => Err(TargetError::Exists { name: name.clone() }),
            Some(FileType::RegularFile) => {
                // What cannot be read cannot be compared: it is replaced, or in the way.
                if let Ok(fd) = rustix::fs::openat(&dir.0, name.as_bytes(), READ, Mode::empty()) {
                    let file = File::from(fd);
                    let stat = rustix::fs::fstat(&file).map_err(|errno| error(errno.into()))?;
                    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                        return Ok(Some(ExistingFile::new(file, dir, name)));
                    }
                }
                Ok(None)
            }
            Some(_) if overwrite == Overwrite::Never => Err(TargetError::Exists { name: name.clone() }),
            Some(_) | None => Ok(None),
        }
    }

    /// Restores a symbolic link, which is never followed.
    ///
    /// # Errors
    /// [`TargetError::Exists`] if something has the name and may not be replaced;
    /// [`TargetError::Entry`] if the system refuses.
    pub fn symlink(
        &self,
        dir: &DirHandle,
        name: &Name,
        target: &[u8],
        mtime: Mtime,
        overwrite: Overwrite,
    ) -> Result<(), TargetError> {
        let restore = || -> io::Result<()> {
            let same = kind_of(dir, name)? == Some(FileType::Symlink)
                && rustix::fs::readlinkat(&dir.0, name.as_bytes(), Vec::new())?.as_bytes() == target;
            if !same {
                let (temporary, ()) =
                    file::temporary(|temporary| rustix::fs::symlinkat(target, &dir.0, temporary))?;
                file::move_into_place(dir, &temporary, name, overwrite)?;
            }
            let times = metadata::times(mtime);
            Ok(rustix::fs::utimensat(&dir.0, name.as_bytes(), &times, AtFlags::SYMLINK_NOFOLLOW)?)
        };
        restore().map_err(TargetError::entry(name))
    }

    /// Gives the regular file `existing_name` in `existing_dir` the further name `name` in `dir`.
    /// Nothing happens if it already has it.
    ///
    /// # Errors
    /// [`TargetError::Exists`] if something else has the name and may not be replaced;
    /// [`TargetError::Entry`] if the existing name is no regular file, or the system refuses.
    pub fn hard_link(
        &self,
        dir: &DirHandle,
        name: &Name,
        existing_dir: &DirHandle,
        existing_name: &Name,
        overwrite: Overwrite,
    ) -> Result<(), TargetError> {
        let link = || -> io::Result<()> {
            let Some(existing) = stat_of(existing_dir, existing_name)? else {
                return Err(io::ErrorKind::NotFound.into());
            };
            if FileType::from_raw_mode(existing.st_mode) != FileType::RegularFile {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            // Renaming one name of a file over another name of it does nothing, so this case
            // would leave the temporary name behind.
            let same = |stat: Stat| (stat.st_dev, stat.st_ino) == (existing.st_dev, existing.st_ino);
            if stat_of(dir, name)?.is_some_and(same) {
                return Ok(());
            }
            let (temporary, ()) = file::temporary(|temporary| {
                let flags = AtFlags::empty();
                rustix::fs::linkat(&existing_dir.0, existing_name.as_bytes(), &dir.0, temporary, flags)
            })?;
            file::move_into_place(dir, &temporary, name, overwrite)
        };
        link().map_err(TargetError::entry(name))
    }

    /// Waits until everything restored so far is on the disk: whole file systems at once, as syncing
    /// each file takes far longer when they are many and small.
    ///
    /// # Errors
    /// [`TargetError::Sync`] if a disk fails, or failed since the folder was opened.
    pub fn sync(&self) -> Result<(), TargetError> {
        #[cfg(target_os = "linux")]
        for dir in self.devices.lock().values() {
            rustix::fs::syncfs(&dir.0).map_err(|errno| TargetError::Sync(errno.into()))?;
        }
        // Other systems have a call for all file systems only, which tells of no errors.
        #[cfg(not(target_os = "linux"))]
        rustix::fs::sync();
        Ok(())
    }
}

pub(super) fn stat_of(dir: &DirHandle, name: &Name) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(&dir.0, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn kind_of(dir: &DirHandle, name: &Name) -> io::Result<Option<FileType>> {
    Ok(stat_of(dir, name)?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
}

fn mode_of(stat: &Stat) -> u32 {
    let mode: RawMode = stat.st_mode;
    // The mode's type has 16 or 32 bits; the permissions are the lowest 12.
    #[allow(clippy::unnecessary_cast)]
    let mode = mode as u32;
    mode & 0o7777
}
