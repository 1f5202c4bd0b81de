//! The storage nodes a mediator knows, from offers over gossip and from asking them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fincrypt_protocol::admission::{AnnouncedRole, admit_offer, role_key};
use fincrypt_protocol::limits::ROLE_BUCKETS;
use fincrypt_protocol::record::StorageOffer;
use fincrypt_protocol::shard::{Request, Response};
use fincrypt_protocol::{Frame, NodeId, UnixTime, Verified};
use fincrypt_storage::kv::{Batch, KeyValue, Tree};
use fincrypt_storage::state::State;
use futures::StreamExt;
use libp2p::Multiaddr;

use super::placement::Candidate;
use crate::engine::{Net, decode_all};

/// Storage nodes remembered; at about 500 bytes each, 32 MiB.
const MAX_KNOWN: usize = 65_536;
/// Dials at once when reachability is checked.
const DIALS: usize = 32;
/// How long a storage node may take to be reached before it does not count for now.
const REACH: Duration = Duration::from_secs(3);
/// How long a node that could not be reached, or failed, is left alone.
const REST: Duration = Duration::from_secs(20);
/// Placement demands at least so many days of grace.
const MIN_GRACE_DAYS: u16 = 90;

struct Known {
    offer: StorageOffer,
    addresses: Vec<Multiaddr>,
    resting_until: Option<Instant>,
}

/// `node` → its newest offer: so that a mediator that starts again knows whom to dial.
const OFFERS: Tree = Tree("offers");

/// What is known about storage nodes.
pub(crate) struct Directory {
    net: Net,
    state: State,
    known: Mutex<HashMap<NodeId, Known>>,
}

impl Directory {
    /// The nodes whose offers were remembered and still hold.
    pub(crate) fn open(net: Net, state: State) -> Self {
        let directory = Self { net, state, known: Mutex::default() };
        let remembered = directory.state.scan(OFFERS, &[], None, MAX_KNOWN).unwrap_or_default();
        let mut stale = Batch::default();
        for (key, bytes) in remembered {
            match admit_offer(&bytes, directory.net.network(), UnixTime::now()) {
                Ok(offer) => directory.keep(&offer),
                Err(_) => stale.remove(OFFERS, key),
            }
        }
        directory.remember(&stale);
        directory
    }

    /// Offers come again: one that could not be remembered is no loss.
    fn remember(&self, batch: &Batch) {
        if let Err(error) = self.state.apply(batch) {
            tracing::debug!(%error, "offers could not be remembered");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an offer and remembers it.
    pub(crate) fn learn(&self, offer: &Verified<StorageOffer>) {
        self.keep(offer);
        let mut batch = Batch::default();
        if let Ok(bytes) = offer.signed().to_bytes() {
            batch.put(OFFERS, *offer.node.as_bytes(), bytes);
        }
        self.remember(&batch);
    }

    fn keep(&self, offer: &Verified<StorageOffer>) {
        let now = UnixTime::now();
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN && !known.contains_key(&offer.node) {
            known.retain(|_, node| node.offer.expiry > now);
            if known.len() >= MAX_KNOWN {
                return;
            }
        }
        if known.get(&offer.node).is_some_and(|old| old.offer.sequence > offer.sequence) {
            return;
        }
        let addresses = decode_all(&offer.addresses);
        known.insert(offer.node, Known { offer: (**offer).clone(), addresses, resting_until: None });
    }

    /// Asks a storage node for its offer.
    pub(crate) async fn ask(&self, node: NodeId) {
        let Ok(answer) = self.net.shard(node, Frame::bare(Request::Quote)).await else { return };
        let Response::Offer(offer) = answer.header else { return };
        let Ok(bytes) = offer.to_bytes() else { return };
        if let Ok(offer) = admit_offer(&bytes, self.net.network(), UnixTime::now())
            && offer.node == node
        {
            self.learn(&offer);
        }
    }

    /// Looks for storage nodes in the DHT.
    pub(crate) async fn discover(&self) {
        for bucket in 0..ROLE_BUCKETS {
            for node in self.net.providers(role_key(AnnouncedRole::Storage, bucket)).await {
                if !self.lock().contains_key(&node) && self.net.connect(node, Vec::new()).await.is_ok() {
                    self.ask(node).await;
                }
            }
        }
    }

    /// Leaves a node alone for a while.
    pub(crate) fn rest(&self, node: &NodeId) {
        if let Some(known) = self.lock().get_mut(node) {
            known.resting_until = Some(Instant::now() + REST);
        }
    }

    fn usable(&self, bytes: u64) -> Vec<(Candidate, Vec<Multiaddr>)> {
        let (now, instant) = (UnixTime::now(), Instant::now());
        let known = self.lock();
        let usable = known.values().filter(|node| {
            node.offer.expiry > now
                && node.offer.free_bytes >= bytes
                && node.offer.grace_days >= MIN_GRACE_DAYS
                && node.resting_until.is_none_or(|until| until <= instant)
        });
        let candidates = usable.map(|node| {
            let offer = &node.offer;
            let candidate =
                Candidate { node: offer.node, price: offer.price, free_bytes: offer.free_bytes, group: None };
            (candidate, node.addresses.clone())
        });
        candidates.collect()
    }

    /// Storage nodes that have room for `bytes` and answer now.
    pub(crate) async fn eligible(&self, bytes: u64) -> Vec<Candidate> {
        let checks = self.usable(bytes).into_iter().map(|(candidate, addresses)| async move {
            let reached = tokio::time::timeout(REACH, self.net.connect(candidate.node, addresses)).await;
            match reached {
                Ok(Ok(())) => Some(candidate),
                _ => {
                    self.rest(&candidate.node);
                    None
                }
            }
        });
        futures::stream::iter(checks)
            .buffer_unordered(DIALS)
            .filter_map(|found| async { found })
            .collect()
            .await
    }

    /// Where a node listens, as far as it said.
    pub(crate) fn addresses(&self, node: &NodeId) -> Vec<Multiaddr> {
        self.lock().get(node).map(|known| known.addresses.clone()).unwrap_or_default()
    }
}
