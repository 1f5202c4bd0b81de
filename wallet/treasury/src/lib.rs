//! Bitcoin: a mediator's wallet on the chain, and Lightning nodes.
//!
//! [`onchain`] is the only module that knows the wallet library (BDK), [`lightning`] the only one
//! that knows the Lightning library (LDK Node). Neither knows who is paid for what: that stands in
//! the ledger.

mod chain;
pub mod lightning;
pub mod onchain;
pub mod seed_file;
mod seeds;

pub use bitcoin::Network as BitcoinNetwork;
pub use chain::{Chain, ChainSource};
pub use seeds::lightning_seed;
