//! The handle by which roles and commands use the network.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{Packet, peer_of};
use bytes::Bytes;
use fincrypt_protocol::{AddressGroup, Call, Frame, Network, NodeId, Response, mediate, pay, shard};
use libp2p::Multiaddr;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::command::{Command, Exchange, Protocol};
use super::error::{CallError, ConnectError};

/// Requests in flight to one peer: enough to fill a long link with 1 MiB shards, few enough that
/// a slow peer does not hold much memory.
const MAX_IN_FLIGHT: usize = 8;
/// Dialling, identifying included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Permits of requests in flight, by peer.
#[derive(Clone, Default)]
struct InFlight(Arc<Mutex<HashMap<NodeId, Arc<Semaphore>>>>);

impl InFlight {
    fn of(&self, node: NodeId) -> Arc<Semaphore> {
        let mut peers = self.0.lock();
        if peers.len() > 4096 {
            peers.retain(|_, permits| Arc::strong_count(permits) > 1);
        }
        Arc::clone(peers.entry(node).or_insert_with(|| Arc::new(Semaphore::new(MAX_IN_FLIGHT))))
    }
}

/// The queue of what the engine is asked to do.
#[derive(Clone)]
struct Commands(mpsc::Sender<Command>);

impl Commands {
    /// Asks, and waits for the answer; none if the engine has stopped.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.0.send(command(done)).await.ok()?;
        answer.await.ok()
    }
}

/// A cloneable handle to the engine.
#[derive(Clone)]
pub struct Net {
    commands: Commands,
    own: NodeId,
    network: Network,
    in_flight: InFlight,
}

impl Net {
    pub(crate) fn new(commands: mpsc::Sender<Command>, own: NodeId, network: Network) -> Self {
        Self { commands: Commands(commands), own, network, in_flight: InFlight::default() }
    }

    /// This node.
    #[must_use]
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// This node's network.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// Dials an address and waits until the peer there has said who it is.
    ///
    /// # Errors
    /// [`ConnectError`] if nobody, another peer or another network answers.
    pub async fn join(&self, address: Multiaddr) -> Result<NodeId, ConnectError> {
        let shown = address.to_string();
        let asked = self.commands.ask(|done| Command::Join { address, done });
        match tokio::time::timeout(CONNECT_TIMEOUT, asked).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(ConnectError::Stopped),
            Err(_) => Err(ConnectError::NoAnswer { address: shown }),
        }
    }

    /// Makes sure that `node` is connected, looking for its addresses if need be.
    ///
    /// # Errors
    /// [`ConnectError`] if it cannot be reached.
    pub async fn connect(&self, node: NodeId, hints: Vec<Multiaddr>) -> Result<(), ConnectError> {
        match self.reach(node, hints).await {
            Err(ConnectError::Unknown(_)) => {
                let peer = peer_of(&node).map_err(|_| ConnectError::Unknown(node))?;
                let found =
                    self.commands.ask(|done| Command::FindPeer { peer, done }).await.unwrap_or_default();
                self.reach(node, found).await
            }
            other => other,
        }
    }

    /// Makes sure that `node` is connected, by these addresses or those that are known.
    ///
    /// # Errors
    /// [`ConnectError`] if it cannot be reached, [`ConnectError::Unknown`] if there is no address.
    pub async fn reach(&self, node: NodeId, addresses: Vec<Multiaddr>) -> Result<(), ConnectError> {
        let peer = peer_of(&node).map_err(|_| ConnectError::Unknown(node))?;
        let asked = self.commands.ask(|done| Command::Connect { peer, addresses, done });
        match tokio::time::timeout(CONNECT_TIMEOUT, asked).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(ConnectError::Stopped),
            Err(_) => Err(ConnectError::NoAnswer { address: node.to_string() }),
        }
    }

    /// Sends a request to a mediator and returns the body of its response; a refusal is an error.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn mediate<C>(&self, node: NodeId, call: C) -> Result<C::Response, CallError>
    where
        C: Call<Request = mediate::Request>,
    {
        Ok(self.mediate_with(node, call, Bytes::new()).await?.0)
    }

    /// As [`Net::mediate`], with a payload to it and from it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn mediate_with<C>(
        &self,
        node: NodeId,
        call: C,
        payload: Bytes,
    ) -> Result<(C::Response, Bytes), CallError>
    where
        C: Call<Request = mediate::Request>,
    {
        self.call(node, call, payload).await
    }

    /// Sends a request to a storage node and returns the body of its response; a refusal is an error.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn shard<C>(&self, node: NodeId, call: C) -> Result<C::Response, CallError>
    where
        C: Call<Request = shard::Request>,
    {
        Ok(self.shard_with(node, call, Bytes::new()).await?.0)
    }

    /// As [`Net::shard`], with a payload to it and from it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn shard_with<C>(
        &self,
        node: NodeId,
        call: C,
        payload: Bytes,
    ) -> Result<(C::Response, Bytes), CallError>
    where
        C: Call<Request = shard::Request>,
    {
        self.call(node, call, payload).await
    }

    /// Sends a request about money to a storage node and returns the body of its response; a refusal is an
    /// error.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn pay<C>(&self, node: NodeId, call: C) -> Result<C::Response, CallError>
    where
        C: Call<Request = pay::Request>,
    {
        Ok(self.call(node, call, Bytes::new()).await?.0)
    }

    /// Sends a request of whichever kind to a storage node; a refusal is an error. The response can be read
    /// by who knows what was asked.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn send_shard(
        &self,
        node: NodeId,
        request: shard::Request,
        payload: Bytes,
    ) -> Result<(Response, Bytes), CallError> {
        carried_out(node, self.send(node, Frame { header: request, payload }).await?)
    }

    /// As [`Net::send_shard`], of a request about money.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn send_pay(&self, node: NodeId, request: pay::Request) -> Result<Response, CallError> {
        Ok(carried_out(node, self.send(node, Frame::bare(request)).await?)?.0)
    }

    async fn call<C>(&self, node: NodeId, call: C, payload: Bytes) -> Result<(C::Response, Bytes), CallError>
    where
        C: Call<Request: Protocol>,
    {
        let frame = self.send(node, Frame { header: call.into(), payload }).await?;
        match frame.header.read::<C>() {
            Ok(Ok(body)) => Ok((body, frame.payload)),
            Ok(Err(refusal)) => Err(CallError::Refused { node, refusal }),
            Err(_) => Err(CallError::Unexpected { node }),
        }
    }

    async fn send<R: Protocol>(&self, node: NodeId, frame: Frame<R>) -> Result<Frame<Response>, CallError> {
        let peer = peer_of(&node).map_err(|_| ConnectError::Unknown(node))?;
        let permits = self.in_flight.of(node);
        let _permit = permits.acquire().await.map_err(|_| CallError::Stopped)?;
        let packet = Packet::from(frame);
        let answer = self.commands.ask(|done| R::command(Exchange::Call { peer, packet, done })).await;
        Ok(answer.ok_or(CallError::Stopped)??.into_parts().0)
    }

    /// Announces in the DHT that this node provides `key`; repeated by itself from then on.
    pub async fn provide(&self, key: [u8; 32]) {
        let _ = self.commands.0.send(Command::Provide { key }).await;
    }

    /// Nodes that announced `key`.
    pub async fn providers(&self, key: [u8; 32]) -> Vec<NodeId> {
        self.commands.ask(|done| Command::Providers { key, done }).await.unwrap_or_default()
    }

    /// Puts a record into the DHT; whether anyone took it.
    pub async fn put_record(&self, key: [u8; 32], value: Vec<u8>) -> bool {
        self.commands.ask(|done| Command::PutRecord { key, value, done }).await.unwrap_or_default()
    }

    /// Publishes an offer; false if nobody listens yet.
    pub async fn publish(&self, data: Vec<u8>) -> bool {
        self.commands.ask(|done| Command::Publish { data, done }).await.unwrap_or_default()
    }

    /// Known addresses of some nodes.
    pub async fn addresses(&self, nodes: &[NodeId]) -> Vec<Vec<Multiaddr>> {
        let peers = nodes.iter().filter_map(|node| peer_of(node).ok()).collect();
        self.commands.ask(|done| Command::Addresses { peers, done }).await.unwrap_or_default()
    }

    /// Addresses at which this node can be reached, as far as it knows.
    pub async fn own_addresses(&self) -> Vec<Multiaddr> {
        self.commands.ask(|done| Command::OwnAddresses { done }).await.unwrap_or_default()
    }

    /// Peers with a connection.
    pub async fn connected(&self) -> Vec<NodeId> {
        self.commands.ask(|done| Command::Connected { done }).await.unwrap_or_default()
    }

    /// The address groups in which some nodes were met; none for those that are not connected, or
    /// through a relay only.
    pub async fn groups(&self, nodes: &[NodeId]) -> Vec<Option<AddressGroup>> {
        let peers = nodes.iter().filter_map(|node| peer_of(node).ok()).collect();
        self.commands.ask(|done| Command::Groups { peers, done }).await.unwrap_or_default()
    }

    /// How many peers the DHT's routing table has: with none, nothing can be announced.
    pub async fn dht_peers(&self) -> usize {
        self.commands.ask(|done| Command::DhtPeers { done }).await.unwrap_or_default()
    }

    /// Ends the engine.
    pub async fn stop(&self) {
        let _ = self.commands.0.send(Command::Stop).await;
    }
}

/// A response of whichever kind, if the request was carried out.
fn carried_out(node: NodeId, frame: Frame<Response>) -> Result<(Response, Bytes), CallError> {
    match frame.header.outcome() {
        Ok(Ok(())) => Ok((frame.header, frame.payload)),
        Ok(Err(refusal)) => Err(CallError::Refused { node, refusal }),
        Err(_) => Err(CallError::Unexpected { node }),
    }
}
