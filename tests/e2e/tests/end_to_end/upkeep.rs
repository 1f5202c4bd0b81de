//! The network keeps what it promised: audits find what is lost, repair brings it back.

use std::collections::BTreeMap;
use std::fs;

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_protocol::SegmentId;
use fincrypt_testkit::{Member, wait_until};
use serde_json::Value;

use crate::{disk, world};

const QUICK: &[(&str, &str)] = &[("epoch", "2"), ("absence_epochs", "2"), ("scrub_period", "86400")];
/// Slow enough that a repair can be cut off in the middle.
const SLOW: &[(&str, &str)] =
    &[("epoch", "2"), ("absence_epochs", "2"), ("scrub_period", "86400"), ("repair_rate", "300kB")];

/// Eight storage nodes with a backup on them, and `spare` more that came after it.
fn with_spare(label: &str, spare: usize, settings: &'static [(&'static str, &'static str)]) -> World {
    let mut world = world(label, Plan { storage: 8 + spare, settings, ..Plan::small() });
    let late: Vec<Member> = world.storage_nodes().skip(8).collect();
    for member in &late {
        world.swarm.kill9(*member).expect("killed");
    }
    world.wait_eligible(8);
    let report = world.backup();
    assert!(report["segments"].as_u64() > Some(0), "{report}");
    for member in late {
        world.swarm.restart(member).expect("starts");
    }
    world.wait_eligible(8 + spare);
    world
}

/// How many different shards of each segment lie on these nodes, and how many there should be.
pub(super) fn shards_on(world: &World, nodes: &[Member]) -> BTreeMap<SegmentId, (usize, usize)> {
    let mut found: BTreeMap<SegmentId, (std::collections::BTreeSet<_>, usize)> = BTreeMap::new();
    for meta in nodes.iter().flat_map(|node| disk::shards(&world.swarm.home(*node))) {
        let total = meta.manifest.code().total().into();
        found.entry(meta.manifest.id()).or_insert_with(|| (Default::default(), total)).0.insert(meta.index);
    }
    found.into_iter().map(|(id, (there, total))| (id, (there.len(), total))).collect()
}

fn wait_whole(world: &World, nodes: &[Member], segments: usize) {
    let mut found = BTreeMap::new();
    let whole = wait_until(DEADLINE, || {
        found = shards_on(world, nodes);
        found.len() == segments && found.values().all(|(there, total)| there == total)
    });
    assert!(whole, "{found:?} {}", summary(world));
}

/// How many segments are degraded, and how each node stands.
fn summary(world: &World) -> String {
    let info = world.mediator_info();
    let nodes = info["nodes"].as_array().cloned().unwrap_or_default();
    let node = |node: Value| format!("{} {} {} shards", node["peer"], node["state"], node["shards"]);
    let nodes: Vec<String> = nodes.into_iter().map(node).collect();
    format!("{} degraded; {}", info["degraded"], nodes.join(", "))
}

fn node_info(world: &World, node: Member) -> Value {
    let peer = world.swarm.ready(node).expect("runs").peer.clone();
    let info = world.mediator_info();
    let nodes = info["nodes"].as_array().cloned().unwrap_or_default();
    nodes.into_iter().find(|node| node["peer"] == peer.as_str()).unwrap_or_default()
}

fn wait_state(world: &World, node: Member, state: &str) {
    let there = wait_until(DEADLINE, || node_info(world, node)["state"] == state);
    assert!(there, "{node} is not {state}: {}", summary(world));
}

#[test]
fn three_of_eight_nodes_lost_for_good_are_made_up_for_and_then_three_more_may_go() {
    let mut world = with_spare("repair", 3, QUICK);
    let all: Vec<Member> = world.storage_nodes().collect();
    let segments = shards_on(&world, &all).len();
    for member in &all[..3] {
        world.swarm.kill9(*member).expect("killed");
    }
    wait_whole(&world, &all[3..], segments);
    let calm = || world.mediator_info()["degraded"] == 0;
    assert!(wait_until(DEADLINE, calm), "{}", summary(&world));
    for member in &all[3..6] {
        world.swarm.kill9(*member).expect("killed");
    }
    // Whoever has only the words finds the shards where repair has put them, without any mediator.
    world.swarm.kill9(Member::Mediator(0)).expect("killed");
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
}

#[test]
fn altered_and_vanished_shards_are_found_repaired_and_held_against_their_node() {
    let world = with_spare("audits", 1, QUICK);
    let all: Vec<Member> = world.storage_nodes().collect();
    let segments = shards_on(&world, &all).len();
    let altered = disk::files(&world.swarm.home(all[0]).join("shards"));
    let gone = disk::files(&world.swarm.home(all[1]).join("shards"));
    let altered = altered.first().expect("it holds some");
    // One bit of every leaf: whichever is asked for shows it.
    let mut bytes = fs::read(altered).expect("read");
    bytes.iter_mut().step_by(1024).for_each(|byte| *byte ^= 1);
    fs::write(altered, bytes).expect("written");
    // Before anything else is amiss: a repair would read the altered shard, and mend it before an audit asks.
    let reported = || {
        let audits = node_info(&world, all[0])["audits"].as_array().cloned().unwrap_or_default();
        audits.iter().any(|audit| audit["outcome"]["answered"]["reported"].as_u64() > Some(0))
    };
    assert!(wait_until(DEADLINE, reported), "{}", node_info(&world, all[0]));
    fs::remove_file(gone.first().expect("it holds some")).expect("removed");
    wait_state(&world, all[1], "suspect");
    assert!(node_info(&world, all[1])["score"].as_u64() < Some(1000), "{}", node_info(&world, all[1]));
    let mut status = world.programs().node.command();
    let status = status.args(["status", "--home"]).arg(world.swarm.home(Member::Mediator(0))).output();
    let status = String::from_utf8_lossy(&status.expect("runs").stdout).into_owned();
    assert!(status.contains("suspect") && status.contains("sound"), "{status}");
    assert_eq!(node_info(&world, all[0])["score"], 1000, "what it says itself is not held against it");
    wait_whole(&world, &all, segments);
    let restored = world.restore(&world.owner, "latest", "restored");
    world.assert_equal(&restored);
}

#[test]
fn a_short_absence_costs_nothing() {
    let mut world =
        world("absence", Plan { settings: &[("epoch", "1"), ("absence_epochs", "30")], ..Plan::small() });
    world.backup();
    let node = Member::Storage(0);
    let before = disk::held(&world);
    wait_state(&world, node, "sound");
    world.swarm.kill9(node).expect("killed");
    wait_state(&world, node, "suspect");
    world.swarm.restart(node).expect("starts");
    wait_state(&world, node, "sound");
    assert_eq!(node_info(&world, node)["score"], 1000);
    assert_eq!(world.mediator_info()["degraded"], 0);
    assert_eq!(disk::held(&world), before, "nothing was moved");
}

#[test]
fn a_mediator_killed_in_the_middle_of_repairs_goes_on_with_them() {
    let mut world = with_spare("repair-killed", 2, SLOW);
    let all: Vec<Member> = world.storage_nodes().collect();
    let segments = shards_on(&world, &all).len();
    let spare = |world: &World| shards_on(world, &all[8..]).len();
    assert_eq!(spare(&world), 0);
    for member in &all[..2] {
        world.swarm.kill9(*member).expect("killed");
    }
    assert!(wait_until(DEADLINE, || spare(&world) > 0), "no repair begins: {}", summary(&world));
    world.swarm.kill9(Member::Mediator(0)).expect("killed");
    world.swarm.restart(Member::Mediator(0)).expect("starts");
    wait_whole(&world, &all[2..], segments);
    let restored = world.restore(&world.owner, "latest", "restored");
    world.assert_equal(&restored);
}

#[test]
fn a_drained_node_may_be_switched_off_when_it_says_so_even_if_it_was_restarted_meanwhile() {
    let mut world = with_spare("drain", 1, QUICK);
    let all: Vec<Member> = world.storage_nodes().collect();
    let segments = shards_on(&world, &all).len();
    let home = world.swarm.home(all[0]);
    let program = world.programs().node.clone();
    let drain = |options: &[&str]| {
        let output = program.command().args(["drain", "--home"]).arg(&home).args(options).output();
        let output = output.expect("runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for options in ["--no-wait", "--cancel", "--no-wait"] {
        assert_eq!(drain(&[options]).0, Some(0));
    }
    assert!(wait_until(DEADLINE, || world.storage_info(all[0])["leaving"] == true));
    assert_eq!(world.storage_info(all[0])["free_bytes"], 0);
    world.swarm.kill9(all[0]).expect("killed");
    world.swarm.restart(all[0]).expect("starts");
    let (code, said) = drain(&[]);
    assert!(code == Some(0) && said.contains("may be switched off"), "{said}");
    world.swarm.kill9(all[0]).expect("killed");
    wait_whole(&world, &all[1..], segments);
    let restored = world.restore(&world.owner, "latest", "restored");
    world.assert_equal(&restored);
}
