//! Storage is paid, with a real bitcoind and a real Lightning wallet of its operator.

use fincrypt_examples::{Bitcoind, Member, wait_until};
use fincrypt_protocol::PayoutId;
use fincrypt_tests::{DEADLINE, Plan, World};
use fincrypt_wallet::lightning::{Payment, Stands};
use serde_json::Value;

use crate::wallets::{Party, sat, with_runtime};

/// Satoshi per GiB-month: some hundred satoshi for each node in an epoch of two seconds.
const PRICE: &str = "1000000000000";

fn plan() -> Plan {
    Plan {
        storage: 4,
        settings: &[("epoch", "2"), ("price", PRICE), ("payout_interval", "0")],
        ..Plan::small()
    }
}

fn wallet(world: &World) -> Value {
    world.swarm.ask(Member::Mediator(0), "/api/v1/wallet").unwrap_or_default()
}

/// A channel from somebody's wallet to the mediator, and satoshi that it pays in as capital.
fn open_channel(world: &World, bitcoind: &Bitcoind, wallet_of: &Party, capital: u64) {
    let mut node = String::new();
    let runs = wait_until(DEADLINE, || {
        node = wallet(world)["lightning"]["node"].as_str().unwrap_or_default().to_owned();
        !node.is_empty()
    });
    assert!(runs, "{}", wallet(world));
    let listen = world.swarm.home(Member::Mediator(0)).join("lightning.listen");
    let listen = std::fs::read_to_string(listen).expect("it listens");
    let peer = format!("{node}@{listen}").parse().expect("a peer");
    bitcoind.fund(&wallet_of.node.funding_address().expect("an address")).expect("funded");
    wallet_of.node.sync().expect("syncs");
    wallet_of.node.open_channel(&peer, 2_000_000, sat(0), true).expect("opens");
    bitcoind.mine(6).expect("mines");
    let usable = wait_until(DEADLINE, || {
        wallet_of.node.sync().expect("syncs");
        wallet_of.node.channels().iter().any(|channel| channel.usable)
            && wallet(world)["lightning"]["channels"][0]["usable"] == true
    });
    assert!(usable, "{:?} {}", wallet_of.node.channels(), wallet(world));
    let to = node.parse().expect("a destination");
    let payment = Payment { id: PayoutId::from_bytes([1; 16]), to, amount: sat(capital), fee_cap: sat(0) };
    let paid = wait_until(DEADLINE, || {
        let _ = wallet_of.node.pay(&payment);
        matches!(wallet_of.node.stands(&payment), Stands::Paid { .. })
    });
    assert!(paid, "{:?}", wallet_of.node.stands(&payment));
    assert!(wait_until(DEADLINE, || wallet(world)["capital_msat"] == capital * 1000), "{}", wallet(world));
}

fn pay_over_lightning() {
    let scratch = fincrypt_examples::Scratch::new("paid-chain").expect("a folder");
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind")).expect("a bitcoind");
    bitcoind.mine(1).expect("mines");
    let operator = Party::open(&bitcoind, scratch.path(), "operator", 2, Vec::new());
    let program = env!("CARGO_BIN_EXE_under-test");
    let mut world = World::start_with("paid", program, plan(), |_, swarm| swarm.with_bitcoind(&bitcoind));
    open_channel(&world, &bitcoind, &operator, 500_000);
    // A wallet has an offer only once it has a channel.
    let (_, offer) = operator.node.offer("what my storage earns").expect("an offer");
    for at in 0..3 {
        world.swarm.set(Member::Storage(at), "payout", &offer);
        world.swarm.restart(Member::Storage(at)).unwrap_or_else(|error| panic!("starts again: {error}"));
    }
    world.wait_eligible(4);
    world.backup();
    let settled = || {
        let wallet = wallet(&world);
        let payouts = wallet["payouts"].as_array().cloned().unwrap_or_default();
        payouts.into_iter().filter(|payout| payout["state"] == "settled").collect::<Vec<_>>()
    };
    assert!(wait_until(DEADLINE, || settled().len() >= 9), "{}", wallet(&world));
    // What arrived is what was paid, payment by payment.
    let hashes: Vec<String> = operator.node.deposits().iter().map(|came| hex(&came.id)).collect();
    for payout in settled() {
        let hash = payout["sending"].as_str().expect("a payment hash").to_owned();
        assert!(hashes.contains(&hash), "{hash} is not among {hashes:?}");
    }
    // Nobody named a destination for the fourth: it accrues, and the operator is told.
    let troubles = wallet(&world)["troubles"].to_string();
    assert!(troubles.contains("--payout"), "{troubles}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn operators_are_paid_over_lightning_for_what_their_nodes_have_earned() {
    with_runtime(pay_over_lightning);
}
