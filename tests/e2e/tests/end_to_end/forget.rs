//! Forgetting snapshots and giving back their room.

use std::fs;
use std::path::Path;
use std::time::Duration;

use fincrypt_e2e::{DEADLINE, Plan, World, seed};
use fincrypt_testkit::{Client, SeededRandom, compare, wait_until};
use serde_json::Value;

use crate::interruptions::write_noise;
use crate::{disk, text, world};

/// Seconds that storage waits with deleting.
const DELAY: u64 = 3;
/// Data of one snapshot that no other has.
const OWN: u64 = 3 << 20;

fn plan(release_delay: u64) -> Plan {
    Plan { release_delay: Some(release_delay), ..Plan::small() }
}

fn snapshot(world: &World) -> String {
    world.backup()["snapshot"].as_str().expect("an id").to_owned()
}

fn listed(world: &World, client: &Client) -> Vec<String> {
    let list = world.ok(client, &["snapshots"]);
    let ids = list["snapshots"].as_array().expect("a list");
    ids.iter().map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
}

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"))
}

/// Three snapshots, each with data of its own; their ids.
fn three_snapshots(world: &World, random: &mut SeededRandom) -> Vec<String> {
    let taken = (0..3).map(|_| {
        write_noise(&world.source.join("own"), OWN, random);
        snapshot(world)
    });
    taken.collect()
}

fn all_good(world: &World, client: &Client) {
    let verified = world.ok(client, &["verify", "--all"]);
    assert_eq!(verified["good"], verified["shards"], "{verified}");
}

/// Restores the latest from the words alone.
fn assert_brought_back(world: &World, expected: &Path, name: &str) -> Client {
    let (machine, restored) = world.bring_back(name);
    let comparison = compare(expected, &restored).expect("compared");
    assert!(comparison.equal() && comparison.files > 0, "{comparison}");
    machine
}

#[test]
fn what_only_forgotten_snapshots_used_is_deleted_and_the_last_restores() {
    let world = world("forget", plan(DELAY));
    let taken = three_snapshots(&world, &mut SeededRandom::new(seed()));
    let refused = world.code(&world.owner, &["forget"], 2);
    assert!(refused.stderr.contains("--keep-last"), "{}", refused.stderr);
    let dry = world.ok(&world.owner, &["forget", "--keep-last", "1", "--dry-run"]);
    assert_eq!(dry["forgotten"].as_array().map(Vec::len), Some(2), "{dry}");
    assert_eq!(listed(&world, &world.owner), taken);

    let report = world.ok(&world.owner, &["forget", "--keep-last", "1"]);
    assert_eq!(report["kept"][0]["reasons"], serde_json::json!(["newest", "last"]), "{report}");
    assert_eq!(listed(&world, &world.owner), taken[2..]);
    let before = world.swarm.held();
    let dry = world.ok(&world.owner, &["prune", "--dry-run", "--now"]);
    assert!(number(&dry, "bytes_marked") > 2 * OWN, "{dry}");
    // Marked first, and released by a later run only.
    let first = world.ok(&world.owner, &["prune"]);
    assert_eq!(number(&first, "bytes_marked"), number(&dry, "bytes_marked"), "{first}");
    assert_eq!(number(&first, "released"), 0, "{first}");
    let early = world.ok(&world.owner, &["prune"]);
    assert_eq!((number(&early, "released"), number(&early, "marked")), (0, 0), "{early}");
    assert!(world.swarm.held() >= before);
    let second = world.ok(&world.owner, &["prune", "--now"]);
    assert!(number(&second, "bytes_released") >= number(&first, "bytes_marked"), "{second}");

    // As much as the last one alone needs: another vault shows how much that is.
    let with_both = world.swarm.held();
    let other = world.owner.with_home(world.path("other"));
    world.ok(&other, &["init", text(&world.source), "--words-file", text(&world.path("other-words"))]);
    let needed = number(&world.ok(&other, &["backup"]), "bytes_stored");
    let others = world.swarm.held().saturating_sub(with_both).max(needed);
    let most = others + needed * 21 / 20 + (512 << 10);
    let fell = wait_until(DEADLINE, || world.swarm.held() <= most);
    assert!(fell, "{} are held, not {most}", world.swarm.held());
    let machine = assert_brought_back(&world, &world.source, "new-machine");
    assert_eq!(listed(&world, &machine), taken[2..]);
    all_good(&world, &machine);
    // There is nothing left to do, however often it is asked for.
    let idle = world.ok(&machine, &["prune", "--now"]);
    assert_eq!((number(&idle, "marked"), number(&idle, "released")), (0, 0), "{idle}");
}

#[test]
fn a_prune_that_is_killed_anywhere_leaves_every_kept_snapshot_whole() {
    let world = world("prune-killed", plan(DELAY));
    let mut random = SeededRandom::new(seed());
    // Half of what the first two stored is used by the last: it has to be packed anew.
    for at in 0..2 {
        write_noise(&world.source.join(format!("stays-{at}")), OWN, &mut random);
        write_noise(&world.source.join(format!("goes-{at}")), OWN, &mut random);
        snapshot(&world);
        fs::remove_file(world.source.join(format!("goes-{at}"))).expect("removed");
    }
    let last = snapshot(&world);
    let old = disk::held(&world);
    world.ok(&world.owner, &["forget", "--keep-last", "1"]);
    let mut killed = 0;
    for round in 0..4 {
        // From before anything is sent to after the head.
        let mut ticks = 0;
        let until = 20 + random.below(60 << round);
        let prune = ["prune", "--now", "--max-unused", "0"];
        let outcome = world.owner.run_until(prune, Duration::from_millis(5), || {
            ticks += 1;
            ticks > until
        });
        let ended = outcome.expect("runs");
        killed += usize::from(ended.is_none());
        assert!(ended.is_none_or(|outcome| outcome.code == Some(0)));
    }
    assert!(killed > 0, "no prune was killed");
    world.ok(&world.owner, &["prune", "--now", "--max-unused", "0"]);
    world.ok(&world.owner, &["prune", "--now", "--max-unused", "0"]);
    // Segments that a kill left unfinished lapse later; of the old ones, those not needed go now.
    assert!(wait_until(DEADLINE, || !old.is_subset(&disk::held(&world))), "nothing is deleted");
    let machine = assert_brought_back(&world, &world.source, "new-machine");
    assert_eq!(listed(&world, &machine), [last]);
    all_good(&world, &machine);
    // The owner's own state is whole, too.
    let report = world.backup();
    assert!(number(&report, "bytes_new") < 256 << 10, "{report}");
}

#[test]
fn a_device_that_backs_up_while_another_prunes_stores_again_what_it_counted_on() {
    let world = world("prune-devices", plan(DELAY));
    let mut random = SeededRandom::new(seed());
    let shared = world.path("shared");
    fs::create_dir(&shared).expect("made");
    write_noise(&shared.join("data"), OWN, &mut random);
    // Both know the data; then nothing uses it any more.
    world.ok(&world.owner, &["backup", text(&shared)]);
    let old = disk::held(&world);
    let other = world.recover("other");
    world.backup();
    let first = listed(&world, &world.owner).remove(0);
    // Long enough for the prune to come in the middle.
    write_noise(&shared.join("more"), 8 * OWN, &mut random);
    let running = {
        let (other, shared) = (other.clone(), shared.clone());
        std::thread::spawn(move || other.run(["backup", text(&shared)]).expect("runs"))
    };
    world.ok(&world.owner, &["forget", &first, "--prune"]);
    world.ok(&world.owner, &["prune", "--now"]);
    let outcome = running.join().expect("no panic");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    eprintln!("the last try stored {:?} bytes", outcome.number("bytes_new"));
    world.ok(&world.owner, &["prune", "--now", "--max-unused", "0"]);
    world.ok(&world.owner, &["prune", "--now", "--max-unused", "0"]);
    assert!(wait_until(DEADLINE, || !old.is_subset(&disk::held(&world))), "nothing is deleted");
    for (at, device) in [&world.owner, &other].into_iter().enumerate() {
        let target = world.path(&format!("target-{at}"));
        let id = outcome.json()["snapshot"].as_str().expect("an id").to_owned();
        world.ok(device, &["restore", &id, "--target", text(&target)]);
        let comparison = compare(&shared, &target.join("shared")).expect("compared");
        assert!(comparison.equal() && comparison.files == 2, "{comparison}");
        all_good(&world, device);
    }
}

#[test]
fn an_undone_prune_leaves_everything_and_the_forgotten_can_be_brought_back() {
    let world = world("prune-undone", plan(600));
    let taken = three_snapshots(&world, &mut SeededRandom::new(seed()));
    let status = world.ok(&world.owner, &["status"]);
    let before = number(&status, "sequence").to_string();
    let all = disk::held(&world);
    world.ok(&world.owner, &["forget", &taken[0], &taken[1], "--prune"]);
    let second = world.ok(&world.owner, &["prune", "--now"]);
    assert!(number(&second, "released") > 0, "{second}");
    let anywhere = world.owner.with_home(world.path("anywhere"));
    let undone = world.ok(&anywhere, &["undo-release", "--words-file", text(&world.words)]);
    assert!(number(&undone, "cancelled") > 0, "{undone}");
    assert!(all.is_subset(&disk::held(&world)), "something is gone");
    // The vault goes on, and releases nothing while it is guarded.
    let prune = ["prune", "--now", "--max-unused", "0"];
    let guarded = world.run(&world.owner, &prune);
    assert!(matches!(guarded.code, Some(0 | 3)), "{}", guarded.stderr);
    assert_eq!(guarded.number("released"), Some(0), "{}", guarded.stdout);
    world.backup();
    assert_brought_back(&world, &world.source, "new-machine");
    // And the head from before brings the forgotten back.
    let older = world.owner.with_home(world.path("older"));
    world.ok(&older, &["recover", "--words-file", text(&world.words), "--head", &before]);
    assert_eq!(listed(&world, &older), taken);
    world.restore(&older, &taken[0], "first-restored");
    all_good(&world, &older);
}

#[test]
fn many_small_backups_are_merged_and_all_of_them_restore() {
    // Catalog and data of each are one small segment.
    let world = world("merged", plan(DELAY));
    let tiny = world.path("tiny");
    fs::create_dir(&tiny).expect("made");
    let mut random = SeededRandom::new(seed());
    let mut merged = 0;
    for at in 0..64 {
        write_noise(&tiny.join(format!("file-{at}")), 2000, &mut random);
        let report = world.ok(&world.owner, &["backup", text(&tiny)]);
        merged = number(&report, "merged");
        assert_eq!(merged > 0, at == 63, "backup {at}: {report}");
    }
    assert_eq!(merged, 64);
    assert!(number(&world.ok(&world.owner, &["status"]), "segments") < 5);
    world.ok(&world.owner, &["prune", "--now"]);
    let held = world.swarm.held();
    assert!(wait_until(DEADLINE, || world.swarm.held() < held / 3), "{} of {held}", world.swarm.held());
    let machine = world.recover("new-machine");
    assert_eq!(listed(&world, &machine).len(), 64);
    all_good(&world, &machine);
    let target = world.path("restored");
    world.ok(&machine, &["restore", "latest", "--target", text(&target)]);
    let comparison = compare(&tiny, &target.join("tiny")).expect("compared");
    assert!(comparison.equal() && comparison.files == 64, "{comparison}");
}
