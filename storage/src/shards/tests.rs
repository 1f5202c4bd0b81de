use super::super::file::WrongShard;
use super::*;
use crate::proof::shard_id;
use fincrypt_protocol::record::{Mandate, Rights};
use fincrypt_protocol::{Code, Network, NodeId, ShardLen, Signed, SigningKey};
use zeroize::Zeroizing;

const LENGTH: usize = 64 << 10;

fn key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([1; 32]))
}

fn shard(seed: u8) -> Bytes {
    Bytes::from((0..LENGTH).map(|at| (at as u8).wrapping_mul(seed) ^ (at >> 8) as u8).collect::<Vec<_>>())
}

fn meta(seed: u8) -> ShardMeta {
    let mandate = Mandate {
        network: Network::Local,
        account: key().account(),
        mediator: NodeId::from_bytes([2; 32]),
        rights: Rights { put: true, audit: true, get: true },
        byte_cap: 1 << 40,
        sequence: 1,
        expiry: UnixTime::from_secs(2_000_000_000),
    };
    let ids = vec![shard_id(&shard(seed)), ShardId::from_bytes([seed; 32])];
    let manifest =
        Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::new(LENGTH as u32).expect("valid"), ids);
    ShardMeta {
        account: key().account(),
        manifest: manifest.expect("valid"),
        index: ShardIndex::new(0).expect("valid"),
        tag: Tag::from_bytes([3; 32]),
        run: RunId::from_bytes([seed; 16]),
        mandate: Signed::seal(&mandate, &key()).expect("seals"),
        stored: UnixTime::from_secs(1_000),
    }
}

struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    fn open(&self, capacity: u64) -> (ShardStore, StoreReport) {
        let (state, _) = State::open(&self.dir.path().join("state")).expect("opens");
        ShardStore::open(&self.dir.path().join("shards"), state, capacity).expect("opens")
    }

    fn on_disk(&self) -> u64 {
        let folders = std::fs::read_dir(self.dir.path().join("shards")).expect("lists");
        let files =
            folders.flat_map(|folder| std::fs::read_dir(folder.expect("there").path()).expect("lists"));
        files.map(|file| file.expect("there").metadata().expect("there").len()).sum()
    }
}

fn put(store: &ShardStore, seed: u8) -> Result<PutOutcome, StoreError> {
    let meta = meta(seed);
    let checked = CheckedShard::check(shard(seed), meta.manifest.ids()[0]).expect("right");
    store.put(&checked, &meta)
}

fn get(store: &ShardStore, seed: u8) -> Option<Bytes> {
    let meta = meta(seed);
    store.get(&meta.account, &meta.manifest.id(), meta.index).expect("reads")
}

#[test]
fn a_shard_comes_back_with_what_lies_beside_it() {
    let setup = Setup::new();
    let (store, _) = setup.open(1 << 30);
    assert_eq!(put(&store, 1).expect("stored"), PutOutcome::New);
    assert_eq!(put(&store, 1).expect("stored"), PutOutcome::AlreadyHeld);
    assert_eq!(get(&store, 1), Some(shard(1)));
    assert_eq!(get(&store, 2), None);
    let meta = meta(1);
    let held = store.segment(&meta.account, &meta.manifest.id()).expect("reads").expect("held");
    assert_eq!((&held.manifest, held.tag, held.shards.len()), (&meta.manifest, meta.tag, 1));
    assert_eq!(store.accounts(), [meta.account]);
    assert_eq!(store.used(), setup.on_disk());
}

#[test]
fn another_shard_under_that_id_does_not_get_in() {
    assert_eq!(CheckedShard::check(shard(1), shard_id(&shard(2))).err(), Some(WrongShard));
}

#[test]
fn a_shard_file_is_what_the_fixture_says() {
    let setup = Setup::new();
    let (store, _) = setup.open(1 << 30);
    put(&store, 1).expect("stored");
    let path = store.path(&FileKey { shard: shard_id(&shard(1)), account: key().account() });
    let file = std::fs::read(&path).expect("reads");
    // The data stands first, as it is; the rest is pinned.
    assert_eq!(&file[..LENGTH], &shard(1)[..]);
    crate::vectors::check("shard-file.txt", &crate::vectors::hex(&file[LENGTH..]));
}

#[test]
fn the_quota_refuses_before_anything_is_written() {
    let setup = Setup::new();
    let (store, _) = setup.open(LENGTH as u64 + 4096);
    assert!(put(&store, 1).is_ok());
    assert!(matches!(put(&store, 2), Err(StoreError::Full { .. })));
    assert_eq!(store.used(), setup.on_disk());
}

#[test]
fn the_index_is_rebuilt_from_the_files_alone() {
    let setup = Setup::new();
    let (store, _) = setup.open(1 << 30);
    for seed in 1..6 {
        put(&store, seed).expect("stored");
    }
    let used = store.used();
    drop(store);
    std::fs::remove_dir_all(setup.dir.path().join("state")).expect("removed");
    let (store, report) = setup.open(1 << 30);
    assert_eq!((report.adopted, report.shards), (5, 5));
    assert_eq!((store.used(), get(&store, 3)), (used, Some(shard(3))));
}

#[test]
fn files_that_vanished_are_noticed_and_unfinished_ones_removed() {
    let setup = Setup::new();
    let (store, _) = setup.open(1 << 30);
    for seed in 1..4 {
        put(&store, seed).expect("stored");
    }
    let key = FileKey { shard: shard_id(&shard(2)), account: key().account() };
    std::fs::remove_file(store.path(&key)).expect("removed");
    std::fs::write(setup.dir.path().join("shards/tmp/half"), b"half").expect("written");
    drop(store);
    let (store, report) = setup.open(1 << 30);
    assert_eq!((report.shards, report.lost, report.unfinished), (2, 1, 1));
    assert_eq!(get(&store, 2), None);
    assert_eq!(store.used(), setup.on_disk());
    assert_eq!(put(&store, 2).expect("stored"), PutOutcome::New);
}

#[test]
fn shards_of_runs_never_kept_lapse_and_others_stay() {
    let setup = Setup::new();
    let (store, _) = setup.open(1 << 30);
    for seed in 1..4 {
        put(&store, seed).expect("stored");
    }
    let week = Duration::from_secs(7 * 24 * 3600);
    let kept = |_: &AccountId, run: &RunId| *run == RunId::from_bytes([2; 16]);
    let early = UnixTime::from_secs(1_000).plus(week);
    assert_eq!(store.lapse(early, week, &kept).expect("swept"), 0);
    assert!(store.lapse(early.plus(Duration::from_secs(1)), week, &kept).expect("swept") > 0);
    assert_eq!((get(&store, 1), get(&store, 2).is_some(), get(&store, 3)), (None, true, None));
    assert_eq!(store.used(), setup.on_disk());
}

#[test]
fn a_removed_segment_gives_back_exactly_what_it_took() {
    let setup = Setup::new();
    let (store, _) = setup.open(1 << 30);
    for seed in 1..4 {
        put(&store, seed).expect("stored");
    }
    let (gone, before) = (meta(2), store.used());
    let freed = store.remove_segment(&gone.account, &gone.manifest.id()).expect("removed");
    store.sync_folders().expect("synced");
    assert!(freed > LENGTH as u64);
    assert_eq!((store.used(), setup.on_disk()), (before - freed, before - freed));
    assert!(!store.holds(&gone.account, &gone.manifest.id()).expect("reads"));
    assert!(store.holds(&gone.account, &meta(1).manifest.id()).expect("reads"));
    assert_eq!((get(&store, 2), get(&store, 3)), (None, Some(shard(3))));
    assert_eq!(store.remove_segment(&gone.account, &gone.manifest.id()).expect("nothing to do"), 0);
}

#[test]
fn a_cut_file_is_named_damaged() {
    let setup = Setup::new();
    let (store, _) = setup.open(1 << 30);
    put(&store, 1).expect("stored");
    let meta = meta(1);
    let path = store.path(&FileKey { shard: meta.manifest.ids()[0], account: meta.account });
    std::fs::write(&path, b"short").expect("written");
    assert!(matches!(store.get(&meta.account, &meta.manifest.id(), meta.index), Err(StoreError::Damaged(_))));
}
