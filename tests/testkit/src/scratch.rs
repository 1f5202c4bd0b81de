//! Folders for one run, removed after it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::reaper;

/// A folder below the system's folder for temporary files. Dropped, it is removed, whatever modes
/// its contents have.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one, for its owner alone. `label` becomes part of its name.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(label: &str) -> io::Result<Self> {
        let path = tempfile::Builder::new().prefix(&format!("fincrypt-{label}-")).tempdir()?.keep();
        // Paths are compared with what programs print, which is without symlinks.
        let path = path.canonicalize()?;
        reaper::register_folder(&path);
        Ok(Self(path))
    }

    /// Takes over a folder that is there: removed when dropped, like any other.
    #[must_use]
    pub fn adopt(path: PathBuf) -> Self {
        reaper::register_folder(&path);
        Self(path)
    }

    /// Where it is: absolute, without symlinks.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
        reaper::forget_folder(&self.0);
    }
}

/// Removes a folder and everything in it, folders without write permission included.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // The entry's own type: a symlink to a folder is no folder of ours.
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_write_permission_is_removed_too() {
        let scratch = Scratch::new("scratch").expect("made");
        let path = scratch.path().to_owned();
        fs::create_dir_all(path.join("closed/inner")).expect("made");
        fs::write(path.join("closed/inner/file"), "x").expect("written");
        for folder in ["closed/inner", "closed"] {
            fs::set_permissions(path.join(folder), fs::Permissions::from_mode(0o500)).expect("set");
        }
        drop(scratch);
        assert!(!path.exists());
    }
}
