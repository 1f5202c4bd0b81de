use super::*;
use crate::tree::Name;
use std::convert::Infallible;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Writes down what it is told, paths relative to the scanned folder.
#[derive(Default)]
struct Log {
    root: PathBuf,
    lines: Vec<String>,
    read: bool,
}

impl Log {
    fn line(&mut self, what: &str, path: &Path) {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        self.lines.push(format!("{what} {}", path.display()).trim_end().to_owned());
    }
}

impl Visitor for Log {
    type Error = Infallible;

    fn enter_dir(&mut self, path: &Path, name: Option<&Name>, _: &Meta) -> Result<(), Infallible> {
        assert_eq!(name.is_none(), path == self.root);
        self.line("enter", path);
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        name: &Name,
        meta: &Meta,
        open: impl FnOnce() -> Result<Opened, Skipped>,
    ) -> Result<(), Infallible> {
        assert_eq!(path.file_name(), Some(name.as_os_str()));
        if self.read {
            match open() {
                Ok(mut opened) => {
                    let mut content = String::new();
                    opened.file.read_to_string(&mut content).expect("reads");
                    assert_eq!(content.len() as u64, meta.size);
                    assert!(opened.unchanged().expect("asks"));
                    self.line(&format!("file {content}"), path);
                }
                Err(reason) => return self.skipped(path, reason),
            }
        } else {
            self.line("file", path);
        }
        Ok(())
    }

    fn symlink(&mut self, path: &Path, _: &Name, _: &Meta, target: Vec<u8>) -> Result<(), Infallible> {
        self.line(&format!("link {}", String::from_utf8_lossy(&target)), path);
        Ok(())
    }

    fn leave_dir(&mut self, path: &Path, _: Option<&Name>, _: &Meta) -> Result<(), Infallible> {
        self.line("leave", path);
        Ok(())
    }

    fn skipped(&mut self, path: &Path, reason: Skipped) -> Result<(), Infallible> {
        let reason = format!("{reason:?}");
        let kind = reason.split(['(', ' ']).next().unwrap_or_default();
        self.line(&format!("skip {kind}"), path);
        Ok(())
    }
}

fn scan(root: &Path, excludes: &[&str]) -> Vec<String> {
    let excludes: Vec<_> = excludes.iter().map(|&pattern| pattern.to_owned()).collect();
    let scanner = Scanner::new(vec![root.to_owned()], &excludes).expect("valid patterns");
    let mut log = Log { root: root.to_owned(), lines: vec![], read: true };
    let Ok(()) = scanner.scan(&mut log);
    log.lines
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let temp = TempDir::new().expect("temporary folder");
    for (file, content) in files {
        let path = temp.path().join(file);
        fs::create_dir_all(path.parent().expect("in the folder")).expect("creates");
        fs::write(path, content).expect("writes");
    }
    temp
}

#[test]
fn entries_come_depth_first_in_the_order_of_their_bytes() {
    let temp = folder(&[("b", "1"), ("a/y", "2"), ("a/x/z", "3"), ("B", "4"), ("a.", "5")]);
    fs::create_dir(temp.path().join("c")).expect("creates");
    symlink("/outside", temp.path().join("d")).expect("links");
    symlink(temp.path(), temp.path().join("e")).expect("links");
    let up = format!("link {} e", temp.path().display());
    let expected = [
        "enter",
        "file 4 B",
        "enter a",
        "enter a/x",
        "file 3 a/x/z",
        "leave a/x",
        "file 2 a/y",
        "leave a",
        "file 5 a.",
        "file 1 b",
        "enter c",
        "leave c",
        "link /outside d",
        &up,
        "leave",
    ];
    assert_eq!(scan(temp.path(), &[]), expected);
}

#[test]
fn patterns_and_ignore_files_exclude() {
    let temp = folder(&[
        ("keep.txt", ""),
        ("x.o", ""),
        ("sub/.fincryptignore", "*.log\n!keep.o\n[z-a]\n/only-here\n"),
        ("sub/a.log", ""),
        ("sub/keep.o", ""),
        ("sub/deep/b.log", ""),
        ("sub/deep/only-here", ""),
        ("sub/only-here", ""),
        ("z.log", ""),
        ("cache/x", ""),
    ]);
    let lines = scan(temp.path(), &["cache/", "x.o"]);
    let expected = [
        "enter",
        "file  keep.txt",
        "skip Pattern sub/.fincryptignore",
        "enter sub",
        "file *.log\n!keep.o\n[z-a]\n/only-here\n sub/.fincryptignore",
        "enter sub/deep",
        "file  sub/deep/only-here",
        "leave sub/deep",
        "file  sub/keep.o",
        "leave sub",
        "file  z.log",
        "leave",
    ];
    assert_eq!(lines, expected);
    let error = Scanner::new(vec![], &["[z-a]".to_owned()]);
    assert!(error.is_ok(), "no root, no pattern to compile");
    let error = Scanner::new(vec!["/".into()], &["[z-a]".to_owned()]);
    assert!(matches!(error, Err(ScanError::Pattern { .. })));
}

#[test]
fn what_cannot_be_backed_up_is_reported_and_the_rest_goes_on() {
    let temp = folder(&[("a", "1"), ("z", "2")]);
    let fifo = rustix::fs::Mode::RUSR;
    let dir = fs::File::open(temp.path()).expect("opens");
    rustix::fs::mkfifoat(&dir, "pipe", fifo).expect("creates");
    let lines = scan(temp.path(), &[]);
    assert_eq!(lines, ["enter", "file 1 a", "skip Special pipe", "file 2 z", "leave"]);
    let (missing, file) = (temp.path().join("missing"), temp.path().join("a"));
    assert_eq!(scan(&missing, &[]), ["skip Unreadable"]);
    assert_eq!(scan(&file, &[]), ["skip NotAFolder"]);
}

/// Replaces the file that it is told of before opening it.
struct Replacer(Option<Skipped>);

impl Visitor for Replacer {
    type Error = Infallible;
    fn enter_dir(&mut self, _: &Path, _: Option<&Name>, _: &Meta) -> Result<(), Infallible> {
        Ok(())
    }
    fn file(
        &mut self,
        path: &Path,
        _: &Name,
        _: &Meta,
        open: impl FnOnce() -> Result<Opened, Skipped>,
    ) -> Result<(), Infallible> {
        fs::remove_file(path).expect("removes");
        symlink("/etc/passwd", path).expect("links");
        self.0 = open().err();
        Ok(())
    }
    fn symlink(&mut self, _: &Path, _: &Name, _: &Meta, _: Vec<u8>) -> Result<(), Infallible> {
        Ok(())
    }
    fn leave_dir(&mut self, _: &Path, _: Option<&Name>, _: &Meta) -> Result<(), Infallible> {
        Ok(())
    }
    fn skipped(&mut self, _: &Path, _: Skipped) -> Result<(), Infallible> {
        Ok(())
    }
}

#[test]
fn a_link_that_takes_a_files_place_is_not_followed() {
    let temp = folder(&[("a", "1")]);
    let scanner = Scanner::new(vec![temp.path().to_owned()], &[]).expect("prepares");
    let mut replacer = Replacer(None);
    let Ok(()) = scanner.scan(&mut replacer);
    assert!(matches!(replacer.0, Some(Skipped::Replaced)));
}

#[test]
fn metadata_is_that_of_the_file_system() {
    let temp = folder(&[("a", "12345")]);
    let path = temp.path().join("a");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4711)).expect("sets");
    let opened = Opened::new(fs::File::open(&path).expect("opens")).expect("asks").expect("a file");
    let meta = opened.meta;
    let std = fs::metadata(&path).expect("asks");
    use std::os::unix::fs::MetadataExt;
    assert_eq!((meta.mode, meta.size, meta.nlink), (0o4711, 5, 1));
    assert_eq!((meta.inode, meta.dev, meta.blocks), (std.ino(), std.dev(), std.blocks()));
    assert_eq!((meta.mtime.secs, i64::from(meta.mtime.nanos)), (std.mtime(), std.mtime_nsec()));
    assert_eq!(meta.ctime, (std.ctime(), std.ctime_nsec()));
    assert!(!meta.may_have_holes());
}

#[test]
fn folders_nested_without_end_are_cut_off() {
    let temp = TempDir::new().expect("temporary folder");
    let mut dir: fs::File = fs::File::open(temp.path()).expect("opens");
    for _ in 0..Skipped::MAX_DEPTH + 2 {
        rustix::fs::mkdirat(&dir, "d", rustix::fs::Mode::RWXU).expect("creates");
        let flags = rustix::fs::OFlags::DIRECTORY;
        dir = rustix::fs::openat(&dir, "d", flags, rustix::fs::Mode::empty()).expect("opens").into();
    }
    let lines = scan(temp.path(), &[]);
    let count = |what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!((count("enter"), count("leave"), count("skip TooDeep")), (513, 513, 1));
}

#[test]
fn paths_are_absolute_and_plain() {
    let temp = folder(&[("a/f", "")]);
    let name = temp.path().file_name().expect("named").to_str().expect("text");
    let odd = PathBuf::from(format!("{}/../{name}/./a//", temp.path().display()));
    let scanner = Scanner::new(vec![odd], &[]).expect("prepares");
    let root = temp.path().canonicalize().expect("exists").join("a");
    let mut log = Log { root: root.clone(), ..Log::default() };
    let Ok(()) = scanner.scan(&mut log);
    assert_eq!(log.lines, ["enter", "file f", "leave"]);
    let slash = Scanner::new(vec![root.join("")], &[]).expect("prepares");
    assert_eq!(slash.roots().map(Path::as_os_str).collect::<Vec<_>>(), [root.as_os_str()]);
    let missing = Scanner::new(vec!["/missing/../x".into()], &[]);
    assert!(matches!(missing, Err(ScanError::Path { .. })));
}
