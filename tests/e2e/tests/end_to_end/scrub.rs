//! A storage node looks at its own disk, and says what it finds.

use std::fs;

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_testkit::{Member, wait_until};

use crate::disk::files;
use crate::world;

const NODE: Member = Member::Storage(0);

fn small_and_scrubbed() -> Plan {
    Plan { storage: 6, settings: &[("scrub_period", "1")], ..Plan::small() }
}

fn on_disk(world: &World, node: Member) -> u64 {
    let shards = files(&world.swarm.home(node).join("shards"));
    shards.iter().map(|path| fs::metadata(path).map_or(0, |meta| meta.len())).sum()
}

fn assert_exact(world: &World) {
    for node in world.storage_nodes() {
        let exact = wait_until(DEADLINE, || {
            world.storage_info(node)["used_bytes"].as_u64() == Some(on_disk(world, node))
        });
        assert!(exact, "{node} says {}, and has {}", world.storage_info(node), on_disk(world, node));
    }
}

#[test]
fn one_flipped_byte_is_found_by_the_node_itself_and_its_space_given_back() {
    let world = world("scrub-rot", small_and_scrubbed());
    world.backup();
    assert_exact(&world);
    let before = world.storage_info(NODE)["used_bytes"].as_u64().expect("a number");
    let shards = files(&world.swarm.home(NODE).join("shards"));
    let rotten = shards.first().expect("it holds some");
    let mut bytes = fs::read(rotten).expect("read");
    let length = bytes.len() as u64;
    bytes[2000] ^= 8;
    fs::write(rotten, &bytes).expect("written");
    let found = || world.storage_info(NODE)["rotten_shards"].as_u64() == Some(1);
    assert!(wait_until(DEADLINE, found), "{}", world.storage_info(NODE));
    assert!(!rotten.exists());
    let info = world.storage_info(NODE);
    assert_eq!(info["used_bytes"].as_u64(), Some(before - length), "{info}");
    assert_eq!(info["disk_failing"], false, "one shard may be chance: {info}");
    world.restore(&world.owner, "latest", "restored");
}

#[test]
fn a_node_whose_disk_fails_takes_no_more_and_serves_what_it_can() {
    let world = world("scrub-failing", small_and_scrubbed());
    world.backup();
    let shards = files(&world.swarm.home(NODE).join("shards"));
    let (path, aside) = (shards.first().expect("it holds some"), world.path("aside"));
    fs::rename(path, &aside).expect("moved");
    // Reading where no memory is mapped fails with EIO, as a broken disk does.
    std::os::unix::fs::symlink("/proc/self/mem", path).expect("linked");
    let failing = |expected: bool| {
        let found = || world.storage_info(NODE)["disk_failing"] == expected;
        assert!(wait_until(DEADLINE, found), "{}", world.storage_info(NODE));
    };
    failing(true);
    assert_eq!(world.storage_info(NODE)["free_bytes"], 0);
    // The others take what is new, and it still answers for what it has.
    let before = world.storage_info(NODE)["used_bytes"].clone();
    fs::write(world.source.join("more"), vec![7; 300_000]).expect("written");
    world.wait_eligible(5);
    world.backup();
    assert_eq!(world.storage_info(NODE)["used_bytes"], before);
    let restored = world.restore(&world.owner, "latest", "restored");
    world.assert_equal(&restored);
    // A walk that finds nothing makes it good again.
    fs::rename(&aside, path).expect("moved back");
    failing(false);
}

#[test]
fn used_bytes_are_those_on_disk_after_any_crash() {
    let mut world = world("scrub-exact", Plan { settings: &[("scrub_period", "3600")], ..Plan::small() });
    for round in 0..4_u64 {
        let noise: Vec<u8> = (0..900_000_u64).map(|at| ((at * at * (round + 3)) >> 7) as u8).collect();
        fs::write(world.source.join(format!("round-{round}")), noise).expect("written");
        let backup = std::thread::spawn({
            let owner = world.owner.clone();
            move || owner.run(["backup"])
        });
        let node = Member::Storage(round as usize);
        let began = on_disk(&world, node);
        // Killed while it receives; if the backup is over before, the kill is one between writes.
        let _ = wait_until(DEADLINE, || on_disk(&world, node) > began || backup.is_finished());
        world.swarm.kill9(node).expect("killed");
        backup.join().expect("no panic").expect("ends").code.expect("no signal");
        world.swarm.restart(node).expect("starts");
        assert_exact(&world);
    }
}
