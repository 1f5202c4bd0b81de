//! libp2p's request-response with a codec that knows whom it reads from.

use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::request_response::{Behaviour, Config, OutboundRequestId, ProtocolSupport, ResponseChannel};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use super::codec::{FrameCodec, Packet, Partner};
use super::intake::Intake;
use fincrypt_protocol::{Header, Response};

/// One request protocol. A connection's codec is made when the connection is: here it learns its
/// peer, so that budgets are per peer.
pub struct Requests<Req: Header> {
    inner: Behaviour<FrameCodec<Req>>,
    next: Arc<Mutex<PeerId>>,
}

impl<Req: Header> Requests<Req> {
    /// The protocol `name`; all of its inbound requests share `intake`.
    pub(super) fn new(
        own: PeerId,
        name: StreamProtocol,
        support: ProtocolSupport,
        config: Config,
        intake: Intake,
    ) -> Self {
        let next = Arc::new(Mutex::new(own));
        let codec = FrameCodec::new(intake, Partner::Next(Arc::clone(&next)));
        Self { inner: Behaviour::with_codec(codec, [(name, support)], config), next }
    }

    /// Sends a request, dialling the peer if need be.
    pub fn send_request(&mut self, peer: &PeerId, packet: Packet<Req>) -> OutboundRequestId {
        self.inner.send_request(peer, packet.into())
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The answer, if whoever asked has gone.
    pub fn send_response(
        &mut self,
        channel: ResponseChannel<Packet<Response>>,
        packet: Packet<Response>,
    ) -> Result<(), Packet<Response>> {
        self.inner.send_response(channel, packet)
    }

    fn meet(&mut self, peer: PeerId) {
        *self.next.lock() = peer;
    }
}

impl<Req: Header> NetworkBehaviour for Requests<Req> {
    type ConnectionHandler = THandler<Behaviour<FrameCodec<Req>>>;
    type ToSwarm = <Behaviour<FrameCodec<Req>> as NetworkBehaviour>::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.meet(peer);
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.meet(peer);
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
