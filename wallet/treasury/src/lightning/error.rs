use std::path::PathBuf;

use super::limits::{MAX_IN_FLIGHT, MAX_OFFERS_IN_FLIGHT};

/// Why the Lightning node could not do something.
#[derive(Debug, thiserror::Error)]
pub enum LightningError {
    /// It could not be put together.
    #[error("the Lightning node in {folder} could not be opened: {reason}")]
    Open {
        /// Where it keeps its state.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// It could not be started; the chain source may be down.
    #[error("the Lightning node could not be started: {0}")]
    Start(String),
    /// An alias longer than 32 bytes, or an address that is none.
    #[error("the Lightning node's {what} is not valid: {value}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// It does not run yet, or there is none.
    #[error("the Lightning node does not run")]
    NotRunning,
    /// As many payments are under way as may be.
    #[error(
        "{MAX_IN_FLIGHT} Lightning payments are under way, or {MAX_OFFERS_IN_FLIGHT} to offers: the next one waits for one of them"
    )]
    Busy,
    /// Nothing was sent; the same payment may be tried again.
    #[error("the Lightning payment was not sent: {0}")]
    NotSent(String),
    /// The amount does not suit the destination.
    #[error("{0}")]
    Amount(String),
    /// An offer could not be made.
    #[error("no Lightning offer could be made: {0}")]
    Offer(String),
    /// A channel could not be opened or closed.
    #[error("the channel with {peer} could not be {action}: {reason}")]
    Channel {
        /// The peer.
        peer: String,
        /// `opened` or `closed`.
        action: &'static str,
        /// Why, and what helps.
        reason: String,
    },
    /// There is no such channel.
    #[error("there is no channel {0}: `wallet channels` lists them")]
    NoChannel(String),
    /// Something of the library failed.
    #[error("the Lightning node failed: {0}")]
    Failed(String),
}
