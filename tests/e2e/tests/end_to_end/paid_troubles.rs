//! What may go wrong with money and does: blocks that vanish, a bitcoind that is away, wallets that are,
//! and destinations that are none. It accrues, says so, and is paid later.

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_testkit::{Bitcoind, ChainWallet, LightningWallet, Member, Scratch, wait_until};
use serde_json::json;

use crate::paid::{MEDIATOR, endow, operate, until, wallet};

const DEPOSIT: u64 = 2_000_000;
/// What the mediator moves to its Lightning node.
const CAPITAL: u64 = 9_000_000;
const NODE: Member = Member::Storage(0);
/// An address of another Bitcoin network (BIP 173): the node takes it, the mediator cannot pay to it.
const FOREIGN: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
/// A Lightning node that nobody runs.
const NOBODY: &str = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";

fn plan() -> Plan {
    let settings = &[
        ("epoch", "1"),
        ("price", "100000000000000"),
        ("payout_interval", "0"),
        ("credit_bound", "1000000"),
        ("credit_limit", "1000000"),
    ];
    Plan { storage: 2, settings, ..Plan::small() }
}

fn prepaid(world: &World) -> u64 {
    world.ok(&world.owner, &["prepayment", "balance"])["prepaid_msat"].as_u64().expect("a number")
}

fn troubles(world: &World) -> String {
    wallet(world)["payout_failures"].to_string()
}

fn set_payout(world: &mut World, to: &str) {
    world.swarm.set(NODE, "payout", to);
    world.swarm.restart(NODE).unwrap_or_else(|error| panic!("starts again: {error}"));
}

#[test]
fn what_cannot_be_paid_now_accrues_says_so_and_is_paid_later() {
    let scratch = Scratch::new("paid-troubles").expect("a folder");
    let mut bitcoind = Bitcoind::start(&scratch.path().join("bitcoind")).expect("a bitcoind");
    bitcoind.mine(1).expect("mines");
    let operator =
        LightningWallet::open(&bitcoind, scratch.path(), "operator", 2, Vec::new()).expect("opens");
    let client = ChainWallet::open(&bitcoind, scratch.path(), 4).expect("opens");
    client.endow(&bitcoind).expect("funded");
    let program = env!("CARGO_BIN_EXE_under-test");
    let mut world =
        World::start_with("paid-troubles", program, plan(), |_, swarm| swarm.with_bitcoind(&bitcoind));
    endow(&world, &bitcoind, &operator);

    // A deposit is taken back with its block, and comes back with another.
    let to = world.ok(&world.owner, &["prepayment", "deposit", &DEPOSIT.to_string()]);
    client.pay(to["address"].as_str().expect("an address"), DEPOSIT).expect("paid");
    let height = bitcoind.call("getblockcount", &json!([])).expect("a height").as_u64().expect("a number");
    bitcoind.mine(6).expect("mines");
    assert!(wait_until(DEADLINE, || prepaid(&world) == DEPOSIT * 1000), "{}", prepaid(&world));
    let block = bitcoind.call("getblockhash", &json!([height + 1])).expect("a hash");
    bitcoind.call("invalidateblock", &json!([block])).expect("invalid");
    let nobody = client.treasury.address(9).expect("an address");
    for _ in 0..7 {
        bitcoind.call("generateblock", &json!([nobody, []])).expect("mines");
    }
    assert!(wait_until(DEADLINE, || prepaid(&world) == 0), "{}", prepaid(&world));
    bitcoind.mine(1).expect("mines");
    let pending = || world.ok(&world.owner, &["prepayment", "balance"])["pending_msat"].as_u64();
    assert!(wait_until(DEADLINE, || pending() == Some(DEPOSIT * 1000)), "{:?}", pending());
    bitcoind.mine(5).expect("mines");
    assert!(wait_until(DEADLINE, || prepaid(&world) == DEPOSIT * 1000), "{}", prepaid(&world));
    // What it cost to move money into channels and to open one is in the books once it is quiet.
    let agree = || {
        let (wallet, node) = (wallet(&world), wallet(&world)["lightning"].take());
        let sat = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
        let there = sat(&node["on_chain_sat"]) + sat(&node["channels_sat"]);
        // Channels are told without what closing them would cost.
        let (books, lacks) = (sat(&wallet["lightning_msat"]) / 1000, &wallet["lightning_lacks_msat"]);
        wallet["network_fees_msat"].as_u64() > Some(0)
            && lacks.is_null()
            && books < CAPITAL
            && books >= there
            && books < there + 2000
    };
    assert!(until(&bitcoind, agree), "{}", wallet(&world));
    world.backup();

    // A destination of another Bitcoin network, and one on the chain while bitcoind is away: it accrues.
    set_payout(&mut world, FOREIGN);
    assert!(
        wait_until(DEADLINE, || troubles(&world).contains("no money can be sent")),
        "{}",
        troubles(&world)
    );
    bitcoind.stop().expect("ends");
    assert!(wait_until(DEADLINE, || wallet(&world)["chain_down"].is_string()), "{}", wallet(&world));
    let restored = world.restore(&world.owner, "latest", "meanwhile");
    world.assert_equal(&restored);
    bitcoind.restart().expect("starts again");
    bitcoind.mine(1).expect("mines");
    let back = || wallet(&world)["chain_down"].is_null() && wallet(&world)["lightning"].is_object();
    assert!(wait_until(DEADLINE, back), "it has another cookie now: {}", wallet(&world));

    // A wallet that is away: nothing is sent to it, and it is paid once it is back. Its own bitcoind's
    // cookie has changed, too.
    let node = operator.node.id();
    drop(operator);
    set_payout(&mut world, &node);
    let away = || troubles(&world).contains("a peer is away");
    assert!(until(&bitcoind, away), "{}", wallet(&world));
    let operator =
        LightningWallet::open(&bitcoind, scratch.path(), "operator", 2, Vec::new()).expect("opens");
    // Its peers are looked for once a minute, and at every start.
    world.swarm.restart(MEDIATOR).unwrap_or_else(|error| panic!("starts again: {error}"));
    let paid = until(&bitcoind, || {
        let _ = operator.node.sync();
        operator.received() > 0
    });
    assert!(paid, "{} {:?}", wallet(&world), operator.node.channels());

    // A destination to which no route leads: what failed is owed again, and paid to another one.
    set_payout(&mut world, NOBODY);
    let failed = || wallet(&world)["payouts"].to_string().contains("failed");
    assert!(until(&bitcoind, failed), "{}", wallet(&world));
    let report = world.swarm.ask(MEDIATOR, "/api/v1/wallet/audit").expect("answers");
    assert_eq!(report["sound"], true, "{report}");
    let before = operator.received();
    set_payout(&mut world, &node);
    assert!(until(&bitcoind, || operator.received() > before), "{}", wallet(&world));
    let report = world.swarm.ask(MEDIATOR, "/api/v1/wallet/audit").expect("answers");
    assert_eq!(report["sound"], true, "{report}");

    // The operator closes the channel: its money comes back to the node's own coins, and what that cost is
    // in the books.
    set_payout(&mut world, FOREIGN);
    let idle = || !wallet(&world)["payouts"].to_string().contains("\"open\"");
    assert!(until(&bitcoind, idle), "{}", wallet(&world));
    let channels = wallet(&world)["lightning"]["channels"].take();
    let id = channels[0]["id"].as_str().expect("a channel").to_owned();
    let costs = || wallet(&world)["network_fees_msat"].as_u64().unwrap_or_default();
    let before = costs();
    operate(&world, &["wallet", "close", &id]);
    let closed = || {
        let _ = operator.node.sync();
        let (wallet, node) = (wallet(&world), wallet(&world)["lightning"].take());
        let on_chain = node["on_chain_sat"].as_u64().unwrap_or_default();
        node["channels"] == json!([])
            && on_chain > 0
            && wallet["lightning_lacks_msat"].is_null()
            && wallet["lightning_msat"].as_u64().is_some_and(|books| books / 1000 <= on_chain + 1)
    };
    assert!(until(&bitcoind, closed), "{}", wallet(&world));
    assert!(costs() > before, "{}", wallet(&world));
    let descriptors = operate(&world, &["wallet", "descriptors"]);
    assert_eq!(descriptors.lines().filter(|line| line.starts_with("wpkh(")).count(), 2, "{descriptors}");
}
