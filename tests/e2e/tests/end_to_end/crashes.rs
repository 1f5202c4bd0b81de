//! Ends of every kind, and what is still there after them.

use std::fs;
use std::time::{Duration, Instant};

use fincrypt_e2e::{DEADLINE, Plan};
use fincrypt_testkit::{Member, Signal, compare};

use crate::liars::{LyingHolder, runtime};
use crate::{text, world};

/// What the programs promise.
const GRACE: Duration = Duration::from_secs(10);

#[test]
fn every_role_ends_with_0_within_10_s_of_sigterm_and_of_ctrl_c() {
    let mut world = world("sigterm", Plan::small());
    world.backup();
    for (at, member) in world.swarm.members().into_iter().rev().enumerate() {
        let signal = if at % 2 == 0 { Signal::TERM } else { Signal::INT };
        let status = world.swarm.stop(member, signal, GRACE).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(status.code(), Some(0), "{member} after {signal:?}: {status}");
    }
}

#[test]
fn killed_nodes_that_start_again_lose_nothing() {
    let mut world = world("restarts", Plan::default());
    let first = world.backup();
    let before = world.path("before");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(&world.source).arg(&before).status().expect("cp runs");
    assert!(copied.success());

    for member in [Member::Storage(0), Member::Storage(4), Member::Mediator(0)] {
        world.swarm.kill9(member).expect("a member");
        world.swarm.restart(member).unwrap_or_else(|error| panic!("{member} starts again: {error}"));
    }
    world.wait_eligible(8);
    fs::write(world.source.join("later"), vec![42; 300_000]).expect("written");
    world.backup();
    for member in [Member::Storage(1), Member::Storage(4)] {
        world.swarm.kill9(member).expect("a member");
        world.swarm.restart(member).unwrap_or_else(|error| panic!("{member} starts again: {error}"));
    }
    // Exactly as many go as a segment may lose: those that came back have to have kept their shards.
    for member in [2, 3, 6, 7].map(Member::Storage) {
        world.swarm.kill9(member).expect("a member");
    }
    let (machine, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
    let snapshot = first["snapshot"].as_str().expect("has an id");
    let restored = world.restore(&machine, snapshot, "older");
    let comparison = compare(&before, &restored).expect("compared");
    assert!(comparison.equal(), "{comparison}");
}

#[test]
fn a_backup_after_a_killed_one_completes_it() {
    let world = world("resumes", Plan::default());
    // Ends somewhere in the middle on any machine; where exactly does not matter.
    let hurried = world.owner.with_limit(Duration::from_millis(700));
    let ended = hurried.run(["backup"]);
    eprintln!("the first backup {}", if ended.is_ok() { "was done already" } else { "was killed" });
    let report = world.backup();
    assert!(report["files"].as_u64() > Some(0), "{report}");
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
    let verified = world.ok(&world.owner, &["verify", "--all"]);
    assert_eq!(verified["good"], verified["shards"], "{verified}");
}

#[test]
fn a_backup_goes_on_when_storage_nodes_are_gone_before_it() {
    let mut world = world("fewer", Plan::small());
    world.backup();
    for dead in [3, 6] {
        world.swarm.kill9(Member::Storage(dead)).expect("a member");
    }
    fs::write(world.source.join("later"), vec![7; 100_000]).expect("written");
    let report = world.ok(&world.owner, &["backup", text(&world.source)]);
    assert!(report["bytes_uploaded"].as_u64() > Some(0), "{report}");
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
}

#[test]
fn with_every_head_and_index_lost_the_words_still_bring_everything_back_from_the_shards() {
    let mut world = world("shards-alone", Plan::default());
    world.backup();
    world.swarm.kill9(Member::Mediator(0)).expect("a member");
    for member in world.storage_nodes() {
        world.swarm.kill9(member).expect("a member");
        fs::remove_dir_all(world.swarm.home(member).join("state")).expect("removed");
        world.swarm.restart(member).unwrap_or_else(|error| panic!("{member} starts again: {error}"));
    }
    // One more says that it holds all of it and ever more, and has nothing.
    let runtime = runtime();
    let liar = runtime.block_on(LyingHolder::start(&world, |tag| tag));
    // A node that has just started needs a moment to announce whose shards it holds.
    let begun = Instant::now();
    let (machine, recovered) = loop {
        assert!(begun.elapsed() < DEADLINE, "not all nodes announced their shards");
        let before = liar.pages();
        let machine = world.owner.with_home(world.path(&format!("machine-{}", begun.elapsed().as_millis())));
        let outcome = world.run(&machine, &["recover", "--words-file", text(&world.words)]);
        if outcome.code == Some(0) && outcome.json()["holders"] == 9 {
            assert!((1..20).contains(&(liar.pages() - before)), "{} pages", liar.pages() - before);
            break (machine, outcome.json());
        }
    };
    assert!(recovered["rebuilt_segments"].as_u64().is_some_and(|segments| segments > 0), "{recovered}");
    assert_eq!(recovered["sequence"].as_u64(), Some(0), "{recovered}");
    let restored = world.restore(&machine, "latest", "restored");
    world.assert_equal(&restored);
    // The next backup writes the catalog anew: another machine needs no rebuilding any more.
    world.swarm.restart(Member::Mediator(0)).unwrap_or_else(|error| panic!("starts again: {error}"));
    world.swarm.wait_eligible(&machine, 8, DEADLINE).unwrap_or_else(|error| panic!("{error}"));
    world.ok(&machine, &["backup", text(&world.source)]);
    let (last, restored) = world.bring_back("last-machine");
    world.assert_equal(&restored);
    let listed = world.ok(&last, &["snapshots"]);
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(2), "{listed}");
}
