//! The status view of a mediator's operator: the reputation of each storage node, the health of the
//! segments, and what is owed.

use std::sync::Arc;

use fincrypt_net::peer_of;
use serde::Serialize;

use super::contracts::{Contracts, Owed};
use super::money::Money;
use super::repair::{Health, HealthView};
use super::reputations::Reputations;
use super::stores::{HeldShards, Load};
use fincrypt_upkeep::{AuditedEpoch, NodeState};

/// The sources of the status view while the mediator runs.
#[derive(Clone)]
pub struct MediatorFacts {
    pub(super) reputations: Arc<Reputations>,
    pub(super) held: HeldShards,
    pub(super) health: HealthView,
    pub(super) contracts: Arc<Contracts>,
    pub(super) money: Arc<Money>,
}

/// A storage node as its mediator sees it.
#[derive(Debug, Serialize)]
pub struct NodeFacts {
    /// Its peer id.
    pub peer: String,
    /// How it is treated.
    pub state: NodeState,
    /// Decaying share of shards that it proved, in permille.
    pub score: u16,
    /// Epochs in which it proved all that it was asked for.
    pub passed_epochs: u64,
    /// Shards that it holds by the records.
    pub shards: u64,
    /// Bytes of these shards.
    pub bytes: u64,
    /// The audits that counted, the oldest first.
    pub audits: Vec<AuditedEpoch>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct MediatorInfo {
    /// The epoch it is now.
    pub epoch: u64,
    #[serde(flatten)]
    /// Segments that lack a good holder.
    pub health: Health,
    /// The storage nodes with shards.
    pub nodes: Vec<NodeFacts>,
    /// The sum of each contract.
    pub owed: Vec<Owed>,
}

impl MediatorFacts {
    /// The money.
    #[must_use]
    pub fn money(&self) -> &Arc<Money> {
        &self.money
    }

    /// A snapshot of what the mediator knows now.
    #[must_use]
    pub fn info(&self) -> MediatorInfo {
        let loads = self.held.loads();
        let mut ids = self.reputations.known_nodes();
        ids.extend(loads.keys().copied().filter(|node| self.reputations.of(node).is_none()));
        ids.sort_unstable();
        let facts = |node| {
            let known = self.reputations.of(&node);
            let Load { shards, bytes } = loads.get(&node).copied().unwrap_or_default();
            NodeFacts {
                peer: peer_of(&node).map(|peer| peer.to_string()).unwrap_or_default(),
                state: self.reputations.state(&node),
                score: known.as_ref().map_or(1000, |known| known.score()),
                passed_epochs: known.as_ref().map_or(0, |known| known.passed()),
                shards,
                bytes,
                audits: known.iter().flat_map(|known| known.history().copied()).collect(),
            }
        };
        let health = self.health.get();
        MediatorInfo {
            epoch: self.reputations.now().number(),
            health,
            nodes: ids.into_iter().map(facts).collect(),
            owed: self.contracts.owed(),
        }
    }
}
