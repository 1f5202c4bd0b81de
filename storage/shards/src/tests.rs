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
        max_price: None,
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
    let path = store.0.path(&FileKey { shard: shard_id(&shard(1)), account: key().account() });
    let file = std::fs::read(&path).expect("reads");
    // The data stands first, as it is; the rest is pinned.
    assert_eq!(&file[..LENGTH], &shard(1)[..]);
    fincrypt_vectors::check("shard-file.txt", &fincrypt_vectors::hex(&file[LENGTH..]));
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
    std::fs::remove_file(store.0.path(&key)).expect("removed");
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
    let path = store.0.path(&FileKey { shard: meta.manifest.ids()[0], account: meta.account });
    std::fs::write(&path, b"short").expect("written");
    assert!(matches!(store.get(&meta.account, &meta.manifest.id(), meta.index), Err(StoreError::Damaged(_))));
}

fn walk(store: &ShardStore) -> Vec<Found> {
    let (mut found, mut at) = (Vec::new(), None);
    while let Some(checked) = store.check_next(at).expect("walks") {
        at = WalkPosition::from_bytes(&checked.position.to_bytes());
        found.push(checked.found);
    }
    found
}

#[test]
fn rot_is_found_by_the_walk_removed_remembered_and_healed_by_a_new_put() {
    let setup = Setup::new();
    let (store, _) = setup.open(1 << 30);
    for seed in 1..=3 {
        let checked = CheckedShard::check(shard(seed), shard_id(&shard(seed))).expect("right");
        store.put(&checked, &meta(seed)).expect("put");
    }
    assert!(matches!(walk(&store).as_slice(), [Found::Good, Found::Good, Found::Good]));
    let (account, segment, index) = (key().account(), meta(2).manifest.id(), meta(2).index);
    let rotten = FileKey { shard: shard_id(&shard(2)), account };
    let path = store.0.path(&rotten);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[LENGTH / 2 + 17] ^= 4;
    std::fs::write(&path, &bytes).expect("written");
    let found = walk(&store);
    assert_eq!(found.iter().filter(|found| matches!(found, Found::Rotten)).count(), 1);
    assert_eq!(found.iter().filter(|found| matches!(found, Found::Good)).count(), 2);
    assert!(store.was_damaged(&account, &segment, index).expect("index"));
    assert_eq!(store.get(&account, &segment, index).expect("read"), None);
    assert_eq!(store.used(), setup.on_disk());
    let checked = CheckedShard::check(shard(2), shard_id(&shard(2))).expect("right");
    assert_eq!(store.put(&checked, &meta(2)).expect("put"), PutOutcome::New);
    assert!(!store.was_damaged(&account, &segment, index).expect("index"));
    assert_eq!(walk(&store).len(), 3);
    // What is released is forgotten, damaged or not.
    std::fs::write(&path, &bytes[..100]).expect("written");
    assert!(matches!(store.check(&account, &segment, index).expect("looked"), Found::Rotten));
    store.remove_segment(&account, &segment).expect("removed");
    assert!(!store.was_damaged(&account, &segment, index).expect("index"));
    assert_eq!(store.used(), setup.on_disk());
}

#[test]
fn a_shard_that_the_system_cannot_read_stays() {
    let setup = Setup::new();
    let (store, _) = setup.open(1 << 30);
    let checked = CheckedShard::check(shard(1), shard_id(&shard(1))).expect("right");
    store.put(&checked, &meta(1)).expect("put");
    let path = store.0.path(&FileKey { shard: shard_id(&shard(1)), account: key().account() });
    let aside = setup.dir.path().join("aside");
    std::fs::rename(&path, &aside).expect("renamed");
    // Reading where no memory is mapped fails with EIO, as a broken disk does.
    std::os::unix::fs::symlink("/proc/self/mem", &path).expect("linked");
    assert!(matches!(walk(&store).as_slice(), [Found::Unreadable(StoreError::Io { .. })]));
    std::fs::rename(&aside, &path).expect("renamed");
    assert!(matches!(walk(&store).as_slice(), [Found::Good]));
}

#[test]
fn one_leaf_is_proved_and_a_damaged_one_is_noticed_here() {
    let setup = Setup::new();
    let (store, _) = setup.open(1 << 30);
    let checked = CheckedShard::check(shard(1), shard_id(&shard(1))).expect("right");
    store.put(&checked, &meta(1)).expect("put");
    let (account, segment, index) = (key().account(), meta(1).manifest.id(), meta(1).index);
    let path = store.0.path(&FileKey { shard: shard_id(&shard(1)), account });
    let good = std::fs::read(&path).expect("read");
    for number in 0..40 {
        let nonce = Nonce::from_bytes([number; 32]);
        let leaf = challenged_leaf(&nonce, &shard_id(&shard(1)), meta(1).manifest.shard_len());
        let proof = store.prove(&account, &segment, index, &nonce).expect("proves").expect("held");
        assert!(proof.verify(&shard_id(&shard(1)), meta(1).manifest.shard_len(), leaf));
        let mut bad = good.clone();
        bad[leaf as usize * 1024 + 3] ^= 1;
        std::fs::write(&path, &bad).expect("written");
        let damaged = store.prove(&account, &segment, index, &nonce);
        assert!(matches!(damaged, Err(StoreError::Damaged(_))), "{number}");
        std::fs::write(&path, &good).expect("written");
    }
    let other = SegmentId::from_bytes([7; 32]);
    assert!(store.prove(&account, &other, index, &Nonce::from_bytes([0; 32])).expect("looked").is_none());
}
