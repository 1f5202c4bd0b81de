//! Mediators are replaceable: a vault moves to another one, and does without any.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fincrypt_e2e::{DEADLINE, Plan, World, seed};
use fincrypt_testkit::{Client, Member, SeededRandom, wait_until};
use serde_json::Value;

use crate::interruptions::write_noise;
use crate::{disk, text, world};

fn plan() -> Plan {
    Plan { mediators: 2, ..Plan::small() }
}

fn peer(world: &World, member: Member) -> String {
    world.swarm.ready(member).expect("it runs").peer.clone()
}

/// The vault's mediator, and the other one.
fn mediators(world: &World) -> (Member, Member) {
    let ours = world.ok(&world.owner, &["status"])["mediator"].as_str().expect("one").to_owned();
    let (one, other) = (Member::Mediator(0), Member::Mediator(1));
    if peer(world, one) == ours { (one, other) } else { (other, one) }
}

fn move_to(world: &World, client: &Client, member: Member) -> Value {
    world.ok(client, &["mediator", "use", &peer(world, member)])
}

/// Every shard file of the storage nodes, and when it was written.
fn shards(world: &World) -> BTreeMap<PathBuf, SystemTime> {
    let homes = world.storage_nodes().map(|member| world.swarm.home(member).join("shards"));
    let files = homes.flat_map(|home| disk::files(&home));
    files.map(|path| (path.clone(), fs::metadata(path).expect("there").modified().expect("known"))).collect()
}

fn add(world: &World, name: &str) {
    fs::write(world.source.join(name), format!("{name} was written later")).expect("written");
}

fn copy(from: &Path, to: &Path) {
    for path in disk::files(from) {
        let target = to.join(path.strip_prefix(from).expect("below"));
        fs::create_dir_all(target.parent().expect("a folder")).expect("made");
        fs::copy(path, target).expect("copied");
    }
}

#[test]
fn a_vault_moves_without_its_data_and_the_old_mediator_ends_its_duties() {
    let mut world = world("move", plan());
    world.backup();
    let other_device = world.recover("other-device");
    let (old, new) = mediators(&world);
    let list = world.ok(&world.owner, &["mediator", "list"]);
    let list = list["mediators"].as_array().expect("a list");
    assert_eq!(list.len(), 2, "{list:?}");
    let ours: Vec<_> = list.iter().filter(|mediator| mediator["ours"] == true).collect();
    assert_eq!((ours.len(), ours[0]["peer"].as_str()), (1, Some(peer(&world, old).as_str())));

    let before = shards(&world);
    let report = move_to(&world, &world.owner, new);
    assert_eq!((&report["complete"], &report["old_told"]), (&true.into(), &true.into()), "{report}");
    assert_eq!((&report["found"], &report["heard"]), (&8.into(), &8.into()), "{report}");
    assert!(report["segments"].as_u64() > Some(0), "{report}");
    assert!(shards(&world) == before, "no shard was written");
    // It still knows the old mediator, which lets nobody in any more.
    let status = world.ok(&other_device, &["status"]);
    assert_eq!(status["mediator"].as_str(), Some(peer(&world, new).as_str()), "{status}");

    world.swarm.kill9(old).expect("a member");
    add(&world, "later");
    world.backup();
    let restored = world.restore(&world.owner, "latest", "target");
    world.assert_equal(&restored);
    let (machine, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
    add(&world, "later-still");
    world.ok(&machine, &["backup", world.source.to_str().expect("UTF-8")]);
}

#[test]
fn a_release_that_the_old_mediator_did_not_tell_everyone_is_told_by_the_new_one() {
    let mut world = world("move-release", Plan { release_delay: Some(1), ..plan() });
    let mut random = SeededRandom::new(seed());
    let old = world.source.join("old");
    write_noise(&old, 1 << 20, &mut random);
    world.backup();
    let away = Member::Storage(0);
    let of = |world: &World| -> BTreeSet<_> {
        disk::shards(&world.swarm.home(away)).iter().map(disk::position).collect()
    };
    let first = of(&world);
    fs::remove_file(old).expect("removed");
    world.backup();
    world.ok(&world.owner, &["forget", "--keep-last", "1"]);
    world.ok(&world.owner, &["prune"]);
    let (old, new) = mediators(&world);
    world.swarm.kill9(away).expect("a member");
    let released = world.ok(&world.owner, &["prune", "--now"]);
    assert!(released["released"].as_u64() > Some(0), "{released}");
    world.swarm.kill9(old).expect("a member");
    world.swarm.restart(away).expect("starts again");
    assert!(first.is_subset(&of(&world)), "nobody has told it");
    let report = move_to(&world, &world.owner, new);
    assert_eq!(report["complete"], true, "{report}");
    let deleted = wait_until(DEADLINE, || first.is_disjoint(&of(&world)));
    assert!(deleted, "{} of {} are left", first.intersection(&of(&world)).count(), first.len());
    let restored = world.restore(&world.owner, "latest", "target");
    world.assert_equal(&restored);
}

#[test]
fn a_mediator_that_was_away_during_the_move_learns_it_from_storage() {
    let mut world = world("move-unseen", plan());
    world.backup();
    let other_device = world.recover("other-device");
    let (old, new) = mediators(&world);
    world.swarm.kill9(old).expect("a member");
    let report = move_to(&world, &world.owner, new);
    assert_eq!((&report["complete"], &report["old_told"]), (&true.into(), &false.into()), "{report}");
    world.swarm.restart(old).expect("starts again");
    let mut status = Value::Null;
    let follows = wait_until(DEADLINE, || {
        status = world.ok(&other_device, &["status"]);
        status["mediator"].as_str() == Some(peer(&world, new).as_str())
    });
    assert!(follows, "{status}");
    add(&world, "later");
    world.ok(&other_device, &["backup", world.source.to_str().expect("UTF-8")]);
    let restored = world.restore(&world.owner, "latest", "target");
    world.assert_equal(&restored);
}

#[test]
fn a_takeover_goes_on_after_the_new_mediators_death() {
    let mut world = world("takeover-death", plan());
    world.backup();
    let (old, new) = mediators(&world);
    // One holder is away, so the takeover cannot be over when the mediator dies.
    let away = Member::Storage(0);
    world.swarm.kill9(away).expect("a member");
    let report = move_to(&world, &world.owner, new);
    assert_eq!((&report["complete"], &report["heard"]), (&false.into(), &7.into()), "{report}");
    world.swarm.kill9(old).expect("a member");
    world.swarm.kill9(new).expect("a member");
    world.swarm.restart(new).expect("starts again");
    world.swarm.restart(away).expect("starts again");
    world.wait_eligible(8);
    let over = wait_until(DEADLINE, || world.swarm.logs().contains("vault_migrated_in"));
    assert!(over, "{}", world.swarm.logs());
    add(&world, "later");
    world.backup();
    let restored = world.restore(&world.owner, "latest", "target");
    world.assert_equal(&restored);
}

#[test]
fn without_any_mediator_the_words_bring_everything_back_and_another_goes_on() {
    let mut world = world("none-left", plan());
    world.backup();
    let (old, new) = mediators(&world);
    world.swarm.kill9(old).expect("a member");
    world.swarm.kill9(new).expect("a member");
    let (machine, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
    world.swarm.restart(new).expect("starts again");
    let report = move_to(&world, &machine, new);
    assert_eq!(report["complete"], true, "{report}");
    add(&world, "later");
    let report = world.ok(&machine, &["backup", world.source.to_str().expect("UTF-8")]);
    assert!(report["bytes_uploaded"].as_u64() < Some(64 << 10), "what is stored is known: {report}");
    let (_, restored) = world.bring_back("newer-machine");
    world.assert_equal(&restored);
}

#[test]
fn a_mediator_that_came_back_with_an_older_state_is_brought_up_to_date() {
    let mut world = world("older-state", Plan::small());
    world.backup();
    let member = Member::Mediator(0);
    let (home, kept) = (world.swarm.home(member), world.path("older"));
    world.swarm.kill9(member).expect("a member");
    copy(&home.join("state"), &kept);
    world.swarm.restart(member).expect("starts again");
    world.wait_eligible(8);
    add(&world, "later");
    world.backup();
    world.swarm.kill9(member).expect("a member");
    fs::remove_dir_all(home.join("state")).expect("removed");
    copy(&kept, &home.join("state"));
    world.swarm.restart(member).expect("starts again");
    world.wait_eligible(8);
    let refused = world.code(&world.owner, &["backup"], 1);
    assert!(refused.stderr.contains("fincrypt mediator use"), "{}", refused.stderr);
    let report = move_to(&world, &world.owner, member);
    assert_eq!(report["complete"], true, "{report}");
    add(&world, "later-still");
    world.backup();
    let restored = world.restore(&world.owner, "latest", "target");
    world.assert_equal(&restored);
}

#[test]
fn a_client_moves_by_itself_only_if_patience_is_over_and_it_may() {
    let mut world = world("patience", plan());
    world.backup();
    let (old, new) = mediators(&world);
    world.swarm.kill9(old).expect("a member");
    let refused = world.code(&world.owner, &["backup"], 1);
    assert!(refused.stderr.contains("try again later"), "{}", refused.stderr);
    let config = world.owner.home().join("config.toml");
    let text = fs::read_to_string(&config).expect("read");
    fs::write(&config, format!("mediator_timeout = 1\n{text}")).expect("written");
    let over = wait_until(DEADLINE, || {
        let refused = world.code(&world.owner, &["backup"], 1);
        refused.stderr.contains("fincrypt mediator use")
    });
    assert!(over, "a second's patience does not end");
    fs::write(&config, format!("mediator_timeout = 1\nauto_migrate = true\n{text}")).expect("written");
    add(&world, "later");
    world.backup();
    let status = world.ok(&world.owner, &["status"]);
    assert_eq!(status["mediator"].as_str(), Some(peer(&world, new).as_str()), "{status}");
}

#[test]
fn a_vault_in_a_later_slot_is_found_by_its_words() {
    let world = world("slot", Plan::small());
    let (home, words) = (world.path("later-slot"), world.path("later-words"));
    let (source, words) = (world.source.to_str().expect("UTF-8"), words.to_str().expect("UTF-8"));
    let later = world.owner.with_home(home);
    world.code(
        &later,
        &["init", source, "--words-file", world.path("no").to_str().expect("UTF-8"), "--slot", "32"],
        2,
    );
    world.ok(&later, &["init", source, "--words-file", words, "--slot", "19"]);
    world.ok(&later, &["backup"]);
    let machine = world.owner.with_home(world.path("machine"));
    let report = world.ok(&machine, &["recover", "--words-file", words]);
    assert_eq!(report["snapshots"], 1, "{report}");
    let restored = world.restore(&machine, "latest", "target");
    world.assert_equal(&restored);
    add(&world, "later");
    world.ok(&machine, &["backup", source]);
}

#[test]
fn a_vault_that_the_words_rewound_moves_to_a_mediator_that_never_heard_of_it() {
    let world = world("rewound", plan());
    world.backup();
    std::fs::write(world.source.join("unwanted"), b"written by somebody else").expect("written");
    world.backup();
    std::fs::remove_file(world.source.join("unwanted")).expect("removed");
    let anywhere = world.owner.with_home(world.path("anywhere"));
    let undo = ["undo-release", "--words-file", text(&world.words), "--rewind", "1"];
    let undone = world.ok(&anywhere, &undo);
    assert_eq!(undone["rewound"], 8, "{undone}");

    let machine = world.owner.with_home(world.path("machine"));
    let recovered = world.ok(&machine, &["recover", "--words-file", text(&world.words)]);
    assert_eq!(recovered["sequence"], 1, "{recovered}");
    move_to(&world, &machine, Member::Mediator(1));
    world.ok(&machine, &["backup", text(&world.source)]);
    let (last, restored) = world.bring_back("last-machine");
    world.assert_equal(&restored);
    let listed = world.ok(&last, &["snapshots"]);
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(2), "{listed}");
    let refused = world.code(&world.owner, &["backup"], 1);
    assert!(refused.stderr.contains("rewound"), "{}", refused.stderr);
}
