//! Kills at random moments in the middle of a backup, and what is not lost or done twice by them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use fincrypt_e2e::{DEADLINE, Plan, World, seed};
use fincrypt_protocol::Manifest;
use fincrypt_state::journal::Journal;
use fincrypt_state::state::State;
use fincrypt_testkit::{Member, SeededRandom, compare, wait_until};
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::index::{BlobIndex, IndexPiece};
use fincrypt_vault::segment::Directory;

use crate::{disk, text, world};

/// New data of one round: five segments of 4 MiB.
const ROUND: u64 = 20 << 20;
const ROUNDS: usize = 3;
/// How often a kill's moment is looked for.
const TICK: Duration = Duration::from_millis(5);

/// A file that no compression makes smaller.
pub(crate) fn write_noise(path: &Path, length: u64, random: &mut SeededRandom) {
    let mut bytes = vec![0; usize::try_from(length).expect("fits")];
    random.fill(&mut bytes);
    fs::write(path, bytes).expect("written");
}

/// The segments that an interrupted run had finished, from its journal: see `fincrypt-node`,
/// `client/run_journal.rs`.
fn finished(home: &Path) -> Vec<(Manifest, Directory)> {
    let copy = home.with_extension("journal");
    if fs::copy(home.join("journal/run"), &copy).is_err() {
        return Vec::new();
    }
    let mut records = Vec::new();
    Journal::open(&copy, 4 << 20, |record| records.push(record.to_vec())).expect("a journal");
    let pieces = records.iter().skip(1).map(|piece| IndexPiece::decode(piece).expect("a piece"));
    pieces.flat_map(|piece| piece.segments).collect()
}

/// The blobs of which every part is in these segments, and their lengths.
fn complete(segments: &[(Manifest, Directory)]) -> BTreeMap<BlobId, u64> {
    let mut parts: BTreeMap<BlobId, (u16, u64)> = BTreeMap::new();
    for entry in segments.iter().flat_map(|(_, directory)| directory.entries()) {
        let blob = parts.entry(entry.blob).or_insert((entry.parts, entry.raw_len.into()));
        blob.0 -= 1;
    }
    parts.retain(|_, (missing, _)| *missing == 0);
    parts.into_iter().map(|(blob, (_, length))| (blob, length)).collect()
}

/// Ends the test if a blob of a finished segment lies in two places, or such a segment was forgotten.
fn assert_stored_once(world: &World, finished: &[(Manifest, Directory)]) {
    let (state, _) = State::open(&world.owner.home().join("state")).expect("opens");
    let segments = BlobIndex::new(state).segments().expect("read");
    let known: HashSet<_> = segments.iter().map(|(manifest, _)| manifest.id()).collect();
    assert!(finished.iter().all(|(manifest, _)| known.contains(&manifest.id())), "a segment was forgotten");
    // Blobs that end in a segment which was not finished are stored again, as a whole.
    let complete = complete(finished);
    let mut seen = HashSet::new();
    for entry in segments.iter().flat_map(|(_, directory)| directory.entries()) {
        if complete.contains_key(&entry.blob) && entry.part == 0 {
            assert!(seen.insert(entry.blob), "a blob was stored twice");
        }
    }
}

#[test]
fn a_killed_backup_goes_on_and_sends_no_finished_segment_again() {
    let world = world("resumes", Plan::small());
    let mut random = SeededRandom::new(seed());
    world.backup();
    let mut proofs = 0;
    for round in 0..ROUNDS {
        let before = world.path(&format!("before-{round}"));
        disk::copy(&world.source, &before);
        write_noise(&world.source.join(format!("noise-{round}")), ROUND, &mut random);
        // With parity, storage will hold twice that. At half of it, more than the two segments that
        // may be open have come; the later rounds are killed anywhere.
        let least = if round == 0 { ROUND } else { 0 };
        let at = world.swarm.held() + least + random.below(2 * ROUND - least);
        let ended = world.owner.run_until(["backup"], TICK, || world.swarm.held() >= at).expect("runs");
        let finished = finished(world.owner.home());
        let stored: u64 = complete(&finished).values().sum();
        eprintln!("round {round}: killed {}, {} segments finished", ended.is_none(), finished.len());

        // What was there before is there from the words, with a run half done.
        let (_, restored) = world.bring_back(&format!("meanwhile-{round}"));
        let earlier = if ended.is_none() { &before } else { &world.source };
        let comparison = compare(earlier, &restored).expect("compared");
        assert!(comparison.equal(), "{comparison}");

        let held = world.swarm.held();
        let report = world.backup();
        let number = |key: &str| report[key].as_u64().expect("a number");
        if ended.is_none() {
            proofs += usize::from(!finished.is_empty());
            assert!(number("bytes_new") + stored <= ROUND + (64 << 10), "sent again: {report}, had {stored}");
            // The last segments of data and of trees are shorter than full, but padded.
            assert!(number("bytes_uploaded") <= number("bytes_new") + (4 << 20), "sent again: {report}");
            let grown = world.swarm.held() - held;
            assert!(
                grown <= number("bytes_stored") * 21 / 20 + (64 << 10),
                "{grown} more on disks: {report}"
            );
        }
        assert_stored_once(&world, &finished);
        fs::remove_dir_all(before).expect("removed");
    }
    assert!(proofs > 0, "no kill came between the first segment and the end");
    let (machine, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
    let verified = world.ok(&machine, &["verify", "--all"]);
    assert_eq!(verified["good"], verified["shards"], "{verified}");
}

#[test]
fn what_was_receipted_is_there_after_nodes_were_killed_in_the_middle() {
    let mut world = world("killed-nodes", Plan::small());
    world.backup();
    let mut random = SeededRandom::new(seed());
    write_noise(&world.source.join("noise"), 2 * ROUND, &mut random);
    let victims = [Member::Storage(random.below(8) as usize), Member::Mediator(0)];
    let mut next = world.swarm.held() + ROUND / 5;
    let client = world.owner.clone();
    let running = std::thread::spawn(move || client.run(["backup"]));
    let mut there = BTreeSet::new();
    for victim in victims {
        next += random.below(ROUND);
        let reached = wait_until(DEADLINE, || running.is_finished() || world.swarm.held() >= next);
        assert!(reached, "the backup stands still");
        eprintln!("{victim} is killed; the backup has ended: {}", running.is_finished());
        world.swarm.kill9(victim).expect("a member");
        there.extend(disk::shards(&world.swarm.home(victim)).iter().map(disk::position));
        world.swarm.restart(victim).unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(!there.is_empty());
    let outcome = running.join().expect("no panic").expect("ends");
    eprintln!("the backup ended with {:?}: {}", outcome.code, outcome.stderr);
    assert_eq!(outcome.code, Some(0), "both were back soon: {}", outcome.stderr);
    world.wait_eligible(8);
    world.backup();
    let held = disk::held(&world);
    assert!(there.is_subset(&held), "a node lost what it had");

    // A node that has just started needs a moment to announce whose shards it holds.
    let mut report = serde_json::Value::Null;
    let good = wait_until(DEADLINE, || {
        report = world.run(&world.owner, &["verify", "--all"]).json();
        let list = |key: &str| report[key].as_array().cloned().unwrap_or_default();
        // What found no keeper is missing; what a keeper signed for must not be.
        let position = |bad: &serde_json::Value| {
            (bad["segment"].as_str().unwrap_or_default().to_owned(), bad["index"].as_u64())
        };
        let held: BTreeSet<_> =
            held.iter().map(|(segment, index)| (segment.to_string(), Some(index.get() as u64))).collect();
        report.is_object()
            && list("wrong").is_empty()
            && list("missing").iter().all(|bad| !held.contains(&position(bad)))
    });
    assert!(good, "{report}");
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
}

#[test]
fn a_killed_recovery_leaves_no_vault_and_the_next_one_is_whole() {
    let world = world("recovery-killed", Plan::small());
    world.backup();
    let machine = world.owner.with_home(world.path("new-machine"));
    let state = world.path("new-machine").join("state");
    let arguments = ["recover", "--words-file", text(&world.words)];
    let killed = machine.run_until(arguments, Duration::from_millis(1), || state.exists());
    if killed.expect("runs").is_none() && !world.path("new-machine").join("keyfile").exists() {
        let refused = world.run(&machine, &["backup", text(&world.source)]);
        assert!(refused.code != Some(0) && refused.stderr.contains("init"), "{}", refused.stderr);
        world.ok(&machine, &arguments);
    }
    let report = world.ok(&machine, &["backup", text(&world.source)]);
    assert!(report["bytes_uploaded"].as_u64() < Some(256 << 10), "it knows what is stored: {report}");
    let restored = world.restore(&machine, "latest", "restored");
    world.assert_equal(&restored);
}
