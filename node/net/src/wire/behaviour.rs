//! The libp2p behaviour of every role, put together from the roles a node has.

#![allow(missing_docs, reason = "the events' enum is derived")]

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::kad::{self, BucketInserts, Mode};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, autonat, dcutr, identify, mdns, memory_connection_limits, ping, relay, upnp,
};

use super::intake::Intake;
use super::record_store::AdmittingStore;
use super::requests::Requests;
use fincrypt_protocol::Network;
use fincrypt_protocol::admission::AnnouncedRole;
use fincrypt_protocol::domain;
use fincrypt_protocol::limits::MAX_RECORD;
use fincrypt_protocol::{mediate, pay, shard};

/// One role of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A person's machine that backs up folders.
    Client,
    /// Holds shards.
    Storage,
    /// Finds storage, places, audits, repairs, pays.
    Mediator,
    /// First contact of the DHT.
    Bootstrap,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Client, Self::Storage, Self::Mediator, Self::Bootstrap];

    /// The role's name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Storage => "storage",
            Self::Mediator => "mediator",
            Self::Bootstrap => "bootstrap",
        }
    }

    /// How the role announces itself in the DHT, if it does.
    #[must_use]
    pub const fn announced(self) -> Option<AnnouncedRole> {
        match self {
            Self::Mediator => Some(AnnouncedRole::Mediator),
            Self::Storage => Some(AnnouncedRole::Storage),
            Self::Client | Self::Bootstrap => None,
        }
    }
}

/// The roles of one node; a home server may be storage and mediator at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(Vec<Role>);

impl Roles {
    /// These roles; none means client.
    #[must_use]
    pub fn new(roles: impl IntoIterator<Item = Role>) -> Self {
        Self(roles.into_iter().collect())
    }

    /// Whether `role` is among them.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether the node serves others, and so takes part in the DHT as a server.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.0.iter().any(|role| *role != Role::Client)
    }

    /// The roles in the order given.
    pub fn iter(&self) -> impl Iterator<Item = Role> + '_ {
        self.0.iter().copied()
    }
}

/// What a behaviour is made from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The network.
    pub network: Network,
    /// The node's roles.
    pub roles: Roles,
    /// Bytes of inbound payload that may be in memory at once.
    pub intake: usize,
    /// Whether to look for peers in the local network.
    pub mdns: bool,
    /// Whether to ask the router for a port.
    pub upnp: bool,
}

/// A part of the behaviour could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BehaviourError {
    /// The gossip settings contradict each other.
    #[error("gossip could not be set up: {0}")]
    Gossip(String),
    /// The multicast socket could not be opened.
    #[error("peers in the local network cannot be looked for")]
    Mdns(#[source] std::io::Error),
}

/// The whole behaviour. Parts that a role or network does not need are absent.
#[derive(NetworkBehaviour)]
pub struct Behaviour {
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    /// Who peers are and where they listen.
    pub identify: identify::Behaviour,
    /// Whether they are still there.
    pub ping: ping::Behaviour,
    /// The DHT.
    pub kad: kad::Behaviour<AdmittingStore>,
    /// Storage offers.
    pub gossip: gossipsub::Behaviour,
    /// Client ↔ mediator.
    pub mediate: Requests<mediate::Request>,
    /// Mediator → storage, about money.
    pub pay: Requests<pay::Request>,
    /// Mediator or owner ↔ storage.
    pub shard: Requests<shard::Request>,
    /// Circuits through relays, for nodes behind NAT.
    pub relay_client: relay::client::Behaviour,
    relay_server: Toggle<relay::Behaviour>,
    dcutr: Toggle<dcutr::Behaviour>,
    /// Whether this node can be reached.
    pub autonat_client: Toggle<autonat::v2::client::Behaviour>,
    autonat_server: Toggle<autonat::v2::server::Behaviour>,
    upnp: Toggle<upnp::tokio::Behaviour>,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// The topic on which storage nodes advertise.
#[must_use]
pub fn offers_topic(network: Network) -> IdentTopic {
    IdentTopic::new(network.protocol("offers/1"))
}

/// Connections of one node. 512 at about 20 KiB of buffers each stay near 10 MiB when idle.
const MAX_CONNECTIONS: u32 = 512;
/// Connections of one peer: one direct, one relayed, and a spare while one replaces the other.
const MAX_PER_PEER: u32 = 4;
/// Memory of the process above which no new connection is accepted.
const MEMORY_LIMIT: usize = 768 << 20;
/// One transfer: 30 s and a full shard at 64 KiB/s, and a commit that waits for its keepers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Streams of one protocol on one connection.
const MAX_STREAMS: usize = 64;

impl Behaviour {
    /// Puts the parts together.
    ///
    /// # Errors
    /// If the gossip settings are refused or multicast is not possible.
    pub fn new(
        setup: &Setup,
        keypair: &Keypair,
        relay_client: relay::client::Behaviour,
    ) -> Result<Self, BehaviourError> {
        let peer = keypair.public().to_peer_id();
        let network = setup.network;
        let public = network != Network::Local;
        let bootstrap = setup.roles.has(Role::Bootstrap);
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(128))
            .with_max_pending_outgoing(Some(256))
            .with_max_established(Some(MAX_CONNECTIONS))
            .with_max_established_per_peer(Some(MAX_PER_PEER));
        let identify = identify::Config::new(network.protocol("1"), keypair.public())
            .with_agent_version(concat!("fincrypt/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_hide_listen_addrs(!setup.roles.serves());
        let intake = Intake::new(setup.intake);
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            memory: memory_connection_limits::Behaviour::with_max_bytes(MEMORY_LIMIT),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::default(),
            kad: kademlia(setup, keypair),
            gossip: gossip(network, keypair)?,
            mediate: requests(setup, peer, mediate::NAME, Role::Mediator, &intake),
            pay: requests(setup, peer, pay::NAME, Role::Storage, &intake),
            shard: requests(setup, peer, shard::NAME, Role::Storage, &intake),
            relay_client,
            relay_server: bootstrap.then(|| relay::Behaviour::new(peer, relay_limits())).into(),
            dcutr: public.then(|| dcutr::Behaviour::new(peer)).into(),
            autonat_client: public.then(autonat::v2::client::Behaviour::default).into(),
            autonat_server: (public && bootstrap).then(autonat::v2::server::Behaviour::default).into(),
            upnp: (public && setup.upnp).then(upnp::tokio::Behaviour::default).into(),
            mdns: if setup.mdns {
                let mdns = mdns::tokio::Behaviour::new(mdns::Config::default(), peer);
                Some(mdns.map_err(BehaviourError::Mdns)?).into()
            } else {
                None.into()
            },
        })
    }
}

fn stream_protocol(network: Network, rest: &str) -> StreamProtocol {
    // A name of the form "/fincrypt/<network>/<rest>" begins with a slash, as required.
    StreamProtocol::try_from_owned(network.protocol(rest)).unwrap_or(StreamProtocol::new("/fincrypt/invalid"))
}

fn requests<Req: fincrypt_protocol::Header>(
    setup: &Setup,
    own: PeerId,
    name: &str,
    server: Role,
    intake: &Intake,
) -> Requests<Req> {
    let support = if setup.roles.has(server) { ProtocolSupport::Full } else { ProtocolSupport::Outbound };
    let config = request_response::Config::default()
        .with_request_timeout(REQUEST_TIMEOUT)
        .with_max_concurrent_streams(MAX_STREAMS);
    Requests::new(own, stream_protocol(setup.network, name), support, config, intake.clone())
}

fn kademlia(setup: &Setup, keypair: &Keypair) -> kad::Behaviour<AdmittingStore> {
    let peer = keypair.public().to_peer_id();
    let mut config = kad::Config::new(stream_protocol(setup.network, "kad/1"));
    config
        .set_query_timeout(Duration::from_secs(20))
        .set_record_ttl(Some(Duration::from_secs(48 * 3600)))
        // Publishers repeat their own records; nobody repeats another's.
        .set_replication_interval(None)
        .set_publication_interval(Some(Duration::from_secs(6 * 3600)))
        .set_provider_publication_interval(Some(Duration::from_secs(6 * 3600)))
        .set_provider_record_ttl(Some(Duration::from_secs(24 * 3600)))
        .set_max_packet_size(16 << 10)
        .set_kbucket_inserts(BucketInserts::Manual)
        .disjoint_query_paths(setup.network != Network::Local)
        .set_parallelism(const { NonZeroUsize::new(4).unwrap() });
    let mut kad = kad::Behaviour::with_config(peer, AdmittingStore::new(peer, setup.network), config);
    // The engine raises a node to server once it is known to be reachable.
    let local_server = setup.network == Network::Local && setup.roles.serves();
    kad.set_mode(Some(if local_server { Mode::Server } else { Mode::Client }));
    kad
}

fn gossip(network: Network, keypair: &Keypair) -> Result<gossipsub::Behaviour, BehaviourError> {
    let refused = |error: &dyn std::fmt::Display| BehaviourError::Gossip(error.to_string());
    let config = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(network.protocol("gossip"))
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        // By content, so that a replay in another envelope is a duplicate.
        .message_id_fn(|message| MessageId::from(domain::RECORD_HASH.hash(&[&message.data]).to_vec()))
        // The cache has no bound but time, and takes messages in before they are looked at. Replays of
        // older ones are told by their sequence.
        .duplicate_cache_time(Duration::from_secs(120))
        .max_transmit_size(MAX_RECORD + 512)
        .heartbeat_interval(Duration::from_secs(1))
        .flood_publish(true)
        .build()
        .map_err(|error| refused(&error))?;
    gossipsub::Behaviour::new(MessageAuthenticity::Signed(keypair.clone()), config)
        .map_err(|error| refused(&error))
}

fn relay_limits() -> relay::Config {
    relay::Config {
        max_reservations: 256,
        max_circuits: 64,
        // A shard and its proofs cross a circuit; the bulk goes direct after hole punching.
        max_circuit_bytes: 64 << 20,
        max_circuit_duration: Duration::from_secs(10 * 60),
        ..relay::Config::default()
    }
}
