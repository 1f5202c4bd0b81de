//! DHT queries under way, and who waits for them.

use std::collections::{HashMap, HashSet};

use crate::node_of;
use fincrypt_protocol::NodeId;
use libp2p::kad::{GetClosestPeersOk, GetProvidersOk, QueryId, QueryResult};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

/// Providers collected for one key, at most.
const MAX_FOUND: usize = 256;

enum Query {
    Providers { found: HashSet<NodeId>, done: oneshot::Sender<Vec<NodeId>> },
    Peer { peer: PeerId, found: Vec<Multiaddr>, done: oneshot::Sender<Vec<Multiaddr>> },
    Put { done: oneshot::Sender<bool> },
}

/// Queries whose answers somebody waits for.
#[derive(Default)]
pub(crate) struct Queries(HashMap<QueryId, Query>);

impl Queries {
    pub(crate) fn providers(&mut self, id: QueryId, done: oneshot::Sender<Vec<NodeId>>) {
        self.0.insert(id, Query::Providers { found: HashSet::new(), done });
    }

    pub(crate) fn peer(&mut self, id: QueryId, peer: PeerId, done: oneshot::Sender<Vec<Multiaddr>>) {
        self.0.insert(id, Query::Peer { peer, found: Vec::new(), done });
    }

    pub(crate) fn put(&mut self, id: QueryId, done: oneshot::Sender<bool>) {
        self.0.insert(id, Query::Put { done });
    }

    /// Takes in a step of a query; the last one answers whoever waits.
    pub(crate) fn progress(&mut self, id: QueryId, result: QueryResult, last: bool) {
        let mut stored = false;
        match (self.0.get_mut(&id), result) {
            (
                Some(Query::Providers { found, .. }),
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
            ) => {
                let room = MAX_FOUND.saturating_sub(found.len());
                found.extend(providers.iter().filter_map(|peer| node_of(peer).ok()).take(room));
            }
            (
                Some(Query::Peer { peer, found, .. }),
                QueryResult::GetClosestPeers(Ok(GetClosestPeersOk { peers, .. })),
            ) => {
                let hit = peers.into_iter().find(|info| info.peer_id == *peer);
                found.extend(hit.into_iter().flat_map(|info| info.addrs));
            }
            (Some(Query::Put { .. }), QueryResult::PutRecord(Ok(_))) => stored = true,
            _ => {}
        }
        if last {
            self.finish(id, stored);
        }
    }

    fn finish(&mut self, id: QueryId, stored: bool) {
        // Whoever stopped waiting does not need the answer.
        match self.0.remove(&id) {
            Some(Query::Providers { found, done }) => drop(done.send(found.into_iter().collect())),
            Some(Query::Peer { found, done, .. }) => drop(done.send(found)),
            Some(Query::Put { done }) => drop(done.send(stored)),
            None => {}
        }
    }
}
