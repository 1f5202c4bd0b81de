//! What money costs: statements made, signed and checked, and entries of the ledger, on the disk.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fincrypt_billing::statement::{Billing, Counted, Holding, Known, Paying};
use fincrypt_ledger::{Arrival, Event, Ledger, Owner};
use fincrypt_protocol::amount::{Msat, Permille, Price};
use fincrypt_protocol::statement::{Contract, Countersigned, Terms};
use fincrypt_protocol::{
    AccountId, AnswerDigest, ContractId, Epoch, Network, NodeId, Signed, SigningKey, TxId, UnixTime,
};
use zeroize::Zeroizing;

const TIME: UnixTime = UnixTime::from_secs(1_700_000_000);
const FIRST: u64 = 470_000;
const BYTES: u64 = 50 << 30;
const ANSWER: AnswerDigest = AnswerDigest::from_bytes([7; 32]);
/// Entries that are synced together, as of a mediator's epoch with so many contracts.
const BATCH: u64 = 1000;
/// Writers that share syncs.
const WRITERS: u64 = 8;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn contract() -> Contract {
    let terms = Terms {
        network: Network::Local,
        storage: key(1).node(),
        mediator: key(2).node(),
        account: key(3).account(),
        price: Price::new(1500),
        fee: Permille::new(25).expect("a share"),
        first: Epoch::new(FIRST),
        epoch_seconds: NonZeroU32::new(3600).expect("not zero"),
        credit_bound: Msat::new(200_000),
        payout_threshold: Msat::new(100_000),
        grace_days: 90,
        minimum_days: 30,
    };
    Contract::new(terms).expect("good terms")
}

fn statements(c: &mut Criterion) {
    let (contract, mediator, storage) = (contract(), key(2), key(1));
    let (epoch, now) = (Epoch::new(FIRST), Epoch::new(FIRST + 1));
    let propose = || {
        let mut billing = Billing::new(contract);
        billing.passed(epoch, BYTES, ANSWER);
        billing.propose(&mediator).expect("proposes").expect("something")
    };
    let countersign = |proposal: &Signed<_>| {
        let mut holding = Holding::new(contract);
        holding.counted(epoch, Counted { bytes: BYTES, answer: ANSWER });
        let answer = holding.countersign(proposal, Permille::NONE, now, &storage).expect("countersigns");
        answer.newest().countersigned().clone()
    };
    let known = Known { most_bytes: BYTES, max_price: Price::new(1500), now };
    let pay = |statement: &Countersigned| {
        Paying::new(contract, None).expect("new").pay(statement, known).expect("pays")
    };
    let proposal = propose();
    let statement = countersign(&proposal);
    println!("a countersigned statement is {} bytes long", statement.to_bytes().expect("encodes").len());
    let mut group = c.benchmark_group("statement");
    group.throughput(Throughput::Elements(1));
    group.bench_function("mediator makes and signs", |b| b.iter(propose));
    group.bench_function("storage checks and countersigns", |b| b.iter(|| countersign(black_box(&proposal))));
    group.bench_function("client checks both signatures and pays", |b| b.iter(|| pay(black_box(&statement))));
    group.finish();
}

/// The accrual of contract `at % BATCH`, in an epoch that grows with `at`.
fn accrual(at: u64) -> Event {
    let (contract, round) = (at % BATCH, at / BATCH + 1);
    let mut id = [0; 32];
    id[..8].copy_from_slice(&contract.to_le_bytes());
    Event::Accrual {
        contract: ContractId::from_bytes(id),
        account: AccountId::from_bytes([1; 32]),
        storage: NodeId::from_bytes(id),
        epoch: Epoch::new(FIRST + round),
        earned: Msat::new(round * 104),
        fee: Msat::new(round * 2),
    }
}

fn ledger(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let (ledger, _) = Ledger::open(dir.path()).expect("opens");
    let arrival = Arrival::Output(TxId::from_bytes([1; 32]), 0);
    let owner = Owner::Client(AccountId::from_bytes([1; 32]));
    let deposit = Event::Deposit { arrival, round: 0, owner, amount: Msat::new(u64::MAX / 4) };
    ledger.record(TIME, &deposit).expect("recorded");
    let next = AtomicU64::new(0);
    let mut group = c.benchmark_group("ledger");
    group.sample_size(10);
    group.throughput(Throughput::Elements(1));
    group.bench_function("entries, one sync each", |b| {
        b.iter(|| ledger.record(TIME, &accrual(next.fetch_add(1, Ordering::Relaxed))).expect("recorded"));
    });
    // From here on in whole epochs, so that every entry is new.
    next.store(next.load(Ordering::Relaxed).next_multiple_of(BATCH), Ordering::Relaxed);
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("entries, 1000 to a sync", |b| {
        b.iter(|| {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            let events: Vec<Event> = (from..from + BATCH).map(accrual).collect();
            ledger.record_all(TIME, &events).expect("recorded")
        });
    });
    group.bench_function("entries, 8 writers that share syncs", |b| {
        b.iter(|| {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            let ledger = &ledger;
            std::thread::scope(|scope| {
                for writer in 0..WRITERS {
                    scope.spawn(move || {
                        for at in (from + writer..from + BATCH).step_by(WRITERS as usize) {
                            ledger.record(TIME, &accrual(at)).expect("recorded");
                        }
                    });
                }
            });
        });
    });
    group.finish();
    drop(ledger);
    let mut group = c.benchmark_group("ledger");
    let (ledger, opened) = Ledger::open(dir.path()).expect("opens");
    drop(ledger);
    group.sample_size(10);
    group.throughput(Throughput::Elements(opened.entries));
    group.bench_function("opening: entries replayed and checked", |b| {
        b.iter(|| drop(Ledger::open(dir.path()).expect("opens")));
    });
    group.finish();
}

criterion_group!(benches, statements, ledger);
criterion_main!(benches);
