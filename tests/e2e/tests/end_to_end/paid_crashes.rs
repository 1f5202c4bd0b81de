//! The mediator is killed at every step of the money, again and again: nothing is lost, created or
//! paid twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use fincrypt_e2e::{DEADLINE, Plan, World, seed};
use fincrypt_ledger::{Account, Event, Ledger, PayoutStage, Rail};
use fincrypt_protocol::money::Sending;
use fincrypt_testkit::{Bitcoind, ChainWallet, LightningWallet, Member, Scratch, SeededRandom, wait_until};

use crate::paid::{MEDIATOR, endow, open_channel, wallet};

const DEPOSIT: u64 = 3_000_000;
/// Paid in again and again meanwhile.
const MORE: u64 = 20_000;
/// Kills at most.
const KILLS: usize = 60;
/// How often it is killed right after each step, at least.
const EACH: usize = 2;

fn plan() -> Plan {
    let settings = &[
        ("epoch", "1"),
        ("price", "20000000000000"),
        ("payout_interval", "0"),
        ("credit_bound", "1000000"),
        ("credit_limit", "1000000"),
        ("fee_percent", "2.5"),
    ];
    Plan { storage: 3, settings, ..Plan::small() }
}

/// A step, the journal that it is written to, and what its record has in it.
type Step = (&'static str, &'static str, [&'static [u8]; 2]);

const LEDGER: &str = "ledger/journal";
const TREASURY: &str = "treasury/journal";
const STEPS: [Step; 9] = [
    ("deposit", LEDGER, [b"deposit", b"arrival"]),
    ("accrual", LEDGER, [b"accrual", b"earned"]),
    ("intent on the chain", LEDGER, [b"payout_intent", b"on_chain"]),
    ("signed for the chain", TREASURY, [b"version", b"outputs"]),
    ("intent over Lightning", LEDGER, [b"payout_intent", b"lightning"]),
    ("sent on the chain", LEDGER, [b"payout_sent", b"transaction"]),
    ("sent over Lightning", LEDGER, [b"payout_sent", b"payment"]),
    ("settled on the chain", LEDGER, [b"payout_settled", b"transaction"]),
    ("settled over Lightning", LEDGER, [b"payout_settled", b"payment"]),
];

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|found| found == part)
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
        Event::PayoutIntent { rail: Rail::OnChain, payout, .. } => {
            let signed = std::fs::read(home.join(TREASURY)).expect("there");
            if has(&signed, payout.as_bytes()) { "signed for the chain" } else { "intent on the chain" }
        }
        Event::PayoutIntent { rail: Rail::Lightning, .. } => "intent over Lightning",
        Event::PayoutSent { sending: Sending::Transaction(_), .. } => "sent on the chain",
        Event::PayoutSent { sending: Sending::Payment(_), .. } => "sent over Lightning",
        Event::PayoutSettled { sending: Sending::Transaction(_), .. } => "settled on the chain",
        Event::PayoutSettled { sending: Sending::Payment(_), .. } => "settled over Lightning",
        _ => "another",
    }
}

/// Kills the mediator as soon as the step's journal has the record of a step, or some moments later.
fn kill_after(world: &mut World, step: &Step, moments: Duration) {
    let journal = world.swarm.home(MEDIATOR).join(step.1);
    let mut journal = File::open(journal).expect("there");
    let begun = Instant::now();
    journal.seek(SeekFrom::End(0)).expect("seeks");
    let mut written = Vec::new();
    while begun.elapsed() < Duration::from_secs(4) {
        written.clear();
        journal.read_to_end(&mut written).expect("reads");
        if step.2.iter().all(|word| has(&written, word)) {
            break;
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
    let node = operator.node.id();
    let address = saver.treasury.address(0).expect("an address");
    for (at, to) in [(0, &offer), (1, &address), (2, &node)] {
        world.swarm.set(Member::Storage(at), "payout", to);
        world.swarm.restart(Member::Storage(at)).unwrap_or_else(|error| panic!("starts again: {error}"));
    }
    world.wait_eligible(3);
    let to = world.ok(&world.owner, &["prepayment", "deposit", "3000000"]);
    let to = to["address"].as_str().expect("an address").to_owned();
    client.pay(&to, DEPOSIT).expect("paid");
    bitcoind.mine(6).expect("mines");
    let prepaid = || world.ok(&world.owner, &["prepayment", "balance"])["prepaid_msat"].as_u64();
    assert!(wait_until(DEADLINE, || prepaid() == Some(DEPOSIT * 1000)));
    world.backup();

    let mut random = SeededRandom::new(seed());
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut deposits, mut kills, mut reopened) = (0, 0, 0);
    // The step that was seen least.
    let wanted = |seen: &BTreeMap<&str, usize>| {
        let times = |step: &&Step| seen.get(step.0).copied().unwrap_or(0);
        STEPS.iter().min_by_key(times).filter(|step| times(step) < EACH)
    };
    while let Some(step) = wanted(&seen).filter(|_| kills < KILLS) {
        if step.0 == "deposit" {
            client.pay(&to, MORE).expect("paid");
            deposits += 1;
            bitcoind.mine(1).expect("mines");
        }
        bitcoind.mine(2).expect("mines");
        // As soon as the step is written, or some moments later.
        let moments = Duration::from_micros(random.below(2) * random.below(4000));
        kill_after(&mut world, step, moments);
        *seen.entry(last_step(&world.swarm.home(MEDIATOR))).or_default() += 1;
        kills += 1;
        world.swarm.restart(MEDIATOR).unwrap_or_else(|error| panic!("starts again: {error}"));
        reopened += usize::from(reopen(&world, &bitcoind, &operator));
    }
    eprintln!("killed {kills} times, {reopened} channels were lost, after: {seen:?}");
    assert_eq!(wanted(&seen), None, "it was not killed right after each step: {seen:?}");

    // Storage ends, so nothing more accrues; what is under way arrives.
    for node in world.storage_nodes() {
        world.swarm.kill9(node).expect("a member");
    }
    let open =
        || wallet(&world)["payouts"].as_array().is_none_or(|all| all.iter().any(|of| of["state"] == "open"));
    let mut mined = Instant::now();
    // The library gives an offer up whose payee was asked for an invoice just before a kill, in minutes.
    let quiet = wait_until(3 * DEADLINE, || {
        if mined.elapsed() > Duration::from_secs(1) {
            bitcoind.mine(1).expect("mines");
            mined = Instant::now();
        }
        !open()
    });
    assert!(quiet, "{}", wallet(&world));
    bitcoind.mine(6).expect("mines");
    let credited = DEPOSIT + deposits * MORE;
    let ended = world.swarm.stop(MEDIATOR, fincrypt_testkit::Signal::TERM, DEADLINE);
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
            match &payout.stage {
                PayoutStage::Settled { sending: Sending::Payment(hash), .. } => {
                    let fresh = paid.insert((hash.to_string(), payout.arrives().get()));
                    assert!(fresh, "{id} is paid twice");
                }
                PayoutStage::Settled { sending: Sending::Transaction(_), .. } => {
                    outputs += payout.to.len();
                    on_chain += payout.arrives().get() / 1000;
                }
                PayoutStage::Failed => {}
                PayoutStage::Open => panic!("{id} is open"),
            }
        }
    });
    let hex = |id: [u8; 32]| hex::encode(id);
    let came: BTreeSet<_> =
        operator.node.deposits().into_iter().map(|came| (hex(came.id), came.amount.get())).collect();
    assert_eq!(came, paid, "over Lightning");
    saver.treasury.sync().expect("syncs");
    let arrivals = saver.treasury.arrivals();
    assert_eq!(arrivals.len(), outputs, "on the chain, one output for each payout");
    let came: u64 = arrivals.iter().map(|came| came.amount.get()).sum();
    assert_eq!(came, on_chain, "to the satoshi");
    eprintln!("{} payments, {outputs} outputs, {credited} sat paid in", paid.len());
}
