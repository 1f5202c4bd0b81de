//! Damaged files of our own, and nodes that cannot start: said in one line, and nothing is lost.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_testkit::{Daemon, Member, ProcessError, wait_until};

use crate::refusals::refused;
use crate::{disk, world};

/// Every file of a home but the lock, and what is in it.
fn contents(home: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = disk::files(home).into_iter().filter(|path| !path.ends_with("lock"));
    files.map(|path| (path.clone(), fs::read(&path).expect("read"))).collect()
}

/// Overwrites all files of a state's database, but not its log.
fn garble_database(home: &Path) {
    let files = disk::files(&home.join("state/sled"));
    assert!(!files.is_empty());
    for path in files {
        let length = fs::metadata(&path).expect("there").len() as usize;
        fs::write(path, vec![0xa5; length.max(1)]).expect("written");
    }
}

#[test]
fn a_damaged_keyfile_is_told_and_the_right_one_works_again() {
    let world = world("keyfile", Plan::small());
    world.backup();
    let keyfile = world.owner.home().join("keyfile");
    let good = fs::read(&keyfile).expect("read");
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let damaged =
        [good[..good.len() / 2].to_vec(), Vec::new(), flipped(3), flipped(30), flipped(good.len() - 1)];
    for bytes in damaged {
        fs::write(&keyfile, bytes).expect("written");
        let before = contents(world.owner.home());
        refused(&world, &world.owner, &["backup"], 1, &["keyfile", "24 words"]);
        assert!(contents(world.owner.home()) == before, "the home is as it was");
    }
    fs::write(&keyfile, good).expect("written");
    let report = world.backup();
    assert!(report["bytes_uploaded"].as_u64() < Some(64 << 10), "{report}");
}

#[test]
fn a_clients_damaged_database_is_set_aside_and_rebuilt() {
    let world = world("client-database", Plan::small());
    world.backup();
    garble_database(world.owner.home());
    let outcome = world.code(&world.owner, &["snapshots"], 0);
    assert!(outcome.stderr.contains("set aside"), "{}", outcome.stderr);
    assert_eq!(outcome.json()["snapshots"].as_array().map(Vec::len), Some(1), "{}", outcome.stdout);
    let report = world.backup();
    assert!(report["bytes_uploaded"].as_u64() < Some(64 << 10), "it knows what is stored: {report}");
    let restored = world.restore(&world.owner, "latest", "target");
    world.assert_equal(&restored);
}

#[test]
fn a_clients_damaged_log_is_told_with_the_way_out() {
    let world = world("client-log", Plan::small());
    world.backup();
    let log = world.owner.home().join("state/log");
    let mut bytes = fs::read(&log).expect("read");
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).expect("written");
    let before = contents(world.owner.home());
    refused(&world, &world.owner, &["backup"], 1, &["log", "damaged", "fincrypt recover"]);
    let kept = |all: BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<_, _> {
        all.into_iter().filter(|(path, _)| !path.to_string_lossy().contains("/sled")).collect()
    };
    assert!(kept(contents(world.owner.home())) == kept(before), "the log is as it was");
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
}

#[test]
fn storage_nodes_and_mediators_with_damaged_databases_lose_nothing() {
    let mut world = world("node-databases", Plan::default());
    world.backup();
    let members: Vec<_> = world.storage_nodes().chain([Member::Mediator(0)]).collect();
    for member in members {
        world.swarm.kill9(member).expect("a member");
        garble_database(&world.swarm.home(member));
        world.swarm.restart(member).unwrap_or_else(|error| panic!("{member} starts again: {error}"));
        assert!(
            disk::files(&world.swarm.home(member))
                .iter()
                .any(|path| { path.to_string_lossy().contains("sled.damaged-1") })
        );
    }
    world.wait_eligible(8);
    let mut report = serde_json::Value::Null;
    let good = wait_until(DEADLINE, || {
        report = world.run(&world.owner, &["verify", "--all"]).json();
        report["shards"].is_u64() && report["good"] == report["shards"]
    });
    assert!(good, "{report}");
    fs::write(world.source.join("later"), "written later").expect("written");
    world.backup();
    world.swarm.kill9(Member::Mediator(0)).expect("a member");
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
}

/// Starts a node that must end at once; how it ended, and the one line of an error it wrote.
fn cannot_start(world: &World, name: &str, arguments: &[&str]) -> (String, String) {
    let mut command = world.programs().node.command();
    command.args(arguments).arg("--home").arg(world.path(name));
    let log = world.path(&format!("{name}.log"));
    let mut daemon = Daemon::start(name, &mut command, &log).expect("starts");
    match daemon.ready(DEADLINE) {
        Err(ProcessError::Ended { status, log, .. }) => {
            let (errors, others): (Vec<_>, Vec<_>) =
                log.lines().partition(|line| line.starts_with("fincrypt-node: "));
            assert!(others.iter().all(|line| line.contains(" INFO ")), "{name}: {log}");
            assert_eq!(errors.len(), 1, "{name}: {log}");
            (status, errors[0].to_owned())
        }
        other => panic!("{name} must not start: {other:?}"),
    }
}

#[test]
fn a_node_that_cannot_start_says_why_in_one_line() {
    let tree = fincrypt_testkit::TreePlan { small_files: 1, large_bytes: 0, largest: 0 };
    let world = world("cannot-start", Plan { storage: 1, tree, ..Plan::default() });
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = taken.local_addr().expect("bound").port().to_string();
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    let api = format!("127.0.0.1:{port}");
    let home = |name: &str, file: &str, content: &str| {
        fs::create_dir_all(world.path(name)).expect("made");
        fs::write(world.path(name).join(file), content).expect("written");
    };
    home("unknown-key", "config.toml", "capacty = \"1GB\"\n");
    home("identity", "identity.key", "too short");
    let local = ["--role", "storage", "--network", "local", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let with = |more: &[&'static str]| [&local, more].concat();
    let cases: Vec<(&str, Vec<&str>, &str, Vec<&str>)> = vec![
        (
            "port",
            vec!["--role", "storage", "--network", "local", "--listen", &listen],
            "1",
            vec!["cannot listen", &port, "--listen"],
        ),
        ("api", [&local[..], &["--api", &api]].concat(), "1", vec!["cannot listen", &port, "--api"]),
        ("api-open", with(&["--api", "0.0.0.0:0"]), "2", vec!["0.0.0.0:0", "loopback"]),
        ("address", vec!["--role", "storage", "--listen", "somewhere"], "2", vec!["somewhere", "/ip4/"]),
        ("contact", with(&["--bootstrap", "somewhere"]), "2", vec!["somewhere", "/ip4/"]),
        ("network", vec!["--role", "storage", "--network", "moon"], "2", vec!["moon", "local"]),
        ("capacity", with(&["--capacity", "much"]), "2", vec!["capacity", "much"]),
        ("unknown-key", with(&[]), "2", vec!["capacty", "known keys"]),
        ("no-role", vec!["--network", "local"], "2", vec!["--role"]),
        ("identity", with(&[]), "1", vec!["identity.key", "damaged"]),
        (
            "no-password",
            vec!["--role", "client", "--network", "local"],
            "1",
            vec!["--password-file", "FINCRYPT_PASSWORD"],
        ),
    ];
    for (name, arguments, code, words) in cases {
        let (status, line) = cannot_start(&world, name, &arguments);
        assert!(status.ends_with(&format!(": {code}")), "{name}: {status}: {line}");
        for word in words {
            assert!(line.contains(word), "{name} does not say {word:?}: {line}");
        }
    }
    assert_eq!(fs::read(world.path("identity").join("identity.key")).expect("there"), b"too short");
}
