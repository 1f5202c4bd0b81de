//! Why the books refuse an event.

use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::{ContractId, Epoch, PayoutId, TxId};

use crate::account::{Account, Rail};
use crate::event::MAX_PARTS;

/// Why an event was not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BooksError {
    /// An amount of nothing.
    #[error("an amount of zero moves nothing")]
    Nothing,
    /// An account has less than is taken from it.
    #[error("{account}: {needs} are needed, {has} are there")]
    Insufficient {
        /// The account.
        account: Account,
        /// What it has.
        has: Msat,
        /// What is taken.
        needs: Msat,
    },
    /// What is there is promised to other payouts.
    #[error("{rail:?}: the payout needs {needs}, {free} msat are not promised to others")]
    Committed {
        /// Where.
        rail: Rail,
        /// What is left.
        free: u128,
        /// What is needed.
        needs: Msat,
    },
    /// More money than there can be.
    #[error("the sum does not fit 2^64 msat")]
    Overflow,
    /// The same deposit, contract, payout or transfer was recorded with other contents.
    #[error("it was recorded before, with other contents")]
    Differs,
    /// Its rounds are counted otherwise.
    #[error("round {round} of it is to be recorded next, not {stated}")]
    Round {
        /// The next.
        round: u32,
        /// What the event says.
        stated: u32,
    },
    /// Addresses are given away one after the other.
    #[error("address {next} is the next to be given away, not {stated}")]
    AddressOrder {
        /// The next.
        next: u32,
        /// What the event says.
        stated: u32,
    },
    /// Where it goes is missing, or it is said of a transaction; or more arrives than its parts are.
    #[error("the payout's destination does not fit its rail and parts")]
    Destination,
    /// A deposit that never came.
    #[error("no such deposit is credited")]
    UnknownDeposit,
    /// A payout without intent.
    #[error("payout {0} was not announced")]
    UnknownPayout(PayoutId),
    /// A move that was never recorded.
    #[error("no money was moved by {0}")]
    UnknownMove(TxId),
    /// A contract that has earned nothing.
    #[error("contract {0} has earned nothing")]
    UnknownContract(ContractId),
    /// A contract's sums can only grow.
    #[error("contract {contract}: the sums of epoch {} are below those before", epoch.number())]
    Falls {
        /// The contract.
        contract: ContractId,
        /// The epoch stated.
        epoch: Epoch,
    },
    /// No parts, too many, or one creditor twice.
    #[error("a payout has one to {MAX_PARTS} parts, and each creditor once")]
    Parts,
    /// A part of a satoshi cannot be moved on the chain.
    #[error("{0} is not a whole number of satoshi, as the chain needs")]
    NotWhole(Msat),
    /// A transaction for a Lightning payout, or the other way round.
    #[error("the payout goes over another rail")]
    WrongRail,
    /// It is settled by an attempt that was never recorded as sent.
    #[error("this attempt of the payout was not recorded before it was sent")]
    NotSent,
    /// Less left than arrived.
    #[error("{left} left for a payout of {total} on the chain")]
    LeftLess {
        /// What left.
        left: Msat,
        /// What the parts are.
        total: Msat,
    },
    /// It cannot be reopened before it is settled.
    #[error("payout {0} is not settled")]
    NotSettled(PayoutId),
    /// It is settled or failed, and stays so.
    #[error("payout {0} is over")]
    Over(PayoutId),
    /// The entry's two sides differ: a fault of the ledger itself.
    #[error("the entry's debits and credits differ")]
    Unbalanced,
}
