//! Any interleaving keeps the books together.

use proptest::prelude::*;

use super::*;

/// An event as it may come: right, late, early, repeated or absurd.
fn event() -> impl Strategy<Value = Event> {
    let id = 0u8..4;
    let round = 0u32..3;
    let amount = prop_oneof![5 => 1u64..5000, 1 => Just(0)];
    let rail = prop_oneof![Just(Rail::OnChain), Just(Rail::Lightning)];
    let owed = prop_oneof![
        4 => id.clone().prop_map(|id| Owed::Contract(contract(id))),
        1 => Just(Owed::Client(client(1))),
        1 => Just(Owed::Capital),
        1 => Just(Owed::Fees),
    ];
    let part = (owed, 1u64..500).prop_map(|(owed, amount)| (owed, sat(amount)));
    let parts = proptest::collection::vec(part, 1..4);
    let arrival = (id.clone(), any::<bool>()).prop_map(|(id, chain)| {
        if chain { output(id) } else { Arrival::Payment(PaymentHash::from_bytes([id; 32])) }
    });
    let owner = prop_oneof![3 => Just(Owner::Client(client(1))), 1 => Just(Owner::Operator)];
    let sending =
        (id.clone(), any::<bool>()).prop_map(|(id, chain)| if chain { transaction(id) } else { payment(id) });
    let source =
        prop_oneof![(0u32..4).prop_map(Source::Address), (0u8..4).prop_map(|id| Source::Offer([id; 32]))];
    let left = prop_oneof![Just(0u64), 1u64..1500];
    prop_oneof![
        3 => (arrival.clone(), round.clone(), owner.clone(), amount).prop_map(|(arrival, round, owner, amount)| {
            Event::Deposit { arrival, round, owner, amount: sat(amount) }
        }),
        2 => (arrival, round.clone()).prop_map(|(arrival, round)| Event::DepositReorged { arrival, round }),
        6 => (id.clone(), 0u64..20, 0u64..100_000)
            .prop_map(|(id, epoch, step)| accrual(id, epoch, epoch * 100_000 + step)),
        4 => (0u8..12, rail.clone(), parts).prop_map(|(id, rail, parts)| intent(id, rail, &parts)),
        4 => (0u8..12, sending.clone()).prop_map(|(id, sending)| sent(id, sending)),
        4 => (0u8..12, round.clone(), sending, left)
            .prop_map(|(id, round, sending, left)| settled(id, round, sending, sat(left))),
        2 => (0u8..12, round).prop_map(|(id, round)| reopened(id, round)),
        1 => (0u8..12).prop_map(|id| Event::PayoutFailed { payout: payout(id) }),
        1 => (source, owner).prop_map(|(source, owner)| Event::Attributed { source, owner }),
        1 => (0u64..100_000).prop_map(|total| Event::ChannelCosts { total: Msat::new(total) }),
        1 => (0u64..100_000).prop_map(|total| Event::ForwardingIncome { total: Msat::new(total) }),
        1 => (id.clone(), 0u64..60).prop_map(|(id, fee)| replaced(id, sat(fee))),
        1 => (id, rail, 1u64..500, 0u64..20).prop_map(|(id, to, amount, fee)| moved(id, to, amount, fee)),
    ]
}

/// The next right thing to do with a payout, so that long lives of payouts come up often.
fn follow_up(books: &Books, id: u8, fee: u64) -> Option<Event> {
    let book = books.payout(payout(id))?;
    let sending = if book.rail == Rail::OnChain { transaction(id) } else { payment(id) };
    let left = book.total().checked_add(sat(fee))?;
    match &book.stage {
        PayoutStage::Open if book.sent.is_empty() => Some(sent(id, sending)),
        PayoutStage::Open => Some(settled(id, book.round, *book.sent.last()?, left)),
        PayoutStage::Settled { .. } => Some(reopened(id, book.round)),
        PayoutStage::Failed => None,
    }
}

#[derive(Debug, Clone)]
enum Act {
    Event(Event),
    FollowUp(u8, u64),
    /// Something that came before comes again.
    Again(prop::sample::Index),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => event().prop_map(Act::Event),
        4 => (0u8..12, 0u64..20).prop_map(|(id, fee)| Act::FollowUp(id, fee)),
        2 => any::<prop::sample::Index>().prop_map(Act::Again),
        1 => Just(Act::Restart),
    ]
}

/// The event that an act stands for.
fn event_of(act: &Act, books: &Books, recorded: &[Event]) -> Option<Event> {
    match act {
        Act::Event(event) => Some(event.clone()),
        Act::FollowUp(id, fee) => follow_up(books, *id, *fee),
        Act::Again(index) if !recorded.is_empty() => Some(index.get(recorded).clone()),
        Act::Again(_) | Act::Restart => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_interleaving_of_epochs_failures_repetitions_restarts_and_reorgs_keeps_the_books_together(
        acts in proptest::collection::vec(act(), 0..150),
    ) {
        let (mut books, mut recorded) = (Books::default(), Vec::<Event>::new());
        // Something to begin with, so that most events are not refused for want of money.
        let capital = Event::Deposit { arrival: output(200), round: 0, owner: Owner::Operator, amount: sat(5000) };
        for event in [capital, deposit(201, 0, 5000), moved(202, Rail::Lightning, 3000, 5)] {
            prop_assert_eq!(books.post(&event), Ok(true));
            recorded.push(event);
        }
        for act in &acts {
            if matches!(act, Act::Restart) {
                let mut again = Books::default();
                for event in &recorded {
                    prop_assert_eq!(again.post(event), Ok(true));
                }
                prop_assert_eq!(&again, &books);
            }
            let Some(event) = event_of(act, &books, &recorded) else { continue };
            // `post` itself checks every invariant, and that what is refused or known changes nothing.
            let posted = books.post(&event);
            if matches!(act, Act::Again(_)) {
                prop_assert_eq!(posted, Ok(false), "recorded twice: {:?}", event);
            } else if posted == Ok(true) {
                recorded.push(event);
            }
        }
    }
}

proptest! {
    // Each writes to the disk.
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_ledger_that_is_restarted_and_loses_its_copies_stays_what_it_was(
        acts in proptest::collection::vec((act(), any::<bool>()), 0..40),
    ) {
        let dir = tempfile::tempdir()?;
        let (mut ledger, _) = Ledger::open(dir.path())?;
        let (mut books, mut recorded) = (Books::default(), Vec::new());
        for (act, lose) in &acts {
            if matches!(act, Act::Restart) {
                drop(ledger);
                if *lose {
                    std::fs::remove_dir_all(dir.path().join("reads"))?;
                }
                ledger = Ledger::open(dir.path())?.0;
            }
            let Some(event) = event_of(act, &books, &recorded) else { continue };
            let posted = match ledger.record(TIME, &event) {
                Ok(Posted::New(number)) => {
                    recorded.push(event.clone());
                    prop_assert_eq!(number, recorded.len() as u64);
                    Ok(true)
                }
                Ok(Posted::Known) => Ok(false),
                Err(LedgerError::Books(refused)) => Err(refused),
                Err(failed) => return Err(TestCaseError::fail(failed.to_string())),
            };
            prop_assert_eq!(posted, books.post(&event));
            ledger.books(|found| assert_eq!(*found, books));
        }
        let audit = ledger.audit()?;
        prop_assert!(audit.is_sound(), "{}", audit);
        for (number, event) in (1..).zip(&recorded) {
            prop_assert_eq!(&ledger.entry(number)?.expect("there").event, event);
        }
    }
}
