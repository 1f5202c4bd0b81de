//! The folders of a restore, by number, with a bounded number of them open.

use std::collections::{HashMap, VecDeque};

use fincrypt_vault::target::{DirHandle, Target, TargetError};
use fincrypt_vault::tree::{Mtime, Name, Xattrs};

use crate::path_text::path_text;

/// Folders kept open.
const OPEN: usize = 256;

/// One folder: its place and what it is to look like in the end.
#[derive(Debug, Clone)]
pub(super) struct Dir {
    pub(super) parent: Option<usize>,
    pub(super) name: Name,
    pub(super) mode: u32,
    pub(super) mtime: Mtime,
    pub(super) xattrs: Xattrs,
}

/// All folders, parents before children.
pub(super) struct Dirs {
    target: Target,
    dirs: Vec<Dir>,
    open: HashMap<usize, DirHandle>,
    order: VecDeque<usize>,
}

impl Dirs {
    pub(super) fn new(target: Target) -> Self {
        Self { target, dirs: Vec::new(), open: HashMap::new(), order: VecDeque::new() }
    }

    /// Takes more folders, whose parents are known; the number of the first of them.
    pub(super) fn extend(&mut self, dirs: Vec<Dir>) -> usize {
        let first = self.dirs.len();
        self.dirs.extend(dirs);
        first
    }

    pub(super) fn len(&self) -> usize {
        self.dirs.len()
    }

    /// The folder's path inside the snapshot.
    pub(super) fn path(&self, dir: usize) -> Vec<u8> {
        let mut names = vec![self.dirs[dir].name.as_bytes()];
        let mut at = self.dirs[dir].parent;
        while let Some(parent) = at {
            names.push(self.dirs[parent].name.as_bytes());
            at = self.dirs[parent].parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The path of what is called `name` in a folder, as the report shows it.
    pub(super) fn path_of(&self, dir: usize, name: &Name) -> String {
        path_text(&[self.path(dir).as_slice(), b"/", name.as_bytes()].concat())
    }

    /// Opens a folder, making it and its parents where they are missing.
    pub(super) fn handle(&mut self, dir: usize) -> Result<DirHandle, TargetError> {
        if let Some(handle) = self.open.get(&dir) {
            return Ok(handle.clone());
        }
        let (parent, name) = (self.dirs[dir].parent, self.dirs[dir].name.clone());
        let parent = match parent {
            Some(parent) => self.handle(parent)?,
            None => self.target.root(),
        };
        let handle = self.target.dir(&parent, &name)?;
        self.open.insert(dir, handle.clone());
        self.order.push_back(dir);
        if self.order.len() > OPEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.open.remove(&oldest);
        }
        Ok(handle)
    }

    /// Gives a folder its final mode and time; children come before their parents.
    pub(super) fn finish(&mut self, dir: usize) -> Result<Vec<String>, TargetError> {
        let handle = self.handle(dir)?;
        let Dir { mode, mtime, xattrs, .. } = self.dirs[dir].clone();
        let warnings = self.target.finish_dir(&handle, mode, mtime, &xattrs)?;
        // A closed mode may forbid opening it again.
        Ok(warnings.into_iter().map(|warning| warning.to_string()).collect())
    }
}
