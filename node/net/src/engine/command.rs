//! What the engine is asked to do.

use fincrypt_protocol::{NodeId, mediate, pay, shard};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::calls::Exchange;
use super::handle::ConnectError;
use fincrypt_protocol::AddressGroup;

pub(crate) type Waiter<T, E> = oneshot::Sender<Result<T, E>>;

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
