//! Storage earns: statements that both sides sign, epoch by epoch.

use std::collections::BTreeMap;

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_testkit::{Member, wait_until};
use serde_json::Value;

use crate::disk::copy;
use crate::world;

/// Satoshi per GiB-month: enough for a few megabytes to earn something in two seconds.
const PRICE: &str = "100000000";

fn plan() -> Plan {
    Plan { settings: &[("epoch", "2"), ("price", PRICE)], ..Plan::small() }
}

/// What the mediator has agreed to owe: node → epoch and msat.
fn owed(world: &World) -> BTreeMap<String, (u64, u64)> {
    let info = world.mediator_info();
    let entry = |owed: &Value| {
        let number = |key: &str| owed[key].as_u64().expect("a number");
        (owed["node"].as_str().expect("a name").to_owned(), (number("epoch"), number("earned_msat")))
    };
    info["owed"].as_array().into_iter().flatten().map(entry).collect()
}

/// What a storage node has countersigned: epoch and msat, and why it refused the newest.
fn earned(world: &World, node: Member) -> Option<(u64, u64, Value)> {
    let info = world.storage_info(node);
    let earned = info["earned"].as_array()?.first()?.clone();
    Some((earned["epoch"].as_u64()?, earned["earned_msat"].as_u64()?, earned["refused"].clone()))
}

#[test]
fn storage_and_mediator_agree_to_the_millisatoshi_on_what_every_epoch_earned() {
    let mut world = world("statements", plan());
    world.backup();
    // Both sides have gone through several epochs, one of them with a restart of each.
    world.swarm.kill9(Member::Mediator(0)).expect("a member");
    world.swarm.restart(Member::Mediator(0)).unwrap_or_else(|error| panic!("starts again: {error}"));
    world.swarm.kill9(Member::Storage(2)).expect("a member");
    world.swarm.restart(Member::Storage(2)).unwrap_or_else(|error| panic!("starts again: {error}"));
    for node in world.storage_nodes() {
        let peer = world.swarm.ready(node).expect("it runs").peer.clone();
        let mut seen = Vec::new();
        let agreed = wait_until(DEADLINE, || {
            let (theirs, ours) = (earned(&world, node), owed(&world).remove(&peer));
            let Some(((epoch, msat, refused), owed)) = theirs.zip(ours) else { return false };
            assert!(refused.is_null(), "{node} refuses: {refused}");
            // What was agreed of one epoch is the same on both sides, and it grows.
            if (epoch, msat) == owed && msat > 0 && seen.last() != Some(&owed) {
                seen.push(owed);
            }
            seen.len() >= 3
        });
        assert!(agreed, "{node}: {seen:?}, {:?}, {:?}", earned(&world, node), owed(&world));
        assert!(seen.windows(2).all(|two| two[0] < two[1]), "{node}: {seen:?}");
    }

    // Day by day it comes to the same.
    for node in world.storage_nodes() {
        let same = wait_until(DEADLINE, || {
            let info = world.storage_info(node);
            let sum = |list: &str, key: &str| -> u64 {
                info[list].as_array().into_iter().flatten().filter_map(|one| one[key].as_u64()).sum()
            };
            sum("earned_days", "msat") > 0 && sum("earned_days", "msat") == sum("earned", "earned_msat")
        });
        assert!(same, "{}", world.storage_info(node));
    }

    // The books say the same, contract by contract, after another kill of the mediator, too.
    world.swarm.kill9(Member::Mediator(0)).expect("a member");
    world.swarm.restart(Member::Mediator(0)).unwrap_or_else(|error| panic!("starts again: {error}"));
    let mut audit = Value::Null;
    let agreed = wait_until(DEADLINE, || {
        audit = world.swarm.ask(Member::Mediator(0), "/api/v1/wallet/audit").unwrap_or_default();
        assert_ne!(audit["sound"], false, "{audit}");
        let report = audit["report"].as_str().unwrap_or_default();
        let sat = |msat: u64| format!("earned {}.{:03} sat", msat / 1000, msat % 1000);
        let owed = owed(&world);
        owed.len() == 8 && owed.values().all(|(_, msat)| report.contains(&sat(*msat)))
    });
    assert!(agreed, "{audit} {:?}", owed(&world));
}

#[test]
fn storage_that_came_back_with_an_older_state_or_none_goes_on_from_what_its_mediator_shows() {
    let mut world = world("older-earnings", plan());
    world.backup();
    let [older, none] = [Member::Storage(1), Member::Storage(2)];
    let sum = |world: &World, node| earned(world, node).map_or(0, |(_, msat, _)| msat);
    for node in [older, none] {
        assert!(wait_until(DEADLINE, || sum(&world, node) > 0), "{node}");
        world.swarm.kill9(node).expect("a member");
    }
    let (home, kept) = (world.swarm.home(older), world.path("older"));
    copy(&home.join("state"), &kept);
    world.swarm.restart(older).unwrap_or_else(|error| panic!("starts again: {error}"));
    let least = sum(&world, older);
    assert!(wait_until(DEADLINE, || sum(&world, older) > least * 2), "{:?}", earned(&world, older));
    world.swarm.kill9(older).expect("a member");
    std::fs::remove_dir_all(home.join("state")).expect("removed");
    copy(&kept, &home.join("state"));
    std::fs::remove_dir_all(world.swarm.home(none).join("state")).expect("removed");
    let before = owed(&world);
    for node in [older, none] {
        world.swarm.restart(node).unwrap_or_else(|error| panic!("starts again: {error}"));
    }
    for node in [older, none] {
        let peer = world.swarm.ready(node).expect("it runs").peer.clone();
        let (_, was) = before[&peer];
        let goes_on = wait_until(DEADLINE, || {
            let (theirs, ours) = (earned(&world, node), owed(&world).remove(&peer));
            let both = theirs.zip(ours);
            both.is_some_and(|((epoch, msat, _), owed)| (epoch, msat) == owed && msat > was)
        });
        assert!(goes_on, "{node}: {was}, {:?}, {:?}", earned(&world, node), owed(&world));
    }
}

#[test]
fn a_mediator_that_came_back_with_older_bills_goes_on_from_what_storage_has_signed() {
    let mut world = world("older-bills", plan());
    let mediator = Member::Mediator(0);
    world.backup();
    let most = |world: &World| owed(world).values().map(|(_, msat)| *msat).min().unwrap_or_default();
    let all = |world: &World, least: u64| owed(world).len() == 8 && most(world) > least;
    assert!(wait_until(DEADLINE, || all(&world, 0)), "{:?}", owed(&world));
    let (home, kept) = (world.swarm.home(mediator), world.path("older"));
    world.swarm.kill9(mediator).expect("a member");
    copy(&home.join("state"), &kept);
    world.swarm.restart(mediator).unwrap_or_else(|error| panic!("starts again: {error}"));
    let least = most(&world);
    assert!(wait_until(DEADLINE, || all(&world, least * 2)), "{:?}", owed(&world));
    let before = owed(&world);
    world.swarm.kill9(mediator).expect("a member");
    std::fs::remove_dir_all(home.join("state")).expect("removed");
    copy(&kept, &home.join("state"));
    world.swarm.restart(mediator).unwrap_or_else(|error| panic!("starts again: {error}"));
    // Sums go on from what they were: what was agreed meanwhile is neither lost nor owed twice.
    let caught_up = wait_until(DEADLINE, || {
        let now = owed(&world);
        before.iter().all(|(node, was)| now.get(node).is_some_and(|is| is > was))
    });
    assert!(caught_up, "{before:?} {:?}", owed(&world));
    for node in world.storage_nodes() {
        let agrees = wait_until(DEADLINE, || earned(&world, node).is_some_and(|(.., fault)| fault.is_null()));
        assert!(agrees, "{node}: {:?}", earned(&world, node));
    }
    let audit = world.swarm.ask(mediator, "/api/v1/wallet/audit").expect("answers");
    assert_eq!(audit["sound"], true, "{audit}");
}
