//! Options that change how a command is used, not what it does.

use std::fs;
use std::process::Command;

use fincrypt_e2e::{Plan, World};
use fincrypt_testkit::{Client, Member};

use crate::refusals::refused;
use crate::{disk, text, world};

/// `fincrypt` as it is typed, without `--json`, without a password in the environment.
fn typed(world: &World) -> Command {
    let mut command = world.programs().client.command();
    command.arg("--home").arg(world.owner.home());
    command
}

#[test]
fn the_password_may_come_from_a_file() {
    let world = world("password-file", Plan::small());
    let (right, wrong, empty) = (world.path("right"), world.path("wrong"), world.path("empty"));
    // Only the first line counts, whatever editor has written it.
    fs::write(&right, format!("{}\nnot this\n", Client::PASSWORD)).expect("written");
    fs::write(&wrong, "another\n").expect("written");
    fs::write(&empty, "\n").expect("written");
    let owner = world.owner.with_password(None);
    world.ok(&owner, &["--password-file", text(&right), "backup"]);
    refused(&world, &owner, &["--password-file", text(&wrong), "backup"], 1, &["password"]);
    refused(&world, &owner, &["--password-file", text(&empty), "backup"], 1, &["empty"]);
    refused(&world, &owner, &["--password-file", "/no/such/file", "backup"], 1, &["/no/such/file"]);
    // A new vault's, too: and no other opens it.
    let second = owner.with_home(world.path("second"));
    let (words, source) = (world.path("second-words"), text(&world.source));
    world.ok(&second, &["--password-file", text(&right), "init", source, "--words-file", text(&words)]);
    refused(&world, &second.with_password(Some("another")), &["backup"], 1, &["password"]);
    world.ok(&second.with_password(Some(Client::PASSWORD)), &["backup"]);
}

#[test]
fn quietly_only_the_result_and_errors_are_said() {
    let world = world("quiet", Plan::small());
    let run = |arguments: &[&str]| {
        let output = typed(&world).env("FINCRYPT_PASSWORD", Client::PASSWORD).args(arguments).output();
        let output = output.expect("runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, stdout, stderr) = run(&["-q", "backup"]);
    assert_eq!((code, stderr.as_str(), stdout.lines().count()), (Some(0), "", 1), "{stdout}{stderr}");
    assert!(stdout.starts_with("Snapshot "), "{stdout}");
    let (code, stdout, stderr) = run(&["--quiet", "restore", "ffffffff", "--target", "/nowhere"]);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stdout}{stderr}");
}

#[test]
fn a_vault_may_ask_for_more_redundancy() {
    let world = world("redundancy", Plan::default());
    let (owner, words) = (world.owner.with_home(world.path("threefold")), world.path("threefold-words"));
    let source = text(&world.source);
    refused(
        &world,
        &owner,
        &["init", source, "--redundancy", "1.5", "--words-file", text(&words)],
        2,
        &["2.0"],
    );
    assert!(!words.exists() && !owner.home().exists(), "nothing is left of what was refused");
    world.ok(&owner, &["init", source, "--redundancy", "3", "--words-file", text(&words)]);
    // Asked for once, it holds from then on.
    for _ in 0..2 {
        world.ok(&owner, &["backup"]);
    }
    let status = world.ok(&owner, &["status"]);
    assert_eq!((status["data"].as_u64(), status["total"].as_u64()), (Some(2), Some(8)), "{status}");
    let shards = disk::shards(&world.swarm.home(Member::Storage(0)));
    assert!(!shards.is_empty());
    for code in shards.iter().map(|meta| meta.manifest.code()) {
        assert!(code.total() >= 3 * code.data(), "{code:?}");
    }
}
