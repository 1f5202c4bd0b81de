//! The walk itself.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::vec;

use ignore::gitignore::Gitignore;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use super::error::ScanError;
use super::exclude::{self, Excludes, IGNORE_FILE};
use super::meta::{self, Meta, Opened};
use super::visit::{Skipped, Visitor};
use crate::tree::Name;

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Without `NONBLOCK`, opening a pipe that took a file's place would wait for a writer.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Walks folders. It holds no state of a scan and can scan again.
#[derive(Debug)]
pub struct Scanner {
    roots: Vec<(PathBuf, Gitignore)>,
}

/// A folder whose entries are being visited.
struct Frame {
    /// `None` for the scanned folder.
    name: Option<Name>,
    dir: File,
    meta: Meta,
    entries: vec::IntoIter<Name>,
}

impl Scanner {
    /// Prepares to scan `roots`, in this order. `excludes` are patterns in gitignore's syntax,
    /// relative to each root; besides, `.fincryptignore` files hold for their folders.
    ///
    /// # Errors
    /// [`ScanError`] if a pattern is not valid, or a path with `..` or relative to the current
    /// folder cannot be resolved.
    pub fn new(roots: Vec<PathBuf>, excludes: &[String]) -> Result<Self, ScanError> {
        let prepare = |path: PathBuf| {
            let absolute = absolute(&path).map_err(|source| ScanError::Path { path, source })?;
            let patterns = exclude::compile(&absolute, excludes)?;
            Ok((absolute, patterns))
        };
        Ok(Self { roots: roots.into_iter().map(prepare).collect::<Result<_, ScanError>>()? })
    }

    /// The folders to be scanned, as absolute paths.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(|(path, _)| path.as_path())
    }

    /// Visits everything in the roots that is not excluded. A root that is a symbolic link is
    /// followed, because it was asked for; nothing else is.
    ///
    /// # Errors
    /// The visitor's.
    pub fn scan<V: Visitor>(&self, visitor: &mut V) -> Result<(), V::Error> {
        for (root, patterns) in &self.roots {
            let excludes = Excludes::new(patterns.clone());
            Walk { visitor, excludes, path: root.clone(), frames: Vec::new() }.run()?;
        }
        Ok(())
    }
}

struct Walk<'a, V> {
    visitor: &'a mut V,
    excludes: Excludes,
    /// Of the innermost frame, or of the entry being visited.
    path: PathBuf,
    frames: Vec<Frame>,
}

impl<V: Visitor> Walk<'_, V> {
    fn run(mut self) -> Result<(), V::Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, &self.path, flags, Mode::empty()) {
            Ok(dir) => self.enter(None, dir.into())?,
            Err(rustix::io::Errno::NOTDIR) => {
                return self.visitor.skipped(&self.path, Skipped::NotAFolder);
            }
            Err(errno) => return self.unreadable(errno),
        }
        while let Some(frame) = self.frames.last_mut() {
            match frame.entries.next() {
                Some(name) => {
                    self.path.push(name.as_os_str());
                    let depth = self.frames.len();
                    self.entry(name)?;
                    // A folder that was entered stays on the path until it is left.
                    if self.frames.len() == depth {
                        self.path.pop();
                    }
                }
                None => self.leave()?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: Name) -> Result<(), V::Error> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let stat = match rustix::fs::statat(&frame.dir, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return self.unreadable(errno),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if self.excludes.excludes(&self.path, kind == FileType::Directory) {
            return Ok(());
        }
        let meta = Meta::from_stat(&stat);
        match kind {
            FileType::RegularFile => {
                let dir = &frame.dir;
                let open = || open_file(dir, &name);
                self.visitor.file(&self.path, &name, &meta, open)
            }
            FileType::Directory if self.frames.len() > Skipped::MAX_DEPTH => {
                self.visitor.skipped(&self.path, Skipped::TooDeep)
            }
            FileType::Directory => {
                match rustix::fs::openat(&frame.dir, name.as_bytes(), DIR, Mode::empty()) {
                    Ok(dir) => self.enter(Some(name), dir.into()),
                    Err(errno) => self.unreadable(errno),
                }
            }
            FileType::Symlink => match rustix::fs::readlinkat(&frame.dir, name.as_bytes(), Vec::new()) {
                Ok(target) => self.visitor.symlink(&self.path, &name, &meta, target.into_bytes()),
                Err(errno) => self.unreadable(errno),
            },
            _ => self.visitor.skipped(&self.path, Skipped::Special),
        }
    }

    /// Lists a folder and puts it on the stack, or reports why it cannot be.
    fn enter(&mut self, name: Option<Name>, dir: File) -> Result<(), V::Error> {
        let listed = rustix::fs::fstat(&dir).and_then(|stat| Ok((stat, list(&dir)?)));
        let (stat, listing) = match listed {
            Ok(listed) => listed,
            Err(errno) => return self.unreadable(errno),
        };
        let mut meta = Meta::from_stat(&stat);
        match meta::read_xattrs(&dir) {
            Ok(xattrs) => meta.xattrs = xattrs,
            Err(error) => self.visitor.skipped(&self.path, Skipped::Xattrs(error))?,
        }
        for bad in listing.unnameable {
            self.visitor.skipped(&self.path.join(bad), Skipped::Name)?;
        }
        if let Some(error) = listing.error {
            self.visitor.skipped(&self.path, Skipped::Unreadable(error.into()))?;
        }
        if listing.names.binary_search_by(|name| name.as_bytes().cmp(IGNORE_FILE.as_bytes())).is_ok() {
            self.read_ignore_file(&dir)?;
        }
        self.visitor.enter_dir(&self.path, name.as_ref(), &meta)?;
        self.frames.push(Frame { name, dir, meta, entries: listing.names.into_iter() });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), V::Error> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        self.excludes.leave(self.frames.len());
        self.visitor.leave_dir(&self.path, frame.name.as_ref(), &frame.meta)?;
        if frame.name.is_some() {
            self.path.pop();
        }
        Ok(())
    }

    fn read_ignore_file(&mut self, dir: &File) -> Result<(), V::Error> {
        let mut bad_lines = Vec::new();
        let mut read = || {
            // A link here is not followed, as none is; it then excludes nothing.
            let file = rustix::fs::openat(dir, IGNORE_FILE, READ, Mode::empty())?;
            exclude::read(&self.path, file.into(), &mut bad_lines)
        };
        match read() {
            Ok(patterns) => self.excludes.enter(self.frames.len(), patterns),
            Err(error) => bad_lines.push(Skipped::Unreadable(error)),
        }
        let file = self.path.join(IGNORE_FILE);
        bad_lines.into_iter().try_for_each(|reason| self.visitor.skipped(&file, reason))
    }

    fn unreadable(&mut self, errno: rustix::io::Errno) -> Result<(), V::Error> {
        self.visitor.skipped(&self.path, Skipped::Unreadable(errno.into()))
    }
}

/// The path from `/`, without `.`, `..` or a slash at the end, as snapshots keep it. Links are
/// resolved only where `..` depends on them.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    if path.components().any(|part| part == Component::ParentDir) {
        return path.canonicalize();
    }
    Ok(std::path::absolute(path)?.components().collect())
}

fn open_file(dir: &File, name: &Name) -> Result<Opened, Skipped> {
    let file = rustix::fs::openat(dir, name.as_bytes(), READ, Mode::empty());
    let opened = match file {
        Ok(file) => Opened::new(file.into()),
        // A symbolic link has taken its place.
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::MLINK) => return Err(Skipped::Replaced),
        Err(errno) => Err(errno.into()),
    };
    opened.map_err(Skipped::Unreadable)?.ok_or(Skipped::Replaced)
}

/// The entries of a folder.
#[derive(Default)]
struct Listing {
    names: Vec<Name>,
    /// Names too long to be kept.
    unnameable: Vec<PathBuf>,
    /// Why the listing ended early.
    error: Option<rustix::io::Errno>,
}

fn list(dir: &File) -> rustix::io::Result<Listing> {
    use std::os::unix::ffi::OsStringExt;
    let mut listing = Listing::default();
    for entry in Dir::read_from(dir)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(errno) => {
                listing.error = Some(errno);
                break;
            }
        };
        let bytes = entry.file_name().to_bytes();
        match Name::new(bytes) {
            Ok(name) => listing.names.push(name),
            Err(_) if matches!(bytes, b"." | b"..") => {}
            Err(_) => {
                listing.unnameable.push(std::ffi::OsString::from_vec(bytes.to_vec()).into());
            }
        }
    }
    listing.names.sort_unstable();
    Ok(listing)
}
