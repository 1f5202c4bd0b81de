//! The network: the libp2p behaviour and its transport, the task that owns the swarm, sessions, and
//! the serving of requests.
//!
//! The only crate that names libp2p. Others talk to the swarm through [`Net`], a handle that sends
//! messages to the one task that owns it; that task never waits and never touches a disk. Requests
//! that arrive go to bounded inboxes; a full inbox answers `Busy`.

mod engine;
mod identity;
mod queue;
mod serve;
mod wire;

pub use engine::*;
pub use identity::{Identity, IdentityError, shown};
pub use libp2p::identity::Keypair;
pub use libp2p::{Multiaddr, PeerId};
pub use serve::{Answer, Request, blocking, reply, reply_with, serve, unexpected_end};
pub use wire::*;
