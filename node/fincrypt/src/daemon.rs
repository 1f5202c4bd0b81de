//! A node that serves: its roles started, and ended in order.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_client::{BadShard, ClientError, ClientOptions, Vault, backup, self_check};
use fincrypt_mediator::{MediatorInbox, MediatorRole, Money, MoneyError, Sources};
use fincrypt_net::{Engine, EngineSetup, Identity, Inboxes, Multiaddr, Net, Role, Roles, Setup, peer_of};
use fincrypt_protocol::{Clock, Network, Random};
use fincrypt_shards::ShardStore;
use fincrypt_state::state::State;
use fincrypt_storage_node::{Disk, Leaving, PayoutTo, StorageRole};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::api::{self, Facts};
use crate::config::Config;
use crate::home::Home;
use crate::own_node;

/// Inbound payload in memory at once: 24 full shards.
const INTAKE: usize = 24 << 20;
/// Requests that wait for a role. Their payloads are bounded by the intake.
const INBOX: usize = 128;
/// Offers and acquaintances that wait for the mediator.
const NEWS: usize = 256;
/// What is under way at shutdown may take so long; an exit within 10 s is promised.
const GRACE: Duration = Duration::from_secs(7);
/// Between attempts to reach first contacts that do not answer.
const REJOIN: Duration = Duration::from_secs(2);

/// A node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A part it shares with clients failed.
    #[error(transparent)]
    Common(#[from] ClientError),
    /// The shard store did not open.
    #[error(transparent)]
    Store(#[from] fincrypt_shards::StoreError),
    /// The mediator's money cannot be looked after.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// The seed of the Lightning node cannot be had.
    #[cfg(feature = "bitcoin")]
    #[error(transparent)]
    Seed(#[from] fincrypt_treasury::seed_file::SeedError),
    /// No port for the Lightning node.
    #[error("the Lightning node finds no place to listen: {0}; name one in lightning_listen")]
    LightningListen(std::io::Error),
    /// A Lightning node of its own without a chain.
    #[error(
        "payout = \"lightning\" needs a chain: give --bitcoind-url and --bitcoind-cookie, or name a destination"
    )]
    NoChain,
    /// The local interface did not start.
    #[error("the local interface cannot listen on {address}: {source}; choose another --api address, or off")]
    Api {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

macro_rules! through_common {
    ($($error:ty),*) => {$(
        impl From<$error> for NodeError {
            fn from(error: $error) -> Self {
                Self::Common(error.into())
            }
        }
    )*};
}
through_common!(fincrypt_net::EngineError, fincrypt_net::IdentityError, fincrypt_state::kv::KvError);

/// Where a node listens if nothing was said.
fn default_listen(network: Network) -> Vec<Multiaddr> {
    let texts: &[&str] = match network {
        Network::Local => &["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"],
        _ => &["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"],
    };
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Runs a node until SIGTERM or Ctrl-C. Prints the ready line once it can serve. The password is
/// that of the home's vault, for the client role.
///
/// # Errors
/// If it cannot start.
pub async fn run(
    home: Home,
    config: Config,
    roles: Roles,
    password: Option<Zeroizing<String>>,
) -> Result<(), NodeError> {
    home.create()?;
    let identity = Identity::open(&home.identity())?;
    let (state, report) = State::open(&home.state())?;
    if let Some(aside) = &report.set_aside {
        tracing::warn!(aside = %aside.display(), "the state database did not open; it was set aside and is rebuilt");
    }
    let store = if roles.has(Role::Storage) {
        let (store, report) = ShardStore::open(&home.shards(), state.clone(), config.capacity.0)?;
        tracing::info!(?report, "the shard store is open");
        Some(store)
    } else {
        None
    };

    let vault = match password {
        Some(password) if roles.has(Role::Client) => {
            // Nobody is there to be asked.
            let options = ClientOptions { auto_migrate: true, ..config.client() };
            Some(Vault::open_over(home.vault(), options, &password, state.clone())?)
        }
        _ => None,
    };

    let disk = Arc::new(Disk::open(state.clone()));
    let leaving = Arc::new(Leaving::open(home.path()));
    let served = store.clone().map(|store| (store, Arc::clone(&disk), Arc::clone(&leaving)));
    let (mediate_in, mediate_out) = mpsc::channel(INBOX);
    let (shard_in, shard_out) = mpsc::channel(INBOX);
    let (offers_in, offers_out) = mpsc::channel(NEWS);
    let (seen_in, seen_out) = mpsc::channel(NEWS);
    let mediator = roles.has(Role::Mediator);
    let inboxes = Inboxes {
        mediate: mediator.then_some(mediate_in),
        shard: store.is_some().then_some(shard_in),
        offers: mediator.then_some(offers_in),
        storage_seen: mediator.then_some(seen_in),
    };
    let listen =
        if config.listen.is_empty() { default_listen(config.network) } else { config.listen.clone() };
    let behaviour = Setup {
        network: config.network,
        roles: roles.clone(),
        intake: INTAKE,
        mdns: config.mdns,
        upnp: config.upnp,
    };
    let setup = EngineSetup { behaviour, keypair: identity.keypair, listen, inboxes };
    let (engine, net, sessions, bound) = Engine::start(setup).await?;
    let mut engine = tokio::spawn(engine.with_budget(config.budget).run());
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_joined(net.clone(), config.bootstrap.clone(), stopping.clone()));
    let mut own_lightning = None;
    if let Some(store) = store {
        let terms = config.storage();
        let key = identity.signing.clone();
        let (sessions, condition) = (sessions.clone(), (Arc::clone(&disk), Arc::clone(&leaving)));
        let role = StorageRole::new(net.clone(), sessions, store, state.clone(), key, condition, terms);
        own_lightning = own_node::open(&home, &config)?;
        let role = role.with_lightning(own_lightning.clone().map(|node| node as _));
        tasks.spawn(role.run(shard_out, stopping.clone()));
    }
    let mut mediated = None;
    if mediator {
        let options = config.money(&home).map_err(NodeError::LightningListen)?;
        let money = Arc::new(Money::open(&options, state.clone())?);
        let terms = config.mediator();
        let sources =
            Sources { clock: Clock::system(), random: Random::system().map_err(|_| ClientError::Inner)? };
        let (net, key) = (net.clone(), identity.signing);
        let role = MediatorRole::new(net, sessions, state.clone(), money, key, terms, sources);
        mediated = Some(role.facts());
        let inbox = MediatorInbox { requests: mediate_out, offers: offers_out, storage_seen: seen_out };
        tasks.spawn(role.run(inbox, stopping));
    }
    if let Some(vault) = vault {
        let (folders, interval) = (config.folders.clone(), config.backup_interval);
        let (stopping, handle) = (stop.subscribe(), tokio::runtime::Handle::current());
        // A thread of its own: a backup works the disk and the CPU hard.
        tasks.spawn_blocking(move || handle.block_on(keep_backing_up(vault, &folders, interval, stopping)));
    }
    let api = match config.api {
        Some(address) => {
            let facts = Facts {
                net: net.clone(),
                roles,
                listen: bound.clone(),
                store: served,
                own_lightning,
                mediated,
                state: state.clone(),
                payable: config.payout != PayoutTo::Nowhere,
            };
            let (url, server) = api::start(address, &home, facts, stop.subscribe()).await?;
            tasks.spawn(server);
            url
        }
        None => "off".to_owned(),
    };
    print_ready(&net, &bound, &api);

    let mut terminate = signal(SignalKind::terminate()).map_err(NodeError::Signals)?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = &mut engine => tracing::error!("the engine has stopped"),
    }
    tracing::info!("stopping");
    let _ = stop.send(true);
    net.stop().await;
    let ending = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ending).await.is_err() {
        tracing::warn!("some requests were cut off");
    }
    state.close();
    Ok(())
}

/// `ready peer=PEERID listen=MULTIADDR[,…] api=URL|off`
fn print_ready(net: &Net, bound: &[Multiaddr], api: &str) {
    let peer = peer_of(&net.own()).map(|peer| peer.to_string()).unwrap_or_default();
    let listen: Vec<String> = bound.iter().map(ToString::to_string).collect();
    let mut out = std::io::stdout().lock();
    // Nobody reading the line is no reason not to serve.
    let _ = writeln!(out, "ready peer={peer} listen={} api={api}", listen.join(","));
    let _ = out.flush();
}

/// Joins by the first contacts, and again whenever no peer is left.
async fn keep_joined(net: Net, contacts: Vec<Multiaddr>, mut stop: watch::Receiver<bool>) {
    let mut told = HashSet::new();
    while !contacts.is_empty() {
        if net.connected().await.is_empty() {
            for address in &contacts {
                if let Err(error) = net.join(address.clone()).await
                    && told.insert(address.clone())
                {
                    tracing::warn!(%error, "a first contact does not answer; trying on");
                }
            }
        }
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(REJOIN) => {}
        }
    }
}

/// Backs up the vault's folders now and at every interval. A backup that is cut off by the end of
/// the node is gone on with by the next.
async fn keep_backing_up(
    vault: Vault,
    folders: &[PathBuf],
    interval: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = tick.tick() => {}
            () = check_when_due(&vault) => continue,
        }
        let done = tokio::select! {
            _ = stop.changed() => return,
            done = backup(&vault, folders, false) => done,
        };
        match done {
            Ok(report) => {
                tracing::info!(
                    files = report.files,
                    uploaded = report.bytes_uploaded,
                    skipped = report.skipped.len(),
                    "a snapshot was taken"
                );
                report.purse.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            }
            Err(error) => tracing::warn!(%error, "the backup failed; it is tried again at the next interval"),
        }
    }
}

/// Between tries of a check that failed.
const CHECK_AGAIN: Duration = Duration::from_secs(600);

/// Waits until the vault's own check of its storage is due, and makes it. Backups make it, too, so
/// it is seldom due here.
async fn check_when_due(vault: &Vault) {
    // State that cannot be read is the next backup's to report.
    tokio::time::sleep(vault.check_due_in().unwrap_or(CHECK_AGAIN)).await;
    match self_check(vault).await {
        Ok(report) => {
            tracing::info!(asked = report.shards, good = report.good, "storage was checked");
            for (what, shard) in report.problems() {
                let BadShard { segment, index, node, .. } = shard;
                tracing::warn!(segment, index, node, "a shard is {what}");
            }
        }
        Err(error) => {
            tracing::warn!(%error, "storage could not be checked");
            tokio::time::sleep(CHECK_AGAIN).await;
        }
    }
}
