//! What the swarm tells the engine.

use crate::{BehaviourEvent, node_of};
use fincrypt_protocol::limits::MAX_ADDRESSES;
use fincrypt_protocol::{Network, NodeId, shard};
use libp2p::gossipsub;
use libp2p::kad::{self, Mode};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, identify};

use super::Engine;
use crate::engine::addresses::{group_of, is_relayed, is_useful};
use crate::engine::dials::{Join, dial_error};
use crate::engine::error::ConnectError;

impl Engine {
    pub(super) fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                if let Some(group) = group_of(endpoint.get_remote_address(), self.network) {
                    self.peers.met(peer_id, group);
                }
                self.dials.connected(&peer_id, Ok(()));
                if let Some(join) = self.dials.joined(&connection_id) {
                    self.await_identify(peer_id, join);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => self.on_gone(peer_id),
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                tracing::debug!(%error, "dial failed");
                if let Some((shown, done)) = self.dials.joined(&connection_id) {
                    let _ = done.send(Err(dial_error(&error, shown)));
                }
                if let Some(peer) = peer_id
                    && !self.swarm.is_connected(&peer)
                {
                    self.dials.connected(&peer, Err(dial_error(&error, peer.to_string())));
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
        self.peers.gone(&peer);
        if let Ok(node) = node_of(&peer) {
            self.sessions.end(&node);
        }
        for (shown, done) in self.dials.identified(&peer) {
            let _ = done.send(Err(ConnectError::NoAnswer { address: shown }));
        }
    }

    fn await_identify(&mut self, peer: PeerId, (shown, done): Join) {
        match self.peers.version(&peer) {
            Some(version) => drop(done.send(self.check_network(peer, version, shown))),
            None => self.dials.await_identify(peer, (shown, done)),
        }
    }

    fn check_network(&self, peer: PeerId, version: &str, shown: String) -> Result<NodeId, ConnectError> {
        if version == self.network.protocol("1") {
            return node_of(&peer).map_err(|_| ConnectError::OtherPeer { address: shown });
        }
        let found = version.strip_prefix("/fincrypt/").and_then(|rest| rest.split('/').next());
        let found = found.filter(|name| name.parse::<Network>().is_ok()).unwrap_or("unknown").to_owned();
        Err(ConnectError::OtherNetwork { address: shown, found, expected: self.network })
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        let protocols = &mut self.protocols;
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
                protocols.mediate.on_event(event, &self.reply_to, &mut protocols.budgets);
            }
            BehaviourEvent::Pay(event) => {
                protocols.pay.on_event(event, &self.reply_to, &mut protocols.budgets);
            }
            BehaviourEvent::Shard(event) => {
                protocols.shard.on_event(event, &self.reply_to, &mut protocols.budgets);
            }
            _ => {}
        }
    }

    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let version = info.protocol_version;
        for (shown, done) in self.dials.identified(&peer) {
            let _ = done.send(self.check_network(peer, &version, shown));
        }
        if version != self.network.protocol("1") {
            // Not cut off at once: it has to learn from us, too, that the networks differ. Nothing is
            // asked of it, so the connection soon ends as idle.
            tracing::debug!("a peer belongs to another network");
            return;
        }
        self.peers.identified(peer, version);
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
        self.peers.remember(peer, addresses);
        if storage && let (Some(inbox), Ok(node)) = (&self.seen_inbox, node_of(&peer)) {
            // A full inbox only delays the acquaintance: the peer's offer comes over gossip too.
            let _ = inbox.try_send(node);
        }
    }

    fn on_offer(&mut self, source: PeerId, id: &gossipsub::MessageId, data: &[u8]) {
        let acceptance = self.offers.take(data, self.network);
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, &source, acceptance);
    }
}
