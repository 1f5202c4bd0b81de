//! Segments that nothing names: found, marked, released, and nobody counts on them any more.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use fincrypt_e2e::{DEADLINE, Plan, World, seed};
use fincrypt_protocol::RunId;
use fincrypt_shards::ShardMeta;
use fincrypt_testkit::{SeededRandom, wait_until};
use serde_json::Value;

use crate::interruptions::write_noise;
use crate::{disk, text, world};

/// What the client that dies was about to store: three segments of 4 MiB.
const NOISE: u64 = 12 << 20;

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"))
}

fn shards(world: &World) -> Vec<ShardMeta> {
    world.storage_nodes().flat_map(|member| disk::shards(&world.swarm.home(member))).collect()
}

fn runs(world: &World) -> BTreeSet<RunId> {
    shards(world).iter().map(|shard| shard.run).collect()
}

/// Bytes of shards that were stored in a run.
fn bytes_of(world: &World, run: &RunId) -> u64 {
    let shards = shards(world);
    let of = shards.iter().filter(|shard| shard.run == *run);
    of.map(|shard| u64::from(shard.manifest.shard_len().get())).sum()
}

#[test]
fn what_a_client_left_that_died_is_found_and_deleted_and_stored_anew_if_it_comes_back() {
    let world = world("orphans", Plan { release_delay: Some(2), ..Plan::small() });
    world.backup();
    let before = runs(&world);
    let (noise, aside) = (world.source.join("noise"), world.path("aside"));
    write_noise(&noise, NOISE, &mut SeededRandom::new(seed()));
    let at = world.swarm.held() + NOISE;
    let enough = || world.swarm.held() >= at;
    let ended = world.owner.run_until(["backup"], Duration::from_millis(5), enough).expect("runs");
    assert!(ended.is_none(), "the backup was not killed in the middle");
    let mut new = runs(&world).into_iter().filter(|run| !before.contains(run));
    let killed = new.next().expect("it has stored something");
    assert_eq!(new.next(), None);

    // Another machine knows nothing of it, and its folder has nothing of it.
    fs::rename(&noise, &aside).expect("moved");
    let machine = world.recover("machine");
    world.ok(&machine, &["backup", text(&world.source)]);
    let mut dry = Value::Null;
    let found = wait_until(DEADLINE, || {
        // What was on its way when the client died still arrives.
        dry = world.ok(&machine, &["prune", "--dry-run"]);
        number(&dry, "bytes_orphans") == bytes_of(&world, &killed)
    });
    assert!(found, "{dry}, {}", bytes_of(&world, &killed));
    let left = bytes_of(&world, &killed);
    assert!(left >= NOISE / 2, "{left}");
    let marked = world.ok(&machine, &["prune"]);
    assert_eq!((number(&marked, "bytes_orphans"), number(&marked, "released")), (left, 0), "{marked}");
    let early = world.ok(&machine, &["prune"]);
    assert_eq!((number(&early, "orphans"), number(&early, "released")), (0, 0), "{early}");
    assert_eq!(bytes_of(&world, &killed), left, "too early");
    let released = world.ok(&machine, &["prune", "--now"]);
    assert!(number(&released, "bytes_released") >= left, "{released}");
    assert!(wait_until(DEADLINE, || bytes_of(&world, &killed) == 0), "{}", bytes_of(&world, &killed));
    let restored = world.restore(&machine, "latest", "target");
    world.assert_equal(&restored);
    let verified = world.ok(&machine, &["verify", "--all"]);
    assert_eq!(verified["good"], verified["shards"], "{verified}");
    let idle = world.ok(&machine, &["prune", "--now"]);
    assert_eq!((number(&idle, "orphans"), number(&idle, "released")), (0, 0), "{idle}");

    // The dead client comes back, with a run that it would go on with.
    assert!(world.owner.home().join("journal/run").exists());
    fs::rename(&aside, &noise).expect("moved back");
    let report = world.backup();
    assert!(number(&report, "bytes_uploaded") >= NOISE, "stored anew: {report}");
    let (_, restored) = world.bring_back("newer-machine");
    world.assert_equal(&restored);
}
