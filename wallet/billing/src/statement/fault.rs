//! Why a statement is not accepted.

use fincrypt_protocol::amount::{Msat, Price};
use fincrypt_protocol::{Epoch, RecordError};

use super::contradiction::Contradiction;

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
