//! Each event by itself.

use super::*;

/// Books in which client 1 has prepaid 1000 sat on the chain and 1000 in channels, and contract 1
/// has earned 300 sat.
fn books() -> Books {
    let mut books = Books::default();
    let arrival = Arrival::Payment(PaymentHash::from_bytes([9; 32]));
    let lightning = Event::Deposit { arrival, round: 0, owner: Owner::Client(client(1)), amount: sat(1000) };
    for event in [deposit(1, 0, 1000), lightning, accrual(1, 5, 300_000)] {
        assert_eq!(books.post(&event), Ok(true));
    }
    books
}

fn owed_to(id: u8, amount: u64) -> (Owed, Msat) {
    (Owed::Contract(contract(id)), sat(amount))
}

#[test]
fn an_accrual_takes_the_step_and_the_fee_from_the_prepayment_once() {
    let mut books = books();
    assert_eq!(books.balance(Account::Prepayment(client(1))), sat(2000 - 303));
    assert_eq!(books.balance(Account::Payable(contract(1))), sat(300));
    assert_eq!(books.balance(Account::Fees), sat(3));
    assert_eq!(books.post(&accrual(1, 5, 300_000)), Ok(false));
    assert_eq!(books.post(&accrual(1, 4, 200_000)), Ok(false));
    assert_eq!(books.post(&accrual(1, 6, 400_000)), Ok(true));
    assert_eq!(books.balance(Account::Prepayment(client(1))), sat(2000 - 404));
}

#[test]
fn an_accrual_with_other_contents_or_a_falling_sum_is_refused() {
    let mut books = books();
    assert_eq!(books.post(&accrual(1, 5, 300_001)), Err(BooksError::Differs));
    assert_eq!(books.post(&accrual(1, 4, 300_001)), Err(BooksError::Differs));
    let fell = Err(BooksError::Falls { contract: contract(1), epoch: Epoch::new(6) });
    assert_eq!(books.post(&accrual(1, 6, 299_999)), fell);
}

#[test]
fn what_a_prepayment_does_not_cover_is_the_mediators_loss() {
    let mut books = books();
    assert_eq!(books.post(&accrual(1, 6, 3_000_000)), Ok(true));
    assert_eq!(books.balance(Account::Prepayment(client(1))), Msat::ZERO);
    assert_eq!(books.balance(Account::Payable(contract(1))), sat(3000));
    assert_eq!(books.balance(Account::Losses), sat(3030 - 2000));
}

#[test]
fn a_deposit_that_is_reorganised_out_and_back_counts_once() {
    let mut books = books();
    let before = books.balance(Account::Prepayment(client(1)));
    let out = Event::DepositReorged { arrival: output(1), round: 0 };
    assert_eq!(books.post(&out), Ok(true));
    assert_eq!(books.post(&out), Ok(false));
    assert_eq!(books.balance(Account::Prepayment(client(1))), sat(1000 - 303));
    // The event of the first time comes again, late.
    assert_eq!(books.post(&deposit(1, 0, 1000)), Ok(false));
    assert_eq!(books.deposit(output(1)), (1, false));
    assert_eq!(books.post(&deposit(1, 1, 1000)), Ok(true));
    assert_eq!(books.balance(Account::Prepayment(client(1))), before);
    assert_eq!(books.post(&deposit(1, 1, 999)), Err(BooksError::Differs));
    assert_eq!(books.post(&deposit(1, 3, 1000)), Err(BooksError::Round { round: 1, stated: 3 }));
}

#[test]
fn what_was_used_of_a_vanished_deposit_is_a_loss_until_it_comes_back() {
    let mut books = Books::default();
    for event in [deposit(1, 0, 1000), accrual(1, 5, 300_000)] {
        assert_eq!(books.post(&event), Ok(true));
    }
    assert_eq!(books.post(&Event::DepositReorged { arrival: output(1), round: 0 }), Ok(true));
    assert_eq!(books.balance(Account::Losses), sat(303));
    assert_eq!(books.post(&deposit(1, 1, 1000)), Ok(true));
    assert_eq!(books.balance(Account::Losses), Msat::ZERO);
    assert_eq!(books.balance(Account::Prepayment(client(1))), sat(697));
}

#[test]
fn a_batch_is_settled_reopened_and_settled_at_a_higher_fee() {
    let mut books = books();
    books.post(&accrual(2, 5, 200_500)).expect("recorded");
    let batch = intent(1, Rail::OnChain, &[owed_to(1, 300), owed_to(2, 200)]);
    assert_eq!(books.post(&batch), Ok(true));
    assert_eq!(books.post(&batch), Ok(false));
    assert_eq!(books.balance(Account::Payable(contract(2))), Msat::new(500));
    assert_eq!(books.post(&settled(1, 0, transaction(1), sat(510))), Err(BooksError::NotSent));
    assert_eq!(books.post(&sent(1, payment(1))), Err(BooksError::WrongRail));
    for sending in [transaction(1), transaction(2)] {
        assert_eq!(books.post(&sent(1, sending)), Ok(true));
        assert_eq!(books.post(&sent(1, sending)), Ok(false));
    }
    let first = settled(1, 0, transaction(1), sat(510));
    assert_eq!(books.post(&first), Ok(true));
    assert_eq!(books.balance(Account::OnChain), sat(490));
    assert_eq!(books.contract(contract(1)).map(|book| book.paid), Some(sat(300)));
    assert_eq!(books.post(&settled(1, 0, transaction(2), sat(510))), Err(BooksError::Differs));
    assert_eq!(books.post(&reopened(1, 0)), Ok(true));
    assert_eq!(books.balance(Account::OnChain), sat(1000));
    assert_eq!(books.balance(Account::NetworkFees), Msat::ZERO);
    assert_eq!(books.post(&first), Ok(false));
    assert_eq!(books.post(&reopened(1, 0)), Ok(false));
    assert_eq!(books.post(&settled(1, 1, transaction(2), sat(520))), Ok(true));
    assert_eq!(books.balance(Account::NetworkFees), sat(20));
    assert_eq!(books.balance(Account::InFlight(payout(1))), Msat::ZERO);
}

#[test]
fn nothing_is_promised_twice() {
    let mut books = books();
    books.post(&accrual(2, 5, 900_000)).expect("recorded");
    assert_eq!(books.post(&intent(1, Rail::OnChain, &[owed_to(1, 300)])), Ok(true));
    let twice = books.post(&intent(2, Rail::OnChain, &[owed_to(1, 300)]));
    assert!(matches!(twice, Err(BooksError::Insufficient { account: Account::Payable(_), .. })));
    let more = books.post(&intent(2, Rail::OnChain, &[owed_to(2, 800)]));
    assert_eq!(more, Err(BooksError::Committed { rail: Rail::OnChain, free: 700_000, needs: sat(800) }));
    let other = books.post(&intent(1, Rail::OnChain, &[owed_to(1, 200)]));
    assert_eq!(other, Err(BooksError::Differs));
}

#[test]
fn a_payout_has_distinct_creditors_and_whole_satoshi_on_the_chain() {
    let mut books = books();
    let refused =
        |books: &mut Books, rail, parts: &[_]| books.post(&intent(1, rail, parts)).expect_err("refused");
    assert_eq!(refused(&mut books, Rail::OnChain, &[]), BooksError::Parts);
    assert_eq!(refused(&mut books, Rail::OnChain, &[owed_to(1, 1), owed_to(1, 1)]), BooksError::Parts);
    assert_eq!(refused(&mut books, Rail::OnChain, &[owed_to(1, 0)]), BooksError::Nothing);
    let odd = (Owed::Contract(contract(1)), Msat::new(1500));
    assert_eq!(refused(&mut books, Rail::OnChain, &[odd]), BooksError::NotWhole(Msat::new(1500)));
    assert_eq!(books.post(&intent(1, Rail::Lightning, &[odd])), Ok(true));
}

#[test]
fn what_a_routing_fee_was_not_needed_for_is_owed_again() {
    let mut books = books();
    books.post(&intent(1, Rail::Lightning, &[owed_to(1, 300)])).expect("recorded");
    books.post(&sent(1, payment(1))).expect("recorded");
    assert_eq!(books.post(&settled(1, 0, payment(1), sat(299))), Ok(true));
    assert_eq!(books.balance(Account::Payable(contract(1))), sat(1));
    assert_eq!(books.balance(Account::Lightning), sat(701));
    assert_eq!(books.contract(contract(1)).map(|book| book.paid), Some(sat(299)));
    assert_eq!(books.post(&reopened(1, 0)), Err(BooksError::Over(payout(1))));
}

#[test]
fn a_failed_payout_is_owed_again_and_one_that_arrived_after_all_is_not() {
    let mut books = books();
    books.post(&intent(1, Rail::Lightning, &[owed_to(1, 300)])).expect("recorded");
    books.post(&sent(1, payment(1))).expect("recorded");
    let failed = Event::PayoutFailed { payout: payout(1) };
    assert_eq!(books.post(&failed), Ok(true));
    assert_eq!(books.post(&failed), Ok(false));
    assert_eq!(books.balance(Account::Payable(contract(1))), sat(300));
    assert_eq!(books.post(&sent(1, payment(2))), Err(BooksError::Over(payout(1))));
    let arrived = settled(1, 0, payment(1), sat(301));
    assert_eq!(books.clone().post(&arrived), Ok(true));
    // It was paid again meanwhile, but for 100 sat: the rest of the first is lost.
    books.post(&intent(2, Rail::Lightning, &[owed_to(1, 200)])).expect("recorded");
    assert_eq!(books.post(&arrived), Ok(true));
    assert_eq!(books.balance(Account::Losses), sat(200));
    assert_eq!(books.balance(Account::Payable(contract(1))), Msat::ZERO);
}

#[test]
fn what_a_node_is_owed_is_told_by_contract() {
    let mut books = books();
    books.post(&accrual(2, 5, 0)).expect("recorded");
    let node = NodeId::from_bytes([1; 32]);
    let owed = [(node, vec![(contract(1), sat(300))])];
    assert_eq!(books.payables(), owed.into());
    books.post(&intent(1, Rail::Lightning, &[owed_to(1, 300)])).expect("recorded");
    assert!(books.payables().is_empty());
}

#[test]
fn a_client_withdraws_what_is_left_and_no_more() {
    let mut books = books();
    let left = 2000 - 303;
    let more = intent(1, Rail::Lightning, &[(Owed::Client(client(1)), sat(left + 1))]);
    assert!(matches!(books.post(&more), Err(BooksError::Insufficient { .. })));
    books.post(&moved(1, Rail::OnChain, 990, 10)).expect("a channel is closed");
    let all = intent(1, Rail::OnChain, &[(Owed::Client(client(1)), sat(left))]);
    assert_eq!(books.post(&all), Ok(true));
    assert_eq!(books.balance(Account::Prepayment(client(1))), Msat::ZERO);
    assert_eq!(books.balance(Account::OnChain), sat(1990));
    assert_eq!(books.balance(Account::NetworkFees), sat(10));
    assert_eq!(books.post(&moved(1, Rail::OnChain, 990, 10)), Ok(false));
    assert_eq!(books.post(&moved(1, Rail::OnChain, 991, 9)), Err(BooksError::Differs));
}

#[test]
fn a_move_that_is_replaced_costs_what_its_dearest_transaction_does() {
    let mut books = books();
    let first = TxId::from_bytes([1; 32]);
    let replaced = |fee: u64| replaced(1, sat(fee));
    assert_eq!(books.post(&replaced(20)), Err(BooksError::UnknownMove(first)));
    books.post(&moved(1, Rail::Lightning, 500, 10)).expect("there is as much");
    let before = books.balance(Account::OnChain);
    for (fee, new) in [(10, false), (20, true), (20, false), (15, false), (31, true)] {
        assert_eq!(books.post(&replaced(fee)), Ok(new), "{fee}");
    }
    assert_eq!(books.balance(Account::NetworkFees), sat(31));
    assert_eq!(before.checked_sub(books.balance(Account::OnChain)), Some(sat(21)));
    // The move itself is what it was, however often it is recorded.
    assert_eq!(books.post(&moved(1, Rail::Lightning, 500, 10)), Ok(false));
    assert!(matches!(books.post(&replaced(1 << 40)), Err(BooksError::Insufficient { .. })));
}
