use std::path::PathBuf;

use fincrypt_protocol::PayoutId;
use fincrypt_protocol::amount::Sat;
use fincrypt_protocol::cbor::CborError;
use fincrypt_state::journal::JournalError;

/// Why the wallet on the chain could not do something.
#[derive(Debug, thiserror::Error)]
pub enum TreasuryError {
    /// Its journal failed: nothing may be sent.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record could not be encoded or decoded.
    #[error("record {number} of the wallet's journal is not one of this version")]
    Record {
        /// Its number, from one.
        number: u64,
        /// Why.
        source: CborError,
    },
    /// The folder has another wallet.
    #[error("the wallet in {folder} is of another seed or network: {reason}")]
    Foreign {
        /// Where.
        folder: PathBuf,
        /// What differs.
        reason: String,
    },
    /// bitcoind does not answer, or refuses.
    #[error("bitcoind at {url}: {reason}")]
    Bitcoind {
        /// Its address.
        url: String,
        /// What it said.
        reason: String,
    },
    /// An Esplora server does not answer, or refuses.
    #[error("the Esplora server {url}: {reason}")]
    Esplora {
        /// Its address.
        url: String,
        /// What it said.
        reason: String,
    },
    /// Its chain is not the one configured.
    #[error("the chain's source is on {theirs}, and {ours} is configured")]
    Network {
        /// Of the source.
        theirs: String,
        /// Configured.
        ours: String,
    },
    /// Not an address of the network.
    #[error("`{0}` is no address of this Bitcoin network")]
    Address(String),
    /// Too little for an output to be worth spending.
    #[error("{0} are less than anybody could spend")]
    Dust(Sat),
    /// The confirmed coins do not suffice.
    #[error("the confirmed coins do not suffice: {0}")]
    Insufficient(String),
    /// A replacement has to cost more.
    #[error("a replacement has to cost {least} at least, not {fee}")]
    Fee {
        /// What it would cost.
        fee: Sat,
        /// What it has to.
        least: Sat,
    },
    /// The payout was prepared with other outputs.
    #[error("payout {0} was prepared with other outputs")]
    Differs(PayoutId),
    /// No such payout was prepared.
    #[error("payout {0} was not prepared")]
    Unknown(PayoutId),
    /// The network refuses the transaction.
    #[error("the transaction of payout {payout} is refused: {reason}")]
    Rejected {
        /// Which.
        payout: PayoutId,
        /// Why.
        reason: String,
    },
    /// The wallet library failed.
    #[error("the wallet failed: {0}")]
    Wallet(String),
}

pub(super) fn failed(error: &dyn std::fmt::Display) -> TreasuryError {
    TreasuryError::Wallet(error.to_string())
}
