//! The libp2p side of the protocol: codec, behaviour, record store.

mod behaviour;
mod buffers;
mod codec;
mod intake;
mod pace;
mod peer;
mod record_store;
mod requests;

pub use behaviour::{Behaviour, BehaviourError, BehaviourEvent, Role, Roles, Setup, offers_topic};
pub use codec::{Asked, FrameCodec, Hold, Packet};
pub use intake::Intake;
pub use peer::{NotAnEd25519Peer, node_of, peer_of};
pub use record_store::AdmittingStore;
pub use requests::Requests;
