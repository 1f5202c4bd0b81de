//! The swarm engine: one task owns the libp2p swarm; everything else talks to it by messages.
//!
//! The task never waits and never touches a disk. Requests that arrive go to the roles' bounded
//! inboxes; a full inbox answers `Busy`.

mod addresses;
mod budget;
mod calls;
mod command;
mod dials;
mod error;
mod handle;
mod inbound;
mod offers;
mod peers;
mod queries;
mod run;
mod session;
mod transport;

pub use addresses::{decode_all, encode_all, is_useful};
pub use budget::Budget;
pub use error::{CallError, ConnectError};
pub use handle::Net;
pub use inbound::{Inbound, Inboxes, MediateInbound, PayInbound, Reply, ShardInbound};
pub use run::{Engine, EngineError, EngineSetup};
pub use session::{LoginError, Sessions};
