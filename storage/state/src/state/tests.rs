use super::*;
use proptest::prelude::*;

const FACTS: Tree = Tree("facts");

fn put(state: &State, key: &str, value: &str) {
    let mut batch = Batch::default();
    batch.put(FACTS, key.as_bytes(), value.as_bytes());
    state.commit(&batch).expect("commits");
}

fn get(state: &State, key: &str) -> Option<String> {
    state.get(FACTS, key.as_bytes()).expect("reads").map(|bytes| String::from_utf8(bytes).expect("text"))
}

#[test]
fn what_was_committed_survives_the_loss_of_the_database() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open(dir.path()).expect("opens");
    put(&state, "a", "1");
    put(&state, "a", "2");
    put(&state, "b", "3");
    let mut batch = Batch::default();
    batch.remove(FACTS, b"b".as_slice());
    state.commit(&batch).expect("commits");
    drop(state);
    std::fs::remove_dir_all(dir.path().join("sled")).expect("removed");
    let (state, report) = State::open(dir.path()).expect("opens");
    assert_eq!(report.replayed, 4);
    assert_eq!(get(&state, "a").as_deref(), Some("2"));
    assert_eq!(get(&state, "b"), None);
}

#[test]
fn a_damaged_database_is_set_aside_and_rebuilt() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open(dir.path()).expect("opens");
    put(&state, "a", "1");
    drop(state);
    let db = dir.path().join("sled/db");
    std::fs::remove_file(&db).expect("removed");
    std::fs::create_dir(&db).expect("a folder where the file was");
    let (state, report) = State::open(dir.path()).expect("opens");
    assert!(report.set_aside.is_some_and(|aside| aside.exists()));
    assert_eq!(get(&state, "a").as_deref(), Some("1"));
}

#[test]
fn a_second_process_is_told_that_the_state_is_in_use() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_state, _) = State::open(dir.path()).expect("opens");
    assert!(matches!(State::open(dir.path()), Err(KvError::Locked(_))));
}

#[test]
fn a_large_journal_is_compacted_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open(dir.path()).expect("opens");
    for round in 0..30 {
        let mut batch = Batch::default();
        batch.put(FACTS, format!("key{}", round % 3), vec![round; 1 << 20]);
        state.commit(&batch).expect("commits");
    }
    let length = std::fs::metadata(dir.path().join("log")).expect("there").len();
    assert!(length < COMPACT_FROM, "{length} bytes");
    drop(state);
    std::fs::remove_dir_all(dir.path().join("sled")).expect("removed");
    let (state, _) = State::open(dir.path()).expect("opens");
    assert_eq!(state.get(FACTS, b"key2").expect("reads"), Some(vec![29; 1 << 20]));
}

#[test]
fn scans_are_bounded_by_prefix_start_and_count() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open(dir.path()).expect("opens");
    for key in ["a1", "a2", "a3", "b1"] {
        put(&state, key, "x");
    }
    let keys = |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let entries = state.scan(FACTS, prefix.as_bytes(), after.map(str::as_bytes), limit).expect("scans");
        entries.into_iter().map(|(key, _)| String::from_utf8(key).expect("text")).collect()
    };
    assert_eq!(keys("a", None, 10), ["a1", "a2", "a3"]);
    assert_eq!(keys("a", Some("a1"), 1), ["a2"]);
    assert_eq!(keys("", Some("a3"), 10), ["b1"]);
}

/// What a test does to a state.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(bool, u8, Option<Vec<u8>>)>),
    Apply(u8, Vec<u8>),
    Compact,
    Reopen(Loss),
}

/// What becomes of the database between two runs.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Nothing,
    /// It is gone.
    Database,
    /// It remembers what the journal never had, or has removed since.
    Haunted,
    /// A compaction was interrupted.
    TornCompaction(usize),
}

const OTHER: Tree = Tree("other");
const REBUILDABLE: Tree = Tree("rebuildable");

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..200));
    let commit = proptest::collection::vec((any::<bool>(), 0..12u8, value), 0..8).prop_map(Step::Commit);
    let apply = (0..4u8, proptest::collection::vec(any::<u8>(), 0..20));
    let loss = prop_oneof![
        Just(Loss::Nothing),
        Just(Loss::Database),
        Just(Loss::Haunted),
        (0..300usize).prop_map(Loss::TornCompaction)
    ];
    let step = prop_oneof![
        12 => commit,
        2 => apply.prop_map(|(key, value)| Step::Apply(key, value)),
        2 => Just(Step::Compact),
        2 => loss.prop_map(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

fn reopen(dir: &Path, loss: Loss) -> State {
    match loss {
        Loss::Nothing => {}
        Loss::Database => std::fs::remove_dir_all(dir.join("sled")).expect("removed"),
        Loss::Haunted => {
            let db = open_sled(&dir.join("sled")).expect("opens");
            let mut names = std::collections::BTreeSet::new();
            let read = crate::journal::Journal::open(&dir.join("log"), 8 << 20, |record| {
                let changes = record::decode(record).expect("a record");
                names.extend(changes.into_iter().map(|(tree, ..)| tree.to_owned()));
            });
            read.expect("opens");
            for name in names {
                let tree = db.open_tree(name).expect("opens");
                tree.insert(b"ghost", b"boo").expect("inserts");
                tree.remove([3]).expect("removes");
            }
        }
        Loss::TornCompaction(length) => {
            let log = std::fs::read(dir.join("log")).expect("reads");
            std::fs::write(dir.join("log.new"), &log[..length.min(log.len())]).expect("writes");
        }
    }
    State::open_compacting(dir, 300).expect("opens").0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_state_is_what_was_committed_however_it_is_compacted_and_reopened(steps in steps()) {
        let dir = tempfile::tempdir()?;
        let mut state = State::open_compacting(dir.path(), 300)?.0;
        let mut model = std::collections::BTreeMap::new();
        let mut rebuildable = std::collections::BTreeMap::new();
        for step in steps {
            match step {
                Step::Commit(changes) => {
                    let mut batch = Batch::default();
                    for (other, key, value) in changes {
                        let tree = if other { OTHER } else { FACTS };
                        match value {
                            Some(value) => {
                                model.insert((tree, vec![key]), value.clone());
                                batch.put(tree, [key], value);
                            }
                            None => {
                                model.remove(&(tree, vec![key]));
                                batch.remove(tree, [key]);
                            }
                        }
                    }
                    state.commit(&batch)?;
                }
                Step::Apply(key, value) => {
                    let mut batch = Batch::default();
                    batch.put(REBUILDABLE, [key], value.clone());
                    state.apply(&batch)?;
                    rebuildable.insert((REBUILDABLE, vec![key]), value);
                }
                Step::Compact => guard(&state.0.log).compact(&state.0.db)?,
                Step::Reopen(loss) => {
                    drop(state);
                    state = reopen(dir.path(), loss);
                    if matches!(loss, Loss::Database) {
                        rebuildable.clear();
                    }
                }
            }
            for (trees, model) in [(&[FACTS, OTHER][..], &model), (&[REBUILDABLE], &rebuildable)] {
                let held = trees.iter().flat_map(|tree| {
                    let entries = state.scan(*tree, &[], None, usize::MAX).expect("scans");
                    entries.into_iter().map(move |(key, value)| ((*tree, key), value))
                });
                prop_assert!(held.eq(model.clone()));
            }
            prop_assert!(!guard(&state.0.log).is_due(), "it is compacted as soon as it is due");
        }
    }
}

#[test]
fn a_large_journal_of_what_counts_is_not_written_anew_at_every_start() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open_compacting(dir.path(), 1000).expect("opens");
    for key in 0..50 {
        put(&state, &format!("key{key}"), &"x".repeat(100));
    }
    let inode = || std::fs::metadata(dir.path().join("log")).expect("there").ino();
    let before = inode();
    drop(state);
    let (state, _) = State::open_compacting(dir.path(), 1000).expect("opens");
    assert_eq!(inode(), before, "all of it counts");
    for key in 0..50 {
        put(&state, &format!("key{key}"), "y");
    }
    assert_ne!(inode(), before, "most of it was replaced");
}

#[test]
fn a_database_that_lost_something_does_not_replace_the_journal() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open(dir.path()).expect("opens");
    put(&state, "a", "1");
    put(&state, "b", "2");
    state.0.db.open_tree(FACTS.0).expect("opens").remove(b"a").expect("removes");
    assert!(guard(&state.0.log).compact(&state.0.db).is_err());
    put(&state, "c", "3");
    drop(state);
    let (state, _) = State::open(dir.path()).expect("opens");
    assert_eq!(["a", "b", "c"].map(|key| get(&state, key).expect("there")), ["1", "2", "3"]);
}

#[test]
fn a_record_of_a_log_written_anew_is_short_or_one_entry() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open(dir.path()).expect("opens");
    for key in 0..6 {
        // Three of them would be too long for one batch.
        put(&state, &format!("key{key}"), &"x".repeat(3 << 20));
    }
    let mut batch = Batch::default();
    for key in 0..5000 {
        batch.put(FACTS, format!("small{key}"), vec![0; 100]);
    }
    state.commit(&batch).expect("commits");
    guard(&state.0.log).compact(&state.0.db).expect("compacts");
    let mut longest = std::collections::BTreeMap::new();
    let read = guard(&state.0.log).journal.records().read(|record| {
        let entries = record::decode(record).expect("a record").len();
        let longest: &mut usize = longest.entry(entries > 1).or_default();
        *longest = record.len().max(*longest);
        Ok::<_, KvError>(())
    });
    read.expect("reads");
    assert!(longest[&true] <= 256 << 10, "{longest:?}");
    assert!(longest[&false] < (3 << 20) + 100, "{longest:?}");
    drop(state);
    let (_, report) = State::open(dir.path()).expect("opens");
    assert!(report.replayed < 20, "{report:?}");
}

/// What a compaction holds in memory: `cargo test -p fincrypt-storage -- --ignored --nocapture compaction`.
#[test]
#[ignore = "writes 300 MB; prints what a compaction takes"]
fn what_a_compaction_of_a_large_state_takes() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("reads");
        let line = |name: &str| status.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        (line("VmRSS"), line("VmHWM"))
    };
    let dir = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open(dir.path()).expect("opens");
    for round in 0..1500u32 {
        let mut batch = Batch::default();
        for key in 0..100u32 {
            batch.put(FACTS, [round.to_be_bytes(), key.to_be_bytes()].concat(), vec![7; 1000]);
        }
        state.commit(&batch).expect("commits");
    }
    let length = guard(&state.0.log).journal.length();
    println!("a log of {length} bytes; before: {:?}", resident());
    let begun = std::time::Instant::now();
    guard(&state.0.log).compact(&state.0.db).expect("compacts");
    println!("after {:?}: {:?}", begun.elapsed(), resident());
}

#[test]
fn a_full_disk_is_no_damage() {
    use std::io::ErrorKind;
    let kind = |text: &str| match database(&text) {
        KvError::Io(error) => Some(error.kind()),
        _ => None,
    };
    assert_eq!(kind("IO error: No space left on device (os error 28)"), Some(ErrorKind::StorageFull));
    assert_eq!(kind("IO error: Permission denied (os error 13)"), Some(ErrorKind::PermissionDenied));
    assert_eq!(kind("Read corrupted data at file offset None"), None);
}
