//! Several devices with one vault.

use std::fs;
use std::path::PathBuf;

use fincrypt_e2e::{Plan, seed};
use fincrypt_testkit::{Client, SeededRandom, compare};

use crate::{disk, text, world};

const ROUNDS: usize = 4;

#[test]
fn devices_that_back_up_at_the_same_time_lose_no_snapshot() {
    let world = world("devices", Plan::small());
    world.backup();
    // One that had the vault first, one with a copy of its home, and one that has the words.
    let copied = world.owner.with_home(world.path("copied"));
    disk::copy(world.owner.home(), copied.home());
    let devices = [world.owner.clone(), copied, world.recover("recovered")];
    let folders: Vec<PathBuf> = (0..devices.len()).map(|at| world.path(&format!("folder-{at}"))).collect();
    folders.iter().for_each(|folder| fs::create_dir(folder).expect("made"));

    let mut random = SeededRandom::new(seed());
    let mut taken: Vec<Vec<String>> = vec![Vec::new(); devices.len()];
    for round in 0..ROUNDS {
        for folder in &folders {
            let mut noise = vec![0; 100_000];
            random.fill(&mut noise);
            fs::write(folder.join(format!("file-{round}")), noise).expect("written");
        }
        let back_up = |(device, folder): (&Client, &PathBuf)| {
            let (device, folder) = (device.clone(), folder.clone());
            std::thread::spawn(move || device.run(["backup", text(&folder)]).expect("runs"))
        };
        let running: Vec<_> = devices.iter().zip(&folders).map(back_up).collect();
        for (at, running) in running.into_iter().enumerate() {
            let outcome = running.join().expect("no panic");
            match outcome.code {
                Some(0) => taken[at].push(outcome.json()["snapshot"].as_str().expect("an id").to_owned()),
                code => {
                    assert_eq!(code, Some(1), "{}", outcome.stderr);
                    assert!(outcome.stderr.contains("try again"), "{}", outcome.stderr);
                }
            }
        }
    }
    // One device at least gets through in every round.
    assert!(taken.iter().map(Vec::len).sum::<usize>() >= ROUNDS, "{taken:?}");
    // Nobody is shut out for good.
    for (at, (device, folder)) in devices.iter().zip(&folders).enumerate() {
        let report = world.ok(device, &["backup", text(folder)]);
        taken[at].push(report["snapshot"].as_str().expect("an id").to_owned());
    }

    for (at, device) in devices.iter().enumerate() {
        let listed = world.ok(device, &["snapshots"]);
        let listed: Vec<_> = listed["snapshots"].as_array().expect("a list").clone();
        assert_eq!(listed.len(), 1 + taken.iter().map(Vec::len).sum::<usize>(), "at device {at}");
        for id in taken.iter().flatten() {
            assert!(listed.iter().any(|snapshot| snapshot["id"] == id.as_str()), "{id} is lost at {at}");
        }
        for (folder, ids) in folders.iter().zip(&taken) {
            let target = world.path(&format!("at-{at}-{}", text(folder).rsplit('/').next().expect("a name")));
            let last = ids.last().expect("one");
            world.ok(device, &["restore", last, "--target", text(&target)]);
            let restored = target.join(folder.file_name().expect("a name"));
            let comparison = compare(folder, &restored).expect("compared");
            assert!(comparison.equal() && comparison.files == ROUNDS as u64, "{comparison}");
        }
    }
}
