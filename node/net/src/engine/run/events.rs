//! What the swarm tells the engine.

use crate::{BehaviourEvent, node_of};
use fincrypt_protocol::admission::GossipVerdict;
use fincrypt_protocol::limits::MAX_ADDRESSES;
use fincrypt_protocol::{Network, NodeId, UnixTime, shard};
use libp2p::gossipsub::{self, MessageAcceptance};
use libp2p::kad::{self, Mode};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, identify};

use super::{Engine, MAX_BOOK, dial_error};
use crate::engine::addresses::{group_of, is_relayed, is_useful};
use crate::engine::command::Waiter;
use crate::engine::error::ConnectError;

impl Engine {
    pub(super) fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                if let Some(group) = group_of(endpoint.get_remote_address(), self.network) {
                    self.groups.insert(peer_id, group);
                }
                self.answer_connects(&peer_id, Ok(()));
                if let Some((shown, done)) = self.joins.remove(&connection_id) {
                    self.await_identify(peer_id, shown, done);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => self.on_gone(peer_id),
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                tracing::debug!(%error, "dial failed");
                if let Some((shown, done)) = self.joins.remove(&connection_id) {
                    let _ = done.send(Err(dial_error(&error, shown)));
                }
                if let Some(peer) = peer_id
                    && !self.swarm.is_connected(&peer)
                {
                    self.answer_connects(&peer, Err(dial_error(&error, peer.to_string())));
                }
            }
            SwarmEvent::ExternalAddrConfirmed { address }
                if !is_relayed(&address) && is_useful(&address, self.network) =>
            {
                self.swarm.behaviour_mut().kad.set_mode(Some(Mode::Server));
            }
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            _ => {}
        }
    }

    fn on_gone(&mut self, peer: PeerId) {
        self.identified.remove(&peer);
        self.groups.remove(&peer);
        if let Ok(node) = node_of(&peer) {
            self.sessions.end(&node);
        }
        for (shown, done) in self.awaiting_identify.remove(&peer).unwrap_or_default() {
            let _ = done.send(Err(ConnectError::NoAnswer { address: shown }));
        }
    }

    fn await_identify(&mut self, peer: PeerId, shown: String, done: Waiter<NodeId, ConnectError>) {
        match self.identified.get(&peer) {
            Some(version) => drop(done.send(self.judge(peer, version, shown))),
            None => self.awaiting_identify.entry(peer).or_default().push((shown, done)),
        }
    }

    fn judge(&self, peer: PeerId, version: &str, shown: String) -> Result<NodeId, ConnectError> {
        if version == self.network.protocol("1") {
            return node_of(&peer).map_err(|_| ConnectError::OtherPeer { address: shown });
        }
        let found = version.strip_prefix("/fincrypt/").and_then(|rest| rest.split('/').next());
        let found = found.filter(|name| name.parse::<Network>().is_ok()).unwrap_or("unknown").to_owned();
        Err(ConnectError::OtherNetwork { address: shown, found, expected: self.network })
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, info);
            }
            BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed { id, result, step, .. }) => {
                self.queries.progress(id, result, step.last);
            }
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_offer(propagation_source, &message_id, &message.data);
            }
            BehaviourEvent::Mediate(event) => {
                self.mediate.on_event(event, &self.reply_to, &mut self.budgets);
            }
            BehaviourEvent::Pay(event) => self.pay.on_event(event, &self.reply_to, &mut self.budgets),
            BehaviourEvent::Shard(event) => self.shard.on_event(event, &self.reply_to, &mut self.budgets),
            _ => {}
        }
    }

    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let version = info.protocol_version;
        for (shown, done) in self.awaiting_identify.remove(&peer).unwrap_or_default() {
            let _ = done.send(self.judge(peer, &version, shown));
        }
        if version != self.network.protocol("1") {
            // Not cut off at once: it has to learn from us, too, that the networks differ. Nothing is
            // asked of it, so the connection soon ends as idle.
            tracing::debug!("a peer belongs to another network");
            return;
        }
        self.identified.insert(peer, version);
        let useful = info.listen_addrs.into_iter().filter(|address| is_useful(address, self.network));
        let addresses: Vec<Multiaddr> = useful.take(MAX_ADDRESSES).collect();
        let speaks = |name: &str| {
            info.protocols.iter().any(|protocol| protocol.as_ref() == self.network.protocol(name))
        };
        let (dht, storage) = (speaks("kad/1"), speaks(shard::NAME));
        if dht {
            for address in &addresses {
                self.swarm.behaviour_mut().kad.add_address(&peer, address.clone());
            }
        }
        self.remember(peer, addresses);
        if storage && let (Some(inbox), Ok(node)) = (&self.seen_inbox, node_of(&peer)) {
            // A full inbox only delays the acquaintance: the peer's offer comes over gossip too.
            let _ = inbox.try_send(node);
        }
    }

    fn remember(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.book.insert(peer, addresses).is_none() {
            self.book_order.push_back(peer);
        }
        while self.book.len() > MAX_BOOK {
            let Some(oldest) = self.book_order.pop_front() else { return };
            self.book.remove(&oldest);
        }
    }

    fn on_offer(&mut self, source: PeerId, id: &gossipsub::MessageId, data: &[u8]) {
        let (verdict, offer) = self.offers.judge(data, self.network, UnixTime::now());
        let acceptance = match verdict {
            GossipVerdict::Accept => MessageAcceptance::Accept,
            GossipVerdict::Ignore => MessageAcceptance::Ignore,
            GossipVerdict::Reject => MessageAcceptance::Reject,
        };
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, &source, acceptance);
        if let (Some(offer), Some(inbox)) = (offer, &self.offer_inbox) {
            // A full inbox drops the offer; it is repeated.
            let _ = inbox.try_send(offer);
        }
    }
}
