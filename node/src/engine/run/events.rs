//! What the swarm tells the engine.

use bytes::Bytes;
use fincrypt_protocol::admission::GossipVerdict;
use fincrypt_protocol::limits::MAX_ADDRESSES;
use fincrypt_protocol::net::{BehaviourEvent, Packet, node_of};
use fincrypt_protocol::{Frame, Network, NodeId, Refusal, UnixTime, mediate, shard};
use libp2p::gossipsub::{self, MessageAcceptance};
use libp2p::kad::{self, Mode};
use libp2p::request_response::{self, OutboundFailure};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, identify};
use tokio::sync::mpsc;

use super::{Engine, MAX_BOOK, dial_error};
use crate::engine::addresses::{is_relayed, is_useful};
use crate::engine::command::{Command, Waiter};
use crate::engine::handle::{CallError, ConnectError};
use crate::engine::inbound::{Inbound, Reply};

impl Engine {
    pub(super) fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
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
            BehaviourEvent::Mediate(event) => self.on_mediate(event),
            BehaviourEvent::Shard(event) => self.on_shard(event),
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
        if storage && let (Some(inbox), Ok(node)) = (&self.inboxes.storage_seen, node_of(&peer)) {
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
        if let (Some(offer), Some(inbox)) = (offer, &self.inboxes.offers) {
            // A full inbox drops the offer; it is repeated.
            let _ = inbox.try_send(offer);
        }
    }

    fn on_mediate(
        &mut self,
        event: request_response::Event<Packet<mediate::Request>, Packet<mediate::Response>>,
    ) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    let Some(commands) = self.reply_to.upgrade() else { return };
                    let reply = Reply::new(channel, commands, |channel, packet| Command::MediateReply {
                        channel,
                        packet,
                    });
                    let busy = mediate::Response::Refused(Refusal::Busy);
                    deliver(&self.inboxes.mediate, &peer, request, reply, busy);
                }
                request_response::Message::Response { request_id, response } => {
                    if let Some((_, done)) = self.mediates.remove(&request_id) {
                        let _ = done.send(Ok(response));
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some((peer, done)) = self.mediates.remove(&request_id) {
                    let _ = done.send(Err(failed(&peer, &error)));
                }
            }
            _ => {}
        }
    }

    fn on_shard(&mut self, event: request_response::Event<Packet<shard::Request>, Packet<shard::Response>>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    let Some(commands) = self.reply_to.upgrade() else { return };
                    let reply = Reply::new(channel, commands, |channel, packet| Command::ShardReply {
                        channel,
                        packet,
                    });
                    let busy = shard::Response::Refused(Refusal::Busy);
                    deliver(&self.inboxes.shard, &peer, request, reply, busy);
                }
                request_response::Message::Response { request_id, response } => {
                    if let Some((_, done)) = self.shards.remove(&request_id) {
                        let _ = done.send(Ok(response));
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some((peer, done)) = self.shards.remove(&request_id) {
                    let _ = done.send(Err(failed(&peer, &error)));
                }
            }
            _ => {}
        }
    }
}

/// Hands a request to its role; a full inbox answers `busy`.
fn deliver<Req, Res: Send + 'static>(
    inbox: &Option<mpsc::Sender<Inbound<Req, Res>>>,
    peer: &PeerId,
    request: Packet<Req>,
    reply: Reply<Res>,
    busy: Res,
) {
    let (Some(inbox), Ok(from)) = (inbox, node_of(peer)) else { return };
    let (Frame { header, payload }, permit) = request.into_parts();
    if let Err(error) = inbox.try_send(Inbound { from, header, payload, permit, reply }) {
        let refused = match error {
            mpsc::error::TrySendError::Full(inbound) | mpsc::error::TrySendError::Closed(inbound) => inbound,
        };
        refused.reply.try_send(Frame { header: busy, payload: Bytes::new() });
    }
}

fn failed(peer: &PeerId, error: &OutboundFailure) -> CallError {
    let Ok(node) = node_of(peer) else { return CallError::Stopped };
    let reason = match error {
        OutboundFailure::DialFailure => return ConnectError::NoAnswer { address: peer.to_string() }.into(),
        OutboundFailure::Timeout => "time is over",
        OutboundFailure::ConnectionClosed => "the connection was closed",
        OutboundFailure::UnsupportedProtocols => "it does not have this role",
        OutboundFailure::Io(_) => "the stream broke",
    };
    CallError::NoAnswer { node, reason }
}
