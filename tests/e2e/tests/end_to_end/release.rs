//! Deleting, and the thief of a machine who does it: storage waits, and the words undo it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_testkit::{Client, Member, wait_until};
use serde_json::Value;

use crate::{text, world};

/// Seconds that storage waits here: enough for the words to be found on a busy machine.
const DELAY: u64 = 45;

fn plan(release_delay: u64) -> Plan {
    Plan { release_delay: Some(release_delay), ..Plan::small() }
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}

/// A copy of the owner's machine; the thief knows the password.
fn stolen(world: &World) -> Client {
    let home = world.path("stolen");
    let copied = std::process::Command::new("cp").arg("-a").arg(world.owner.home()).arg(&home).status();
    assert!(copied.expect("cp runs").success());
    world.owner.with_home(home)
}

/// Another vault in the same swarm, backed up.
fn neighbour(world: &World) -> Client {
    let client = world.owner.with_home(world.path("neighbour"));
    let words = world.path("neighbours-words");
    world.ok(&client, &["init", text(&world.source), "--words-file", text(&words)]);
    world.ok(&client, &["backup"]);
    client
}

/// Releases everything, of which all of eight holders hear; when it is due.
fn release(world: &World, client: &Client) -> u64 {
    release_heard(world, client, 8)
}

fn release_heard(world: &World, client: &Client, heard: u64) -> u64 {
    let released = world.ok(client, &["release", "--all", "--yes"]);
    assert_eq!((&released["holders"], &released["heard"]), (&8.into(), &heard.into()), "{released}");
    let until = released["until"].as_u64().expect("a time");
    assert!(until > now(), "{released}");
    until
}

/// Undoes with the words, on a machine that has nothing else.
fn undo(world: &World, arguments: &[&str]) -> Value {
    let machine = world.owner.with_home(world.path("anywhere"));
    let undo = ["undo-release", "--words-file", text(&world.words)];
    world.ok(&machine, &[&undo, arguments].concat())
}

fn snapshots(world: &World, client: &Client) -> usize {
    world.ok(client, &["snapshots"])["snapshots"].as_array().map_or(0, Vec::len)
}

/// Waits until exactly `bytes` are held, from the time `due` on.
fn wait_held(world: &World, bytes: u64, due: u64) {
    let left = Duration::from_secs(due.saturating_sub(now()));
    let reached = wait_until(left + DEADLINE, || world.swarm.held() == bytes);
    assert!(reached, "{} bytes are held, not {bytes}", world.swarm.held());
    assert!(now() >= due, "deleted before its time");
}

/// A machine recovered from the head that has a catalog, and what it restores.
fn bring_back_older(world: &World, name: &str, sequence: u64) -> (Client, PathBuf) {
    let machine = world.owner.with_home(world.path(name));
    let listed = world.ok(&machine, &["recover", "--words-file", text(&world.words), "--list-heads"]);
    let heads = listed["heads"].as_array().cloned().unwrap_or_default();
    assert_eq!(heads.last().map(|head| &head["catalog_segments"]), Some(&0.into()), "the thief's: {listed}");
    let good = |head: &&Value| head["sequence"] == sequence && head["catalog_segments"] != 0;
    assert!(heads.iter().any(|head| good(&head) && head["holders"] == 8), "{listed}");
    world.ok(&machine, &["recover", "--words-file", text(&world.words), "--head", &sequence.to_string()]);
    let restored = world.restore(&machine, "latest", &format!("{name}-restored"));
    (machine, restored)
}

#[test]
fn a_thief_who_deletes_everything_is_undone_by_the_words() {
    let mut world = world("thief", plan(DELAY));
    world.backup();
    let mine = world.swarm.held();
    let neighbour = neighbour(&world);
    assert!(world.swarm.held() > mine);

    let thief = stolen(&world);
    let due = release(&world, &thief);
    assert_eq!(snapshots(&world, &thief), 0, "the thief's head is empty");
    // One storage node is away meanwhile: the mediator tells it when it is back.
    world.swarm.kill9(Member::Storage(5)).expect("a member");
    let undone = undo(&world, &[]);
    world.swarm.restart(Member::Storage(5)).unwrap_or_else(|error| panic!("starts again: {error}"));
    assert!(now() + 10 < due, "too slow to tell anything");
    assert_eq!((&undone["heard"], &undone["cancelled"]), (&7.into(), &7.into()), "{undone}");
    assert_eq!((&undone["mediators"], &undone["guarded"]), (&1.into(), &true.into()), "{undone}");
    let again = world.code(&thief, &["release", "--all", "--yes"], 1);
    assert!(again.stderr.contains("guarded"), "{}", again.stderr);

    // The neighbour's go later than the thief would have had it, and nobody's else.
    let later = release(&world, &neighbour);
    assert!(later >= due);
    wait_held(&world, mine, later);
    let (machine, restored) = bring_back_older(&world, "new-machine", 1);
    world.assert_equal(&restored);

    // What the new machine writes counts, also at a mediator that was killed meanwhile, and what the
    // thief's keys sign does not: the words alone suffice again.
    world.swarm.kill9(Member::Mediator(0)).expect("a member");
    world.swarm.restart(Member::Mediator(0)).unwrap_or_else(|error| panic!("starts again: {error}"));
    world.wait_eligible(8);
    let report = world.ok(&machine, &["backup", text(&world.source)]);
    assert!(report["bytes_uploaded"].as_u64() < Some(256 << 10), "only the news are sent: {report}");
    for command in [&["backup"] as &[&str], &["snapshots"], &["release", "--all", "--yes"]] {
        let refused = world.code(&thief, command, 1);
        assert!(refused.stderr.contains("rewound"), "{}", refused.stderr);
    }
    let (last, restored) = world.bring_back("last-machine");
    world.assert_equal(&restored);
    assert_eq!(snapshots(&world, &last), 2);
    let verified = world.ok(&last, &["verify", "--all"]);
    assert_eq!(verified["good"], verified["shards"], "{verified}");

    // Once the guard is lifted the owner alone deletes.
    undo(&world, &["--lift"]);
    let refused = world.code(&thief, &["release", "--all", "--yes"], 1);
    assert!(refused.stderr.contains("rewound"), "{}", refused.stderr);
    release(&world, &last);
}

#[test]
fn neither_release_nor_undo_is_lost_when_storage_is_killed_and_the_mediator_is_dead() {
    let mut world = world("thief-killed", plan(DELAY));
    world.backup();
    let mine = world.swarm.held();
    let neighbour = neighbour(&world);
    let thief = stolen(&world);
    let due = release(&world, &thief);
    let later = release(&world, &neighbour);
    world.swarm.kill9(Member::Mediator(0)).expect("a member");
    let undone = undo(&world, &[]);
    assert!(now() < due, "too slow to tell anything");
    assert_eq!((&undone["cancelled"], &undone["mediators"]), (&8.into(), &0.into()), "{undone}");
    for member in world.storage_nodes() {
        world.swarm.kill9(member).expect("a member");
        world.swarm.restart(member).unwrap_or_else(|error| panic!("{member} starts again: {error}"));
    }
    wait_held(&world, mine, later);
    let (_, restored) = bring_back_older(&world, "new-machine", 1);
    world.assert_equal(&restored);
}

#[test]
fn what_is_released_and_not_undone_is_deleted_exactly_and_may_be_stored_anew() {
    let mut world = world("released", plan(24));
    world.backup();
    let old = world.swarm.held();
    let refused = world.code(&world.owner, &["release", "--all"], 2);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    let due = release(&world, &world.owner);
    // Stored before the old is gone: nothing of it may count as stored already.
    world.backup();
    assert!(now() < due, "too slow to tell anything");
    let kept = world.swarm.held() - old;
    assert!(kept > old / 2, "everything was sent again: {kept} of {old}");
    wait_held(&world, kept, due);
    let (machine, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
    assert_eq!(snapshots(&world, &machine), 1);
    let verified = world.ok(&machine, &["verify", "--all"]);
    assert_eq!(verified["good"], verified["shards"], "{verified}");

    // A node that missed the release hears it before anything new comes to it: that stays.
    let old = world.swarm.held();
    world.swarm.kill9(Member::Storage(6)).expect("a member");
    let due = release_heard(&world, &machine, 7);
    world.swarm.restart(Member::Storage(6)).unwrap_or_else(|error| panic!("starts again: {error}"));
    world.ok(&machine, &["backup", text(&world.source)]);
    assert!(now() < due, "too slow to tell anything");
    let kept = world.swarm.held() - old;
    wait_held(&world, kept, due);
    let verified = world.ok(&machine, &["verify", "--all"]);
    assert_eq!(verified["good"], verified["shards"], "{verified}");

    // The mediator remembers whom it has to tell, even if both are killed.
    world.swarm.kill9(Member::Storage(3)).expect("a member");
    let due = release_heard(&world, &machine, 7);
    for member in [Member::Mediator(0), Member::Storage(3)] {
        world.swarm.kill9(member).expect("a member");
        world.swarm.restart(member).unwrap_or_else(|error| panic!("{member} starts again: {error}"));
    }
    wait_held(&world, 0, due);
    // There is nothing to undo any more, and it says so.
    let undone = undo(&world, &[]);
    assert_eq!((&undone["heard"], &undone["cancelled"]), (&8.into(), &0.into()), "{undone}");
}

#[test]
fn a_guarded_vault_keeps_its_catalog_and_a_lifted_guard_lets_its_owner_delete_again() {
    let world = world("lifted", plan(DELAY));
    world.backup();
    let undone = undo(&world, &[]);
    assert_eq!((&undone["heard"], &undone["cancelled"]), (&8.into(), &0.into()), "{undone}");
    let refused = world.code(&world.owner, &["release", "--all", "--yes"], 1);
    assert!(refused.stderr.contains("guarded"), "{}", refused.stderr);
    assert_eq!(snapshots(&world, &world.owner), 1);
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
    let undone = undo(&world, &["--lift"]);
    assert_eq!((&undone["guarded"], &undone["cancelled"]), (&false.into(), &0.into()), "{undone}");
    release(&world, &world.owner);
}
