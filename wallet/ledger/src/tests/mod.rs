//! What the tests of the ledger share.

mod books;
mod random;
mod store;

use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::{AccountId, ContractId, Epoch, NodeId, PaymentHash, PayoutId, TxId, UnixTime};

use super::*;

pub(super) const TIME: UnixTime = UnixTime::from_secs(1_700_000_000);

pub(super) fn client(id: u8) -> AccountId {
    AccountId::from_bytes([id; 32])
}

pub(super) fn contract(id: u8) -> ContractId {
    ContractId::from_bytes([id; 32])
}

pub(super) fn payout(id: u8) -> PayoutId {
    PayoutId::from_bytes([id; 16])
}

pub(super) fn transaction(id: u8) -> Sending {
    Sending::Transaction(TxId::from_bytes([id; 32]))
}

pub(super) fn payment(id: u8) -> Sending {
    Sending::Payment(PaymentHash::from_bytes([id; 32]))
}

pub(super) fn output(id: u8) -> Arrival {
    Arrival::Output(TxId::from_bytes([id; 32]), 1)
}

pub(super) fn sat(sat: u64) -> Msat {
    Msat::new(sat * 1000)
}

/// A client's deposit of so many satoshi on the chain.
pub(super) fn deposit(id: u8, round: u32, amount: u64) -> Event {
    Event::Deposit { arrival: output(id), round, owner: Owner::Client(client(1)), amount: sat(amount) }
}

/// Contract `id` of client 1 has earned so many msat, and a hundredth of that for the mediator.
pub(super) fn accrual(id: u8, epoch: u64, earned: u64) -> Event {
    Event::Accrual {
        contract: contract(id),
        account: client(1),
        storage: NodeId::from_bytes([id; 32]),
        epoch: Epoch::new(epoch),
        earned: Msat::new(earned),
        fee: Msat::new(earned / 100),
    }
}

pub(super) fn intent(id: u8, rail: Rail, parts: &[(Owed, Msat)]) -> Event {
    let parts: Vec<Part> = parts.iter().map(|(owed, amount)| Part { owed: *owed, amount: *amount }).collect();
    let amount = parts.iter().fold(Msat::ZERO, |sum, part| sum.checked_add(part.amount).expect("fits"));
    // A whole number of satoshi, even where the parts are not.
    let arrives = if rail == Rail::Lightning { amount } else { amount.whole_sat().to_msat().expect("fits") };
    let to = vec![PayTo { destination: format!("to {id}"), amount: arrives }];
    Event::PayoutIntent { payout: payout(id), rail, parts, to }
}

pub(super) fn sent(id: u8, sending: Sending) -> Event {
    Event::PayoutSent { payout: payout(id), sending }
}

pub(super) fn settled(id: u8, round: u32, sending: Sending, left: Msat) -> Event {
    Event::PayoutSettled { payout: payout(id), round, sending, left }
}

pub(super) fn reopened(id: u8, round: u32) -> Event {
    Event::PayoutReopened { payout: payout(id), round }
}

pub(super) fn moved(id: u8, to: Rail, amount: u64, fee: u64) -> Event {
    Event::Moved { transaction: TxId::from_bytes([id; 32]), to, amount: sat(amount), fee: sat(fee) }
}

pub(super) fn replaced(id: u8, fee: Msat) -> Event {
    Event::MoveReplaced { first: TxId::from_bytes([id; 32]), fee }
}

impl Books {
    /// Records an event in memory; whether it was new. The books hold together afterwards.
    pub(super) fn post(&mut self, event: &Event) -> Result<bool, BooksError> {
        let before = self.clone();
        let planned = self.plan(event);
        let new = match planned {
            Ok(Some(plan)) => {
                self.apply(plan);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        assert!(new == Ok(true) || *self == before, "{event:?} changed something");
        assert_eq!(self.check(), [], "after {event:?}");
        let (debits, credits) = self.sides();
        assert_eq!(debits, credits);
        new
    }
}
