//! What the engine is asked to do.

use crate::Packet;
use fincrypt_protocol::{AddressGroup, Header, NodeId, Response, mediate, pay, shard};
use libp2p::request_response::ResponseChannel;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::error::{CallError, ConnectError};

pub(crate) type Waiter<T, E> = oneshot::Sender<Result<T, E>>;
/// Where the answer of a request goes.
pub(crate) type AnswerTo = Waiter<Packet<Response>, CallError>;

pub(crate) enum Command {
    /// Dial an address whose peer may be unknown, and wait until it said who it is.
    Join {
        address: Multiaddr,
        done: Waiter<NodeId, ConnectError>,
    },
    /// Be connected to a peer.
    Connect {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        done: Waiter<(), ConnectError>,
    },
    Mediate(Exchange<mediate::Request>),
    Pay(Exchange<pay::Request>),
    Shard(Exchange<shard::Request>),
    Provide {
        key: [u8; 32],
    },
    Providers {
        key: [u8; 32],
        done: oneshot::Sender<Vec<NodeId>>,
    },
    FindPeer {
        peer: PeerId,
        done: oneshot::Sender<Vec<Multiaddr>>,
    },
    PutRecord {
        key: [u8; 32],
        value: Vec<u8>,
        done: oneshot::Sender<bool>,
    },
    Publish {
        data: Vec<u8>,
        done: oneshot::Sender<bool>,
    },
    Addresses {
        peers: Vec<PeerId>,
        done: oneshot::Sender<Vec<Vec<Multiaddr>>>,
    },
    OwnAddresses {
        done: oneshot::Sender<Vec<Multiaddr>>,
    },
    Connected {
        done: oneshot::Sender<Vec<NodeId>>,
    },
    /// The address groups in which peers were met, for those that are connected without a relay.
    Groups {
        peers: Vec<PeerId>,
        done: oneshot::Sender<Vec<Option<AddressGroup>>>,
    },
    /// How many peers the DHT's routing table has.
    DhtPeers {
        done: oneshot::Sender<usize>,
    },
    Stop,
}

/// The requests of one of the protocols.
pub(crate) trait Protocol: Header {
    /// Brings an exchange to the engine.
    fn command(exchange: Exchange<Self>) -> Command;
}

macro_rules! protocol {
    ($module:ident, $command:path) => {
        impl Protocol for $module::Request {
            fn command(exchange: Exchange<Self>) -> Command {
                $command(exchange)
            }
        }
    };
}
protocol!(mediate, Command::Mediate);
protocol!(pay, Command::Pay);
protocol!(shard, Command::Shard);

/// What the engine is asked to send.
pub(crate) enum Exchange<R: Protocol> {
    Call { peer: PeerId, packet: Packet<R>, done: AnswerTo },
    Answer { peer: PeerId, channel: ResponseChannel<Packet<Response>>, packet: Packet<Response> },
}
