//! The most memory that each part has resident, printed and compared with what is promised.

use std::fs;
use std::time::Duration;

use fincrypt_e2e::{Plan, World, seed};
use fincrypt_testkit::{Member, Outcome, SeededRandom};

use crate::{text, world};

const MIB: u64 = 1 << 20;
const CLIENT: u64 = 256 * MIB;
const MEDIATOR: u64 = 256 * MIB;
const STORAGE: u64 = 96 * MIB;
/// How often a client is looked at.
const TICK: Duration = Duration::from_millis(10);

fn watched(client: &fincrypt_testkit::Client, arguments: &[&str]) -> Outcome {
    let outcome = client.run_watched(arguments, TICK, |_| ()).expect("ends");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.peak > MIB, "it was never looked at");
    outcome
}

fn check(what: &str, peak: u64, limit: u64) {
    println!("{what}: {} MiB of {} MiB", peak / MIB, limit / MIB);
    assert!(peak > MIB && peak <= limit, "{what} had {peak} bytes resident");
}

fn check_nodes(world: &World) {
    check("mediator", world.swarm.peak(Member::Mediator(0)), MEDIATOR);
    let peaks = world.storage_nodes().map(|node| world.swarm.peak(node));
    check("storage, the largest", peaks.max().unwrap_or_default(), STORAGE);
}

/// Half text, half noise, in files of a few megabytes.
fn fill(folder: &std::path::Path, bytes: u64, random: &mut SeededRandom) {
    fs::create_dir_all(folder).expect("made");
    for at in 0..bytes / (4 * MIB) {
        let mut content = vec![0; 4 * MIB as usize];
        if at % 2 == 0 {
            random.fill(&mut content);
        } else {
            content.iter_mut().for_each(|byte| *byte = b'a' + (random.below(16)) as u8);
        }
        fs::write(folder.join(format!("file-{at}")), content).expect("written");
    }
}

#[test]
fn four_clients_at_once_stay_within_what_is_promised() {
    let world = world("memory-four", Plan::small());
    let mut random = SeededRandom::new(seed());
    let clients: Vec<_> = (0..4)
        .map(|at| {
            let folder = world.path(&format!("folder-{at}"));
            fill(&folder, 48 * MIB, &mut random);
            let client = world.owner.with_home(world.path(&format!("client-{at}")));
            let words = world.path(&format!("words-{at}"));
            world.ok(&client, &["init", text(&folder), "--words-file", text(&words)]);
            client
        })
        .collect();
    let running: Vec<_> = clients
        .iter()
        .cloned()
        .map(|client| std::thread::spawn(move || watched(&client, &["backup"])))
        .collect();
    let peaks = running.into_iter().map(|client| client.join().expect("no panic").peak);
    check("client, the largest of four", peaks.max().unwrap_or_default(), CLIENT);
    check_nodes(&world);
}

#[test]
fn the_longest_segments_stay_within_what_is_promised() {
    let world = world("memory-long", Plan { storage: 30, ..Plan::small() });
    let mut random = SeededRandom::new(seed());
    fill(&world.source.join("large"), 160 * MIB, &mut random);
    let outcome = watched(&world.owner, &["backup"]);
    let (uploaded, packed) = (outcome.number("bytes_uploaded"), outcome.number("bytes_packed"));
    let (uploaded, packed) = (uploaded.expect("a number"), packed.expect("a number"));
    println!("uploaded {uploaded} bytes, {:.3} times the compressed ones", uploaded as f64 / packed as f64);
    assert!(uploaded * 100 <= packed * 105, "{uploaded} bytes uploaded for {packed}");
    check("client, backup over 30 nodes", outcome.peak, CLIENT);
    for (name, options) in [("through the mediator", &[][..]), ("straight from storage", &["--direct"])] {
        let target = world.path(name);
        let arguments = [&["restore", "latest", "--target", text(&target)], options].concat();
        check(&format!("client, restore {name}"), watched(&world.owner, &arguments).peak, CLIENT);
    }
    check_nodes(&world);
}
