//! What a client has of the money: statements that it checks itself, limits of the price, and clear
//! answers where nobody can pay in.

use std::collections::BTreeMap;
use std::fs;

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_testkit::{Client, Member, SeededRandom, wait_until};
use serde_json::Value;

use crate::refusals::refused;
use crate::{disk, text, world};

/// Satoshi per GiB-month: enough for a few megabytes to earn something in two seconds.
const PRICE: &str = "100000000";

fn held(world: &World, node: Member) -> usize {
    disk::shards(&world.swarm.home(node)).len()
}

fn list<'a>(report: &'a Value, key: &str) -> &'a [Value] {
    report[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn a_client_checks_every_statement_and_is_told_what_it_was_charged() {
    let settings = &[("epoch", "2"), ("price", PRICE), ("fee_percent", "2.5")];
    let world = world("prepayment", Plan { settings, ..Plan::small() });
    let owner = &world.owner;

    // Too dear: nothing leaves the machine, and the limit is not kept.
    let dear = ["--max-price", "99999999.999", "backup"];
    refused(
        &world,
        owner,
        &dear,
        1,
        &["storage costs 100000000.000 sat", "limit of 99999999.999 sat", "--max-price"],
    );
    assert!(world.storage_nodes().all(|node| held(&world, node) == 0));
    refused(&world, owner, &["--max-price", "much", "backup"], 2, &["max_price", "much"]);
    let report = world.backup();
    assert_eq!(
        (&report["prepayment"]["balance"], list(&report["prepayment"], "warnings").len()),
        (&Value::Null, 0),
        "{report}"
    );

    // Every node's newest statement is fetched, and found right.
    let mut report = Value::Null;
    let all = wait_until(DEADLINE, || {
        report = world.ok(owner, &["prepayment", "statement"]);
        assert!(list(&report, "faults").is_empty() && report["problem"].is_null(), "{report}");
        list(&report, "statements").len() == 8
    });
    assert!(all, "{report}");
    let statements: BTreeMap<String, Value> = list(&report, "statements")
        .iter()
        .map(|one| (one["storage"].as_str().expect("a name").to_owned(), one.clone()))
        .collect();
    let peers: Vec<String> =
        world.storage_nodes().map(|node| world.swarm.ready(node).expect("runs").peer.clone()).collect();
    assert!(peers.iter().all(|peer| statements.contains_key(peer)), "{statements:?}");
    for one in statements.values() {
        let number = |key: &str| one[key].as_u64().expect("a number");
        assert!(number("earned_msat") > 0 && number("bytes") > 0, "{one}");
        assert_eq!(number("fee_msat"), number("earned_msat") * 25 / 1000, "{one}");
        assert_eq!(one["fault"], Value::Null);
    }

    // They stay, by epoch, whatever comes after; without the mediator, too.
    let one = statements.values().next().expect("there are some");
    let epoch = one["epoch"].to_string();
    let kept = world.ok(owner, &["prepayment", "statement", "--epoch", &epoch]);
    assert!(list(&kept, "statements").contains(one), "{kept}");
    assert!(list(&world.ok(owner, &["prepayment", "statement", "--epoch", "7"]), "statements").is_empty());

    // The mediator's books have charged the same, statement by statement.
    let history = world.ok(owner, &["prepayment", "history"]);
    for (storage, one) in &statements {
        let charged = list(&history, "entries").iter().filter(|entry| entry["storage"] == storage.as_str());
        let until = charged.filter(|entry| entry["epoch"].as_u64() <= one["epoch"].as_u64());
        let sum: u64 = until.map(|entry| entry["amount_msat"].as_u64().expect("a number")).sum();
        let stated =
            one["earned_msat"].as_u64().zip(one["fee_msat"].as_u64()).map(|(earned, fee)| earned + fee);
        assert_eq!(Some(sum), stated, "{storage}: {history}");
    }

    // Nobody can pay in at this mediator, and so nobody is told to.
    for command in [&["balance"][..], &["deposit"], &["deposit", "5000"], &["withdraw", "--to", "bcrt1q"]] {
        refused(
            &world,
            owner,
            &[&["prepayment"], command].concat(),
            1,
            &["mediator cannot take or pay money"],
        );
    }
    refused(&world, owner, &["prepayment", "deposit", "0"], 2, &["above 0"]);
    let status = world.ok(owner, &["status"]);
    assert_eq!(
        (&status["prepayment"]["balance"], list(&status["prepayment"], "warnings").len()),
        (&Value::Null, 0),
        "{status}"
    );
}

#[test]
fn storage_above_the_limit_is_not_used_and_all_devices_go_by_it() {
    let mut world = world("max-price", Plan::small());
    let dear = Member::Storage(3);
    // Its mediator goes by the new price although the old one may have been offered in the same second.
    fs::write(world.swarm.home(dear).join("config.toml"), "price = \"5\"\n").expect("written");
    world.swarm.restart(dear).unwrap_or_else(|error| panic!("starts again: {error}"));
    let limited = |client: &Client, limit: &str| world.ok(client, &["--max-price", limit, "backup"]);
    let eligible = |limit: &str, nodes: u64| {
        let ask = ["--max-price", limit, "status", "--brief"];
        let known = wait_until(DEADLINE, || world.ok(&world.owner, &ask)["eligible"] == nodes);
        assert!(known, "{nodes} nodes qualify up to {limit}");
    };
    eligible("5", 8);
    eligible("4.999", 7);
    limited(&world.owner, "4.999");
    assert!(held(&world, Member::Storage(0)) > 0 && held(&world, dear) == 0);

    // A machine that was never told a limit goes by the one that the others have set, also once
    // another one has replaced it.
    let other = world.recover("other");
    fs::write(world.source.join("second"), "new").expect("written");
    world.ok(&other, &["backup", text(&world.source)]);
    limited(&world.owner, "4.5");
    fs::write(world.source.join("third"), "newer").expect("written");
    world.ok(&other, &["backup", text(&world.source)]);
    assert_eq!(held(&world, dear), 0);

    // Without a limit the same node takes part in what needs all eight.
    let mut bytes = vec![0; 400_000];
    SeededRandom::new(4).fill(&mut bytes);
    fs::write(world.source.join("fourth"), bytes).expect("written");
    world.backup();
    assert!(held(&world, dear) > 0);
    let restored = world.restore(&world.owner, "latest", "restored");
    world.assert_equal(&restored);
}
