use super::*;
use crate::tree::Mtime;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

const TIME: Mtime = Mtime { secs: 1_600_000_000, nanos: 123_456_789 };

fn name(bytes: &str) -> Name {
    Name::new(bytes).expect("valid name")
}

fn target() -> (TempDir, Target) {
    let temp = TempDir::new().expect("temporary folder");
    let target = Target::open(&temp.path().join("a/target")).expect("opens");
    (temp, target)
}

fn path(temp: &TempDir) -> std::path::PathBuf {
    temp.path().join("a/target")
}

fn begin_new(target: &Target, dir: &DirHandle, file: &str, overwrite: Overwrite) -> PartialFile {
    match target.begin_file(dir, &name(file), overwrite).expect("begins") {
        FileStart::New(partial) => partial,
        FileStart::Existing(_) => panic!("nothing should be there"),
    }
}

fn write(target: &Target, dir: &DirHandle, file: &str, content: &[u8]) {
    let partial = begin_new(target, dir, file, Overwrite::Never);
    partial.write_at(0, content).expect("writes");
    partial.finish(content.len() as u64, 0o640, TIME, &[]).expect("finishes");
}

fn entries(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("reads").map(|e| e.expect("entry").file_name());
    let mut names: Vec<_> = names.map(|n| n.into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn files_get_content_mode_and_time() {
    let (temp, target) = target();
    let dir = target.dir(&target.root(), &name("dir")).expect("creates");
    let partial = begin_new(&target, &dir, "f", Overwrite::Never);
    partial.write_at(3, b"def").expect("writes");
    partial.write_at(0, b"abc").expect("writes");
    partial.finish(6, 0o4750, TIME, &[]).expect("finishes");
    target.finish_dir(&dir, 0o1555, TIME, &[]).expect("finishes");
    let file = path(&temp).join("dir/f");
    assert_eq!(fs::read(&file).expect("reads"), b"abcdef");
    for (path, mode) in [(file, 0o4750), (path(&temp).join("dir"), 0o1555)] {
        let meta = fs::metadata(path).expect("there");
        assert_eq!(meta.mode() & 0o7777, mode);
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (TIME.secs, i64::from(TIME.nanos)));
    }
    target.sync().expect("syncs");
}

#[test]
fn a_sparse_file_stays_sparse() {
    let (temp, target) = target();
    let size = 64 << 20;
    let partial = begin_new(&target, &target.root(), "sparse", Overwrite::Never);
    partial.write_at(32 << 20, b"middle").expect("writes");
    partial.finish(size, 0o600, TIME, &[]).expect("finishes");
    let meta = fs::metadata(path(&temp).join("sparse")).expect("there");
    assert_eq!(meta.len(), size);
    assert!(meta.blocks() * 512 < 1 << 20);
}

#[test]
fn a_dropped_file_leaves_nothing() {
    let (temp, target) = target();
    let partial = begin_new(&target, &target.root(), "f", Overwrite::Never);
    assert_eq!(entries(&path(&temp)).len(), 1);
    drop(partial);
    assert_eq!(entries(&path(&temp)), [""; 0]);
}

#[test]
fn a_planted_link_to_a_folder_outside_is_not_entered() {
    let (temp, target) = target();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).expect("creates");
    symlink(&outside, path(&temp).join("dir")).expect("plants");
    symlink("missing", path(&temp).join("dangling")).expect("plants");
    for planted in ["dir", "dangling"] {
        let entered = target.dir(&target.root(), &name(planted));
        assert!(matches!(entered, Err(TargetError::Exists { .. })), "{entered:?}");
    }
    assert_eq!(entries(&outside), [""; 0]);
    assert!(!path(&temp).join("missing").exists());
}

#[test]
fn a_planted_link_to_a_file_outside_is_replaced_or_kept_but_not_followed() {
    let (temp, target) = target();
    let outside = temp.path().join("outside");
    fs::write(&outside, b"theirs").expect("writes");
    symlink(&outside, path(&temp).join("f")).expect("plants");
    let never = target.begin_file(&target.root(), &name("f"), Overwrite::Never);
    assert!(matches!(never, Err(TargetError::Exists { .. })));
    let partial = begin_new(&target, &target.root(), "f", Overwrite::Different);
    partial.write_at(0, b"ours").expect("writes");
    partial.finish(4, 0o600, TIME, &[]).expect("finishes");
    assert_eq!(fs::read(&outside).expect("reads"), b"theirs");
    assert!(fs::symlink_metadata(path(&temp).join("f")).expect("there").is_file());
}

#[test]
fn a_tree_with_a_link_and_a_folder_of_one_name_does_not_lead_outside() {
    let (temp, target) = target();
    target.symlink(&target.root(), &name("x"), b"..", TIME, Overwrite::Never).expect("restores");
    let entered = target.dir(&target.root(), &name("x"));
    assert!(matches!(entered, Err(TargetError::Exists { .. })));
    assert_eq!(entries(&temp.path().join("a")), ["target"]);
}

#[test]
fn a_link_planted_while_a_file_is_written_does_not_move_it() {
    let (temp, target) = target();
    let dir = target.dir(&target.root(), &name("dir")).expect("creates");
    let partial = begin_new(&target, &dir, "f", Overwrite::Never);
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).expect("creates");
    fs::rename(path(&temp).join("dir"), path(&temp).join("moved")).expect("moves");
    symlink(&outside, path(&temp).join("dir")).expect("plants");
    partial.finish(0, 0o600, TIME, &[]).expect("finishes");
    assert_eq!(entries(&outside), [""; 0]);
    assert_eq!(entries(&path(&temp).join("moved")), ["f"]);
}

#[test]
fn a_name_taken_while_a_file_is_written_is_not_replaced() {
    let (temp, target) = target();
    let partial = begin_new(&target, &target.root(), "f", Overwrite::Never);
    fs::write(path(&temp).join("f"), b"theirs").expect("writes");
    let finished = partial.finish(0, 0o600, TIME, &[]);
    assert!(matches!(finished, Err(TargetError::Exists { .. })));
    assert_eq!(entries(&path(&temp)), ["f"]);
    assert_eq!(fs::read(path(&temp).join("f")).expect("reads"), b"theirs");
}

#[test]
fn an_existing_file_is_kept_accepted_or_replaced() {
    let (temp, target) = target();
    let root = target.root();
    write(&target, &root, "f", b"one");
    let never = target.begin_file(&root, &name("f"), Overwrite::Never);
    assert!(matches!(never, Ok(FileStart::Existing(_))), "it is to be compared");
    let existing = || match target.begin_file(&root, &name("f"), Overwrite::Different) {
        Ok(FileStart::Existing(existing)) => existing,
        other => panic!("not existing: {other:?}"),
    };
    let mut buffer = [0; 3];
    assert!(existing().read_at(0, &mut buffer).expect("reads"));
    assert_eq!((&buffer, existing().size().expect("stats")), (b"one", 3));
    assert!(!existing().read_at(1, &mut buffer).expect("reads"));
    existing().accept(0o600, Mtime { secs: 5, nanos: 6 }, &[]).expect("accepts");
    let meta = fs::metadata(path(&temp).join("f")).expect("there");
    assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (0o600, 5, 6));
    let partial = existing().replace().expect("begins");
    partial.write_at(0, b"two!").expect("writes");
    assert_eq!(fs::read(path(&temp).join("f")).expect("reads"), b"one");
    partial.finish(4, 0o600, TIME, &[]).expect("finishes");
    assert_eq!(fs::read(path(&temp).join("f")).expect("reads"), b"two!");
    assert_eq!(entries(&path(&temp)), ["f"]);
}

#[test]
fn a_folder_is_never_replaced_by_a_file_or_link_nor_a_file_by_a_folder() {
    let (temp, target) = target();
    let root = target.root();
    target.dir(&root, &name("d")).expect("creates");
    write(&target, &root, "f", b"file");
    let different = Overwrite::Different;
    let file = target.begin_file(&root, &name("d"), different);
    let link = target.symlink(&root, &name("d"), b"x", TIME, different);
    let hard = target.hard_link(&root, &name("d"), &root, &name("f"), different);
    let dir = target.dir(&root, &name("f"));
    assert!(matches!(file, Err(TargetError::Exists { .. })));
    assert!(matches!(link, Err(TargetError::Exists { .. })), "{link:?}");
    assert!(matches!(hard, Err(TargetError::Exists { .. })), "{hard:?}");
    assert!(matches!(dir, Err(TargetError::Exists { .. })));
    assert_eq!(entries(&path(&temp)), ["d", "f"]);
}

#[test]
fn existing_folders_are_entered_and_made_writable_until_finished() {
    let (temp, target) = target();
    let dir = path(&temp).join("d");
    fs::create_dir(&dir).expect("creates");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).expect("sets");
    let handle = target.dir(&target.root(), &name("d")).expect("enters");
    assert_eq!(fs::metadata(&dir).expect("there").mode() & 0o7777, 0o755);
    write(&target, &handle, "f", b"");
    target.finish_dir(&handle, 0o500, TIME, &[]).expect("finishes");
    assert_eq!(fs::metadata(&dir).expect("there").mode() & 0o7777, 0o500);
}

#[test]
fn symbolic_links_keep_target_and_time() {
    let (temp, target) = target();
    let root = target.root();
    let link = |to: &[u8], overwrite| target.symlink(&root, &name("l"), to, TIME, overwrite);
    link(b"/nowhere/\xff", Overwrite::Never).expect("restores");
    assert!(matches!(link(b"other", Overwrite::Never), Err(TargetError::Exists { .. })));
    link(b"/nowhere/\xff", Overwrite::Different).expect("is the same");
    link(b"other", Overwrite::Different).expect("replaces");
    let at = path(&temp).join("l");
    assert_eq!(fs::read_link(&at).expect("reads"), Path::new("other"));
    let meta = fs::symlink_metadata(&at).expect("there");
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (TIME.secs, i64::from(TIME.nanos)));
    assert_eq!(entries(&path(&temp)), ["l"]);
}

#[test]
fn hard_links_share_one_file_and_can_be_restored_again() {
    let (temp, target) = target();
    let root = target.root();
    let dir = target.dir(&root, &name("d")).expect("creates");
    write(&target, &root, "f", b"shared");
    let link = |overwrite| target.hard_link(&dir, &name("g"), &root, &name("f"), overwrite);
    link(Overwrite::Never).expect("links");
    link(Overwrite::Never).expect("is the same");
    let inode = |file: &str| fs::metadata(path(&temp).join(file)).expect("there").ino();
    assert_eq!(inode("f"), inode("d/g"));
    fs::remove_file(path(&temp).join("f")).expect("removes");
    write(&target, &root, "f", b"new");
    assert!(matches!(link(Overwrite::Never), Err(TargetError::Exists { .. })));
    link(Overwrite::Different).expect("replaces");
    assert_eq!(inode("f"), inode("d/g"));
    assert_eq!(entries(&path(&temp).join("d")), ["g"]);
    let to_link = target.hard_link(&root, &name("h"), &root, &name("d"), Overwrite::Never);
    assert!(matches!(to_link, Err(TargetError::Entry { .. })));
}

#[test]
fn attributes_are_restored_where_the_file_system_has_them() {
    let (temp, target) = target();
    let partial = begin_new(&target, &target.root(), "f", Overwrite::Never);
    let xattrs = [(b"user.fincrypt".to_vec(), b"a\0b".to_vec())];
    let warnings = partial.finish(0, 0o400, TIME, &xattrs).expect("finishes");
    let read = xattr::get(path(&temp).join("f"), "user.fincrypt").ok().flatten();
    assert_eq!(read.as_deref(), warnings.is_empty().then_some(&b"a\0b"[..]));
}

#[test]
fn several_threads_write_one_file() {
    let (temp, target) = target();
    let partial = begin_new(&target, &target.root(), "f", Overwrite::Never);
    std::thread::scope(|scope| {
        for part in 0..4u8 {
            let partial = &partial;
            scope.spawn(move || partial.write_at(u64::from(part) * 1000, &[part; 1000]).expect("writes"));
        }
    });
    partial.finish(4000, 0o600, TIME, &[]).expect("finishes");
    let content = fs::read(path(&temp).join("f")).expect("reads");
    assert!(content.chunks(1000).zip(0u8..).all(|(chunk, part)| chunk.iter().all(|b| *b == part)));
}

#[test]
fn attributes_that_cannot_be_set_are_warnings() {
    let (_temp, target) = target();
    let partial = begin_new(&target, &target.root(), "f", Overwrite::Never);
    let xattrs = [(b"nonsense.x".to_vec(), b"v".to_vec())];
    let warnings = partial.finish(0, 0o600, TIME, &xattrs).expect("finishes");
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].attribute, b"nonsense.x");
}

#[cfg(target_os = "linux")]
#[test]
fn every_file_system_that_was_entered_is_noted_once() {
    let (_temp, target) = target();
    let known = || target.devices.lock().len();
    target.dir(&target.root(), &name("dir")).expect("creates");
    assert_eq!(known(), 1);
    // What is mounted inside the target is entered like any other folder.
    let system = Target::open(Path::new("/")).expect("opens");
    system.dir(&system.root(), &name("dev")).expect("enters");
    assert_eq!(system.devices.lock().len(), 2);
}
