//! Are two folders the same? Bytes, kinds, modes, times to the nanosecond, extended attributes, holes,
//! symlink targets, and which names are one file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Read at once when contents are compared.
const BUFFER: usize = 256 << 10;
/// A file with holes may take so much more room than its original: file systems round differently.
const ROUNDING: u64 = 128 << 10;
/// Differences that are shown; all are counted.
const SHOWN: usize = 20;

/// In what two entries differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlike {
    /// It is only in the first folder.
    Missing,
    /// It is only in the second folder.
    Extra,
    /// File, folder, symlink: not the same.
    Kind,
    /// Permission bits.
    Mode(u32, u32),
    /// Modification time: seconds and nanoseconds.
    Mtime((i64, i64), (i64, i64)),
    /// The name of an extended attribute that only one has, or that has another value.
    Xattr(OsString),
    /// A file with holes, in which fewer are left: bytes of room taken.
    Holes(u64, u64),
    /// Symlink targets.
    Target(OsString, OsString),
    /// Sizes in bytes.
    Size(u64, u64),
    /// The first byte that differs.
    Byte(u64),
    /// What shares one file in the first folder does not in the second, or the reverse.
    HardLinks,
}

impl fmt::Display for Unlike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Extra => f.write_str("was not there before"),
            Self::Kind => f.write_str("is another kind of entry"),
            Self::Mode(a, b) => write!(f, "mode {a:04o}, now {b:04o}"),
            Self::Mtime(a, b) => write!(f, "mtime {}.{:09}, now {}.{:09}", a.0, a.1, b.0, b.1),
            Self::Target(a, b) => {
                write!(
                    f,
                    "target {}, now {}",
                    a.to_string_lossy().escape_debug(),
                    b.to_string_lossy().escape_debug()
                )
            }
            Self::Xattr(name) => write!(f, "attribute {}", name.to_string_lossy().escape_debug()),
            Self::Holes(a, b) => write!(f, "took {a} bytes of room, now {b}"),
            Self::Size(a, b) => write!(f, "{a} bytes, now {b}"),
            Self::Byte(at) => write!(f, "differs at byte {at}"),
            Self::HardLinks => f.write_str("is linked otherwise"),
        }
    }
}

/// One entry that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Path below both folders.
    pub path: PathBuf,
    /// In what.
    pub unlike: Unlike,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.to_string_lossy().escape_debug(), self.unlike)
    }
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Files, folders and symlinks compared, the outermost folder included.
    pub entries: u64,
    /// Files compared.
    pub files: u64,
    /// Bytes compared.
    pub bytes: u64,
    /// Entries of the first folder that no backup keeps: pipes, sockets and devices.
    pub special: u64,
    /// Everything that differs.
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// Whether nothing differs.
    #[must_use]
    pub fn equal(&self) -> bool {
        self.differences.is_empty()
    }

    /// Forgets differences of which `known` says that they had to be.
    pub fn forgive(&mut self, known: impl Fn(&Difference) -> bool) {
        self.differences.retain(|difference| !known(difference));
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries compared, {} differences", self.entries, self.differences.len())?;
        for difference in self.differences.iter().take(SHOWN) {
            write!(f, "\n  {difference}")?;
        }
        if self.differences.len() > SHOWN { f.write_str("\n  …") } else { Ok(()) }
    }
}

/// Files and bytes below a folder.
///
/// # Errors
/// If a folder cannot be read.
pub fn measure(folder: &Path) -> io::Result<(u64, u64)> {
    let entries = list(folder)?;
    let files = entries.values().filter(|meta| meta.is_file());
    Ok(files.fold((0, 0), |(count, bytes), meta| (count + 1, bytes + meta.len())))
}

/// Compares two folders, themselves included.
///
/// # Errors
/// If something cannot be read; the error names it.
pub fn compare(first: &Path, second: &Path) -> io::Result<Comparison> {
    let (before, after) = (list(first)?, list(second)?);
    let mut comparison = Comparison::default();
    let mut differ =
        |path: &Path, unlike| comparison.differences.push(Difference { path: path.to_owned(), unlike });
    let mut buffers = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut same = BTreeMap::new();
    for (path, old) in &before {
        let Some(new) = after.get(path) else {
            if is_special(old) {
                comparison.special += 1;
            } else {
                differ(path, Unlike::Missing);
            }
            continue;
        };
        comparison.entries += 1;
        if old.file_type() != new.file_type() {
            differ(path, Unlike::Kind);
            continue;
        }
        let (old_path, new_path) = (first.join(path), second.join(path));
        if old.is_symlink() {
            let (old, new) = (fs::read_link(&old_path)?, fs::read_link(&new_path)?);
            if old != new {
                differ(path, Unlike::Target(old.into(), new.into()));
            }
        } else if old.mode() & 0o7777 != new.mode() & 0o7777 {
            differ(path, Unlike::Mode(old.mode() & 0o7777, new.mode() & 0o7777));
        }
        let times = [old, new].map(|meta| (meta.mtime(), meta.mtime_nsec()));
        if times[0] != times[1] {
            differ(path, Unlike::Mtime(times[0], times[1]));
        }
        if !old.is_symlink() {
            for name in unlike_xattrs(&old_path, &new_path)? {
                differ(path, Unlike::Xattr(name));
            }
        }
        if old.is_file() {
            let room = [old, new].map(|meta| meta.blocks() * 512);
            if room[0] < old.len() && room[1] > room[0] + ROUNDING {
                differ(path, Unlike::Holes(room[0], room[1]));
            }
            same.insert(path, (old, new));
            comparison.files += 1;
            comparison.bytes += old.len();
            if old.len() != new.len() {
                differ(path, Unlike::Size(old.len(), new.len()));
            } else if let Some(at) = first_difference(&old_path, &new_path, &mut buffers)? {
                differ(path, Unlike::Byte(at));
            }
        }
    }
    for path in after.keys().filter(|path| !before.contains_key(*path)) {
        differ(path, Unlike::Extra);
    }
    for path in linked_otherwise(&same) {
        differ(&path, Unlike::HardLinks);
    }
    Ok(comparison)
}

/// Names of extended attributes that differ.
fn unlike_xattrs(first: &Path, second: &Path) -> io::Result<BTreeSet<OsString>> {
    let read = |path: &Path| -> io::Result<BTreeMap<OsString, Option<Vec<u8>>>> {
        match xattr::list(path) {
            Ok(names) => names.map(|name| Ok((name.clone(), xattr::get(path, &name)?))).collect(),
            // Here are none, then.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(BTreeMap::new()),
            Err(error) => Err(named(path)(error)),
        }
    };
    let (before, after) = (read(first)?, read(second)?);
    let names = before.keys().chain(after.keys());
    Ok(names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect())
}

fn is_special(meta: &Metadata) -> bool {
    let kind = meta.file_type();
    kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device()
}

fn named(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Every entry below a folder by its path, and the folder itself by the empty path.
fn list(folder: &Path) -> io::Result<BTreeMap<PathBuf, Metadata>> {
    let mut entries = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    entries.insert(PathBuf::new(), fs::metadata(folder).map_err(named(folder))?);
    while let Some(below) = open.pop() {
        // Joining an empty path would append a slash, which is as good but not as nice to read.
        let path = if below.as_os_str().is_empty() { folder.to_owned() } else { folder.join(&below) };
        for entry in fs::read_dir(&path).map_err(named(&path))? {
            let entry = entry.map_err(named(&path))?;
            let meta = entry.metadata().map_err(named(&entry.path()))?;
            let below = below.join(entry.file_name());
            if meta.is_dir() {
                open.push(below.clone());
            }
            entries.insert(below, meta);
        }
    }
    Ok(entries)
}

fn first_difference(
    first: &Path,
    second: &Path,
    buffers: &mut (Vec<u8>, Vec<u8>),
) -> io::Result<Option<u64>> {
    let mut files = (File::open(first).map_err(named(first))?, File::open(second).map_err(named(second))?);
    let mut at = 0;
    loop {
        let count = fill(&mut files.0, &mut buffers.0).map_err(named(first))?;
        let other = fill(&mut files.1, &mut buffers.1).map_err(named(second))?;
        let (a, b) = (&buffers.0[..count], &buffers.1[..other]);
        if a != b {
            let within = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(count.min(other));
            return Ok(Some(at + within as u64));
        }
        if count == 0 {
            return Ok(None);
        }
        at += count as u64;
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Paths whose hard links to other paths differ between the two folders.
fn linked_otherwise(files: &BTreeMap<&PathBuf, (&Metadata, &Metadata)>) -> BTreeSet<PathBuf> {
    let group = |pick: fn(&(&Metadata, &Metadata)) -> (u64, u64)| {
        let mut groups: HashMap<(u64, u64), BTreeSet<&PathBuf>> = HashMap::new();
        for (path, metas) in files {
            groups.entry(pick(metas)).or_default().insert(path);
        }
        groups.into_values().filter(|paths| paths.len() > 1).collect::<BTreeSet<_>>()
    };
    let (before, after) = (group(|m| (m.0.dev(), m.0.ino())), group(|m| (m.1.dev(), m.1.ino())));
    before.symmetric_difference(&after).flatten().map(|path| (*path).clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::{Scratch, TreePlan, generate};

    const TINY: TreePlan = TreePlan { small_files: 10, large_bytes: 600_000, largest: 600_000 };

    fn unlike(change: impl Fn(&Path)) -> Vec<Unlike> {
        let scratch = Scratch::new("compare").expect("made");
        let [first, second] = ["first", "second"].map(|name| scratch.path().join(name));
        for folder in [&first, &second] {
            generate(folder, &TINY, 3).expect("made");
            fs::create_dir(folder.join("w")).expect("made");
            fs::write(folder.join("w/file"), [7; 300_000]).expect("written");
            symlink("target", folder.join("w/link")).expect("made");
        }
        change(&second.join("w"));
        let differences = compare(&first, &second).expect("compared").differences;
        // What changing something does to times is not what is asked here.
        differences
            .into_iter()
            .map(|d| d.unlike)
            .filter(|unlike| !matches!(unlike, Unlike::Mtime(..)))
            .collect()
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        assert_eq!(unlike(|_| ()), []);
        let changed = |folder: &Path| {
            let mut bytes = vec![7; 300_000];
            bytes[299_999] = 8;
            fs::write(folder.join("file"), bytes).expect("written");
        };
        assert_eq!(unlike(changed), [Unlike::Byte(299_999)]);
        assert_eq!(unlike(|f| fs::write(f.join("file"), "x").expect("written")), [Unlike::Size(300_000, 1)]);
        assert_eq!(unlike(|f| fs::write(f.join("new"), "x").expect("written")), [Unlike::Extra]);
        assert_eq!(unlike(|f| fs::remove_file(f.join("file")).expect("removed")), [Unlike::Missing]);
        let mode =
            |f: &Path| fs::set_permissions(f.join("file"), fs::Permissions::from_mode(0o600)).expect("set");
        assert!(matches!(unlike(mode)[..], [Unlike::Mode(_, 0o600)]));
        let link = |f: &Path| {
            fs::remove_file(f.join("link")).expect("removed");
            symlink("other", f.join("link")).expect("made");
        };
        assert_eq!(unlike(link), [Unlike::Target("target".into(), "other".into())]);
        let marked = |f: &Path| xattr::set(f.join("file"), "user.mark", b"1").expect("taken here");
        assert_eq!(unlike(marked), [Unlike::Xattr("user.mark".into())]);
        let kind = |f: &Path| {
            fs::remove_file(f.join("link")).expect("removed");
            fs::write(f.join("link"), "target").expect("written");
        };
        assert_eq!(unlike(kind), [Unlike::Kind]);
    }

    #[test]
    fn a_hole_that_was_filled_is_found() {
        let filled = |folder: &Path| {
            let path = folder.with_file_name("special").join("hole");
            let content = fs::read(&path).expect("read");
            fs::write(&path, content).expect("written");
            File::open(&path).and_then(|file| file.sync_all()).expect("synced");
        };
        assert!(matches!(unlike(filled)[..], [Unlike::Holes(before, after)] if after > before + ROUNDING));
    }

    #[test]
    fn a_hard_link_that_became_two_files_is_found() {
        let broken = |folder: &Path| {
            let path = folder.with_file_name("special").join("first name");
            let content = fs::read(&path).expect("read");
            let mode = fs::metadata(&path).expect("there").permissions();
            let parent = path.parent().expect("has one");
            fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).expect("set");
            fs::remove_file(&path).expect("removed");
            fs::write(&path, content).expect("written");
            fs::set_permissions(&path, mode).expect("set");
        };
        let found = unlike(broken);
        assert_eq!(found.iter().filter(|unlike| **unlike == Unlike::HardLinks).count(), 2, "{found:?}");
    }
}
