//! One request protocol as the engine sees it: requests sent and waited for, requests that came.

use std::collections::HashMap;
use std::time::Instant;

use crate::{Asked, Packet, Requests, node_of};
use fincrypt_protocol::{Frame, Refusal, Response, mediate, pay, shard};
use libp2p::PeerId;
use libp2p::request_response::{Event, Message, OutboundFailure, OutboundRequestId};
use tokio::sync::mpsc;

use super::budget::Budgets;
use super::command::{AnswerTo, Command, Exchange, Protocol};
use super::error::{CallError, ConnectError};
use super::inbound::{Inbound, Reply};

type Inbox<R> = mpsc::Sender<Inbound<R>>;

/// Who waits for answers, and where requests go; nowhere if the node does not have the role.
pub(crate) struct Calls<R: Protocol> {
    inbox: Option<Inbox<R>>,
    waiting: HashMap<OutboundRequestId, (PeerId, AnswerTo)>,
}

impl<R: Protocol> Calls<R> {
    pub(crate) fn new(inbox: Option<Inbox<R>>) -> Self {
        Self { inbox, waiting: HashMap::new() }
    }

    pub(crate) fn send(&mut self, requests: &mut Requests<R>, exchange: Exchange<R>, budgets: &mut Budgets) {
        match exchange {
            Exchange::Call { peer, packet, done } => {
                let id = requests.send_request(&peer, packet);
                self.waiting.insert(id, (peer, done));
            }
            Exchange::Answer { peer, channel, packet } => {
                if let Ok(node) = node_of(&peer) {
                    budgets.charge(node, packet.frame.payload.len(), Instant::now());
                }
                // A peer that has gone does not get its answer.
                drop(requests.send_response(channel, packet));
            }
        }
    }

    pub(crate) fn on_event(
        &mut self,
        event: Event<Asked<R>, Packet<Response>>,
        commands: &mpsc::WeakSender<Command>,
        budgets: &mut Budgets,
    ) {
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                let Some(commands) = commands.upgrade() else { return };
                let reply = Reply::new(peer, channel, commands, |peer, channel, packet| {
                    R::command(Exchange::Answer { peer, channel, packet })
                });
                match request {
                    Asked::Known(packet) => self.deliver(&peer, packet, reply, budgets),
                    // Counted like any other: what is not known may be asked for in floods as well.
                    Asked::Unknown => {
                        let node = node_of(&peer);
                        let admitted = node.is_ok_and(|node| budgets.admit(node, 0, Instant::now()));
                        reply.refuse(if admitted { Refusal::Unsupported } else { Refusal::Busy });
                    }
                }
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some((_, done)) = self.waiting.remove(&request_id) {
                    let _ = done.send(Ok(response));
                }
            }
            Event::OutboundFailure { request_id, error, .. } => {
                if let Some((peer, done)) = self.waiting.remove(&request_id) {
                    let _ = done.send(Err(failed(&peer, &error)));
                }
            }
            _ => {}
        }
    }

    /// Hands a request to its role; a full inbox and a used-up budget answer `Busy`.
    fn deliver(&self, peer: &PeerId, request: Packet<R>, reply: Reply, budgets: &mut Budgets) {
        let (Some(inbox), Ok(from)) = (&self.inbox, node_of(peer)) else { return };
        let (Frame { header, payload }, permit) = request.into_parts();
        let refused = if budgets.admit(from, payload.len(), Instant::now()) {
            use mpsc::error::TrySendError::{Closed, Full};
            match inbox.try_send(Inbound { from, header, payload, permit, reply }) {
                Ok(()) => return,
                Err(Full(inbound) | Closed(inbound)) => inbound.reply,
            }
        } else {
            reply
        };
        refused.refuse(Refusal::Busy);
    }
}

/// The request protocols, and what their peers may ask for.
pub(crate) struct Protocols {
    pub(crate) mediate: Calls<mediate::Request>,
    pub(crate) pay: Calls<pay::Request>,
    pub(crate) shard: Calls<shard::Request>,
    pub(crate) budgets: Budgets,
}

fn failed(peer: &PeerId, error: &OutboundFailure) -> CallError {
    let Ok(node) = node_of(peer) else { return CallError::Stopped };
    let reason = match error {
        OutboundFailure::DialFailure => return ConnectError::NoAnswer { address: peer.to_string() }.into(),
        OutboundFailure::Timeout => "time is over",
        OutboundFailure::ConnectionClosed => "the connection was closed",
        OutboundFailure::UnsupportedProtocols => return CallError::OtherRole { node },
        OutboundFailure::Io(_) => "the stream broke",
    };
    CallError::NoAnswer { node, reason }
}
