//! The mediator is killed at every step of the money, again and again: nothing is lost, created or
//! paid twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use fincrypt_examples::{Bitcoind, ChainWallet, LightningWallet, Member, Scratch, SeededRandom, wait_until};
use fincrypt_protocol::money::Sending;
use fincrypt_tests::{DEADLINE, Plan, World, seed};
use fincrypt_wallet::ledger::{Account, Event, Ledger, PayoutStage, Rail};

use crate::paid::{MEDIATOR, endow, open_channel, wallet};

const DEPOSIT: u64 = 3_000_000;
/// Paid in again and again meanwhile.
const MORE: u64 = 20_000;
/// Kills at most.
const KILLS: usize = 60;
/// And at least.
const FEWEST: usize = 12;

fn plan() -> Plan {
    let settings = &[
        ("epoch", "1"),
        ("price", "200000000000000"),
        ("payout_interval", "0"),
        ("credit_bound", "1000000"),
        ("credit_limit", "1000000"),
        ("fee_percent", "2.5"),
    ];
    Plan { storage: 3, settings, ..Plan::small() }
}

/// The step that was the last to be durable when the mediator was killed.
fn last_step(home: &Path) -> &'static str {
    let (ledger, _) = Ledger::open(&home.join("ledger")).expect("opens and is sound");
    let audit = ledger.audit().expect("audits");
    assert!(audit.is_sound(), "{audit}");
    let record = ledger.entry(audit.entries).expect("reads").expect("there");
    match record.event {
        Event::Deposit { .. } => "deposit",
        Event::Accrual { .. } => "accrual",
        Event::PayoutIntent { rail: Rail::OnChain, .. } => "intent on the chain",
        Event::PayoutIntent { rail: Rail::Lightning, .. } => "intent over Lightning",
        Event::PayoutSent { sending: Sending::Transaction(_), .. } => "sent on the chain",
        Event::PayoutSent { sending: Sending::Payment(_), .. } => "sent over Lightning",
        Event::PayoutSettled { sending: Sending::Transaction(_), .. } => "settled on the chain",
        Event::PayoutSettled { sending: Sending::Payment(_), .. } => "settled over Lightning",
        _ => "another",
    }
}

const STEPS: [&str; 8] = [
    "deposit",
    "accrual",
    "intent on the chain",
    "intent over Lightning",
    "sent on the chain",
    "sent over Lightning",
    "settled on the chain",
    "settled over Lightning",
];

/// Kills the mediator as soon as its ledger's journal has grown so many times, and some moments
/// later.
fn kill_in_the_middle(world: &mut World, growths: u64, moments: Duration) {
    let journal = world.swarm.home(MEDIATOR).join("ledger").join("journal");
    let length = || std::fs::metadata(&journal).map_or(0, |meta| meta.len());
    let (begun, mut known, mut grown) = (Instant::now(), length(), 0);
    while grown < growths && begun.elapsed() < Duration::from_secs(3) {
        let now = length();
        if now > known {
            (known, grown) = (now, grown + 1);
        }
        std::thread::yield_now();
    }
    let until = Instant::now() + moments;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    world.swarm.kill9(MEDIATOR).expect("a member");
}

/// The Lightning library closes a channel whose newest state a kill has torn: its operator opens
/// another one. Whether it did.
fn reopen(world: &World, bitcoind: &Bitcoind, operator: &LightningWallet) -> bool {
    assert!(wait_until(DEADLINE, || wallet(world)["lightning"].is_object()), "{}", wallet(world));
    let there = wallet(world)["lightning"]["channels"].as_array().is_some_and(|all| !all.is_empty());
    if !there {
        open_channel(world, bitcoind, operator, "1000000");
    }
    !there
}

#[test]
fn a_mediator_killed_at_any_step_loses_creates_and_pays_twice_not_a_satoshi() {
    let scratch = Scratch::new("paid-crashes").expect("a folder");
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind")).expect("a bitcoind");
    bitcoind.mine(1).expect("mines");
    let operator =
        LightningWallet::open(&bitcoind, scratch.path(), "operator", 2, Vec::new()).expect("opens");
    let saver = ChainWallet::open(&bitcoind, scratch.path(), 3).expect("opens");
    let client = ChainWallet::open(&bitcoind, scratch.path(), 4).expect("opens");
    client.endow(&bitcoind).expect("funded");
    let program = env!("CARGO_BIN_EXE_under-test");
    let mut world =
        World::start_with("paid-crashes", program, plan(), |_, swarm| swarm.with_bitcoind(&bitcoind));
    endow(&world, &bitcoind, &operator);
    let (_, offer) = operator.node.offer("what my storage earns").expect("an offer");
    let address = saver.treasury.address(0).expect("an address");
    for (at, to) in [(0, &offer), (1, &address), (2, &offer)] {
        world.swarm.set(Member::Storage(at), "payout", to);
        world.swarm.restart(Member::Storage(at)).unwrap_or_else(|error| panic!("starts again: {error}"));
    }
    world.wait_eligible(3);
    let to = world.ok(&world.owner, &["wallet", "deposit", "3000000"]);
    let to = to["address"].as_str().expect("an address").to_owned();
    client.pay(&to, DEPOSIT).expect("paid");
    bitcoind.mine(6).expect("mines");
    let prepaid = || world.ok(&world.owner, &["wallet", "balance"])["prepaid_msat"].as_u64();
    assert!(wait_until(DEADLINE, || prepaid() == Some(DEPOSIT * 1000)));
    world.backup();

    let mut random = SeededRandom::new(seed());
    let (mut seen, mut deposits, mut kills, mut reopened) = (BTreeSet::new(), 0, 0, 0);
    while kills < KILLS && (kills < FEWEST || STEPS.iter().any(|step| !seen.contains(step))) {
        if kills % 3 == 0 {
            client.pay(&to, MORE).expect("paid");
            deposits += 1;
        }
        bitcoind.mine(2).expect("mines");
        // As soon as a step is written, or some moments later.
        let moments = Duration::from_micros(random.below(2) * random.below(4000));
        kill_in_the_middle(&mut world, 1 + random.below(6), moments);
        let step = last_step(&world.swarm.home(MEDIATOR));
        seen.insert(step);
        kills += 1;
        world.swarm.restart(MEDIATOR).unwrap_or_else(|error| panic!("starts again: {error}"));
        reopened += usize::from(reopen(&world, &bitcoind, &operator));
    }
    eprintln!("killed {kills} times, {reopened} channels were lost, after: {seen:?}");
    for step in STEPS {
        assert!(seen.contains(step), "never killed right after: {step}");
    }

    // Storage ends, so nothing more accrues; what is under way arrives.
    for node in world.storage_nodes() {
        world.swarm.kill9(node).expect("a member");
    }
    let open =
        || wallet(&world)["payouts"].as_array().is_none_or(|all| all.iter().any(|of| of["state"] == "open"));
    let mut mined = Instant::now();
    let quiet = wait_until(DEADLINE, || {
        if mined.elapsed() > Duration::from_secs(1) {
            bitcoind.mine(1).expect("mines");
            mined = Instant::now();
        }
        !open()
    });
    assert!(quiet, "{}", wallet(&world));
    bitcoind.mine(6).expect("mines");
    let credited = DEPOSIT + deposits * MORE;
    let ended = world.swarm.stop(MEDIATOR, fincrypt_examples::Signal::TERM, DEADLINE);
    ended.unwrap_or_else(|error| panic!("{error}"));
    check(&world, credited, &operator, &saver);
}

/// What the books say is what arrived, payment by payment and output by output, and nothing else did.
fn check(world: &World, credited: u64, operator: &LightningWallet, saver: &ChainWallet) {
    let (ledger, _) = Ledger::open(&world.swarm.home(MEDIATOR).join("ledger")).expect("opens");
    assert!(ledger.audit().expect("audits").is_sound());
    let (mut paid, mut outputs, mut on_chain) = (BTreeSet::new(), 0, 0_u64);
    ledger.books(|books| {
        let charged: u64 = books.contracts().map(|(_, book)| book.earned.get() + book.fee.get()).sum();
        let prepayments = books.balances().filter(|(account, _)| matches!(account, Account::Prepayment(_)));
        let prepaid: u64 = prepayments.map(|(_, balance)| balance.get()).sum();
        assert_eq!(charged + prepaid, credited * 1000, "what clients paid in is there, or was earned");
        assert_eq!(books.balance(Account::Losses).get(), 0);
        for (id, payout) in books.payouts() {
            match (&payout.stage, &payout.to) {
                (PayoutStage::Settled { sending: Sending::Payment(hash), .. }, Some(to)) => {
                    assert!(paid.insert((hash.to_string(), to.amount.get())), "{id} is paid twice");
                }
                (PayoutStage::Settled { taken, .. }, None) => {
                    outputs += 1;
                    on_chain += taken.iter().map(|msat| msat.get()).sum::<u64>() / 1000;
                }
                (PayoutStage::Settled { .. }, _) => panic!("{id}: {payout:?}"),
                (PayoutStage::Failed, _) => {}
                (PayoutStage::Open, _) => panic!("{id} is open"),
            }
        }
    });
    let hex = |id: [u8; 32]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let came: BTreeSet<_> =
        operator.node.deposits().into_iter().map(|came| (hex(came.id), came.amount.get())).collect();
    assert_eq!(came, paid, "over Lightning");
    saver.treasury.sync().expect("syncs");
    let arrivals = saver.treasury.arrivals();
    assert_eq!(arrivals.len(), outputs, "on the chain, one output for each payout");
    let came: u64 = arrivals.iter().map(|came| came.amount.get()).sum();
    assert!(came < on_chain && (on_chain - came) * 40 <= on_chain, "{on_chain} sat paid, {came} sat came");
    eprintln!("{} payments, {outputs} outputs, {credited} sat paid in", paid.len());
}
