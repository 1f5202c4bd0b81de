//! Dials under way, and who waits for them.

use std::collections::HashMap;

use fincrypt_protocol::NodeId;
use libp2p::PeerId;
use libp2p::swarm::{ConnectionId, DialError};

use super::command::Waiter;
use super::error::ConnectError;

/// A first contact: what to call it, and who waits.
pub(super) type Join = (String, Waiter<NodeId, ConnectError>);

/// Who waits for a dial.
#[derive(Default)]
pub(super) struct Dials {
    joins: HashMap<ConnectionId, Join>,
    /// First contacts that were reached and have not said who they are.
    unidentified: HashMap<PeerId, Vec<Join>>,
    connects: HashMap<PeerId, Vec<Waiter<(), ConnectError>>>,
}

impl Dials {
    /// Somebody waits until a first contact is reached.
    pub(super) fn join(&mut self, dial: ConnectionId, join: Join) {
        self.joins.insert(dial, join);
    }

    /// The first contact of a dial that ended.
    pub(super) fn joined(&mut self, dial: &ConnectionId) -> Option<Join> {
        self.joins.remove(dial)
    }

    /// A first contact was reached: somebody waits until it says who it is.
    pub(super) fn await_identify(&mut self, peer: PeerId, join: Join) {
        self.unidentified.entry(peer).or_default().push(join);
    }

    /// Those who wait until a peer says who it is.
    pub(super) fn identified(&mut self, peer: &PeerId) -> Vec<Join> {
        self.unidentified.remove(peer).unwrap_or_default()
    }

    /// Somebody waits for a connection to a peer; whether nobody else does.
    pub(super) fn connect(&mut self, peer: PeerId, done: Waiter<(), ConnectError>) -> bool {
        let waiting = self.connects.entry(peer).or_default();
        waiting.push(done);
        waiting.len() == 1
    }

    /// Tells those who wait for a connection to a peer what became of it.
    pub(super) fn connected(&mut self, peer: &PeerId, result: Result<(), ConnectError>) {
        for done in self.connects.remove(peer).unwrap_or_default() {
            let _ = done.send(result.clone());
        }
    }
}

/// What is told of a dial that failed.
pub(super) fn dial_error(error: &DialError, address: String) -> ConnectError {
    match error {
        DialError::WrongPeerId { .. } | DialError::LocalPeerId { .. } => ConnectError::OtherPeer { address },
        _ => ConnectError::NoAnswer { address },
    }
}
