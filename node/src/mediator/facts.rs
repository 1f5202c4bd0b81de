//! What a mediator's operator is shown: how each storage node stands and why, and how the segments
//! are.

use std::sync::{Arc, Mutex, PoisonError};

use fincrypt_protocol::net::peer_of;
use serde::Serialize;

use super::billing::{Bills, Owed};
use super::money::Money;
use super::records::{Load, Records};
use super::repair::Health;
use super::standings::Standings;
use crate::upkeep::{Noted, State};

/// Where the facts are while the mediator runs.
#[derive(Clone)]
pub struct MediatorFacts {
    pub(super) standings: Arc<Standings>,
    pub(super) records: Records,
    pub(super) health: Arc<Mutex<Health>>,
    pub(super) bills: Bills,
    pub(super) money: Arc<Money>,
}

/// A storage node as its mediator sees it.
#[derive(Debug, Serialize)]
pub(crate) struct NodeFacts {
    pub(crate) peer: String,
    pub(crate) state: State,
    /// Decaying share of shards that it proved, in permille.
    pub(crate) score: u16,
    /// Epochs in which it proved all that it was asked for.
    pub(crate) passed_epochs: u64,
    pub(crate) shards: u64,
    pub(crate) bytes: u64,
    /// The audits that counted, the oldest first.
    pub(crate) audits: Vec<Noted>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct MediatorInfo {
    /// The epoch it is now.
    pub(crate) epoch: u64,
    #[serde(flatten)]
    pub(crate) health: Health,
    pub(crate) nodes: Vec<NodeFacts>,
    /// What each contract has come to.
    pub(crate) owed: Vec<Owed>,
}

impl MediatorFacts {
    /// The money.
    pub(crate) fn money(&self) -> &Arc<Money> {
        &self.money
    }

    pub(crate) fn info(&self) -> MediatorInfo {
        let loads = self.records.loads();
        let mut ids = self.standings.known_nodes();
        ids.extend(loads.keys().copied().filter(|node| self.standings.of(node).is_none()));
        ids.sort_unstable();
        let facts = |node| {
            let standing = self.standings.of(&node);
            let Load { shards, bytes } = loads.get(&node).copied().unwrap_or_default();
            NodeFacts {
                peer: peer_of(&node).map(|peer| peer.to_string()).unwrap_or_default(),
                state: self.standings.state(&node),
                score: standing.as_ref().map_or(1000, |standing| standing.score()),
                passed_epochs: standing.as_ref().map_or(0, |standing| standing.passed()),
                shards,
                bytes,
                audits: standing.iter().flat_map(|standing| standing.history().copied()).collect(),
            }
        };
        let health = *self.health.lock().unwrap_or_else(PoisonError::into_inner);
        MediatorInfo {
            epoch: self.standings.now().number(),
            health,
            nodes: ids.into_iter().map(facts).collect(),
            owed: self.bills.owed(),
        }
    }
}
