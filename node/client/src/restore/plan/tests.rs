use super::*;
use fincrypt_protocol::UnixTime;
use fincrypt_vault::snapshot::Root;

const TIME: Mtime = Mtime { secs: 1, nanos: 0 };

/// A vault of `FOLDERS` folders in one, each with `PARTS` blobs of `FILES` files.
struct Wide;

const FOLDERS: u64 = 50;
const PARTS: u64 = 4;
const FILES: u64 = 2000;

fn blob(folder: u64, part: u64) -> BlobId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&folder.to_be_bytes());
    id[8..16].copy_from_slice(&part.to_be_bytes());
    BlobId::from_bytes(id)
}

fn named(name: &str, kind: NodeKind) -> Node {
    Node {
        name: Name::new(name.as_bytes()).expect("a name"),
        mode: 0o600,
        mtime: TIME,
        xattrs: Vec::new(),
        kind,
    }
}

impl Trees for Wide {
    async fn part(&self, id: &BlobId, last: Option<&Name>) -> Result<Vec<Node>, ReadError> {
        let number = |at: usize| u64::from_be_bytes(id.as_bytes()[at..at + 8].try_into().expect("eight"));
        let (folder, part) = (number(0), number(8));
        assert_eq!(last.is_some(), part > 0, "blobs of a folder come in order");
        if folder == 0 {
            let tree = |folder| (0..PARTS).map(|part| blob(folder, part)).collect();
            let dir = |folder| named(&format!("folder{folder:03}"), NodeKind::Dir { tree: tree(folder) });
            return Ok((1..=FOLDERS).map(dir).collect());
        }
        if folder == 7 && part == 2 {
            return Err(ReadError::damaged("gone"));
        }
        let file = |number| {
            let content = Content::Inline(vec![Piece::Hole(5)]);
            named(&format!("file{part}-{number:04}"), NodeKind::File { size: 5, link: None, content })
        };
        Ok((0..FILES).map(file).collect())
    }

    async fn pieces(&self, _: &[BlobId]) -> Result<Vec<Piece>, ReadError> {
        Ok(Vec::new())
    }
}

fn snapshot() -> Snapshot {
    let root = Root { path: b"/home/wide".to_vec(), tree: vec![blob(0, 0)], mode: 0o700, mtime: TIME };
    let (host, program) = (String::new(), String::new());
    let time = UnixTime::from_secs(1);
    Snapshot { time, nanos: 0, host, roots: vec![root], files: 0, bytes: 0, program }
}

#[tokio::test]
async fn however_many_files_there_are_few_are_planned_at_once() {
    let mut planner = Planner::new(&Wide, &snapshot(), &[]).await.expect("begins");
    let (mut dirs, mut most, mut unreadable) = (Vec::new(), 0, Vec::new());
    let mut seen = std::collections::BTreeSet::new();
    while let Some(plan) = planner.next().await {
        most = most.max(plan.held());
        dirs.extend(plan.dirs);
        unreadable.extend(plan.unreadable);
        for job in plan.files {
            assert!(seen.insert((job.dir, job.name.as_bytes().to_vec())), "planned once");
            assert!(dirs[job.dir].parent.is_some(), "its folder was planned before");
        }
    }
    assert_eq!(dirs.len() as u64, FOLDERS + 1);
    assert!(dirs.iter().enumerate().all(|(at, dir)| dir.parent.is_none_or(|parent| parent < at)));
    // What was read of the damaged folder counts, and the others do.
    assert_eq!(seen.len() as u64, (FOLDERS * PARTS - 2) * FILES);
    assert_eq!(unreadable.len(), 1);
    let whole = 2 * seen.len() + dirs.len() + 1;
    println!("{most} of {whole} entries at once, {} bytes each", size_of::<FileJob>() + size_of::<Piece>());
    assert!(most <= ENOUGH + 2 * usize::try_from(FILES).expect("small"), "{most} of {whole} entries at once");
    assert!(most < whole / 10);
}

#[tokio::test]
async fn a_path_that_is_not_there_is_named_before_anything_is_restored() {
    let paths = |path: &str| [PathBuf::from(path)];
    for missing in ["wide/folder999", "wide/folder001/file9-0000", "wide/folder001/file0-0001/x", "other"] {
        let begun = Planner::new(&Wide, &snapshot(), &paths(missing)).await;
        assert!(matches!(begun, Err(ReadError::NoPath(path)) if path == missing), "{missing}");
    }
    let mut planner =
        Planner::new(&Wide, &snapshot(), &paths("/wide/folder003/file2-0001")).await.expect("begins");
    let plan = planner.next().await.expect("a plan");
    assert_eq!((plan.dirs.len(), plan.files.len()), (2, 1));
    assert!(planner.next().await.is_none());
}

#[test]
fn a_filter_wants_what_is_inside_and_on_the_way() {
    let filter = Filter::new(&[PathBuf::from("root/a/b"), PathBuf::from("/root/c/")]);
    assert!(filter.wants(&[b"root"]));
    assert!(filter.wants(&[b"root", b"a"]));
    assert!(filter.wants(&[b"root", b"a", b"b", b"deep"]));
    assert!(filter.wants(&[b"root", b"c"]));
    assert!(!filter.wants(&[b"root", b"ab"]));
}
