//! A node that backs up by itself.

use std::fs;
use std::time::Duration;

use fincrypt_e2e::{DEADLINE, Plan, World, seed};
use fincrypt_testkit::{Client, Daemon, SeededRandom, Signal, wait_until};

use crate::interruptions::write_noise;
use crate::{text, world};

pub(crate) fn start(world: &World) -> Daemon {
    let password = world.path("password");
    fs::write(&password, Client::PASSWORD).expect("written");
    let mut command = world.programs().node.command();
    command.args(["--role", "client", "--api", "off", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.arg("--home").arg(world.owner.home()).arg("--password-file").arg(password);
    let mut daemon = Daemon::start("client", &mut command, &world.path("client.log")).expect("starts");
    daemon.ready(DEADLINE).unwrap_or_else(|error| panic!("{error}"));
    daemon
}

pub(crate) fn end(mut daemon: Daemon) {
    let limit = Duration::from_secs(10);
    let status = daemon.stop(Signal::TERM, limit).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(status.code(), Some(0), "{}", daemon.tail());
}

#[test]
fn a_client_node_takes_snapshots_and_stops_when_it_is_told_to() {
    let world = world("client-node", Plan::small());
    let config = world.owner.home().join("config.toml");
    let settings = fs::read_to_string(&config).expect("read");
    fs::write(&config, format!("backup_interval = 1\n{settings}")).expect("written");

    let daemon = start(&world);
    // Its home is in use; another machine with the words sees what it does.
    let outcome = world.code(&world.owner, &["backup"], 1);
    assert!(outcome.stderr.contains("another fincrypt process"), "{}", outcome.stderr);
    let observer = world.owner.with_home(world.path("observer"));
    let recover = ["recover", "--words-file", text(&world.words)];
    assert!(wait_until(DEADLINE, || world.run(&observer, &recover).code == Some(0)), "{}", daemon.tail());
    let snapshots = || {
        let listed = world.ok(&observer, &["snapshots"]);
        listed["snapshots"].as_array().map_or(0, Vec::len)
    };
    fs::write(world.source.join("later"), "written meanwhile").expect("written");
    let seen = snapshots();
    assert!(wait_until(DEADLINE, || snapshots() >= seen + 2), "{}", daemon.tail());
    let restored = world.restore(&observer, "latest", "observed");
    world.assert_equal(&restored);

    // Told to stop in the middle of a backup, it stops; the next one goes on.
    let (held, mut random) = (world.swarm.held(), SeededRandom::new(seed()));
    write_noise(&world.path("noise"), 30 << 20, &mut random);
    fs::rename(world.path("noise"), world.source.join("noise")).expect("moved");
    assert!(wait_until(DEADLINE, || world.swarm.held() > held + (4 << 20)), "{}", daemon.tail());
    end(daemon);
    let daemon = start(&world);
    let whole = || {
        let listed = world.ok(&observer, &["snapshots"]);
        let last = listed["snapshots"].as_array().and_then(|all| all.last().cloned()).unwrap_or_default();
        last["bytes"].as_u64() > Some(30 << 20)
    };
    assert!(wait_until(DEADLINE, whole), "{}", daemon.tail());
    end(daemon);
    let restored = world.restore(&world.owner, "latest", "at-home");
    world.assert_equal(&restored);
}
