//! A prepayment that runs out, is topped up in time over Lightning, and whose rest is withdrawn.

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_protocol::amount::Msat;
use fincrypt_testkit::{Bitcoind, ChainWallet, LightningWallet, Scratch, wait_until};
use serde_json::{Value, json};

use crate::paid::{MEDIATOR, endow, until, wallet};

/// Lasts for a few epochs.
const DEPOSIT: u64 = 30_000;
/// Over Lightning, later.
const MORE: u64 = 400_000;

fn plan() -> Plan {
    let settings = &[
        ("epoch", "1"),
        ("price", "10000000000000"),
        ("credit_bound", "1000000"),
        ("credit_limit", "1000000"),
        ("fee_percent", "2.5"),
    ];
    Plan { storage: 2, settings, ..Plan::small() }
}

fn balance(world: &World) -> Value {
    world.ok(&world.owner, &["prepayment", "balance"])
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// All that was charged by now, as the client's own copies of the statements say.
fn charged(world: &World) -> u64 {
    let statements = world.ok(&world.owner, &["prepayment", "statement"]);
    assert_eq!(statements["faults"], json!([]), "{statements}");
    let statements = statements["statements"].as_array().cloned().unwrap_or_default();
    statements
        .iter()
        .map(|statement| number(&statement["earned_msat"]) + number(&statement["fee_msat"]))
        .sum()
}

#[test]
fn a_prepayment_that_runs_out_loses_nothing_if_it_is_topped_up_and_the_rest_comes_back() {
    let scratch = Scratch::new("prepayment-empty").expect("a folder");
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind")).expect("a bitcoind");
    bitcoind.mine(1).expect("mines");
    let friend = LightningWallet::open(&bitcoind, scratch.path(), "friend", 2, Vec::new()).expect("opens");
    let payer = ChainWallet::open(&bitcoind, scratch.path(), 4).expect("opens");
    payer.endow(&bitcoind).expect("funded");
    let program = env!("CARGO_BIN_EXE_under-test");
    let mut world =
        World::start_with("prepayment-empty", program, plan(), |_, swarm| swarm.with_bitcoind(&bitcoind));
    endow(&world, &bitcoind, &friend);
    // What the friend can pay is in a channel of its own.
    bitcoind.fund(&friend.node.funding_address().expect("an address")).expect("funded");
    let _ = friend.node.sync();
    let key = wallet(&world)["lightning"]["node"].as_str().expect("runs").to_owned();
    let listen = std::fs::read_to_string(world.swarm.home(MEDIATOR).join("lightning.listen")).expect("there");
    let peer = format!("{key}@{listen}").parse().expect("a peer");
    friend.node.open_channel(&peer, 8_000_000, Msat::ZERO, false).expect("opens");
    let usable = until(&bitcoind, || {
        let _ = friend.node.sync();
        friend.node.channels().iter().all(|channel| channel.usable)
    });
    assert!(usable, "{:?}", friend.node.channels());
    world.wait_eligible(2);

    let to = world.ok(&world.owner, &["prepayment", "deposit", &DEPOSIT.to_string()]);
    payer.pay(to["address"].as_str().expect("an address"), DEPOSIT).expect("paid");
    // Credited with the third block, and not before.
    bitcoind.mine(2).expect("mines");
    let pending = || number(&balance(&world)["pending_msat"]);
    assert!(wait_until(DEADLINE, || pending() == DEPOSIT * 1000), "{}", balance(&world));
    assert_eq!(number(&balance(&world)["prepaid_msat"]), 0);
    bitcoind.mine(1).expect("mines");
    let prepaid = || number(&balance(&world)["prepaid_msat"]);
    assert!(wait_until(DEADLINE, || prepaid() == DEPOSIT * 1000), "{}", balance(&world));
    world.backup();

    // It runs out: that is said, nothing new is stored, and what is there is kept and comes back.
    assert!(wait_until(DEADLINE, || balance(&world)["empty_since"].is_u64()), "{}", balance(&world));
    let told = world.code(&world.owner, &["prepayment", "balance"], 0);
    assert!(told.stderr.contains("prepayment deposit"), "{}", told.stderr);
    let empty = told.json();
    assert_eq!(empty["warning"]["kind"], "used_up", "{empty}");
    assert!(number(&empty["kept_until"]) > number(&empty["empty_since"]) + 80 * 24 * 3600, "{empty}");
    std::fs::write(world.source.join("later"), vec![7; 300_000]).expect("written");
    let refused = world.code(&world.owner, &["backup"], 1);
    assert!(refused.stderr.contains("prepayment deposit"), "{}", refused.stderr);
    let before = charged(&world);
    assert!(before <= DEPOSIT * 1000, "no more is charged than was there: {before}");
    assert_eq!(prepaid() + charged(&world), DEPOSIT * 1000);

    // A friend tops it up over Lightning: what passed meanwhile is paid with the next statement.
    let offer = to["offer"].as_str().expect("an offer").to_owned();
    let rich = until(&bitcoind, || {
        let _ = friend.node.sync();
        friend
            .node
            .channels()
            .iter()
            .any(|channel| channel.usable && channel.can_send_once > Msat::new(MORE * 1000))
    });
    assert!(rich, "{:?}", friend.node.channels());
    friend.pay(&offer, Msat::new(MORE * 1000)).expect("paid");
    let paid_in = (DEPOSIT + MORE) * 1000;
    assert!(wait_until(DEADLINE, || prepaid() + charged(&world) == paid_in), "{}", balance(&world));
    assert!(wait_until(DEADLINE, || charged(&world) > before), "{}", balance(&world));
    assert!(balance(&world)["empty_since"].is_null(), "{}", balance(&world));
    world.backup();
    for node in world.storage_nodes() {
        world.swarm.kill9(node).expect("a member");
    }

    // An invoice is paid once, whatever is asked for again.
    let came = || {
        let _ = friend.node.sync();
        let sum = friend.node.deposits().iter().filter(|came| came.amount == Msat::new(10_000_000)).count();
        (sum, number(&balance(&world)["prepaid_msat"]))
    };
    let (none, had) = came();
    let invoice = friend.node.invoice(Msat::new(10_000_000), "some of it").expect("an invoice");
    let withdraw = ["prepayment", "withdraw", "--to", &invoice, "11000"];
    world.ok(&world.owner, &withdraw);
    assert!(until(&bitcoind, || came() == (none + 1, had - 10_000_000)), "{:?} {}", came(), wallet(&world));
    let again = world.ok(&world.owner, &withdraw);
    assert_eq!(
        (again["repeated"].as_bool(), again["state"].as_str()),
        (Some(true), Some("arrived")),
        "{again}"
    );
    let refused = world.code(&world.owner, &[&withdraw[..], &["--new"]].concat(), 1);
    assert!(refused.stderr.contains("the invoice was used before"), "{}", refused.stderr);
    assert_eq!(came(), (none + 1, had - 10_000_000), "nothing was paid or charged again");

    // The rest comes back, to the satoshi that was told.
    let home = ChainWallet::open(&bitcoind, scratch.path(), 5).expect("opens");
    let address = home.treasury.address(0).expect("an address");
    let withdrawn = world.ok(&world.owner, &["prepayment", "withdraw", "--to", &address]);
    let arrives = number(&withdrawn["arrives_msat"]) / 1000;
    assert!(arrives > 0, "{withdrawn}");
    let arrived = until(&bitcoind, || home.received(6).is_ok_and(|sat| sat == arrives));
    assert!(arrived, "{withdrawn} {:?} {}", home.received(1), wallet(&world));
    let history = world.ok(&world.owner, &["prepayment", "history"]).to_string();
    assert!(history.contains(&(MORE * 1000).to_string()), "{history}");
    let audit = world.swarm.ask(MEDIATOR, "/api/v1/wallet/audit").expect("answers");
    assert_eq!(audit["sound"], true, "{audit}");
}
