//! Requests on their way to a role, and their answers on the way back.

use std::any::Any;

use crate::{Hold, Packet};
use bytes::Bytes;
use fincrypt_protocol::record::StorageOffer;
use fincrypt_protocol::{Frame, NodeId, Refusal, Response, Verified, mediate, pay, shard};
use libp2p::PeerId;
use libp2p::request_response::ResponseChannel;
use tokio::sync::mpsc;

use super::command::Command;

/// One request of a peer.
pub struct Inbound<Req> {
    /// Who asks.
    pub from: NodeId,
    /// What is asked.
    pub header: Req,
    /// The bytes that came with it.
    pub payload: Bytes,
    /// The payload's share of the intake: held until the payload is dropped.
    pub permit: Option<Hold>,
    /// Where the answer goes.
    pub reply: Reply,
}

/// A request to a mediator.
pub type MediateInbound = Inbound<mediate::Request>;
/// A request about money to a storage node.
pub type PayInbound = Inbound<pay::Request>;
/// A request to a storage node.
pub type ShardInbound = Inbound<shard::Request>;

/// The one answer to a request. Dropped unused, the asker sees a closed stream.
pub struct Reply {
    peer: PeerId,
    channel: ResponseChannel<Packet<Response>>,
    commands: mpsc::Sender<Command>,
    wrap: Wrap,
}

type Wrap = fn(PeerId, ResponseChannel<Packet<Response>>, Packet<Response>) -> Command;

impl Reply {
    pub(crate) fn new(
        peer: PeerId,
        channel: ResponseChannel<Packet<Response>>,
        commands: mpsc::Sender<Command>,
        wrap: Wrap,
    ) -> Self {
        Self { peer, channel, commands, wrap }
    }

    /// Refuses the request from within the engine, which must not wait for itself.
    pub(crate) fn refuse(self, refusal: Refusal) {
        let Ok(response) = Response::refused(refusal) else { return };
        let packet = Packet::from(Frame::bare(response));
        let _ = self.commands.try_send((self.wrap)(self.peer, self.channel, packet));
    }

    /// Sends the answer, and drops `hold` once it is written. An engine that has stopped, or a peer
    /// that has gone, does not mind.
    pub async fn send(self, answer: Result<(Response, Bytes), Refusal>, hold: impl Any + Send) {
        let frame = match answer {
            Ok((header, payload)) => Frame { header, payload },
            Err(refusal) => match Response::refused(refusal) {
                Ok(header) => Frame::bare(header),
                Err(_) => return,
            },
        };
        let command = (self.wrap)(self.peer, self.channel, Packet::holding(frame, hold));
        let _ = self.commands.send(command).await;
    }
}

/// Where requests and offers go; a role that the node does not have has no inbox.
#[derive(Default)]
pub struct Inboxes {
    /// To the mediator role.
    pub mediate: Option<mpsc::Sender<MediateInbound>>,
    /// To the storage role.
    pub shard: Option<mpsc::Sender<ShardInbound>>,
    /// About money, to the storage role.
    pub pay: Option<mpsc::Sender<PayInbound>>,
    /// Offers that came over gossip, to the mediator role.
    pub offers: Option<mpsc::Sender<Verified<StorageOffer>>>,
    /// Storage nodes newly met, to the mediator role.
    pub storage_seen: Option<mpsc::Sender<NodeId>>,
}
