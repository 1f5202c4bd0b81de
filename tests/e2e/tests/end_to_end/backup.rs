//! Backing up, and getting it back from the words.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use fincrypt_e2e::Plan;
use fincrypt_testkit::Member;

use crate::{text, world};

#[test]
fn a_folder_comes_back_from_the_words_with_two_of_eight_storage_nodes_dead() {
    let mut world = world("dead-storage", Plan::default());
    let first = world.backup();
    let (bytes_in, uploaded) = (first["bytes_in"].as_u64(), first["bytes_uploaded"].as_u64());
    assert!(uploaded > Some(0) && uploaded < bytes_in, "compressed and sent once: {first}");
    assert!(first["bytes_stored"].as_u64() >= uploaded.map(|bytes| bytes * 3 / 2), "with parity: {first}");
    assert_eq!(first["skipped"].as_array().map(Vec::len), Some(0), "{first}");

    let second = world.backup();
    assert!(second["bytes_uploaded"].as_u64() < Some(64 << 10), "nothing had changed: {second}");
    assert_eq!(second["files"], first["files"]);

    for dead in [0, 5] {
        world.swarm.kill9(Member::Storage(dead)).expect("a member");
    }
    let (machine, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
    let listed = world.ok(&machine, &["snapshots"]);
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(2), "{listed}");
}

#[test]
fn a_folder_comes_back_straight_from_storage_with_the_mediator_dead_too() {
    let mut world = world("dead-mediator", Plan::default());
    world.backup();
    for dead in [Member::Storage(2), Member::Storage(3), Member::Mediator(0)] {
        world.swarm.kill9(dead).expect("a member");
    }
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
    // The machine that still has its home does not need the mediator either.
    let restored = world.restore(&world.owner, "latest", "at-home");
    world.assert_equal(&restored);
}

#[test]
fn a_recovered_vault_goes_on_where_the_lost_machine_stopped() {
    let world = world("goes-on", Plan::small());
    world.backup();
    let machine = world.recover("new-machine");
    fs::write(world.source.join("written later"), "by the new machine").expect("written");
    let report = world.ok(&machine, &["backup", text(&world.source)]);
    assert!(report["bytes_uploaded"].as_u64() < Some(256 << 10), "only the news are sent: {report}");
    let (_, restored) = world.bring_back("third-machine");
    world.assert_equal(&restored);
}

#[test]
fn a_pipe_is_left_out_with_a_note_and_no_failure() {
    let world = world("pipe", Plan::small());
    let made =
        std::process::Command::new("mkfifo").arg(world.source.join("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    let report = world.backup();
    let skipped = report["skipped"].as_array().cloned().unwrap_or_default();
    assert_eq!(skipped.len(), 1, "{report}");
    assert_eq!(skipped[0]["path"].as_str(), Some(text(&world.source.join("pipe"))));
    let restored = world.restore(&world.owner, "latest", "restored");
    let comparison = world.compare(&restored);
    assert!(comparison.equal() && comparison.special == 1, "{comparison}");
}

#[test]
fn an_unreadable_file_is_named_and_the_rest_is_stored() {
    /// `nobody`, who may read no more than everyone may.
    const NOBODY: u32 = 65_534;
    let mut world = world("unreadable", Plan::small());
    world.source = world.path("mixed");
    let closed = world.source.join("closed");
    fs::create_dir(&world.source).expect("made");
    fs::write(world.source.join("open"), "for everyone").expect("written");
    fs::write(&closed, "for no one").expect("written");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("set");

    let home = world.path("reader");
    fs::create_dir(&home).expect("made");
    world.words = home.join("words");
    let mut reader = world.owner.with_home(home.join("vault"));
    if fs::read(&closed).is_ok() {
        // Root reads everything, so somebody else makes this backup, with a copy of the program:
        // it may lie below a folder that only root enters.
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).expect("set");
        let program = world.programs().client.copy_to(&home.join("program")).expect("copied");
        if chown(&home, Some(NOBODY), Some(NOBODY)).is_err() {
            eprintln!("not tested: root reads everything, and there is no other user");
            return;
        }
        reader = reader.with_program(program).as_user(NOBODY);
    }
    world.ok(&reader, &["init", text(&world.source), "--words-file", text(&world.words)]);
    let outcome = world.code(&reader, &["backup"], 3);
    let skipped = outcome.json()["skipped"].as_array().cloned().unwrap_or_default();
    assert_eq!(skipped.len(), 1, "{}", outcome.stdout);
    assert_eq!(skipped[0]["path"].as_str(), Some(text(&closed)));
    assert!(outcome.stderr.contains(text(&closed)), "{}", outcome.stderr);

    let (_, restored) = world.bring_back("new-machine");
    let mut comparison = world.compare(&restored);
    comparison.forgive(|difference| difference.path.as_os_str() == "closed");
    assert!(comparison.equal() && comparison.files == 1, "{comparison}");
}
