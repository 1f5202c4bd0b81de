//! A Lightning node of our own: pays storage operators, and takes clients' deposits.
//!
//! The only module that knows the Lightning library (LDK Node). It keeps channel state in a folder
//! of files, fsynced by the library, and needs a runtime with several threads.
//!
//! # No payment twice
//!
//! Every payment belongs to a [`fincrypt_protocol::PayoutId`], which the ledger has written down before. How such a
//! payment is found again depends on where it goes:
//!
//! | to | found by |
//! | --- | --- |
//! | an offer (BOLT 12) | the payer's note, which is the id: the library's own ids are random |
//! | an invoice (BOLT 11) | its payment hash |
//! | a node (keysend) | its payment hash, of a preimage that is an HMAC of id and node |
//!
//! [`Lightning::pay`] looks first and sends only what was never sent or has failed for good.
//! The fees of a route are capped by the caller: the library's own cap of 1 % and 50 sat would cost
//! fifty times a payment of one.

mod channels;
mod destination;
mod error;
mod events;
mod keeper;
mod keysend;
mod limits;
mod node;
mod pay;
mod receive;

pub use channels::{ChannelInfo, Funds, Holdings, Peer};
pub use destination::{Destination, ParseDestinationError};
pub use error::LightningError;
pub use events::Event;
pub use keeper::{LightningKeeper, LightningSetup};
pub use limits::{MAX_IN_FLIGHT, MAX_OFFERS_IN_FLIGHT};
pub use node::{ChainAccess, Lightning, Setup};
pub use pay::{Payment, Stands};
pub use receive::{Deposit, OfferId};
