use super::*;
use crate::restore::dirs::Dir;
use crate::restore::plan::LinkJob;
use crate::segment_reader::memory::{Fault, Memory, id, manifests, noise, root, seal, wanted};
use crate::segment_reader::{Limits, SegmentReader};
use fincrypt_protocol::Code;
use fincrypt_vault::tree::{Mtime, Name};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use zeroize::Zeroizing;

const TIME: Mtime = Mtime { secs: 1_600_000_000, nanos: 5 };

fn name(bytes: &str) -> Name {
    Name::new(bytes).expect("a name")
}

fn dir(parent: Option<usize>, bytes: &str) -> Dir {
    Dir { parent, name: name(bytes), mode: 0o555, mtime: TIME, xattrs: Vec::new() }
}

/// A file that is one hole.
fn file(dir: usize, bytes: &str, link: Option<u64>) -> FileJob {
    let (name, pieces) = (name(bytes), vec![Piece::Hole(9)]);
    FileJob { dir, name, mode: 0o640, mtime: TIME, xattrs: Vec::new(), size: 9, link, pieces }
}

#[test]
fn what_one_plan_began_another_goes_on_with() {
    let temp = tempfile::tempdir().expect("a folder");
    let target = Target::open(temp.path()).expect("opens");
    let root = Root::from_bytes(&Zeroizing::new([1; 32]));
    let mut writer = Writer::new(target, root, Overwrite::Never, Progress::new("restored", false));
    let lost = FileJob {
        pieces: vec![Piece::Data { blob: BlobId::from_bytes([1; 32]), len: 9 }],
        ..file(0, "lost", Some(2))
    };
    writer.begin(Plan {
        dirs: vec![dir(None, "root"), dir(Some(0), "one")],
        files: vec![file(1, "first", Some(1)), lost],
        ..Plan::default()
    });
    writer.end();
    writer.begin(Plan {
        dirs: vec![dir(Some(1), "deep"), dir(Some(0), "two")],
        files: vec![file(2, "second", Some(1)), file(3, "third", Some(1)), file(3, "lost too", Some(2))],
        links: vec![LinkJob { dir: 1, name: name("link"), target: b"first".to_vec(), mtime: TIME }],
        ..Plan::default()
    });
    writer.end();
    let outcome = writer.finish().expect("finishes");

    let path = |inside: &str| temp.path().join("root").join(inside);
    let inode = |inside: &str| fs::metadata(path(inside)).expect("there").ino();
    assert_eq!(inode("one/first"), inode("one/deep/second"));
    assert_eq!(inode("one/first"), inode("two/third"));
    assert_eq!(fs::read_link(path("one/link")).expect("a link"), std::path::Path::new("first"));
    for folder in ["", "one", "one/deep", "two"] {
        let meta = fs::metadata(path(folder)).expect("there");
        assert_eq!((meta.mtime(), meta.mtime_nsec(), meta.mode() & 0o777), (TIME.secs, 5, 0o555), "{folder}");
    }
    assert_eq!((outcome.files, outcome.bytes), (3, 27));
    let failed: Vec<_> = outcome.failed.iter().map(|failed| failed.path.as_str()).collect();
    assert_eq!(failed, ["root/lost", "root/two/lost too"]);
    // So that the folder can be removed.
    for folder in ["", "one", "one/deep", "two"] {
        fs::set_permissions(path(folder), fs::Permissions::from_mode(0o700)).expect("ours");
    }
}

/// Five files, one after the other over nine segments, each of which has two parts of files: those of
/// a segment that cannot be read fail, and the others are in place.
#[tokio::test]
async fn files_of_a_lost_segment_fail_and_all_others_come_back() {
    let plains: Vec<Vec<u8>> = (0..5).map(|seed| noise(1_800_000, seed)).collect();
    let segments = seal(Code::new(1, 2).expect("valid"), &plains);
    let mut memory = Memory::new(&segments);
    let lost = &segments[4].manifest;
    let fault = |index| ((lost.id(), index), Fault::Missing);
    memory.faults.extend(lost.code().indices().map(fault));
    for sealed in &segments[..4] {
        let first = sealed.manifest.code().indices().next().expect("one");
        memory.faults.insert((sealed.manifest.id(), first), Fault::Wrong);
    }
    let held: Vec<BlobId> = segments[4].directory.entries().iter().map(|entry| entry.blob).collect();

    let temp = tempfile::tempdir().expect("a folder");
    let target = Target::open(temp.path()).expect("opens");
    let progress = Progress::new("restored", false);
    let mut writer = Writer::new(target, root(), Overwrite::Never, progress);
    let job = |(at, plain): (usize, &Vec<u8>)| {
        let size = plain.len() as u64;
        let pieces = vec![Piece::Data { blob: id(plain), len: plain.len() as u32 }];
        FileJob { pieces, size, ..file(0, &format!("file {at}"), None) }
    };
    let files = plains.iter().enumerate().map(job).collect();
    writer.begin(Plan { dirs: vec![dir(None, "root")], files, ..Plan::default() });
    let writer = Arc::new(writer);
    let reader = SegmentReader::new(root(), &memory, manifests(&segments));
    let wanted = wanted(&segments, plains.iter().map(|plain| id(plain)));
    reader.read(wanted, Limits::parallel(2), &writer).await.expect("no thread stops");
    let mut writer = Arc::into_inner(writer).expect("nobody else holds it");
    writer.end();
    let outcome = writer.finish().expect("finishes");

    fs::set_permissions(temp.path().join("root"), fs::Permissions::from_mode(0o700)).expect("ours");
    let mut failed = Vec::new();
    for (at, plain) in plains.iter().enumerate() {
        let path = temp.path().join(format!("root/file {at}"));
        if held.contains(&id(plain)) {
            assert!(!path.exists());
            failed.push(format!("root/file {at}"));
        } else {
            assert!(fs::read(path).expect("there") == *plain, "file {at} is another");
        }
    }
    assert!(!failed.is_empty() && failed.len() < plains.len());
    let mut named: Vec<_> = outcome.failed.iter().map(|failed| failed.path.clone()).collect();
    named.sort();
    assert_eq!(named, failed);
    assert!(
        outcome.failed.iter().all(|failed| failed.reason.to_string().contains("0 of 1 shards could be had"))
    );
}
