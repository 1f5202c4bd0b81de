//! Storage is checked, not believed.

use std::fs;

use fincrypt_e2e::Plan;
use fincrypt_testkit::Member;

use crate::{disk, world};

#[test]
fn one_flipped_byte_is_found_and_its_node_is_named() {
    let world = world("verify", Plan::default());
    world.backup();
    let report = world.ok(&world.owner, &["verify", "--all"]);
    let shards = report["shards"].as_u64().expect("a number");
    assert!(shards >= 8, "{report}");
    assert_eq!(report["good"], report["shards"], "{report}");

    let victim = Member::Storage(2);
    let path =
        disk::files(&world.swarm.home(victim).join("shards")).pop().expect("every node holds something");
    let mut bytes = fs::read(&path).expect("read");
    // A shard's file begins with its bytes.
    bytes[100] ^= 1;
    fs::write(&path, bytes).expect("written");

    let outcome = world.code(&world.owner, &["verify", "--all"], 1);
    let report = outcome.json();
    let bad = |key: &str| report[key].as_array().cloned().unwrap_or_default();
    assert_eq!(report["good"].as_u64(), Some(shards - 1), "{report}");
    let found = [bad("wrong"), bad("missing")].concat();
    assert_eq!(found.len(), 1, "{report}");
    let node = found[0]["node"].as_str().expect("the node is known");
    assert!(outcome.stderr.contains(node), "{}", outcome.stderr);
    assert!(found[0]["segment"].is_string() && found[0]["index"].is_u64(), "{report}");

    // The others make up for it.
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
}

#[test]
fn a_sample_looks_at_so_many_shards() {
    let world = world("sample", Plan::small());
    world.backup();
    let report = world.ok(&world.owner, &["verify", "--sample", "5"]);
    assert_eq!(report["shards"].as_u64(), Some(5), "{report}");
    assert_eq!(report["good"].as_u64(), Some(5), "{report}");
}
