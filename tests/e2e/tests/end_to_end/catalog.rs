//! A catalog of more segments than a head names.

use std::fs;

use fincrypt_e2e::{Plan, World};
use serde_json::Value;

use crate::{text, world};

/// Segments of the catalog that a head names itself; the rest are in lists.
const NAMED: u64 = 2;
const BACKUPS: u64 = 7;

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"))
}

/// Segments of the catalog that the newest head names, and all that there are.
fn catalog(world: &World) -> (u64, u64) {
    let heads = world.ok(&world.owner, &["recover", "--list-heads", "--words-file", text(&world.words)]);
    let newest = heads["heads"].as_array().and_then(|heads| heads.last()).expect("a head").clone();
    let verified = world.ok(&world.owner, &["verify", "--all"]);
    assert_eq!(verified["good"], verified["shards"], "{verified}");
    let all = number(&verified, "segments") - number(&world.ok(&world.owner, &["status"]), "segments");
    (number(&newest, "catalog_segments"), all)
}

#[test]
fn a_catalog_that_its_head_has_no_room_for_is_read_extended_and_pruned() {
    let world = world("catalog", Plan { release_delay: Some(1), ..Plan::small() });
    let config = world.owner.home().join("config.toml");
    let before = fs::read_to_string(&config).expect("read");
    fs::write(&config, format!("catalog_refs = {NAMED}\n{before}")).expect("written");
    let mut most = 0;
    for at in 0..BACKUPS {
        fs::write(world.source.join(format!("file-{at}")), format!("the {at}th")).expect("written");
        world.backup();
        if at >= 3 {
            let (named, all) = catalog(&world);
            assert!(named <= NAMED, "{named}");
            most = most.max(all);
        }
    }
    assert!(most > NAMED, "{most} segments need no list");
    // A machine that knows no list finds all, and goes on.
    let machine = world.recover("new-machine");
    let list = world.ok(&machine, &["snapshots"]);
    assert_eq!(list["snapshots"].as_array().map(Vec::len), Some(BACKUPS as usize), "{list}");
    let restored = world.restore(&machine, "latest", "target");
    world.assert_equal(&restored);
    let report = world.ok(&machine, &["backup", text(&world.source)]);
    assert!(number(&report, "bytes_uploaded") < 64 << 10, "what is stored is known: {report}");

    // A prune writes all of it anew, and lets go of the lists and what they named.
    world.ok(&world.owner, &["forget", "--keep-last", "1"]);
    world.ok(&world.owner, &["prune"]);
    let released = world.ok(&world.owner, &["prune", "--now", "--max-unused", "0"]);
    assert!(number(&released, "released") > most, "{released}");
    assert_eq!(catalog(&world).0, 1);
    let (_, restored) = world.bring_back("newer-machine");
    world.assert_equal(&restored);
}
