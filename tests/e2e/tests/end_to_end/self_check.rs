//! The client looks at its storage itself, and says how its backups stand.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_net::{Inboxes, Sessions, ShardInbound, encode_all};
use fincrypt_net::{Role, Roles};
use fincrypt_net::{reply, reply_with};
use fincrypt_protocol::Refusal;
use fincrypt_protocol::mediate::NodeAddresses;
use fincrypt_protocol::shard::{Challenge, Hello, Login, LoginNonce, Proofs, Request, Verdict, Welcome};
use fincrypt_testkit::{Client, Member, Outcome, wait_until};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::hostile::machine;
use crate::liars::{LyingMediator, backup_at, receipts, runtime};
use crate::{daemon, disk, text, world};

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("no number {key}: {report}"))
}

fn list(report: &Value, key: &str) -> Vec<Value> {
    report[key].as_array().unwrap_or_else(|| panic!("no list {key}: {report}")).clone()
}

/// Alters every leaf of every shard that a node holds; how many shards these are.
fn alter(world: &World, member: Member) -> u64 {
    let mut altered = 0;
    for path in disk::files(&world.swarm.home(member).join("shards")) {
        let Some(meta) = disk::meta(&path) else { continue };
        let mut bytes = fs::read(&path).expect("read");
        // A shard's file begins with its bytes.
        let length = meta.manifest.shard_len().get() as usize;
        bytes[..length].iter_mut().step_by(512).for_each(|byte| *byte ^= 1);
        fs::write(&path, bytes).expect("written");
        altered += 1;
    }
    altered
}

#[test]
fn a_node_whose_shards_were_altered_is_named_by_single_leaves_and_in_the_status() {
    let world = world("leaves", Plan::small());
    world.backup();
    let good = world.ok(&world.owner, &["verify"]);
    let shards = number(&good, "shards");
    assert!(shards >= 8 && good["good"] == good["shards"], "{good}");

    let altered = alter(&world, Member::Storage(2));
    assert!(altered > 0);
    let outcome = world.code(&world.owner, &["verify"], 1);
    let report = outcome.json();
    let bad = [list(&report, "wrong"), list(&report, "damaged"), list(&report, "missing")].concat();
    assert_eq!((bad.len() as u64, number(&report, "good")), (altered, shards - altered), "{report}");
    let peer = bad[0]["peer"].as_str().expect("known");
    assert!(bad.iter().all(|shard| shard["peer"] == peer), "one node was altered: {report}");
    let ready = world.swarm.ready(Member::Storage(2)).expect("it runs");
    assert_eq!(ready.peer, peer, "{report}");
    assert!(outcome.stderr.contains(peer), "{}", outcome.stderr);

    // The mediator says that all is well; this machine knows better, until it sees proofs.
    let status = world.ok(&world.owner, &["status"]);
    assert!(number(&status["health"], "degraded") > 0, "{status}");
    assert_eq!(number(&status["health"], "lost"), 0, "{status}");
    let (worst, of) = (number(&status["health"], "min"), number(&status["health"], "min_of"));
    assert_eq!(worst, of - 1, "{status}");

    // The mediator was told, looked itself, and has what was lost rebuilt.
    let mut report = Value::Null;
    let repaired = wait_until(DEADLINE, || {
        report = world.run(&world.owner, &["verify"]).json();
        report["good"].as_u64() == Some(shards)
    });
    assert!(repaired, "{report}");

    // A node that does not answer is told from one that lost something.
    let mut world = world;
    world.swarm.kill9(Member::Storage(5)).expect("a member");
    let report = world.code(&world.owner, &["verify", "--data"], 1).json();
    let silent = list(&report, "unreachable");
    assert!(!silent.is_empty() && silent.iter().all(|shard| shard["peer"] != peer), "{report}");
    let bad = [list(&report, "wrong"), list(&report, "damaged"), list(&report, "missing")].concat();
    assert!(bad.is_empty(), "{report}");
}

#[test]
fn a_status_tells_of_each_snapshot_and_a_run_without_news_asks_nobody_until_a_check_is_due() {
    let world = world("statuses", Plan::small());
    let first = world.backup();
    let check = &first["self_check"];
    assert!((1..=30).contains(&number(check, "shards")), "{first}");
    assert_eq!(check["good"], check["shards"], "{first}");
    let second = world.backup();
    assert!(second["self_check"].is_null(), "nothing is new: {second}");
    assert!(number(&second, "bytes_uploaded") < 64 << 10, "{second}");

    let status = world.ok(&world.owner, &["status"]);
    let lines = list(&status, "per_snapshot");
    let ids: Vec<_> = lines.iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, [second["snapshot"].clone(), first["snapshot"].clone()], "the newest first: {status}");
    for line in &lines {
        assert_eq!((&line["files"], &line["bytes"]), (&first["files"], &first["bytes_in"]), "{status}");
        let health = &line["health"];
        assert!(number(health, "min") > number(health, "min_needed"), "{status}");
        assert_eq!((number(health, "degraded"), number(health, "lost")), (0, 0), "{status}");
        assert!(line["last_proof"].is_u64() && line["last_test_restore"].is_null(), "{status}");
    }
    // So little fits one segment; the second snapshot is in another, and needs the first one's, too.
    let segments = lines.iter().map(|line| number(line, "segments"));
    assert_eq!(segments.collect::<Vec<_>>(), [2, 1], "{status}");
    assert!(status["last_check"].is_u64() && status["mediator_seen"].is_u64(), "{status}");
    assert!(number(&status, "bytes_stored") > 400_000, "{status}");
    assert!(status["head_age_seconds"].is_u64(), "{status}");

    // What was restored as a whole was tested; a part of it was not.
    let id = first["snapshot"].as_str().expect("an id");
    let part = world.path("part");
    let name = world.source.file_name().and_then(|name| name.to_str()).expect("a name");
    world.ok(&world.owner, &["restore", "latest", "--target", text(&part), name]);
    world.restore(&world.owner, id, "whole");
    let status = world.ok(&world.owner, &["status"]);
    let lines = list(&status, "per_snapshot");
    assert!(lines[0]["last_test_restore"].is_null(), "{status}");
    assert!(lines[1]["last_test_restore"].is_u64(), "{status}");

    // A test does without a target.
    let tested = world.ok(&world.owner, &["restore", "latest", "--test"]);
    assert_eq!((&tested["files"], &tested["bytes"]), (&first["files"], &first["bytes_in"]), "{tested}");
    let status = world.ok(&world.owner, &["status"]);
    assert!(list(&status, "per_snapshot")[0]["last_test_restore"].is_u64(), "{status}");

    // People see the same.
    let mut command = world.programs().client.command();
    command.arg("--home").arg(world.owner.home()).arg("status").env("FINCRYPT_PASSWORD", Client::PASSWORD);
    let human = String::from_utf8(command.output().expect("runs").stdout).expect("text");
    for part in ["last proof", "last test restore", "min ", "median ", &id[..12]] {
        assert!(human.contains(part), "no {part:?} in: {human}");
    }

    // Once it is due, a run over unchanged folders looks as well.
    let config = world.owner.home().join("config.toml");
    let settings = fs::read_to_string(&config).expect("read");
    fs::write(&config, format!("self_check_interval = 1\n{settings}")).expect("written");
    let third = world.backup();
    let check = &third["self_check"];
    assert!((9..=30).contains(&number(check, "shards")), "more than the news: {third}");
    assert_eq!(check["good"], check["shards"], "{third}");
}

/// A storage node that signs for everything and has nothing.
async fn keeper(verdict: Verdict) -> (fincrypt_protocol::SigningKey, NodeAddresses) {
    let (inbox, requests) = mpsc::channel(64);
    let inboxes = Inboxes { shard: Some(inbox), ..Inboxes::default() };
    let (net, sessions, bound, key) = machine(Roles::new([Role::Storage]), true, inboxes).await;
    let addresses = NodeAddresses { node: net.own(), addresses: encode_all(&bound) };
    tokio::spawn(async move {
        // The handle keeps the engine alive.
        let _net = net;
        keep_nothing(sessions, requests, verdict).await;
    });
    (key, addresses)
}

async fn keep_nothing(sessions: Arc<Sessions>, mut requests: mpsc::Receiver<ShardInbound>, verdict: Verdict) {
    while let Some(request) = requests.recv().await {
        let from = request.from;
        let answer = match request.header {
            Request::Hello(_) => reply::<Hello>(LoginNonce { nonce: sessions.hello(from).expect("room") }),
            Request::Login(login) => {
                sessions.login(from, &login.registration, &login.proof).expect("a good login");
                reply::<Login>(Welcome { mandate: None })
            }
            Request::Challenge(challenge) => {
                let shards = challenge.shards;
                // Ten siblings are more than any proof here has.
                let proofs = if verdict == Verdict::Proved { shards.len() * (1024 + 320) } else { 0 };
                let verdicts = vec![verdict; shards.len()];
                reply_with::<Challenge>(Proofs { verdicts }, Bytes::from(vec![0xee; proofs]))
            }
            _ => Err(Refusal::NotHeld),
        };
        request.reply.send(answer, ()).await;
    }
}

/// A backup through a mediator whose own eight keepers sign for everything, keep nothing, and answer
/// challenges like this: how it ended, and whether a head was written.
fn backup_among(verdict: Verdict) -> (Outcome, bool) {
    let runtime = runtime();
    let (liar, address) = runtime.block_on(async {
        let (mut keys, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            let (key, address) = keeper(verdict).await;
            keys.push(key);
            addresses.push(address);
        }
        LyingMediator::start(|a, keepers| receipts(a, keepers, |_, _| ()), keys, addresses).await
    });
    let outcome = backup_at("colluding", &address);
    (outcome, liar.head().is_some())
}

#[test]
fn keepers_that_signed_and_have_nothing_are_noticed_before_a_head_is_written() {
    for (verdict, word) in [(Verdict::Proved, "wrong: shard"), (Verdict::Missing, "missing: shard")] {
        let (outcome, committed) = backup_among(verdict);
        assert_eq!(outcome.code, Some(1), "{verdict:?}: {}{}", outcome.stdout, outcome.stderr);
        assert!(outcome.stderr.contains(word), "{verdict:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("not safe"), "{verdict:?}: {}", outcome.stderr);
        assert!(!committed, "{verdict:?}: a head was written");
    }
}

#[test]
fn a_client_node_checks_its_storage_by_itself_when_that_is_due() {
    let world = world("by-itself", Plan::small());
    world.backup();
    let last = || number(&world.ok(&world.owner, &["status", "--brief"]), "last_check");
    let before = last();
    let config = world.owner.home().join("config.toml");
    let settings = fs::read_to_string(&config).expect("read");
    fs::write(&config, format!("self_check_interval = 1\nbackup_interval = 3600\n{settings}"))
        .expect("written");
    let daemon = daemon::start(&world);
    // The first backup looks as well; what comes after it does not wait for another.
    let log = || fs::read_to_string(world.path("client.log")).expect("read");
    let checked = || log().matches("storage_checked").count();
    assert!(wait_until(DEADLINE, || checked() >= 2), "{}", log());
    daemon::end(daemon);
    assert_eq!(log().matches("snapshot_taken").count(), 1, "{}", log());
    assert!(last() > before);
}
