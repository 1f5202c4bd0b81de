//! What the engine knows of other peers.

use std::collections::HashMap;

use fincrypt_protocol::AddressGroup;
use hashlink::LruCache;
use libp2p::{Multiaddr, PeerId};

/// Peers whose addresses are remembered; those used last.
const MAX_BOOK: usize = 4096;

/// Addresses that peers named, and what connected peers said of themselves.
pub(super) struct Peers {
    book: LruCache<PeerId, Vec<Multiaddr>>,
    /// The versions of connected peers of this network.
    versions: HashMap<PeerId, String>,
    /// Where connected peers were met.
    groups: HashMap<PeerId, AddressGroup>,
}

impl Peers {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self { book: LruCache::new(MAX_BOOK), versions: HashMap::new(), groups: HashMap::new() }
    }

    /// The addresses that a peer named last.
    pub(super) fn addresses(&mut self, peer: &PeerId) -> Vec<Multiaddr> {
        self.book.get(peer).cloned().unwrap_or_default()
    }

    /// A peer named its addresses.
    pub(super) fn remember(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.book.insert(peer, addresses);
    }

    /// A peer was met without a relay.
    pub(super) fn met(&mut self, peer: PeerId, group: AddressGroup) {
        self.groups.insert(peer, group);
    }

    /// Where a connected peer was met, unless through a relay.
    pub(super) fn group(&self, peer: &PeerId) -> Option<AddressGroup> {
        self.groups.get(peer).copied()
    }

    /// A connected peer said that it is of this network.
    pub(super) fn identified(&mut self, peer: PeerId, version: String) {
        self.versions.insert(peer, version);
    }

    /// The version of a connected peer that has said it.
    pub(super) fn version(&self, peer: &PeerId) -> Option<&str> {
        self.versions.get(peer).map(String::as_str)
    }

    /// A peer is not connected any more.
    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.versions.remove(peer);
        self.groups.remove(peer);
    }
}
