//! A mediator whose chain is an Esplora server: deposits, a payout that waits and is replaced at a higher
//! fee, and what arrives of it.

use fincrypt_e2e::{DEADLINE, Plan, World};
use fincrypt_ledger::{Account, Ledger, PayoutStage};
use fincrypt_protocol::money::Sending;
use fincrypt_testkit::{Bitcoind, ChainWallet, Esplora, Member, Scratch, wait_until};
use serde_json::{Value, json};

use crate::paid::{MEDIATOR, operate, wallet};

const DEPOSIT: u64 = 3_000_000;

fn plan() -> Plan {
    let settings = &[
        ("epoch", "1"),
        ("price", "100000000000000"),
        ("payout_interval", "0"),
        ("payout_threshold", "100000"),
        ("credit_bound", "1000000"),
        ("credit_limit", "1000000"),
    ];
    Plan { storage: 2, settings, ..Plan::small() }
}

/// Payouts that are not over, and by which transaction each was sent last.
fn open(world: &World) -> Vec<String> {
    let payouts = wallet(world)["payouts"].take();
    let open = payouts.as_array().into_iter().flatten().filter(|payout| payout["state"] == "open");
    open.filter_map(|payout| payout["sending"].as_str().map(str::to_owned)).collect()
}

/// A block without the transactions that wait.
fn mine_empty(bitcoind: &Bitcoind, to: &str) {
    bitcoind.call("generateblock", &json!([to, []])).expect("mines");
}

fn in_mempool(bitcoind: &Bitcoind, transaction: &str) -> bool {
    let waiting = bitcoind.call("getrawmempool", &json!([])).expect("answers");
    waiting.as_array().is_some_and(|all| all.contains(&Value::from(transaction)))
}

/// What the transaction that waits and is none of these costs, in millisatoshi.
fn fee_of_the_other(bitcoind: &Bitcoind, payouts: &[String]) -> u64 {
    let waiting = bitcoind.call("getrawmempool", &json!([])).expect("answers");
    let mut others = waiting.as_array().expect("a list").iter().filter_map(Value::as_str);
    let other = others.find(|id| !payouts.iter().any(|payout| payout == id)).expect("another");
    let entry = bitcoind.call("getmempoolentry", &json!([other])).expect("answers");
    (entry["fees"]["base"].as_f64().expect("a number") * 1e11).round() as u64
}

#[test]
fn over_esplora_a_payout_that_waits_is_replaced_at_a_higher_fee_and_arrives_once() {
    let scratch = Scratch::new("paid-esplora").expect("a folder");
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind")).expect("a bitcoind");
    bitcoind.mine(1).expect("mines");
    let esplora = Esplora::start(&bitcoind).expect("serves");
    let savers = [3, 5].map(|seed| ChainWallet::open(&bitcoind, scratch.path(), seed).expect("opens"));
    let client = ChainWallet::open(&bitcoind, scratch.path(), 4).expect("opens");
    client.endow(&bitcoind).expect("funded");
    let program = env!("CARGO_BIN_EXE_under-test");
    let addresses = savers.each_ref().map(|saver| saver.treasury.address(0).expect("an address"));
    let mut world = World::start_with("paid-esplora", program, plan(), |_, swarm| {
        let chain = ("esplora_url".to_owned(), esplora.url());
        swarm.of.entry(MEDIATOR).or_default().push(chain);
        for (at, address) in addresses.iter().enumerate() {
            let payout = ("payout".to_owned(), address.clone());
            swarm.of.entry(Member::Storage(at)).or_default().push(payout);
        }
    });
    world.wait_eligible(2);
    // Of three coins, so that what is under way leaves some.
    let capital = operate(&world, &["wallet", "address"]);
    bitcoind.mine_to(2, &capital).expect("mines");
    bitcoind.fund(&capital).expect("funded");
    let to = world.ok(&world.owner, &["prepayment", "deposit", &DEPOSIT.to_string()]);
    client.pay(to["address"].as_str().expect("an address"), DEPOSIT).expect("paid");
    bitcoind.mine(6).expect("mines");
    let balance = || world.ok(&world.owner, &["prepayment", "balance"]);
    assert!(wait_until(DEADLINE, || balance()["prepaid_msat"] == DEPOSIT * 1000), "{}", balance());
    esplora.ask_fee(1000);
    world.backup();

    // While blocks are that dear nobody is paid, and the operator is told.
    let dear =
        || wallet(&world)["payout_failures"].to_string().matches("a transaction would cost").count() == 2;
    assert!(wait_until(DEADLINE, dear), "{}", wallet(&world));
    assert!(open(&world).is_empty(), "{}", wallet(&world));
    esplora.ask_fee(1);
    world.swarm.restart(MEDIATOR).unwrap_or_else(|error| panic!("starts again: {error}"));
    // Then both are by one transaction, which waits, while blocks have become dear again.
    assert!(wait_until(DEADLINE, || !open(&world).is_empty()), "{}", wallet(&world));
    // Nothing more accrues, so this one stays the last.
    for node in world.storage_nodes() {
        world.swarm.kill9(node).expect("a member");
    }
    let first = open(&world);
    assert_eq!(first.len(), 1, "{}", wallet(&world));
    assert!(wait_until(DEADLINE, || first.iter().all(|id| in_mempool(&bitcoind, id))), "{first:?}");
    // So does money on its way to the Lightning node.
    let moved = operate(&world, &["wallet", "fund", "400000"]);
    let moved = moved.rsplit(' ').next().expect("a transaction").to_owned();
    assert!(wait_until(DEADLINE, || in_mempool(&bitcoind, &moved)), "{moved}");
    esplora.ask_fee(20);
    let nobody = client.treasury.address(9).expect("an address");
    for _ in 0..7 {
        mine_empty(&bitcoind, &nobody);
    }
    let replaced = wait_until(DEADLINE, || {
        let newest = open(&world);
        newest.len() == first.len()
            && newest.iter().all(|id| !first.contains(id) && in_mempool(&bitcoind, id))
    });
    assert!(replaced, "{first:?} {}", wallet(&world));
    assert!(first.iter().all(|id| !in_mempool(&bitcoind, id)), "the first versions can no longer be mined");
    assert!(wait_until(DEADLINE, || !in_mempool(&bitcoind, &moved)), "{moved} was not replaced");
    let move_fee = fee_of_the_other(&bitcoind, &open(&world));

    // The mediator is away for a day and more, and loses what its wallet knew: by its books and the chain
    // nothing is paid again.
    world.swarm.kill9(MEDIATOR).expect("a member");
    bitcoind.mine(150).expect("mines");
    std::fs::remove_dir_all(world.swarm.home(MEDIATOR).join("treasury")).expect("removed");
    world.swarm.restart(MEDIATOR).unwrap_or_else(|error| panic!("starts again: {error}"));
    bitcoind.mine(6).expect("mines");
    assert!(
        wait_until(DEADLINE, || wallet(&world)["payouts"].is_array() && open(&world).is_empty()),
        "{}",
        wallet(&world)
    );
    let ended = world.swarm.stop(MEDIATOR, fincrypt_testkit::Signal::TERM, DEADLINE);
    ended.unwrap_or_else(|error| panic!("{error}"));

    // What arrived is what storage was told, and the difference in fees is the mediator's.
    let (ledger, _) = Ledger::open(&world.swarm.home(MEDIATOR).join("ledger")).expect("opens");
    assert!(ledger.audit().expect("audits").is_sound());
    let (stated, left, charged) = ledger.books(|books| {
        let mut sums = (0, 0, 0);
        for (_, payout) in books.payouts() {
            let PayoutStage::Settled { sending: Sending::Transaction(_), left, .. } = &payout.stage else {
                continue;
            };
            assert!(payout.sent.len() >= 2, "it was sent once: {payout:?}");
            assert_eq!(payout.to.len(), 2, "both operators are paid by it");
            let fee = (payout.total().get() - payout.arrives().get()) * 1000;
            assert!(fee <= payout.total().get() * 25, "more than 2.5 %: {payout:?}");
            sums = (sums.0 + payout.arrives().get(), sums.1 + left.get(), sums.2 + payout.total().get());
        }
        assert!(sums.1 > sums.2, "a replacement costs more: {sums:?}");
        let fees = books.balance(Account::NetworkFees).get();
        assert_eq!(fees, sums.1 - sums.2 + move_fee, "and the mediator bears that, and what the move costs");
        sums
    });
    let came: u64 = savers.iter().map(|saver| saver.received(6).expect("syncs")).sum();
    assert_eq!(came * 1000, stated, "of {charged} msat owed, while {left} left");
    assert!(savers.iter().all(|saver| saver.treasury.arrivals().len() <= 1), "each is paid once");
}
