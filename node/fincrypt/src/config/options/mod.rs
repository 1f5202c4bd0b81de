//! Declarations of all options, a struct for each group. A field is the only place that says an
//! option's name, help, default, range and parser; files, variables and flags are derived from it.

mod bitcoin;
mod client;
mod mediator;
mod network;
mod storage;

pub use bitcoin::BitcoinArgs;
pub use client::ClientArgs;
pub use mediator::MediatorArgs;
pub use network::NetworkArgs;
pub use storage::StorageArgs;
