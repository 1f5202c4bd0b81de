//! The ledger on the disk.

use std::io::Write;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn open(dir: &Path) -> (Ledger, Opened) {
    Ledger::open(dir).expect("opens")
}

fn record(ledger: &Ledger, event: &Event) -> Posted {
    ledger.record(TIME, event).expect("recorded")
}

/// A life of a deposit, two contracts and a payout.
fn life() -> Vec<Event> {
    let owed = |id: u8| Owed::Contract(contract(id));
    let capital = Event::Deposit {
        arrival: Arrival::Payment(PaymentHash::from_bytes([8; 32])),
        round: 0,
        owner: Owner::Operator,
        amount: sat(700),
    };
    vec![
        deposit(1, 0, 1000),
        capital,
        accrual(1, 5, 300_000),
        accrual(2, 5, 200_000),
        intent(1, Rail::OnChain, &[(owed(1), sat(300)), (owed(2), sat(100))]),
        sent(1, transaction(3)),
        settled(1, 0, transaction(3), sat(405)),
        reopened(1, 0),
        intent(2, Rail::Lightning, &[(owed(2), sat(50)), (Owed::Capital, sat(1)), (Owed::Fees, sat(1))]),
        sent(2, payment(4)),
        Event::PayoutFailed { payout: payout(2) },
        Event::DepositReorged { arrival: output(1), round: 0 },
        moved(5, Rail::OnChain, 90, 2),
        intent(3, Rail::Lightning, &[(Owed::Fees, Msat::new(1500))]),
        Event::Attributed { source: Source::Address(0), owner: Owner::Client(client(1)) },
        Event::Attributed { source: Source::Offer([9; 32]), owner: Owner::Operator },
        Event::ChannelCosts { total: sat(3) },
        Event::ForwardingIncome { total: sat(2) },
        replaced(5, sat(4)),
    ]
}

fn lived(dir: &Path) -> Ledger {
    let (ledger, _) = open(dir);
    for (number, event) in (1..).zip(life()) {
        assert_eq!(record(&ledger, &event), Posted::New(number));
    }
    ledger
}

#[test]
fn records_are_what_the_fixture_says() {
    let mut text = String::new();
    for (number, event) in (1..).zip(life()) {
        let record = Record { number, time: TIME, event };
        let bytes = record.to_bytes().expect("encodes");
        assert_eq!(Record::from_bytes(&bytes).expect("decodes"), record);
        text.push_str(&hex::encode(bytes));
        text.push('\n');
    }
    fincrypt_vectors::check("ledger-records.txt", &text);
}

#[test]
fn the_largest_payout_fits_a_record() {
    let part = |at: u32| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&at.to_le_bytes());
        Part { owed: Owed::Contract(ContractId::from_bytes(id)), amount: Msat::new(u64::MAX) }
    };
    let parts = (0..MAX_PARTS as u32).map(part).collect();
    let to = vec![PayTo { destination: "a".repeat(90), amount: Msat::new(u64::MAX) }; MAX_PARTS];
    let event = Event::PayoutIntent { payout: payout(1), rail: Rail::OnChain, parts, to };
    let record = Record { number: u64::MAX, time: TIME, event };
    let bytes = record.to_bytes().expect("encodes");
    assert_eq!(Record::from_bytes(&bytes).expect("fits"), record);
}

#[test]
fn a_ledger_without_its_copies_is_rebuilt_from_the_journal_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = lived(dir.path());
    let before = ledger.books(Books::clone);
    let history = ledger.history(Account::Payable(contract(2)), 0, 100).expect("reads");
    assert_eq!(history.iter().map(|record| record.number).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9, 10, 11]);
    drop(ledger);
    std::fs::remove_dir_all(dir.path().join("reads")).expect("removed");
    let (ledger, opened) = open(dir.path());
    assert_eq!(opened, Opened { entries: life().len() as u64, cut: 0, rebuilt: true });
    assert_eq!(ledger.books(Books::clone), before);
    assert_eq!(ledger.history(Account::Payable(contract(2)), 0, 100).expect("reads"), history);
    assert!(ledger.audit().expect("audits").is_sound());
    drop(ledger);
    assert!(!open(dir.path()).1.rebuilt);
}

#[test]
fn a_torn_last_record_is_recovered_to_the_one_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = lived(dir.path());
    drop(ledger);
    let path = dir.path().join("journal");
    let whole = std::fs::read(&path).expect("reads");
    let mut length = whole.len() as u64;
    for left in (0..life().len() as u64).rev() {
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
        file.set_len(length - 3).expect("torn");
        drop(file);
        // The copies had heard of the record; they follow the journal.
        let (ledger, opened) = open(dir.path());
        assert_eq!((opened.entries, opened.rebuilt), (left, true));
        assert!(opened.cut > 0);
        assert_eq!(ledger.entry(left + 1).expect("reads"), None);
        let audit = ledger.audit().expect("audits");
        assert!(audit.is_sound(), "{audit}");
        drop(ledger);
        length = std::fs::metadata(&path).expect("there").len();
    }
    // What was lost was never acknowledged: it comes again, and all is as it was.
    drop(lived(dir.path()));
    assert_eq!(std::fs::read(&path).expect("reads"), whole);
}

#[test]
fn a_damaged_or_reordered_journal_does_not_open() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(lived(dir.path()));
    let path = dir.path().join("journal");
    let good = std::fs::read(&path).expect("reads");
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&path, &bad).expect("writes");
    assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::Journal(_))));
    // A whole record that is there twice.
    let first = 8 + 12 + u32::from_le_bytes(good[8..12].try_into().expect("four bytes")) as usize;
    std::fs::write(&path, [&good[..first], &good[8..]].concat()).expect("writes");
    let twice = Ledger::open(dir.path()).err().expect("refused");
    assert!(matches!(twice, LedgerError::Contradicts { number: 2, .. }), "{twice}");
}

#[test]
fn a_ledger_whose_journal_was_emptied_or_shortened_does_not_open() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(lived(dir.path()));
    let path = dir.path().join("journal");
    let good = std::fs::read(&path).expect("reads");
    let first = 8 + 12 + u32::from_le_bytes(good[8..12].try_into().expect("four bytes")) as usize;
    for (left, entries) in [(0, 0), (8, 0), (first, 1)] {
        std::fs::write(&path, &good[..left]).expect("writes");
        let refused = Ledger::open(dir.path()).err().expect("refused");
        let written = life().len() as u64;
        let lost =
            matches!(refused, LedgerError::Lost { found, written: of } if (found, of) == (entries, written));
        assert!(lost, "{refused}");
    }
    std::fs::write(&path, &good).expect("writes");
    assert_eq!(open(dir.path()).1.entries, life().len() as u64, "restored from a copy");
}

#[test]
fn copies_of_another_journal_are_made_anew() {
    let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    drop(lived(one.path()));
    let (ledger, _) = open(other.path());
    for amount in 1..=20 {
        record(&ledger, &deposit(amount, 0, amount.into()));
    }
    drop(ledger);
    std::fs::copy(other.path().join("journal"), one.path().join("journal")).expect("copied");
    let (ledger, opened) = open(one.path());
    assert_eq!((opened.entries, opened.rebuilt), (20, true));
    assert!(ledger.audit().expect("audits").is_sound());
    assert_eq!(ledger.history(Account::Payable(contract(1)), 0, 100).expect("reads"), []);
}

#[test]
fn an_audit_reads_like_a_balance_and_tells_what_the_disk_says_otherwise() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = lived(dir.path());
    let audit = ledger.audit().expect("audits");
    let text = audit.to_string();
    for part in ["19 entries", "payable to storage", "epoch 5: earned 300.000 sat", "sound"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(audit.equity(), 193_500);
    assert!(!text.contains("WARNING"));
    let mut file = std::fs::OpenOptions::new().append(true).open(dir.path().join("journal")).expect("opens");
    file.write_all(b"more").expect("writes");
    assert!(ledger.audit().expect("what it wrote itself is there").is_sound());
    let bytes = std::fs::read(dir.path().join("journal")).expect("reads");
    let mut bad = bytes.clone();
    bad[40] ^= 1;
    std::fs::write(dir.path().join("journal"), bad).expect("writes");
    assert!(matches!(ledger.audit(), Err(LedgerError::Journal(_))));
}

#[test]
fn an_audit_warns_when_more_is_owed_than_there_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let (ledger, _) = open(dir.path());
    let reorged = Event::DepositReorged { arrival: output(1), round: 0 };
    for event in [deposit(1, 0, 1000), accrual(1, 5, 300_000), reorged] {
        record(&ledger, &event);
    }
    let audit = ledger.audit().expect("audits");
    assert_eq!(audit.equity(), -300_000);
    assert!(audit.is_sound() && audit.to_string().contains("WARNING: more is owed"));
}

#[test]
fn events_recorded_together_stand_each_by_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let (ledger, _) = open(dir.path());
    let events = [deposit(1, 0, 10), deposit(1, 0, 10), deposit(1, 0, 11), deposit(2, 0, 5)];
    let posted = ledger.record_all(TIME, &events).expect("recorded");
    let expected = [Ok(Posted::New(1)), Ok(Posted::Known), Err(BooksError::Differs), Ok(Posted::New(2))];
    assert_eq!(posted, expected);
}

#[test]
fn a_second_process_is_told_that_the_ledger_is_in_use() {
    let dir = tempfile::tempdir().expect("a folder");
    let _ledger = lived(dir.path());
    let second = Ledger::open(dir.path()).err().expect("refused");
    assert!(matches!(second, LedgerError::Reads(fincrypt_state::kv::KvError::Locked(_))), "{second}");
}

#[test]
fn many_writers_record_everything_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let (ledger, _) = open(dir.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for id in 0..50 {
                    record(&ledger, &deposit(id, 0, 100));
                }
            });
        }
    });
    assert_eq!(ledger.books(|books| books.balance(Account::OnChain)), sat(5000));
    drop(ledger);
    let (ledger, opened) = open(dir.path());
    assert_eq!(opened.entries, 50);
    assert_eq!(ledger.books(|books| books.balance(Account::Prepayment(client(1)))), sat(5000));
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_refused(bytes: Vec<u8>) {
        let _ = Record::from_bytes(&bytes);
    }

    #[test]
    fn a_damaged_record_is_read_or_refused(pick: prop::sample::Index, at: prop::sample::Index, bit in 0u8..8) {
        let events = life();
        let record = Record { number: 1, time: TIME, event: pick.get(&events).clone() };
        let mut bytes = record.to_bytes()?;
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = Record::from_bytes(&bytes);
    }
}
