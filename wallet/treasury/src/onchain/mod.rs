//! A mediator's wallet on the chain: deposits by address, payouts in batches.
//!
//! The only module that knows the wallet library (BDK). It reads blocks from a bitcoind, or asks
//! an Esplora server, and keeps what it has seen in a journal of its own; unconfirmed transactions do not count for anything, its
//! own included.
//!
//! # No payout twice
//!
//! A payout is built and signed once. Its id, its inputs and the raw transaction are durable in the
//! journal before the transaction is sent; from then on its inputs are spent by nothing else, and it
//! is sent again, or replaced by a version with a higher fee that spends one of the same inputs
//! (BIP-125), until one of the versions is buried. So at most one of them ever confirms.
//!
//! Addresses are P2WPKH of account 0 (BIP-84): every wallet can pay them, and restore them from the words.

mod address;
mod answer;
mod chain;
mod error;
mod esplora;
mod payouts;
mod record;
mod rpc;
mod state;
mod transaction;
mod versions;
mod wallet;

pub use crate::chain::Bitcoind;
pub use address::is_address;
pub use error::TreasuryError;
pub use payouts::{PendingPayout, StandsOnChain};
pub use record::Output;
pub use versions::Prepared;
pub use wallet::{Arrived, OnChainFunds, Treasury, TreasurySetup};

#[cfg(test)]
mod tests;
