//! The task that owns the swarm.

mod events;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::{Behaviour, Setup, node_of, offers_topic};
use fincrypt_protocol::{Network, NodeId};
use futures::StreamExt;
use libp2p::gossipsub::{self};
use libp2p::identity::Keypair;
use libp2p::kad::{Quorum, Record, RecordKey};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, noise, yamux};
use tokio::sync::mpsc;

use super::addresses::is_useful;
use super::budget::{Budget, Budgets};
use super::calls::{Calls, Protocols};
use super::command::{Command, Waiter};
use super::dials::{Dials, dial_error};
use super::error::ConnectError;
use super::handle::Net;
use super::inbound::Inboxes;
use super::offers::Offers;
use super::peers::Peers;
use super::queries::Queries;
use super::session::Sessions;

/// Commands waiting for the engine; each holder also waits for its own answer, so this is small.
const COMMANDS: usize = 256;

/// The engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A part of the transport could not be set up.
    #[error("the network could not be set up: {0}")]
    Transport(String),
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What the system said.
        reason: String,
    },
}

/// What an engine is made from.
pub struct EngineSetup {
    /// Network, roles and extras.
    pub behaviour: Setup,
    /// The node's identity.
    pub keypair: Keypair,
    /// Addresses to listen on; none for a client.
    pub listen: Vec<Multiaddr>,
    /// Where requests go.
    pub inboxes: Inboxes,
}

/// The engine before it runs.
pub struct Engine {
    swarm: Swarm<Behaviour>,
    network: Network,
    commands: mpsc::Receiver<Command>,
    reply_to: mpsc::WeakSender<Command>,
    /// Where storage nodes go that were met.
    seen_inbox: Option<mpsc::Sender<NodeId>>,
    sessions: Arc<Sessions>,
    offers: Offers,
    queries: Queries,
    peers: Peers,
    dials: Dials,
    protocols: Protocols,
}

impl Engine {
    /// Builds the swarm and listens; returns once every address is bound.
    ///
    /// # Errors
    /// [`EngineError`] if the transport or an address is refused.
    pub async fn start(
        setup: EngineSetup,
    ) -> Result<(Self, Net, Arc<Sessions>, Vec<Multiaddr>), EngineError> {
        let network = setup.behaviour.network;
        let transport = |error: &dyn std::fmt::Display| EngineError::Transport(error.to_string());
        let mut swarm = SwarmBuilder::with_existing_identity(setup.keypair.clone())
            .with_tokio()
            .with_quic()
            .with_other_transport(super::transport::transport)
            .map_err(|error| transport(&error))?
            .with_dns()
            .map_err(|error| transport(&error))?
            .with_relay_client(noise::Config::new, yamux::Config::default)
            .map_err(|error| transport(&error))?
            .with_behaviour(|key, relay| Ok(Behaviour::new(&setup.behaviour, key, relay)?))
            .map_err(|error| transport(&error))?
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        if setup.behaviour.roles.serves() {
            let topic = offers_topic(network);
            swarm.behaviour_mut().gossip.subscribe(&topic).map_err(|error| transport(&error))?;
        }
        let own = node_of(swarm.local_peer_id()).map_err(|error| transport(&error))?;
        let bound = listen(&mut swarm, &setup.listen).await?;
        let (sender, commands) = mpsc::channel(COMMANDS);
        let sessions = Arc::new(Sessions::new(network, own));
        let engine = Self {
            swarm,
            network,
            commands,
            reply_to: sender.downgrade(),
            seen_inbox: setup.inboxes.storage_seen,
            sessions: Arc::clone(&sessions),
            offers: Offers::new(setup.inboxes.offers),
            queries: Queries::default(),
            peers: Peers::new(),
            dials: Dials::default(),
            protocols: Protocols {
                mediate: Calls::new(setup.inboxes.mediate),
                pay: Calls::new(setup.inboxes.pay),
                shard: Calls::new(setup.inboxes.shard),
                budgets: Budgets::new(Budget::DEFAULT),
            },
        };
        Ok((engine, Net::new(sender, own, network), sessions, bound))
    }

    /// The same engine, with another budget for each peer.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.protocols.budgets = Budgets::new(budget);
        self
    }

    /// Runs until told to stop, or until the last handle is dropped.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    None | Some(Command::Stop) => return,
                    Some(command) => self.obey(command),
                },
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let (behaviour, protocols) = (self.swarm.behaviour_mut(), &mut self.protocols);
        match command {
            Command::Join { address, done } => self.join(address, done),
            Command::Connect { peer, addresses, done } => self.connect(peer, addresses, done),
            Command::Mediate(exchange) => {
                protocols.mediate.send(&mut behaviour.mediate, exchange, &mut protocols.budgets);
            }
            Command::Pay(exchange) => {
                protocols.pay.send(&mut behaviour.pay, exchange, &mut protocols.budgets);
            }
            Command::Shard(exchange) => {
                protocols.shard.send(&mut behaviour.shard, exchange, &mut protocols.budgets);
            }
            Command::Provide { key } => {
                if let Err(error) = behaviour.kad.start_providing(RecordKey::new(&key)) {
                    tracing::warn!(%error, "the DHT store takes no more provider keys");
                }
            }
            Command::Providers { key, done } => {
                let id = behaviour.kad.get_providers(RecordKey::new(&key));
                self.queries.providers(id, done);
            }
            Command::FindPeer { peer, done } => {
                let id = behaviour.kad.get_closest_peers(peer);
                self.queries.peer(id, peer, done);
            }
            Command::PutRecord { key, value, done } => {
                let mut record = Record::new(RecordKey::new(&key), value);
                record.publisher = Some(*self.swarm.local_peer_id());
                match self.swarm.behaviour_mut().kad.put_record(record, Quorum::One) {
                    Ok(id) => self.queries.put(id, done),
                    Err(_) => drop(done.send(false)),
                }
            }
            Command::Publish { data, done } => {
                let topic = offers_topic(self.network);
                let sent = behaviour.gossip.publish(topic, data);
                let _ = done.send(matches!(sent, Ok(_) | Err(gossipsub::PublishError::Duplicate)));
            }
            Command::Addresses { peers, done } => {
                let _ = done.send(peers.iter().map(|peer| self.peers.addresses(peer)).collect());
            }
            Command::OwnAddresses { done } => {
                let _ = done.send(self.own_addresses());
            }
            Command::Connected { done } => {
                let _ =
                    done.send(self.swarm.connected_peers().filter_map(|peer| node_of(peer).ok()).collect());
            }
            Command::Groups { peers, done } => {
                let _ = done.send(peers.iter().map(|peer| self.peers.group(peer)).collect());
            }
            Command::DhtPeers { done } => {
                let _ = done.send(behaviour.kad.kbuckets().map(|bucket| bucket.num_entries()).sum());
            }
            Command::Stop => {}
        }
    }

    fn own_addresses(&self) -> Vec<Multiaddr> {
        let useful = |address: &&Multiaddr| is_useful(address, self.network);
        let external = self.swarm.external_addresses().chain(self.swarm.listeners());
        let mut addresses: Vec<_> = external.filter(useful).cloned().collect();
        addresses.dedup();
        addresses
    }

    fn join(&mut self, address: Multiaddr, done: Waiter<NodeId, ConnectError>) {
        let shown = address.to_string();
        let opts = DialOpts::unknown_peer_id().address(address).build();
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => self.dials.join(id, (shown, done)),
            Err(error) => drop(done.send(Err(dial_error(&error, shown)))),
        }
    }

    fn connect(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>, done: Waiter<(), ConnectError>) {
        if self.swarm.is_connected(&peer) {
            let _ = done.send(Ok(()));
            return;
        }
        addresses.extend(self.peers.addresses(&peer));
        if addresses.is_empty()
            && let Some(entry) = self.swarm.behaviour_mut().kad.kbucket(peer).and_then(|bucket| {
                bucket
                    .iter()
                    .find(|entry| entry.node.key.preimage() == &peer)
                    .map(|entry| entry.node.value.clone())
            })
        {
            addresses.extend(entry.iter().cloned());
        }
        addresses.dedup();
        if addresses.is_empty() {
            let error = node_of(&peer).map_or(ConnectError::Stopped, ConnectError::Unknown);
            let _ = done.send(Err(error));
            return;
        }
        if self.dials.connect(peer, done) {
            let opts = DialOpts::peer_id(peer).addresses(addresses).build();
            if let Err(error) = self.swarm.dial(opts)
                && !matches!(error, DialError::DialPeerConditionFalse(_))
            {
                self.dials.connected(&peer, Err(dial_error(&error, peer.to_string())));
            }
        }
    }
}

/// What is at the bottom of an error: the transport's own layers print nothing.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

async fn listen(
    swarm: &mut Swarm<Behaviour>,
    addresses: &[Multiaddr],
) -> Result<Vec<Multiaddr>, EngineError> {
    let mut waiting = HashSet::new();
    for address in addresses {
        let refused = |error| EngineError::Listen { address: address.clone(), reason: cause(&error) };
        waiting.insert(swarm.listen_on(address.clone()).map_err(refused)?);
    }
    let peer = *swarm.local_peer_id();
    let mut bound = Vec::new();
    while !waiting.is_empty() {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                waiting.remove(&listener_id);
                bound.push(address.with_p2p(peer).unwrap_or_else(|address| address));
            }
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                let address = addresses.first().cloned().unwrap_or_else(Multiaddr::empty);
                return Err(EngineError::Listen { address, reason: cause(&error) });
            }
            _ => {}
        }
    }
    Ok(bound)
}
