//! Files that are either written whole or not at all, and that a power cut does not forget.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A random name beside `path`.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| io::Error::other("the system gave no randomness"))?;
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let suffix = format!(".{:016x}.new", u64::from_le_bytes(random));
    let mut new = name.to_owned();
    new.push(suffix);
    Ok(path.with_file_name(new))
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// What the system says.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Replaces the file at `path`: written beside it with `mode`, synced, renamed, directory synced.
///
/// # Errors
/// What the system says; the old file is untouched then.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = beside(path)?;
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    })();
    if let Err(error) = written {
        // Whatever was written is of no use; that it may stay behind does no harm.
        let _ = std::fs::remove_file(&new);
        return Err(error);
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("secret");
        write_file(&path, b"one", 0o600).expect("writes");
        write_file(&path, b"two", 0o600).expect("replaces");
        assert_eq!(std::fs::read(&path).expect("reads"), b"two");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("folder");
        std::fs::create_dir(&path).expect("made");
        assert!(write_file(&path, b"x", 0o600).is_err());
        assert!(path.is_dir());
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
    }
}
