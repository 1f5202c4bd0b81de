//! What cannot work says so in one line, with what to do next.

use std::fs;

use fincrypt_e2e::{Plan, World};
use fincrypt_testkit::{Client, Member, TreePlan};

use crate::{text, world};

/// The 24 words of no entropy at all: valid, and nobody's.
const NOBODYS_WORDS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
    abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art";

/// Runs a command that must fail with `code` and one line that has all of `words` in it.
pub(crate) fn refused(world: &World, client: &Client, arguments: &[&str], code: i32, words: &[&str]) {
    let outcome = world.code(client, arguments, code);
    let lines: Vec<_> = outcome.stderr.lines().collect();
    let command = arguments.join(" ");
    assert_eq!(lines.len(), 1, "`fincrypt {command}` printed {} lines:\n{}", lines.len(), outcome.stderr);
    for word in words {
        assert!(lines[0].contains(word), "`fincrypt {command}` does not say {word:?}: {}", lines[0]);
    }
    assert!(
        !lines[0].contains("Error(") && !lines[0].contains(" { "),
        "a person cannot read this: {}",
        lines[0]
    );
    assert_eq!(outcome.stdout, "", "`fincrypt {command}` printed a result");
}

#[test]
fn one_storage_node_is_refused_with_what_is_missing() {
    let tree = TreePlan { small_files: 3, large_bytes: 10_000, largest: 10_000 };
    let mut world = world("alone", Plan { storage: 1, tree, ..Plan::default() });
    refused(&world, &world.owner, &["backup"], 1, &["1 storage node", "at least 2", "1 more must join"]);
    let listed = world.ok(&world.owner, &["snapshots"]);
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(0), "nothing was stored: {listed}");

    world.swarm.kill9(Member::Mediator(0)).expect("a member");
    refused(&world, &world.owner, &["backup"], 1, &["mediator", "try again"]);
}

#[test]
fn mistakes_are_answered_with_one_line_and_a_next_step() {
    let world = world("mistakes", Plan::small());
    world.backup();
    let owner = &world.owner;
    let stranger = owner.with_home(world.path("stranger"));
    let words_file = |name: &str, phrase: &str| {
        let path = world.path(name);
        fs::write(&path, phrase).expect("written");
        path
    };
    let phrase = fs::read_to_string(&world.words).expect("read");
    let short = words_file("short", "abandon abandon");
    let unknown =
        words_file("unknown", &phrase.replacen(phrase.split(' ').nth(2).expect("a word"), "fincrypt", 1));
    let swapped = words_file("swapped", &NOBODYS_WORDS.replacen("abandon", "zoo", 1));
    let nobodys = words_file("nobodys", NOBODYS_WORDS);

    // Words.
    refused(&world, &stranger, &["recover", "--words-file", text(&short)], 1, &["24"]);
    refused(&world, &stranger, &["recover", "--words-file", text(&unknown)], 1, &["3"]);
    refused(&world, &stranger, &["recover", "--words-file", text(&swapped)], 1, &["order"]);
    refused(
        &world,
        &stranger,
        &["recover", "--words-file", text(&nobodys)],
        1,
        &["no storage node", "check the words"],
    );
    refused(&world, &stranger, &["recover", "--words-file", "/no/such/file"], 1, &["/no/such/file"]);
    assert!(!stranger.home().join("keyfile").exists(), "nothing is left of what was refused");

    // Password.
    refused(&world, &owner.with_password(Some("wrong")), &["snapshots"], 1, &["password"]);
    refused(&world, &owner.with_password(None), &["snapshots"], 1, &["FINCRYPT_PASSWORD", "--password-file"]);

    // Network and first contact.
    refused(&world, &owner.with_network("test"), &["backup"], 1, &["network"]);
    refused(&world, &owner.with_network("moon"), &["backup"], 2, &["moon", "local"]);
    refused(&world, &owner.with_bootstrap(&["somewhere"]), &["backup"], 2, &["somewhere", "/ip4/"]);
    let nobody_there =
        format!("/ip4/127.0.0.1/tcp/1/p2p/{}", world.swarm.ready(Member::Bootstrap).expect("runs").peer);
    refused(&world, &owner.with_bootstrap(&[&nobody_there]), &["backup"], 1, &["127.0.0.1"]);

    // Homes, snapshots, paths, targets.
    refused(&world, &stranger, &["backup"], 1, &["no vault", "fincrypt init"]);
    refused(&world, owner, &["init", text(&world.source)], 1, &["already holds a vault", "--home"]);
    let target = world.path("target");
    refused(
        &world,
        owner,
        &["restore", "ffffffff", "--target", text(&target)],
        1,
        &["ffffffff", "fincrypt snapshots"],
    );
    refused(
        &world,
        owner,
        &["restore", "latest", "--target", text(&target), "no/such"],
        1,
        &["no/such", "fincrypt ls"],
    );
    refused(&world, owner, &["ls", "latest", "no/such"], 1, &["no/such", "fincrypt ls"]);
    refused(&world, owner, &["backup", "/no/such/folder"], 1, &["/no/such/folder"]);

    // Configuration.
    let config = owner.home().join("config.toml");
    let good = fs::read_to_string(&config).expect("read");
    fs::write(&config, format!("capacty = \"1GB\"\n{good}")).expect("written");
    refused(&world, owner, &["status"], 2, &["capacty", "known keys"]);
    fs::write(&config, "= nonsense").expect("written");
    refused(&world, owner, &["status"], 2, &["config.toml", "TOML"]);
    fs::write(&config, good).expect("written");

    // And after all that it still works.
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
}
