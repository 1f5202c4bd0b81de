//! The registry of storage nodes: what they offer, from gossip and from asking them.
//!
//! Nodes are tried in the background, so that no quote waits for nodes that do not exist. Those
//! that answered are remembered over restarts.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_accounts::{Stored, stored_limit};
use fincrypt_net::Multiaddr;
use fincrypt_protocol::admission::{AnnouncedRole, admit_offer, role_key};
use fincrypt_protocol::limits::{MAX_SHARDS, ROLE_BUCKETS};
use fincrypt_protocol::record::{Condition, StorageOffer};
use fincrypt_protocol::shard::GetOffer;
use fincrypt_protocol::{NodeId, Verified};
use fincrypt_state::kv::{Batch, KeyValue};
use fincrypt_state::state::State;
use fincrypt_state::table::{Everything, Table};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::context::{Sources, chance};
use super::error::{StoreError, blocking};
use super::peer_table::{PeerTable, Probe, Usable};
use fincrypt_net::{CallError, Net, decode_all, is_useful};
use fincrypt_upkeep::placement::Candidate;

/// Storage nodes remembered; at about 500 bytes each, 32 MiB.
const MAX_KNOWN: usize = 65_536;
/// Dials at once: few enough that half-open ones leave room for those of others.
const DIALS: usize = 32;
/// Time to reach a node again that answered before, while a request waits.
const REACH: Duration = Duration::from_secs(3);
/// Time that a quote waits for nodes that were never tried: a young swarm is found in it.
const UNTRIED_WAIT: Duration = Duration::from_secs(1);
/// Time for a node to give its offer.
const QUOTE: Duration = Duration::from_secs(5);
/// Connected nodes that are enough to choose from: then no others are reached again.
const ENOUGH: usize = 2 * MAX_SHARDS;
/// Time after an answer for which a node counts as reachable without a connection.
const RECENT: Duration = Duration::from_secs(600);
/// Between looks for nodes whose rest is over.
const TICK: Duration = Duration::from_secs(1);
/// Time for which offers are gathered before they are stored.
const GATHER: Duration = Duration::from_millis(200);
/// Nodes asked at once, and how long all of them may take.
const ASKED: usize = 16;
const DISCOVERY: Duration = Duration::from_secs(120);

/// Storage nodes newly met that are asked for their offers at once.
const MEETINGS: usize = 16;

/// `node` → its newest offer, of nodes that answered: a mediator that starts again dials them.
const OFFERS: Table<NodeId, Stored<StorageOffer>> = Table::new("offers", stored_limit::<StorageOffer>());

/// The registry: offers of storage nodes, and whether they can be reached.
pub(crate) struct StorageRegistry {
    net: Net,
    state: State,
    sources: Sources,
    peers: Mutex<PeerTable>,
    /// Nodes whose offers are to be stored.
    unsaved: Mutex<HashSet<NodeId>>,
    /// An offer came.
    learned: Notify,
    /// A node was tried.
    tried: Notify,
    /// An offer is to be stored.
    save: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl StorageRegistry {
    /// The nodes whose stored offers have not expired.
    pub(crate) fn open(net: Net, state: State, sources: Sources) -> Self {
        let now = sources.clock.now();
        let mut peers = PeerTable::new(MAX_KNOWN);
        let mut stale = Batch::default();
        // Offers come again: a mediator that cannot read them begins without.
        let offers = OFFERS.scan(&state, &Everything, None, MAX_KNOWN).unwrap_or_else(|error| {
            tracing::error!(%error, "offers_unreadable");
            Vec::new()
        });
        for (node, Stored(offer)) in offers {
            if offer.expiry > now {
                let addresses = useful(&net, &offer);
                peers.recall(offer, addresses);
            } else {
                OFFERS.remove(&mut stale, &node);
            }
        }
        if let Err(error) = state.apply(&stale) {
            tracing::warn!(%error, "stale_offers_not_removed");
        }
        Self {
            net,
            state,
            sources,
            peers: Mutex::new(peers),
            unsaved: Mutex::default(),
            learned: Notify::new(),
            tried: Notify::new(),
            save: Notify::new(),
        }
    }

    /// Takes in offers over gossip and nodes newly met, tries nodes, and remembers those that answered; for
    /// ever.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut offers: mpsc::Receiver<Verified<StorageOffer>>,
        seen: mpsc::Receiver<NodeId>,
    ) {
        let learning = async {
            while let Some(offer) = offers.recv().await {
                self.learn(offer);
            }
        };
        tokio::join!(learning, self.meet(seen), self.keep_probing(), self.keep_saving());
    }

    /// Asks nodes newly met for their offers.
    async fn meet(self: &Arc<Self>, mut seen: mpsc::Receiver<NodeId>) {
        let mut asking = JoinSet::new();
        while let Some(node) = seen.recv().await {
            while asking.len() >= MEETINGS {
                asking.join_next().await;
            }
            while asking.try_join_next().is_some() {}
            let this = Arc::clone(self);
            asking.spawn(async move { this.ask(node).await });
        }
    }

    /// Takes in an offer. The node counts once it was reached.
    fn learn(&self, offer: Verified<StorageOffer>) {
        self.record_offer(offer, false);
    }

    fn record_offer(&self, offer: Verified<StorageOffer>, asked: bool) {
        let (node, addresses) = (offer.node, useful(&self.net, &offer));
        if lock(&self.peers).learn(offer, addresses, asked, &mut chance(&self.sources.random)) {
            self.save_soon(node);
        }
        self.learned.notify_one();
    }

    fn save_soon(&self, node: NodeId) {
        lock(&self.unsaved).insert(node);
        self.save.notify_one();
    }

    fn answered(&self, node: &NodeId) {
        let first = lock(&self.peers).answered(node, Instant::now()).is_some();
        if first {
            self.save_soon(*node);
        }
        self.tried.notify_waiters();
    }

    /// Leaves a node that failed alone for a while.
    pub(crate) fn defer(&self, node: &NodeId) {
        lock(&self.peers).failed(node, Instant::now());
        self.tried.notify_waiters();
    }

    /// Asks a storage node for its offer. One that is known and gives none is asked again soon: it may
    /// have started again, with another.
    pub(crate) async fn ask(&self, node: NodeId) {
        match self.quote(node).await {
            Ok(Some(offer)) => {
                self.record_offer(offer, true);
                self.answered(&node);
            }
            Ok(None) | Err(_) => lock(&self.peers).probe_soon(&node, Instant::now()),
        }
    }

    /// A node's offer. None if it is there and gives none: it refuses, answers late, or what it gives is
    /// not valid.
    ///
    /// # Errors
    /// [`CallError`] if it is not there.
    async fn quote(&self, node: NodeId) -> Result<Option<Verified<StorageOffer>>, CallError> {
        let asked = self.net.shard(node, GetOffer {});
        let offer = match tokio::time::timeout(QUOTE, asked).await {
            Ok(Ok(offer)) => offer,
            Ok(Err(CallError::Refused { .. })) => return Ok(None),
            Ok(Err(error)) => return Err(error),
            // One that is busy with shards answers late; nobody waits for it.
            Err(_) => return Ok(None),
        };
        let Ok(bytes) = offer.to_bytes() else { return Ok(None) };
        let offer = admit_offer(&bytes, self.net.network(), self.sources.clock.now()).ok();
        Ok(offer.filter(|offer| offer.node == node))
    }

    /// Looks for storage nodes in the DHT.
    pub(crate) async fn discover(&self) {
        let queries =
            (0..ROLE_BUCKETS).map(|bucket| self.net.providers(role_key(AnnouncedRole::Storage, bucket)));
        let nodes = futures::stream::iter(queries).buffer_unordered(ASKED).flat_map(futures::stream::iter);
        let asking = nodes.for_each_concurrent(ASKED, |node| async move {
            if !lock(&self.peers).knows(&node) && self.net.connect(node, Vec::new()).await.is_ok() {
                self.ask(node).await;
            }
        });
        // Nodes that make it take longer do not exist; the others are asked in the next round.
        let _ = tokio::time::timeout(DISCOVERY, asking).await;
    }

    /// Tries nodes in the background, for ever.
    async fn keep_probing(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < DIALS
                && let Some(probe) = lock(&self.peers).next(Instant::now(), &mut chance(&self.sources.random))
            {
                under_way.push(self.probe(probe));
            }
            tokio::select! {
                Some(()) = under_way.next() => {}
                () = self.learned.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Tries a node until the dial ends: dials that were given up would pile up in the swarm.
    async fn probe(&self, probe: Probe) {
        let Probe { node, addresses, proven } = probe;
        // A stranger is not looked for in the DHT: anyone can sign an offer.
        let reached = if proven {
            self.net.connect(node, addresses).await
        } else {
            self.net.reach(node, addresses).await
        };
        if reached.is_err() {
            return self.defer(&node);
        }
        // A stranger is asked when it is met.
        if proven {
            match self.quote(node).await {
                Ok(Some(offer)) => self.record_offer(offer, true),
                // It is there, and busy.
                Ok(None) => {}
                Err(_) => return self.defer(&node),
            }
        }
        self.answered(&node);
    }

    /// Writes offers of nodes that answered to the state, away from the network's threads, for
    /// ever. Offers come again: one that could not be remembered is no loss.
    async fn keep_saving(&self) {
        loop {
            self.save.notified().await;
            tokio::time::sleep(GATHER).await;
            let nodes = std::mem::take(&mut *lock(&self.unsaved));
            let mut batch = Batch::default();
            for node in nodes {
                let offer = lock(&self.peers).offer(&node).cloned();
                let staged = offer.map_or(Ok(()), |offer| OFFERS.put(&mut batch, &node, &Stored(offer)));
                if let Err(error) = staged {
                    tracing::warn!(%node, %error, "offer_not_stored");
                }
            }
            let state = self.state.clone();
            let stored = blocking(move || Ok::<_, StoreError>(state.apply(&batch)?));
            if let Err(error) = stored.await {
                tracing::warn!(%error, "offers_not_stored");
            }
        }
    }

    /// Waits a moment if nodes are known that were never tried.
    pub(crate) async fn await_untried(&self) {
        let tried_all = async {
            loop {
                let tried = self.tried.notified();
                let (untried, reached) = {
                    let peers = lock(&self.peers);
                    (peers.untried(), peers.reached())
                };
                if untried == 0 || reached >= MAX_SHARDS {
                    return;
                }
                tried.await;
            }
        };
        let _ = tokio::time::timeout(UNTRIED_WAIT, tried_all).await;
    }

    /// Storage nodes that have room for `bytes` and answer.
    pub(crate) async fn eligible(&self, bytes: u64) -> Vec<Candidate> {
        let usable = lock(&self.peers).usable(bytes, self.sources.clock.now());
        let connected: HashSet<NodeId> = self.net.connected().await.into_iter().collect();
        let (there, away): (Vec<_>, Vec<_>) =
            usable.into_iter().partition(|node| connected.contains(&node.candidate.node));
        let enough = there.len() >= ENOUGH;
        let there = there.into_iter().map(|node| node.candidate);
        if enough {
            let recent = away.into_iter().filter(|node| node.answered.elapsed() < RECENT);
            return there.chain(recent.map(|node| node.candidate)).collect();
        }
        let again = away.into_iter().map(|node| self.reconnect(node));
        let again = futures::stream::iter(again).buffer_unordered(DIALS).filter_map(std::future::ready);
        let again: Vec<Candidate> = again.collect().await;
        there.chain(again).collect()
    }

    /// Connects a node that answered before and has no connection now.
    async fn reconnect(&self, node: Usable) -> Option<Candidate> {
        let id = node.candidate.node;
        let reached = tokio::time::timeout(REACH, self.net.connect(id, node.addresses)).await;
        if let Ok(Ok(())) = reached {
            self.answered(&id);
            return Some(node.candidate);
        }
        self.defer(&id);
        None
    }

    /// The condition of a node, by its newest offer.
    pub(crate) fn condition(&self, node: &NodeId) -> Condition {
        lock(&self.peers).offer(node).map_or(Condition::Serving, |offer| offer.condition)
    }

    /// A node's newest offer.
    pub(crate) fn offer(&self, node: &NodeId) -> Option<StorageOffer> {
        lock(&self.peers).offer(node).map(|offer| StorageOffer::clone(offer))
    }

    /// The addresses of a node, by its newest offer.
    pub(crate) fn addresses(&self, node: &NodeId) -> Vec<Multiaddr> {
        lock(&self.peers).addresses(node)
    }
}

/// The addresses in an offer that can be expected to lead anywhere.
fn useful(net: &Net, offer: &StorageOffer) -> Vec<Multiaddr> {
    let mut addresses = decode_all(&offer.addresses);
    addresses.retain(|address| is_useful(address, net.network()));
    addresses
}
