//! Random operations, with failing writes and crashes between any two of them, against a plain model.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fincrypt_billing::Charged;
use fincrypt_ledger::{Arrival, Event, Owed as OwedTo, Owner, Part, PayTo, Rail};
use fincrypt_protocol::amount::{Permille, Price};
use fincrypt_protocol::money::Sending;
use fincrypt_protocol::statement::{Contract, Countersigned};
use fincrypt_protocol::{Network, PaymentHash, PayoutId, Refusal, TxId};
use fincrypt_state::kv::{Batch, Entries, KeyValue, MemoryKv, Tree};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

const NETWORK: Network = Network::Local;
const ACCOUNTS: usize = 2;
const NODES: usize = 3;
/// No write fails.
const NEVER: usize = usize::MAX;

/// Tables that survive a crash, and whose writes can be made to fail.
#[derive(Clone)]
struct Disk {
    tables: Arc<MemoryKv>,
    /// Writes until one fails.
    left: Arc<AtomicUsize>,
}

impl Disk {
    fn new() -> Self {
        Self { tables: Arc::default(), left: Arc::new(AtomicUsize::new(NEVER)) }
    }
}

impl KeyValue for Disk {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.tables.get(tree, key)
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Entries, KvError> {
        self.tables.scan(tree, prefix, after, limit)
    }

    fn apply(&self, batch: &Batch) -> Result<(), KvError> {
        self.tables.apply(batch)
    }
}

impl Durable for Disk {
    fn commit(&self, batch: &Batch) -> Result<(), KvError> {
        let less = |left: usize| if left == NEVER { Some(left) } else { left.checked_sub(1) };
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => self.tables.apply(batch),
            Err(_) => Err(KvError::Database("no room".to_owned())),
        }
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn mediator() -> SigningKey {
    key(1)
}

fn storage(node: usize) -> SigningKey {
    key(10 + u8::try_from(node).expect("few"))
}

fn account(at: usize) -> AccountId {
    key(50 + u8::try_from(at).expect("few")).account()
}

fn terms(at: usize, node: usize, first: u64) -> Terms {
    Terms {
        network: NETWORK,
        storage: storage(node).node(),
        mediator: mediator().node(),
        account: account(at),
        price: Price::new(150_000),
        fee: Permille::new(25).expect("a share"),
        first: Epoch::new(first),
        epoch_seconds: NonZeroU32::new(3600).expect("not zero"),
        credit_bound: Msat::new(2000),
        payout_threshold: Msat::new(1000),
        grace_days: 30,
        minimum_days: 30,
    }
}

fn time(secs: u64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn deposit(ledger: &Ledger, at: usize, number: u32, amount: u64) {
    let arrival = Arrival::Output(TxId::from_bytes([2; 32]), number);
    let (owner, amount) = (Owner::Client(account(at)), Msat::new(amount));
    ledger.record(time(1), &Event::Deposit { arrival, round: 0, owner, amount }).expect("recorded");
}

/// A mediator's contracts and books, and what outlives it.
struct Bench {
    dir: tempfile::TempDir,
    disk: Disk,
    ledger: Option<Ledger>,
    contracts: Option<Contracts<Disk>>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut bench = Self { dir, disk: Disk::new(), ledger: None, contracts: None };
        bench.restart();
        bench
    }

    /// What is in memory is lost.
    fn restart(&mut self) {
        (self.ledger, self.contracts) = (None, None);
        self.disk.left.store(NEVER, Ordering::SeqCst);
        self.ledger = Some(Ledger::open(self.dir.path()).expect("opens").0);
        self.contracts = Some(Contracts::open(self.disk.clone()).expect("opens"));
    }

    fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().expect("open")
    }

    fn contracts(&self) -> &Contracts<Disk> {
        self.contracts.as_ref().expect("open")
    }

    fn balance(&self, at: usize) -> u64 {
        self.ledger().books(|books| books.balance(LedgerAccount::Prepayment(account(at))).get())
    }

    /// The audit of a node that holds these bytes of each account.
    fn audit(&self, node: usize, epoch: u64, bytes: u64) -> Result<Vec<Bill>, ContractsError> {
        let id = storage(node).node();
        let accounts: Vec<AccountId> = (0..ACCOUNTS).map(account).collect();
        let lacking = self.contracts().without_contract(&id, &accounts);
        let begun = (0..ACCOUNTS).filter(|at| lacking.contains(&account(*at)));
        let audit = PassedAudit {
            node: id,
            epoch: Epoch::new(epoch),
            answer: AnswerDigest::from_bytes([7; 32]),
            held: accounts.iter().map(|account| (*account, bytes)).collect::<HashMap<_, _>>(),
            begun: begun.map(|at| terms(at, node, epoch)).collect(),
        };
        self.contracts().passed(audit, &mediator(), Some(self.ledger()))
    }

    /// A payout to a client, as the money decides on it.
    fn withdraw(&self, at: usize, number: u8, amount: u64) {
        let (payout, amount) = (PayoutId::from_bytes([number; 16]), Msat::new(amount));
        let parts = vec![Part { owed: OwedTo::Client(account(at)), amount }];
        let to = vec![PayTo { destination: "lno1".to_owned(), amount }];
        let intent = Event::PayoutIntent { payout, rail: Rail::Lightning, parts, to };
        self.ledger().record(time(1), &intent).expect("recorded");
        let sending = Sending::Payment(PaymentHash::from_bytes([number; 32]));
        self.ledger().record(time(1), &Event::PayoutSent { payout, sending }).expect("recorded");
    }
}

#[test]
fn a_withdrawal_is_on_hold_until_it_is_in_the_books_or_given_up() {
    let bench = Bench::new();
    let hold =
        |amount: Option<u64>| bench.contracts().hold(account(0), amount.map(Msat::new), bench.ledger());
    assert!(hold(None).is_none(), "there is nothing");
    deposit(bench.ledger(), 0, 0, 1000);
    assert!(hold(Some(1001)).is_none());
    let first = hold(Some(600)).expect("there is as much");
    assert!(hold(Some(401)).is_none(), "of two at once, both would have it");
    let rest = hold(None).expect("the rest");
    assert_eq!(rest.amount(), Msat::new(400));
    drop(first);
    assert_eq!(hold(None).map(|all| all.amount()), Some(Msat::new(600)));
    drop(rest);
    assert_eq!(hold(None).map(|all| all.amount()), Some(Msat::new(1000)));
}

#[test]
fn since_when_a_prepayment_is_empty_outlives_a_restart() {
    let mut bench = Bench::new();
    let cost = Cost { epoch: Msat::new(10), day: Msat::new(240) };
    let note = |bench: &Bench, at: usize, left: u64, now: u64| {
        let noted =
            bench.contracts().record_runway(account(at), Msat::new(left), cost, Duration::ZERO, time(now));
        noted.expect("written")
    };
    assert_eq!(note(&bench, 0, 9, 77), Some(time(77)));
    bench.restart();
    assert_eq!((note(&bench, 0, 9, 99), note(&bench, 1, 10, 99)), (Some(time(77)), None));
    assert_eq!(note(&bench, 0, 10, 99), None);
    bench.restart();
    assert_eq!(note(&bench, 0, 9, 111), Some(time(111)));
}

#[test]
fn a_write_that_fails_changes_nothing_and_a_node_that_lost_its_statement_is_brought_up_to_date() {
    let bench = Bench::new();
    deposit(bench.ledger(), 0, 0, 1 << 40);
    assert!(bench.audit(0, 1, 1 << 30).expect("audited").is_empty(), "nothing was held before");
    bench.disk.left.store(0, Ordering::SeqCst);
    assert!(matches!(bench.audit(0, 2, 1 << 30), Err(ContractsError::Tables(_))));
    assert_eq!(bench.contracts().spoken(&account(0), bench.ledger()).holds, Holds::default());
    bench.disk.left.store(NEVER, Ordering::SeqCst);
    let agree = |bills: &[Bill]| {
        let answers = bills.iter().filter(|bill| bill.terms.account == account(0)).map(|bill| {
            let verified = bill.proposal.verify_proposal(NETWORK).expect("the mediator's");
            (account(0), Billed::Agreed(Countersigned::seal(&verified, &storage(0))))
        });
        let node = storage(0).node();
        bench.contracts().answered(node, answers.collect(), bench.ledger(), time(1)).expect("taken")
    };
    assert_eq!(agree(&bench.audit(0, 2, 1 << 30).expect("audited")), Answered::default());
    // It refuses, and knows of nothing.
    bench.audit(0, 3, 1 << 30).expect("audited");
    let refused = vec![(account(0), Billed::Refused { refusal: Refusal::Misstated, newest: None })];
    bench.contracts().answered(storage(0).node(), refused, bench.ledger(), time(1)).expect("taken");
    for epoch in [4, 5] {
        // Until it is confirmed that it was brought up to date.
        let bills = bench.audit(0, epoch, 1 << 30).expect("audited");
        assert!(bills.iter().any(|bill| bill.terms.account == account(0) && bill.newest.is_some()));
        assert_eq!(agree(&bills).caught_up, BTreeSet::from([account(0)]));
    }
    bench.contracts().caught_up(storage(0).node(), &BTreeSet::from([account(0)])).expect("written");
    let bills = bench.audit(0, 6, 1 << 30).expect("audited");
    assert!(bills.iter().all(|bill| bill.newest.is_none()));
}

#[derive(Debug, Clone)]
enum Act {
    Deposit(usize, u64),
    /// A node passes an audit.
    Audit(usize, u64),
    /// A node countersigns what it was sent: the newest, or one before.
    Agree(usize, usize, usize),
    /// It refuses the newest bill of an account.
    Refuse(usize, usize),
    /// A withdrawal is decided on while a node passes an audit, and made or given up.
    Withdraw {
        at: usize,
        most: Option<u64>,
        meanwhile: usize,
        made: bool,
    },
    /// The next writes succeed, the one after fails, and what follows it, too.
    Break(usize),
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..ACCOUNTS, 1u64..4000).prop_map(|(at, more)| Act::Deposit(at, more)),
        6 => (0..NODES, 1u64..1 << 33).prop_map(|(node, bytes)| Act::Audit(node, bytes)),
        5 => (0..NODES, 0..ACCOUNTS, 0usize..3).prop_map(|(node, at, back)| Act::Agree(node, at, back)),
        1 => (0..NODES, 0..ACCOUNTS).prop_map(|(node, at)| Act::Refuse(node, at)),
        2 => (0..ACCOUNTS, proptest::option::of(1u64..2000), 0..NODES, any::<bool>())
            .prop_map(|(at, most, meanwhile, made)| Act::Withdraw { at, most, meanwhile, made }),
        1 => (0usize..3).prop_map(Act::Break),
        2 => Just(Act::Crash),
    ]
}

/// What outside observers know: deposits, statements that left the mediator, withdrawals.
#[derive(Default)]
struct Model {
    paid_in: [u64; ACCOUNTS],
    withdrawn: [u64; ACCOUNTS],
    /// `(node, account)` → bills that were sent.
    sent: BTreeMap<(usize, usize), Vec<Bill>>,
    /// What the books charged for a contract, fee included.
    charged: BTreeMap<(usize, usize), u64>,
    /// The newest epoch of an answer that was taken.
    agreed: BTreeMap<(usize, usize), Epoch>,
}

impl Model {
    /// Only what is durable is sent.
    fn send(&mut self, node: usize, bills: Result<Vec<Bill>, ContractsError>) {
        for bill in bills.unwrap_or_default() {
            let at = (0..ACCOUNTS).find(|at| account(*at) == bill.terms.account).expect("ours");
            self.sent.entry((node, at)).or_default().push(bill);
        }
    }

    fn proposals(&self, node: usize, at: usize) -> impl Iterator<Item = (u64, Msat)> {
        self.sent.get(&(node, at)).into_iter().flatten().map(|bill| {
            let statement = bill.proposal.verify_proposal(NETWORK).expect("the mediator's");
            (statement.epoch.number(), statement.earned)
        })
    }

    /// The most that storage could have of an account, if it countersigned all that was sent.
    fn promised(&self, at: usize) -> u64 {
        let most = |node| {
            let most = self.proposals(node, at).map(|(_, earned)| earned).max().unwrap_or_default();
            Charged::cost(most, terms(at, node, 0).fee).get()
        };
        (0..NODES).map(most).sum()
    }

    fn check(&self, bench: &Bench) {
        for at in 0..ACCOUNTS {
            let charged: u64 = (0..NODES).filter_map(|node| self.charged.get(&(node, at))).sum();
            assert!(self.promised(at) + self.withdrawn[at] <= self.paid_in[at], "more than was paid in");
            assert_eq!(bench.balance(at) + charged + self.withdrawn[at], self.paid_in[at]);
            let spoken = bench.contracts().spoken(&account(at), bench.ledger());
            let aside = self.promised(at) - charged;
            assert!(spoken.holds.aside.get() >= aside, "what was sent is set aside");
            for node in 0..NODES {
                let mut known = BTreeMap::new();
                for (epoch, earned) in self.proposals(node, at) {
                    assert_eq!(*known.entry(epoch).or_insert(earned), earned, "two statements of one epoch");
                }
            }
        }
    }
}

fn step(bench: &mut Bench, model: &mut Model, act: Act, number: usize) {
    let epoch = u64::try_from(number).expect("small") + 1;
    match act {
        Act::Deposit(at, more) => {
            deposit(bench.ledger(), at, u32::try_from(number).expect("small"), more);
            model.paid_in[at] += more;
        }
        Act::Audit(node, bytes) => model.send(node, bench.audit(node, epoch, bytes)),
        Act::Agree(node, at, back) => {
            let sent = model.sent.get(&(node, at)).map(Vec::as_slice).unwrap_or_default();
            let Some(bill) = sent.len().checked_sub(1 + back).and_then(|at| sent.get(at)) else { return };
            let statement = bill.proposal.verify_proposal(NETWORK).expect("the mediator's");
            let agreed = Billed::Agreed(Countersigned::seal(&statement, &storage(node)));
            let answers = vec![(account(at), agreed)];
            let id = Contract::new(bill.terms).expect("good terms").id();
            let done = bench.contracts().answered(storage(node).node(), answers, bench.ledger(), time(1));
            let booked = bench
                .ledger()
                .books(|books| books.contract(id).map_or(0, |book| book.earned.get() + book.fee.get()));
            let known = model.charged.entry((node, at)).or_default();
            assert!(booked >= *known, "nothing that was booked is lost");
            // A statement that was refused and is agreed to after a later one adds nothing: the later one's
            // sum counts, which is without the epochs of the refused one.
            let newest = model.agreed.entry((node, at)).or_insert(Epoch::new(0));
            if done.is_ok() && statement.epoch >= *newest {
                *newest = statement.epoch;
                let sum = Charged::cost(statement.earned, bill.terms.fee).get();
                assert!(booked >= sum, "an answer that was taken is booked");
            }
            *known = booked;
        }
        Act::Refuse(node, at) => {
            let refused = vec![(account(at), Billed::Refused { refusal: Refusal::Misstated, newest: None })];
            // It may fail; then it was not received.
            drop(bench.contracts().answered(storage(node).node(), refused, bench.ledger(), time(1)));
        }
        Act::Withdraw { at, most, meanwhile, made } => {
            let held = bench.contracts().hold(account(at), most.map(Msat::new), bench.ledger());
            model.send(meanwhile, bench.audit(meanwhile, epoch, 1 << 32));
            if let Some(hold) = held.filter(|_| made) {
                bench.withdraw(at, u8::try_from(number % 256).expect("a byte"), hold.amount().get());
                model.withdrawn[at] += hold.amount().get();
            }
        }
        Act::Break(writes) => bench.disk.left.store(writes, Ordering::SeqCst),
        Act::Crash => bench.restart(),
    }
}

#[test]
fn a_refused_statement_that_is_agreed_to_after_a_later_one_adds_nothing() {
    let (mut bench, mut model) = (Bench::new(), Model::default());
    let (audit, agree) = (|bytes| Act::Audit(0, bytes), |back| Act::Agree(0, 1, back));
    let half = 1_417_339_208;
    let acts = [
        Act::Deposit(1, 784),
        audit(half),
        audit(half),
        audit(1),
        Act::Refuse(0, 1),
        audit(5_619_769_803),
        agree(0),
    ];
    for (number, act) in acts.into_iter().enumerate() {
        step(&mut bench, &mut model, act, number);
        model.check(&bench);
    }
    let booked = model.charged.get(&(0, 1)).copied();
    step(&mut bench, &mut model, agree(2), 7);
    model.check(&bench);
    assert_eq!((booked.is_some(), model.charged.get(&(0, 1)).copied()), (true, booked));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_fails_or_crashes_no_more_is_promised_than_was_paid_in_and_nothing_is_lost(
        acts in proptest::collection::vec(act(), 1..80),
    ) {
        let (mut bench, mut model) = (Bench::new(), Model::default());
        // The Lightning node has what withdrawals take.
        let capital = Event::Deposit {
            arrival: Arrival::Payment(PaymentHash::from_bytes([9; 32])),
            round: 0,
            owner: Owner::Operator,
            amount: Msat::new(1 << 40),
        };
        bench.ledger().record(time(1), &capital).expect("recorded");
        for (number, act) in acts.into_iter().enumerate() {
            step(&mut bench, &mut model, act, number);
            model.check(&bench);
        }
        bench.restart();
        model.check(&bench);
        // With enough money all that passed is signed for and paid; nothing is left over.
        for at in 0..ACCOUNTS {
            deposit(bench.ledger(), at, 1000 + u32::try_from(at).expect("small"), 1 << 40);
            model.paid_in[at] += 1 << 40;
        }
        for node in 0..NODES {
            step(&mut bench, &mut model, Act::Audit(node, 1 << 30), 1000 + 2 * node);
            step(&mut bench, &mut model, Act::Audit(node, 1 << 30), 1001 + 2 * node);
            for at in 0..ACCOUNTS {
                step(&mut bench, &mut model, Act::Agree(node, at, 0), 1001 + 2 * node);
            }
        }
        model.check(&bench);
        for at in 0..ACCOUNTS {
            let spoken = bench.contracts().spoken(&account(at), bench.ledger());
            prop_assert_eq!(spoken.holds.arrears, Msat::ZERO);
            let (statements, more) = bench.contracts().agreed_of(&account(at), None, NODES);
            prop_assert!(!more && statements.len() == NODES);
        }
    }
}
