//! The peer table: which storage nodes are known, which of them answered, and which is tried next. Sans-IO: time and
//! randomness come in.
//!
//! Anyone can sign offers for nodes that do not exist. So a node counts once it was reached, never
//! before, and a node that answered once goes before strangers: it is tried first, remembered over
//! restarts, and never removed for a stranger's sake. Among strangers chance decides which is
//! tried and, when there are too many, which is removed: a flood cannot know where an honest one stands.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use fincrypt_net::Multiaddr;
use fincrypt_protocol::record::StorageOffer;
use fincrypt_protocol::{NodeId, UnixTime, Verified};

use fincrypt_upkeep::placement::Candidate;
use tokio::time::Instant;

/// How long a node that answered before, and then failed, is left alone; twice as long each time.
const REST: Duration = Duration::from_secs(20);
/// How long a stranger that was not reached is left alone; twice as long each time.
const STRANGER_REST: Duration = Duration::from_secs(60);
/// The longest that any node is left alone.
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// Between looks at a node that answers.
const RECHECK: Duration = Duration::from_secs(300);
/// An offer that says the same is stored again when it lasts this much longer than the one stored.
const RESAVE: Duration = Duration::from_secs(6 * 3600);
/// Time until a node is tried that was met and did not give its offer.
const SOON: Duration = Duration::from_secs(1);
/// Days of grace that placement demands at least.
const MIN_GRACE_DAYS: u16 = 90;

/// What is known of a node's reachability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProbeState {
    /// Never tried since the start.
    New,
    Reached(Instant),
    Resting(Instant),
}

struct Known {
    offer: Verified<StorageOffer>,
    addresses: Vec<Multiaddr>,
    /// When the offer ends that was last worth remembering.
    saved: UnixTime,
    probe: ProbeState,
    failures: u32,
    /// When it is due again, if it is on one of the lists of those that are.
    due: Option<Instant>,
    /// Its place among the strangers; none once it answered.
    stranger: Option<usize>,
    /// A try is under way.
    trying: bool,
}

/// A node to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) node: NodeId,
    pub(crate) addresses: Vec<Multiaddr>,
    /// Whether it answered once.
    pub(crate) proven: bool,
}

/// A node that answered, and when it last did.
#[derive(Debug, Clone)]
pub(crate) struct Usable {
    pub(crate) candidate: Candidate,
    pub(crate) addresses: Vec<Multiaddr>,
    pub(crate) answered: Instant,
}

/// All known storage nodes.
pub(crate) struct PeerTable {
    most: usize,
    known: HashMap<NodeId, Known>,
    strangers: Vec<NodeId>,
    reached: HashSet<NodeId>,
    /// Never tried since the start, but answered in an earlier one.
    returning: VecDeque<NodeId>,
    /// Strangers never tried; may name nodes that are not new any more.
    new: Vec<NodeId>,
    /// When nodes that answered once are due again, and when strangers are.
    due: BTreeSet<(Instant, NodeId)>,
    due_strangers: BTreeSet<(Instant, NodeId)>,
    /// Whether a stranger that failed before is next, or a new one.
    again: bool,
    untried: usize,
}

impl PeerTable {
    /// An empty table of at most `most` nodes.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            known: HashMap::new(),
            strangers: Vec::new(),
            reached: HashSet::new(),
            returning: VecDeque::new(),
            new: Vec::new(),
            due: BTreeSet::new(),
            due_strangers: BTreeSet::new(),
            again: false,
            untried: 0,
        }
    }

    /// Takes in an offer; whether it is news of a node that answered, worth remembering. One that the
    /// node gave itself when it was `asked` is its newest, even if it started again within a second.
    pub(crate) fn learn(
        &mut self,
        offer: Verified<StorageOffer>,
        addresses: Vec<Multiaddr>,
        asked: bool,
        random: &mut impl FnMut(u64) -> u64,
    ) -> bool {
        let node = offer.node;
        if let Some(known) = self.known.get_mut(&node) {
            if known.offer.sequence >= offer.sequence && !asked {
                return false;
            }
            let news = is_news(&known.offer, &offer) || !asked;
            let old = offer.expiry.since(known.saved) > RESAVE;
            (known.offer, known.addresses) = (offer, addresses);
            let save = known.stranger.is_none() && (news || old);
            if save {
                known.saved = known.offer.expiry;
            }
            return save;
        }
        if self.known.len() >= self.most && !self.remove_a_stranger(random) {
            return false;
        }
        let stranger = Some(self.strangers.len());
        self.strangers.push(node);
        self.insert(offer, addresses, stranger);
        if self.new.len() > 2 * self.most {
            let known = &self.known;
            self.new.retain(|node| known.get(node).is_some_and(|known| known.probe == ProbeState::New));
        }
        self.new.push(node);
        false
    }

    /// Takes in the offer of a node that answered before the mediator was started again.
    pub(crate) fn recall(&mut self, offer: Verified<StorageOffer>, addresses: Vec<Multiaddr>) {
        if self.known.len() < self.most && !self.known.contains_key(&offer.node) {
            self.returning.push_back(offer.node);
            self.insert(offer, addresses, None);
        }
    }

    fn insert(&mut self, offer: Verified<StorageOffer>, addresses: Vec<Multiaddr>, stranger: Option<usize>) {
        self.untried += 1;
        let node = offer.node;
        let probe = ProbeState::New;
        let saved = offer.expiry;
        let known = Known { offer, addresses, saved, probe, failures: 0, due: None, stranger, trying: false };
        self.known.insert(node, known);
    }

    fn remove_a_stranger(&mut self, random: &mut impl FnMut(u64) -> u64) -> bool {
        let at = random(self.strangers.len() as u64) as usize;
        let Some(node) = self.strangers.get(at).copied() else { return false };
        self.unlist(at);
        if let Some(known) = self.known.remove(&node) {
            if known.probe == ProbeState::New {
                self.untried -= 1;
            }
            if let Some(at) = known.due {
                self.due_strangers.remove(&(at, node));
            }
        }
        true
    }

    /// Takes a node off the list of strangers; the last one takes its place.
    fn unlist(&mut self, at: usize) {
        self.strangers.swap_remove(at);
        if let Some(known) = self.strangers.get(at).and_then(|moved| self.known.get_mut(moved)) {
            known.stranger = Some(at);
        }
    }

    /// The node to be tried next, if one is due.
    pub(crate) fn next(&mut self, now: Instant, random: &mut impl FnMut(u64) -> u64) -> Option<Probe> {
        while let Some(node) = self.returning.pop_front() {
            if let Some(probe) = self.start(node, ProbeState::New) {
                return Some(probe);
            }
        }
        while let Some(node) = pop_due(&mut self.due, now) {
            if let Some(probe) = self.begin(node) {
                return Some(probe);
            }
        }
        self.again = !self.again;
        if self.again
            && let Some(node) = pop_due(&mut self.due_strangers, now)
        {
            return self.begin(node);
        }
        while !self.new.is_empty() {
            let at = random(self.new.len() as u64) as usize;
            let node = self.new.swap_remove(at);
            if let Some(probe) = self.start(node, ProbeState::New) {
                return Some(probe);
            }
        }
        pop_due(&mut self.due_strangers, now).and_then(|node| self.begin(node))
    }

    fn start(&mut self, node: NodeId, probe: ProbeState) -> Option<Probe> {
        if self.known.get(&node)?.probe == probe { self.begin(node) } else { None }
    }

    fn begin(&mut self, node: NodeId) -> Option<Probe> {
        let known = self.known.get_mut(&node)?;
        if known.trying {
            return None;
        }
        known.trying = true;
        Some(Probe { node, addresses: known.addresses.clone(), proven: known.stranger.is_none() })
    }

    /// Drops what the node was due for.
    fn conclude(&mut self, node: &NodeId) -> Option<&mut Known> {
        let known = self.known.get_mut(node)?;
        known.trying = false;
        if known.probe == ProbeState::New {
            self.untried -= 1;
        }
        if let Some(at) = known.due.take() {
            let due = if known.stranger.is_some() { &mut self.due_strangers } else { &mut self.due };
            due.remove(&(at, *node));
        }
        self.reached.remove(node);
        Some(known)
    }

    /// Notes that a node was reached; its offer if this was the first time ever.
    pub(crate) fn answered(&mut self, node: &NodeId, now: Instant) -> Option<&Verified<StorageOffer>> {
        let known = self.conclude(node)?;
        known.probe = ProbeState::Reached(now);
        known.failures = 0;
        known.due = Some(now + RECHECK);
        let stranger = known.stranger.take();
        self.due.insert((now + RECHECK, *node));
        self.reached.insert(*node);
        self.unlist(stranger?);
        self.known.get(node).map(|known| &known.offer)
    }

    /// Notes that a node was not reached or failed, and leaves it alone for a while.
    pub(crate) fn failed(&mut self, node: &NodeId, now: Instant) {
        let Some(known) = self.conclude(node) else { return };
        let stranger = known.stranger.is_some();
        let rest = if stranger { STRANGER_REST } else { REST };
        let until = now + (rest * (1 << known.failures.min(10))).min(LONGEST_REST);
        known.failures += 1;
        known.probe = ProbeState::Resting(until);
        known.due = Some(until);
        if stranger { &mut self.due_strangers } else { &mut self.due }.insert((until, *node));
    }

    /// Has a node that answered looked at again soon: what it offers now may not be known.
    pub(crate) fn probe_soon(&mut self, node: &NodeId, now: Instant) {
        let Some(known) = self.known.get_mut(node) else { return };
        if let (ProbeState::Reached(_), Some(due)) = (known.probe, known.due)
            && self.due.remove(&(due, *node))
        {
            let soon = due.min(now + SOON);
            known.due = Some(soon);
            self.due.insert((soon, *node));
        }
    }

    /// Nodes that answered, do not rest, and have room for `bytes`.
    pub(crate) fn usable(&self, bytes: u64, now: UnixTime) -> Vec<Usable> {
        let known = self.reached.iter().filter_map(|node| self.known.get(node));
        let usable = known.filter_map(|known| {
            let offer = &known.offer;
            let fits = offer.expiry > now && offer.free_bytes >= bytes && offer.grace_days >= MIN_GRACE_DAYS;
            let ProbeState::Reached(answered) = known.probe else { return None };
            let candidate = Candidate {
                node: offer.node,
                price: offer.price,
                free_bytes: offer.free_bytes,
                group: None,
                proven: true,
            };
            fits.then(|| Usable { candidate, addresses: known.addresses.clone(), answered })
        });
        usable.collect()
    }

    /// Nodes that were never tried since the start.
    pub(crate) fn untried(&self) -> usize {
        self.untried
    }

    /// Nodes that answered and do not rest.
    pub(crate) fn reached(&self) -> usize {
        self.reached.len()
    }

    pub(crate) fn knows(&self, node: &NodeId) -> bool {
        self.known.contains_key(node)
    }

    /// A node's newest offer.
    pub(crate) fn offer(&self, node: &NodeId) -> Option<&Verified<StorageOffer>> {
        self.known.get(node).map(|known| &known.offer)
    }

    /// The addresses of a node, by its newest offer.
    pub(crate) fn addresses(&self, node: &NodeId) -> Vec<Multiaddr> {
        self.known.get(node).map(|known| known.addresses.clone()).unwrap_or_default()
    }
}

/// Whether an offer says something else than the one before, and not only at another time.
fn is_news(before: &StorageOffer, after: &StorageOffer) -> bool {
    let StorageOffer { sequence, expiry, free_bytes, .. } = *before;
    *before != StorageOffer { sequence, expiry, free_bytes, ..after.clone() }
}

fn pop_due(due: &mut BTreeSet<(Instant, NodeId)>, now: Instant) -> Option<NodeId> {
    let first = *due.first()?;
    (first.0 <= now).then(|| {
        due.remove(&first);
        first.1
    })
}

#[cfg(test)]
mod tests;
