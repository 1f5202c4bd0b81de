//! More is lost than the code makes up for, or a node has less room than it is asked for.

use std::collections::BTreeSet;
use std::fs;

use fincrypt_e2e::{DEADLINE, Plan, World, seed};
use fincrypt_testkit::{Difference, Member, SeededRandom, Unlike, compare, wait_until};

use crate::interruptions::write_noise;
use crate::upkeep::shards_on;
use crate::{disk, text, world};

#[test]
fn of_a_partial_loss_exactly_the_lost_files_are_named_and_all_others_come_back() {
    let mut world = world("partial-loss", Plan { storage: 10, ..Plan::small() });
    let mut random = SeededRandom::new(seed());
    let folder = world.path("folder");
    fs::create_dir_all(folder.join("deep")).expect("made");
    for name in ["first", "deep/first", "also first"] {
        write_noise(&folder.join(name), 15_000, &mut random);
    }
    // So little data is one segment with one shard that suffices, on five of the ten nodes.
    world.ok(&world.owner, &["backup", text(&folder)]);
    let has_data = |member: &Member| {
        let shards = disk::shards(&world.swarm.home(*member));
        shards.iter().any(|meta| meta.manifest.data_len() > 32 << 10)
    };
    let keepers: Vec<Member> = world.storage_nodes().filter(has_data).collect();
    assert_eq!(keepers.len(), 5, "{keepers:?}");
    for member in keepers {
        world.swarm.kill9(member).expect("a member");
    }
    world.wait_eligible(5);
    fs::create_dir(folder.join("later")).expect("made");
    for name in ["second", "later/second"] {
        write_noise(&folder.join(name), 15_000, &mut random);
    }
    world.ok(&world.owner, &["backup", text(&folder)]);
    world.swarm.kill9(Member::Mediator(0)).expect("a member");

    // On a machine that has only the words, and nobody but the five nodes that are left.
    let machine = world.recover("new-machine");
    // The first snapshot is lost with its data; that does not hide the second, which is named, since
    // nobody can tell any more that it is the latest.
    let outcome = world.code(&machine, &["snapshots"], 0);
    assert_eq!(outcome.json()["snapshots"].as_array().map(Vec::len), Some(1), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("snapshot_unreadable"), "{}", outcome.stderr);
    let left = outcome.json()["snapshots"][0]["id"].as_str().expect("an id").to_owned();
    let target = world.path("target");
    let refused = world.code(&machine, &["restore", "latest", "--target", text(&target)], 1);
    assert!(refused.stderr.contains(&left), "{}", refused.stderr);

    let outcome = world.code(&machine, &["restore", &left, "--target", text(&target)], 3);
    let failed: BTreeSet<String> = outcome.json()["failed"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|failed| failed["path"].as_str().expect("a path").to_owned())
        .collect();
    // The list of what was in `deep` is lost with it, so it is named itself.
    let lost = ["folder/also first", "folder/deep", "folder/first"].map(str::to_owned);
    assert_eq!(failed, BTreeSet::from(lost), "{}", outcome.stdout);
    for path in &failed {
        assert!(outcome.stderr.contains(path), "{path}: {}", outcome.stderr);
    }
    let mut comparison = compare(&folder, &target.join("folder")).expect("compared");
    let gone = ["also first", "deep/first", "first"].map(std::path::PathBuf::from);
    for path in &gone {
        let missing = |d: &Difference| d.path == *path && d.unlike == Unlike::Missing;
        assert!(comparison.differences.iter().any(missing), "{}: {comparison}", path.display());
    }
    comparison.forgive(|d| gone.contains(&d.path));
    assert!(comparison.equal() && comparison.files == 2, "{comparison}");
}

/// More data than the last of `storage` nodes has room for: it keeps to its quota, and the others
/// hold enough.
fn beyond_the_quota(label: &str, storage: usize) -> World {
    const QUOTA: u64 = 3_000_000;
    let plan = Plan { storage, last_capacity: Some("3MB"), ..Plan::small() };
    let world = world(label, plan);
    let mut random = SeededRandom::new(seed());
    write_noise(&world.source.join("noise"), 30 << 20, &mut random);
    world.backup();
    let full = world.swarm.home(Member::Storage(storage - 1)).join("shards");
    let files = disk::files(&full);
    let used: u64 = files.iter().map(|path| fs::metadata(path).expect("there").len()).sum();
    assert!((1..=QUOTA).contains(&used), "{used} bytes of {QUOTA} are used");
    assert!(files.iter().all(|path| disk::meta(path).is_some()), "half a shard is among {files:?}");
    world
}

#[test]
fn what_a_full_node_refuses_goes_to_one_that_has_room() {
    let world = beyond_the_quota("elsewhere", 9);
    let verified = world.ok(&world.owner, &["verify", "--all"]);
    assert_eq!(verified["good"], verified["shards"], "no shard is left without a keeper: {verified}");
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
}

#[test]
fn where_nobody_else_is_left_a_full_node_costs_parity_and_no_data() {
    // Every segment wants all eight nodes, and a slow one may come after the rest.
    let mut world = beyond_the_quota("quota", 8);
    let nodes: Vec<Member> = world.storage_nodes().collect();
    let mut found = Default::default();
    let placed = wait_until(DEADLINE, || {
        found = shards_on(&world, &nodes);
        found.values().all(|(there, total)| there + 1 >= *total)
    });
    assert!(placed, "{found:?}");
    // Without it, and without two more.
    for dead in [7, 1, 4] {
        world.swarm.kill9(Member::Storage(dead)).expect("a member");
    }
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
}
