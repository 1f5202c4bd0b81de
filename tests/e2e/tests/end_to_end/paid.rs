//! Storage is paid, with a real bitcoind and real wallets of its operators.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_ledger::{Account, Ledger, Owed, PayoutStage};
use fincrypt_protocol::money::{Arrival, Sending};
use fincrypt_testkit::{
    Bitcoind, ChainWallet, LightningWallet, Member, Programs, Scratch, chain_settings, play_paid, wait_until,
};
use serde_json::{Value, json};

/// Satoshi per GiB-month: some ten thousand satoshi for each node in an epoch of two seconds.
const PRICE: &str = "100000000000000";
pub(super) const MEDIATOR: Member = Member::Mediator(0);
/// Has a Lightning node of its own.
const OWN_NODE: Member = Member::Storage(3);

fn plan() -> Plan {
    let settings = &[
        ("epoch", "2"),
        ("price", PRICE),
        ("payout_interval", "0"),
        ("credit_bound", "60000"),
        ("credit_limit", "1000000"),
        ("fee_percent", "2.5"),
    ];
    Plan { storage: 5, settings, ..Plan::small() }
}

pub(super) fn wallet(world: &World) -> Value {
    world.swarm.ask(MEDIATOR, "/api/v1/wallet").unwrap_or_default()
}

/// Waits for something, a block a second meanwhile.
pub(super) fn until(bitcoind: &Bitcoind, mut done: impl FnMut() -> bool) -> bool {
    let mut mined = Instant::now();
    wait_until(DEADLINE, || {
        if mined.elapsed() > Duration::from_secs(1) {
            bitcoind.mine(1).expect("mines");
            mined = Instant::now();
        }
        done()
    })
}

/// Payments that the storage node's own Lightning node has received.
fn received(world: &World) -> Vec<Value> {
    let received = world.storage_info(OWN_NODE)["lightning"]["received"].take();
    received.as_array().cloned().unwrap_or_default()
}

/// Runs an operator's command, which has to work; what it printed.
pub(super) fn operate(world: &World, arguments: &[&str]) -> String {
    let output = world.swarm.operate(MEDIATOR, arguments).expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Gives the mediator capital, half of it in a channel to somebody's wallet.
pub(super) fn endow(world: &World, bitcoind: &Bitcoind, wallet_of: &LightningWallet) {
    let runs = wait_until(DEADLINE, || wallet(world)["lightning"]["node"].is_string());
    assert!(runs, "{}", wallet(world));
    bitcoind.fund(&operate(world, &["wallet", "address"])).expect("funded");
    let credited = wait_until(DEADLINE, || wallet(world)["capital_msat"].as_u64() > Some(0));
    assert!(credited, "{}", wallet(world));
    operate(world, &["wallet", "fund", "9000000"]);
    bitcoind.mine(6).expect("mines");
    open_channel(world, bitcoind, wallet_of, "2000000");
}

/// Opens a channel to somebody's wallet, and waits until it can be used.
pub(super) fn open_channel(world: &World, bitcoind: &Bitcoind, wallet_of: &LightningWallet, sat: &str) {
    wallet_of.node.sync().expect("syncs");
    let opened = wait_until(DEADLINE, || {
        let open = ["wallet", "open", &wallet_of.peer, sat];
        world.swarm.operate(MEDIATOR, &open).is_ok_and(|output| output.status.success())
    });
    assert!(opened, "{}", wallet(world));
    let mut mined = Instant::now();
    let usable = wait_until(DEADLINE, || {
        // Its transaction is sent some moments later.
        if mined.elapsed() > Duration::from_millis(300) {
            bitcoind.mine(1).expect("mines");
            mined = Instant::now();
        }
        wallet_of.node.sync().expect("syncs");
        let channels = wallet(world)["lightning"]["channels"].take();
        channels.as_array().is_some_and(|all| all.iter().any(|channel| channel["usable"] == true))
    });
    assert!(usable, "{:?} {}", wallet_of.node.channels(), wallet(world));
}

fn payouts(world: &World, rail: &str, state: &str) -> Vec<Value> {
    let wallet = wallet(world);
    let payouts = wallet["payouts"].as_array().cloned().unwrap_or_default();
    payouts.into_iter().filter(|payout| payout["rail"] == rail && payout["state"] == state).collect()
}

fn pay() {
    let scratch = Scratch::new("paid-chain").expect("a folder");
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind")).expect("a bitcoind");
    bitcoind.mine(1).expect("mines");
    let operator =
        LightningWallet::open(&bitcoind, scratch.path(), "operator", 2, Vec::new()).expect("opens");
    let saver = ChainWallet::open(&bitcoind, scratch.path(), 3).expect("opens");
    let program = env!("CARGO_BIN_EXE_under-test");
    let mut world = World::start_with("paid", program, plan(), |_, swarm| {
        swarm.with_bitcoind(&bitcoind);
        // One has a Lightning node inside.
        let own = swarm.of.entry(OWN_NODE).or_default();
        own.extend(chain_settings(&bitcoind));
        own.push(("payout".to_owned(), "lightning".to_owned()));
    });
    endow(&world, &bitcoind, &operator);
    // A wallet has an offer only once it has a channel.
    let (_, offer) = operator.node.offer("what my storage earns").expect("an offer");
    let address = saver.treasury.address(0).expect("an address");
    for (at, to) in [(0, &offer), (1, &offer), (2, &address)] {
        world.swarm.set(Member::Storage(at), "payout", to);
        world.swarm.restart(Member::Storage(at)).unwrap_or_else(|error| panic!("starts again: {error}"));
    }
    world.wait_eligible(5);
    // Nothing is stored for a client that has paid nothing in.
    let refused = world.code(&world.owner, &["backup"], 1);
    assert!(refused.stderr.contains("prepayment deposit"), "{}", refused.stderr);
    let client = ChainWallet::open(&bitcoind, scratch.path(), 4).expect("opens");
    client.endow(&bitcoind).expect("funded");
    let to = world.ok(&world.owner, &["prepayment", "deposit", "2000000"]);
    client.pay(to["address"].as_str().expect("an address"), 2_000_000).expect("paid");
    bitcoind.mine(6).expect("mines");
    let balance = || world.ok(&world.owner, &["prepayment", "balance"]);
    assert!(wait_until(DEADLINE, || balance()["prepaid_msat"] == 2_000_000_000_u64), "{}", balance());
    world.backup();

    let paid = until(&bitcoind, || {
        payouts(&world, "lightning", "settled").len() >= 6
            && payouts(&world, "chain", "settled").len() >= 2
            && received(&world).len() >= 2
    });
    assert!(paid, "{}", wallet(&world));
    // Each operator is told what was paid, and what it still may expect.
    for at in 0..4 {
        let info = world.storage_info(Member::Storage(at));
        let arrived =
            info["payouts"].as_array().into_iter().flatten().find(|payout| payout["state"] == "arrived");
        assert!(arrived.is_some(), "{info}");
        assert!(info["earned"][0]["paid_msat"].as_u64() > Some(0), "{info}");
    }
    // What the node inside has received is what its mediator says it sent.
    // The money comes before the word that it was sent.
    let came = received(&world);
    let told = || world.storage_info(OWN_NODE)["payouts"].to_string();
    let hash = |payment: &Value| payment["payment_hash"].as_str().expect("a hash").to_owned();
    let all_told = wait_until(DEADLINE, || {
        let told = told();
        came.iter().all(|payment| told.contains(&hash(payment)))
    });
    assert!(all_told, "{came:?} are not all in {}", told());
    // A node that lost all it knew hears of every payout again, and of what it has earned.
    let lost = Member::Storage(0);
    let arrived = |world: &World| -> BTreeSet<String> {
        let told = world.storage_info(lost)["payouts"].take();
        let told = told.as_array().into_iter().flatten().filter(|payout| payout["state"] == "arrived");
        told.map(|payout| payout["id"].to_string()).collect()
    };
    let before = arrived(&world);
    world.swarm.kill9(lost).expect("a member");
    std::fs::remove_dir_all(world.swarm.home(lost).join("state")).expect("removed");
    world.swarm.restart(lost).unwrap_or_else(|error| panic!("starts again: {error}"));
    let retold = until(&bitcoind, || {
        let info = world.storage_info(lost);
        arrived(&world).is_superset(&before) && info["earned"][0]["paid_msat"].as_u64() > Some(0)
    });
    assert!(retold, "{before:?} {}", world.storage_info(lost));
    // Nobody named a destination for the last: it accrues, and the operator is told.
    let failures = wallet(&world)["payout_failures"].to_string();
    assert!(failures.contains("--payout"), "{failures}");
    // The client has paid what storage earned and the mediator's fee, and nothing else.
    let history = world.ok(&world.owner, &["prepayment", "history"]);
    assert!(history["entries"].as_array().is_some_and(|entries| entries.len() > 5), "{history}");
    let statements = world.ok(&world.owner, &["prepayment", "statement"]);
    assert_eq!(statements["faults"], json!([]), "{statements}");
    let ended = world.swarm.stop(MEDIATOR, fincrypt_testkit::Signal::TERM, DEADLINE);
    ended.unwrap_or_else(|error| panic!("{error}"));
    let inside = received(&world);
    check(&world, &operator, &saver, &inside);
}

/// What arrived in the operators' wallets is what the books say, payment by payment, to the
/// satoshi; and what left the mediator is that and the fees it states.
fn check(world: &World, operator: &LightningWallet, saver: &ChainWallet, inside: &[Value]) {
    let (ledger, _) = Ledger::open(&world.swarm.home(MEDIATOR).join("ledger")).expect("opens");
    assert!(ledger.audit().expect("audits").is_sound());
    let (mut hashes, mut on_chain) = (BTreeMap::new(), BTreeMap::new());
    ledger.books(|books| {
        let charged: u64 = books.contracts().map(|(_, book)| book.earned.get() + book.fee.get()).sum();
        let prepaid: u64 = books
            .balances()
            .filter(|(account, _)| matches!(account, Account::Prepayment(_)))
            .map(|(_, balance)| balance.get())
            .sum();
        assert_eq!(charged + prepaid, 2_000_000_000, "every millisatoshi of the deposit is accounted for");
        assert_eq!(books.balance(Account::Losses).get(), 0);
        for (_, payout) in books.payouts() {
            let PayoutStage::Settled { sending, left, taken } = &payout.stage else { continue };
            assert!(payout.parts.iter().all(|part| matches!(part.owed, Owed::Contract(_))));
            let sum: u64 = taken.iter().map(|msat| msat.get()).sum();
            assert_eq!(sum, left.get(), "what storage is charged for is what left");
            match sending {
                Sending::Payment(hash) => {
                    hashes.insert(hash.to_string(), payout.arrives().get());
                }
                Sending::Transaction(id) => {
                    assert!(sum - payout.arrives().get() > 0, "the network takes its fee");
                    on_chain.insert(*id, payout.arrives().get());
                }
            }
        }
    });
    for came in operator.node.deposits() {
        let hash = hex::encode(came.id);
        if let Some(stated) = hashes.remove(&hash) {
            assert_eq!(stated, came.amount.get());
        }
    }
    for came in inside {
        let stated = hashes.remove(came["payment_hash"].as_str().expect("a hash"));
        assert!(stated.is_none_or(|stated| came["msat"] == stated), "{came}");
    }
    assert!(hashes.is_empty(), "these did not arrive: {hashes:?}");
    // What the books call settled has arrived, less the fee that the operator bears.
    saver.treasury.sync().expect("syncs");
    assert!(!on_chain.is_empty());
    for came in saver.treasury.arrivals() {
        let Arrival::Output(id, _) = came.arrival else { panic!("{came:?}") };
        if let Some(stated) = on_chain.remove(&id) {
            assert_eq!(stated, came.amount.get() * 1000);
        }
    }
    assert!(on_chain.is_empty(), "these did not arrive: {on_chain:?}");
}

#[test]
fn ten_nodes_are_paid_to_the_satoshi_and_those_that_cheat_get_nothing_from_then_on() {
    let programs = Programs::multi_call(Path::new(env!("CARGO_BIN_EXE_under-test")));
    let table = play_paid(&programs).unwrap_or_else(|error| panic!("{error}"));
    eprintln!("{table}");
    assert!(table.is_right(), "{table}");
}

#[test]
fn operators_are_paid_over_lightning_and_on_the_chain_for_what_their_nodes_have_earned() {
    pay();
}
