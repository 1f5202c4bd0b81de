//! The rules by which storage is billed: what a mediator proposes, what a storage node
//! countersigns, what a client pays for. Sans-IO: counts and messages come in, statements go out.
//!
//! A mediator adds up the bytes of the epochs in which a node passed its audit, and proposes the
//! sum ([`Billing`]). The node compares it with its own counts and signs ([`Holding`]). The client
//! compares what both have signed with its own segments and pays the step from the statement before
//! ([`Paying`]). As every statement holds the whole sum, messages may be lost, repeated and
//! reordered: all three end at the same newest one. What was proposed, countersigned and paid must be
//! durable before it is told to anybody; the `saved` of each is what to keep.

mod billing;
mod contradiction;
mod credit;
mod holding;
mod paying;
#[cfg(test)]
mod tests;

use fincrypt_protocol::amount::{Msat, Price};
use fincrypt_protocol::statement::{Contract, Statement};
use fincrypt_protocol::{Epoch, RecordError};

use crate::accrual;

pub use billing::{Absorbed, Billing, SavedBilling};
pub use contradiction::{Contradiction, NoContradiction, Signers};
pub use credit::{Credit, CreditStanding};
pub use holding::{Answer, Counted, Holding, SavedHolding};
pub use paying::{Known, Paying, Payment};

/// Epochs that one statement may add: a year of hours. A longer gap needs a new contract.
pub const MAX_STEP: u64 = 366 * 24;
/// Epochs by which a mediator's clock may be ahead.
pub const MAX_AHEAD: u64 = 1;

/// Why a statement was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A signature, the form or the network is wrong.
    #[error("the statement is not signed as it must be")]
    Record(#[from] RecordError),
    /// It belongs to another contract.
    #[error("the statement is of another contract")]
    OtherContract,
    /// It charges for an epoch before the contract.
    #[error("epoch {}: the contract begins with epoch {}", epoch.number(), first.number())]
    BeforeContract {
        /// The epoch stated.
        epoch: Epoch,
        /// The contract's first.
        first: Epoch,
    },
    /// It charges for what is still to come, or for more time than one statement may.
    #[error("epoch {}: too far ahead of epoch {}", epoch.number(), from.number())]
    TooFar {
        /// The epoch stated.
        epoch: Epoch,
        /// The newest that could be charged from.
        from: Epoch,
    },
    /// The money does not follow from the bytes.
    #[error("epoch {}: {stated} is stated, the agreed price comes to {due}", epoch.number())]
    Sum {
        /// The epoch stated.
        epoch: Epoch,
        /// The sum stated.
        stated: Msat,
        /// The sum due.
        due: Msat,
    },
    /// The sum is less than what was agreed before and this epoch's bytes.
    #[error("epoch {}: the sum fell, {stated} byte-epochs are stated, {least} were due", epoch.number())]
    Falls {
        /// The epoch stated.
        epoch: Epoch,
        /// The sum stated.
        stated: u64,
        /// The least that it can be.
        least: u64,
    },
    /// More bytes are charged than are known to be held.
    #[error("epoch {}: overbilled, {stated} bytes are stated, {held} were held", epoch.number())]
    Overbilled {
        /// The epoch stated.
        epoch: Epoch,
        /// Bytes, or byte-epochs since the statement before.
        stated: u64,
        /// The most that is right.
        held: u64,
    },
    /// Fewer bytes are paid than are held.
    #[error("epoch {}: underpaid, {stated} bytes are stated, {held} were held", epoch.number())]
    Underpaid {
        /// The epoch stated.
        epoch: Epoch,
        /// Bytes stated.
        stated: u64,
        /// Bytes held.
        held: u64,
    },
    /// The storage node has answered no challenge, or another one, in that epoch.
    #[error("epoch {}: it does not state the answer that was given to its challenge", epoch.number())]
    OtherAnswer {
        /// The epoch stated.
        epoch: Epoch,
    },
    /// The price is above the client's limit.
    #[error("the price of {price} is above the limit of {most}")]
    Price {
        /// The contract's.
        price: Price,
        /// The limit.
        most: Price,
    },
    /// Another statement of the same epoch was signed before: proof of fraud.
    #[error(transparent)]
    Contradiction(#[from] Box<Contradiction>),
    /// The sums do not fit.
    #[error("epoch {}: the sums are larger than there can be", epoch.number())]
    Overflow {
        /// The epoch stated.
        epoch: Epoch,
    },
}

/// Checks what a statement says by itself: contract, first epoch, and that the money follows.
fn check_sum(contract: &Contract, statement: &Statement) -> Result<(), Fault> {
    let (epoch, terms) = (statement.epoch, contract.terms());
    if !statement.is_of(contract) {
        return Err(Fault::OtherContract);
    }
    if epoch < terms.first {
        return Err(Fault::BeforeContract { epoch, first: terms.first });
    }
    let due = accrual::earned(terms.price, statement.byte_epochs, terms.epoch_seconds.get())
        .map_err(|_| Fault::Overflow { epoch })?;
    if statement.earned != due {
        return Err(Fault::Sum { epoch, stated: statement.earned, due });
    }
    Ok(())
}

/// What a statement adds to the one before.
struct Step {
    /// Epochs that it covers.
    epochs: u64,
    /// Byte-epochs that it charges.
    byte_epochs: u64,
}

/// Checks that a statement follows on `last`, and by how much. Its epoch must be the later one.
fn step(contract: &Contract, last: Option<&Statement>, next: &Statement, now: Epoch) -> Result<Step, Fault> {
    let epoch = next.epoch;
    if epoch > now.plus(MAX_AHEAD) {
        return Err(Fault::TooFar { epoch, from: now });
    }
    let epochs = match last {
        Some(last) => epoch.since(last.epoch),
        None => epoch.since(contract.terms().first).saturating_add(1),
    };
    if epochs > MAX_STEP {
        let from = last.map_or(contract.terms().first, |last| last.epoch);
        return Err(Fault::TooFar { epoch, from });
    }
    let before = last.map_or(0, |last| last.byte_epochs);
    let least = before.checked_add(next.bytes).ok_or(Fault::Overflow { epoch })?;
    if next.byte_epochs < least {
        return Err(Fault::Falls { epoch, stated: next.byte_epochs, least });
    }
    Ok(Step { epochs, byte_epochs: next.byte_epochs - before })
}
