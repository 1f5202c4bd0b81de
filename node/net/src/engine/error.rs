//! Why a peer is not connected, and why a request is not answered.

use fincrypt_protocol::{Network, NodeId, Refusal};

use crate::identity::shown;

/// A peer could not be connected.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("no answer from {address}")]
    NoAnswer {
        /// What was dialled.
        address: String,
    },
    /// The address names one peer, but another answers.
    #[error("another peer answers at {address}: the peer id in the address is wrong or outdated")]
    OtherPeer {
        /// What was dialled.
        address: String,
    },
    /// The peer belongs to another network.
    #[error("{address} belongs to network {found}, not {expected}")]
    OtherNetwork {
        /// What was dialled.
        address: String,
        /// Its network.
        found: String,
        /// The own network.
        expected: Network,
    },
    /// No address of the peer is known.
    #[error("no address of node {} is known", shown(.0))]
    Unknown(NodeId),
    /// The engine has stopped.
    #[error("the node is shutting down")]
    Stopped,
}

/// A request got no answer, or a refusal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The peer could not be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke or the time was over.
    #[error("node {} did not answer: {reason}", shown(.node))]
    NoAnswer {
        /// The peer.
        node: NodeId,
        /// What the transport said.
        reason: &'static str,
    },
    /// The peer runs, and has another role.
    #[error("node {} does not have the role that it is asked in", shown(.node))]
    OtherRole {
        /// The peer.
        node: NodeId,
    },
    /// The peer refused.
    #[error("node {} refused: {refusal}", shown(.node))]
    Refused {
        /// The peer.
        node: NodeId,
        /// Its reason.
        refusal: Refusal,
    },
    /// The peer answered something else than was asked.
    #[error("node {} gave an answer that does not fit the request", shown(.node))]
    Unexpected {
        /// The peer.
        node: NodeId,
    },
    /// The engine has stopped.
    #[error("the node is shutting down")]
    Stopped,
}

impl CallError {
    /// The peer's refusal, if that is what it is.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        }
    }
}
