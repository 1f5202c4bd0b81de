//! Placement: which storage nodes may get new shards, and which may not hold shards of one segment
//! together, by what the network, the audits and the records tell of each.

use std::collections::HashMap;
use std::sync::Arc;

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::{Code, Network, NodeId};

use super::context::{Sources, chance};
use super::registry::StorageRegistry;
use super::reputations::Reputations;
use super::stores::HeldShards;
use fincrypt_net::Net;
use fincrypt_protocol::AddressGroup;
use fincrypt_upkeep::placement::{Candidate, Caps, draw};
use fincrypt_upkeep::probation::{most_shards, proven};
use fincrypt_upkeep::{NodeState, Reputation};
use parking_lot::Mutex;

/// The address group at which each node was last met; at most as many as the peer table has.
type Met = HashMap<NodeId, AddressGroup>;

/// Chooses storage nodes for shards. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Placement {
    net: Net,
    registry: Arc<StorageRegistry>,
    reputations: Arc<Reputations>,
    held: HeldShards,
    sources: Sources,
    met: Arc<Mutex<Met>>,
}

impl Placement {
    pub(crate) fn new(
        net: Net,
        registry: Arc<StorageRegistry>,
        reputations: Arc<Reputations>,
        held: HeldShards,
        sources: Sources,
    ) -> Self {
        Self { net, registry, reputations, held, sources, met: Arc::default() }
    }

    /// Up to `most` of the candidates for a segment of `code` of which `holders` have shards already, the
    /// first choice first.
    pub(crate) fn choose(
        &self,
        code: Code,
        holders: &[NodeId],
        candidates: &[Candidate],
        most: usize,
    ) -> Vec<NodeId> {
        draw(candidates, most, &self.caps(code, holders, candidates), chance(&self.sources.random))
    }

    /// Storage nodes that may get new shards of `bytes`: they answer, have room, are sound and have
    /// not as many as they may have yet, and take no more than `max_price`. Outside of a local
    /// network, they also were met directly.
    pub(crate) async fn candidates(&self, bytes: u64, max_price: Option<Price>) -> Vec<Candidate> {
        let mut candidates = self.registry.eligible(bytes).await;
        candidates.retain(|candidate| self.reputations.state(&candidate.node) == NodeState::Sound);
        candidates.retain(|candidate| max_price.is_none_or(|most| candidate.price <= most));
        if self.net.network() == Network::Local {
            return candidates;
        }
        let nodes: Vec<NodeId> = candidates.iter().map(|candidate| candidate.node).collect();
        let groups = self.net.groups(&nodes).await;
        let loads = self.held.loads();
        let mut met = self.met.lock();
        met.extend(nodes.iter().zip(groups).filter_map(|(node, group)| group.map(|group| (*node, group))));
        let known = candidates.into_iter().filter_map(|candidate| {
            let group = met.get(&candidate.node).copied()?;
            let held = loads.get(&candidate.node).map_or(0, |load| load.shards);
            let (most, score, proven) = self.credit(&candidate.node);
            // Among equals, the better score draws more.
            let free_bytes = candidate.free_bytes / 1000 * u64::from(score);
            (held < most).then_some(Candidate { group: Some(group), proven, free_bytes, ..candidate })
        });
        known.collect()
    }

    /// The most shards that a node may have, its score in permille, and whether it is proven.
    fn credit(&self, node: &NodeId) -> (u64, u16, bool) {
        let epoch = self.reputations.terms().epoch;
        let new = || Reputation::new(self.reputations.now());
        let known = self.reputations.of(node).unwrap_or_else(new);
        (most_shards(&known, epoch), known.score(), proven(&known, epoch))
    }

    /// The caps for a segment of `code` of which these nodes hold shards already.
    fn caps(&self, code: Code, holders: &[NodeId], candidates: &[Candidate]) -> Caps {
        if self.net.network() == Network::Local {
            return Caps::off();
        }
        let met = self.met.lock();
        let holder = |node: &NodeId| (met.get(node).copied(), self.credit(node).2);
        let holders: Vec<_> = holders.iter().map(holder).collect();
        let proven = candidates.iter().filter(|candidate| candidate.proven).count();
        Caps::of(code, &holders, proven + holders.iter().filter(|(_, proven)| *proven).count())
    }
}
