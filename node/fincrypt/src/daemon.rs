//! A node that serves: its roles started, and ended in order.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_client::{BadShard, ClientOptions, Vault, backup, self_check};
use fincrypt_mediator::{MediatorFacts, MediatorInbox, MediatorRole, Money, Sources};
use fincrypt_net::{
    Engine, EngineSetup, Identity, Inboxes, Keypair, Multiaddr, Net, Role, Roles, Sessions, Setup, peer_of,
};
use fincrypt_protocol::{Clock, Network, Random, SigningKey};
use fincrypt_shards::{ShardStore, StoreReport};
use fincrypt_state::state::State;
use fincrypt_storage_node::{
    Disk, Drain, Earnings, Health, PayoutTo, StorageInbox, StorageOptions, StorageRole,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use zeroize::Zeroizing;

use crate::api::{self, Facts, Served};
use crate::config::{Api, Config};
use crate::error::NodeError;
use crate::home::Home;
use crate::own_node::{self, OwnNode};
use crate::wording;

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
/// If it cannot start, or one of its parts ends by itself.
pub async fn run(
    home: Home,
    config: Config,
    roles: Roles,
    password: Option<Zeroizing<String>>,
) -> Result<(), NodeError> {
    home.create()?;
    let identity = Identity::open(&home.identity())?;
    let state = open_state(&home)?;
    let store = open_store(&home, &config, &roles, &state)?;
    let vault = open_vault(&home, &config, &roles, &state, password)?;
    let served = store.map(|store| {
        let (disk, drain) = (Arc::new(Disk::open(state.clone())), Arc::new(Drain::open(home.path())));
        Served { store, health: Health { disk, drain }, earnings: Earnings::new(state.clone()) }
    });

    let (inboxes, mediate_out, storage_out) = inboxes(&roles);
    let setup = engine_setup(&config, &roles, identity.keypair, inboxes);
    let (engine, net, sessions, bound) = Engine::start(setup).await?;
    let engine = tokio::spawn(engine.with_budget(config.network.budget()).run());
    let (stop, _) = watch::channel(false);
    let mut node =
        Node { home, config, net, sessions, state, key: identity.signing, stop, tasks: JoinSet::new() };
    node.join();
    let own_lightning = node.serve_storage(served.clone(), storage_out)?;
    let mediated = node.mediate(mediate_out)?;
    node.back_up(vault);
    let facts = Facts {
        net: node.net.clone(),
        roles,
        listen: bound.clone(),
        store: served,
        own_lightning,
        mediated,
        payable: node.config.storage.payout() != PayoutTo::Nowhere,
    };
    let api = node.serve_api(facts).await?;
    print_ready(&node.net, &bound, &api);
    let ended = wait_for_end(engine, &mut node.tasks).await;
    node.end().await;
    ended
}

fn open_state(home: &Home) -> Result<State, NodeError> {
    let (state, report) = State::open(&home.state())?;
    if let Some(aside) = &report.set_aside {
        tracing::warn!(aside = %aside.display(), "state_database_set_aside");
    }
    Ok(state)
}

fn open_store(
    home: &Home,
    config: &Config,
    roles: &Roles,
    state: &State,
) -> Result<Option<ShardStore>, NodeError> {
    if !roles.has(Role::Storage) {
        return Ok(None);
    }
    let (store, report) = ShardStore::open(&home.shards(), state.clone(), config.storage.capacity.0)?;
    let StoreReport { shards, adopted, lost, foreign, unfinished } = report;
    tracing::info!(shards, adopted, lost, foreign, unfinished, "shard_store_opened");
    Ok(Some(store))
}

fn open_vault(
    home: &Home,
    config: &Config,
    roles: &Roles,
    state: &State,
    password: Option<Zeroizing<String>>,
) -> Result<Option<Vault>, NodeError> {
    match password {
        Some(password) if roles.has(Role::Client) => {
            // Nobody is there to be asked.
            let options = ClientOptions { auto_migrate: true, ..config.client() };
            Ok(Some(Vault::open_over(home.vault(), options, &password, state.clone())?))
        }
        _ => Ok(None),
    }
}

/// The engine's ends of the roles' queues, and the ends from which the roles that there are take.
fn inboxes(roles: &Roles) -> (Inboxes, Option<MediatorInbox>, Option<StorageInbox>) {
    let (mediate_in, requests) = mpsc::channel(INBOX);
    let (shard_in, shards) = mpsc::channel(INBOX);
    let (pay_in, payments) = mpsc::channel(INBOX);
    let (offers_in, offers) = mpsc::channel(NEWS);
    let (seen_in, storage_seen) = mpsc::channel(NEWS);
    let (mediator, storage) = (roles.has(Role::Mediator), roles.has(Role::Storage));
    let inboxes = Inboxes {
        mediate: mediator.then_some(mediate_in),
        shard: storage.then_some(shard_in),
        pay: storage.then_some(pay_in),
        offers: mediator.then_some(offers_in),
        storage_seen: mediator.then_some(seen_in),
    };
    let mediate_out = mediator.then_some(MediatorInbox { requests, offers, storage_seen });
    let storage_out = storage.then_some(StorageInbox { requests: shards, payments });
    (inboxes, mediate_out, storage_out)
}

fn engine_setup(config: &Config, roles: &Roles, keypair: Keypair, inboxes: Inboxes) -> EngineSetup {
    let options = &config.network;
    let listen =
        if options.listen.is_empty() { default_listen(options.network) } else { options.listen.clone() };
    let behaviour = Setup {
        network: options.network,
        roles: roles.clone(),
        intake: INTAKE,
        mdns: options.mdns,
        upnp: options.upnp,
    };
    EngineSetup { behaviour, keypair, listen, inboxes }
}

/// What the roles of a running node share, and their tasks.
struct Node {
    home: Home,
    config: Config,
    net: Net,
    sessions: Arc<Sessions>,
    state: State,
    key: SigningKey,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Node {
    fn join(&mut self) {
        let contacts = self.config.network.bootstrap.clone();
        self.tasks.spawn(keep_joined(self.net.clone(), contacts, self.stop.subscribe()));
    }

    /// Starts the storage role, if there is one; the operator's own Lightning node, if there is one.
    fn serve_storage(
        &mut self,
        served: Option<Served>,
        inbox: Option<StorageInbox>,
    ) -> Result<Option<Arc<OwnNode>>, NodeError> {
        let Some((served, inbox)) = served.zip(inbox) else { return Ok(None) };
        let own_lightning = own_node::open(&self.home, &self.config)?;
        let role = StorageRole::new(StorageOptions {
            net: self.net.clone(),
            sessions: Arc::clone(&self.sessions),
            store: served.store,
            state: self.state.clone(),
            earnings: served.earnings,
            key: self.key.clone(),
            health: served.health,
            terms: self.config.storage(),
            clock: Clock::system(),
            lightning: own_lightning.clone().map(|node| node as _),
        });
        self.tasks.spawn(role.run(inbox, self.stop.subscribe()));
        Ok(own_lightning)
    }

    /// Starts the mediator role, if there is one.
    fn mediate(&mut self, inbox: Option<MediatorInbox>) -> Result<Option<MediatorFacts>, NodeError> {
        let Some(inbox) = inbox else { return Ok(None) };
        let options = self.config.money(&self.home).map_err(NodeError::LightningListen)?;
        let random = Random::system().map_err(NodeError::Randomness)?;
        let sources = Sources { clock: Clock::system(), random };
        let (clock, random) = (sources.clock.clone(), sources.random.clone());
        let money = Arc::new(Money::open(&options, self.state.clone(), clock, random)?);
        let (net, sessions, state) = (self.net.clone(), Arc::clone(&self.sessions), self.state.clone());
        let terms = self.config.mediator();
        let role = MediatorRole::new(net, sessions, state, money, self.key.clone(), terms, sources)?;
        let mediated = role.facts();
        self.tasks.spawn(role.run(inbox, self.stop.subscribe()));
        Ok(Some(mediated))
    }

    /// Starts the client role, if there is a vault.
    fn back_up(&mut self, vault: Option<Vault>) {
        let Some(vault) = vault else { return };
        let (folders, interval) = (self.config.client.folders.clone(), self.config.client.backup_interval);
        let (stopping, handle) = (self.stop.subscribe(), tokio::runtime::Handle::current());
        // A thread of its own: a backup works the disk and the CPU hard.
        self.tasks
            .spawn_blocking(move || handle.block_on(keep_backing_up(vault, &folders, interval, stopping)));
    }

    /// Starts the local interface; its URL, or `off`.
    async fn serve_api(&mut self, facts: Facts) -> Result<String, NodeError> {
        let Api::At(address) = self.config.network.api else { return Ok("off".to_owned()) };
        let (url, server) = api::start(address, &self.home, facts, self.stop.subscribe()).await?;
        self.tasks.spawn(server);
        Ok(url)
    }

    /// Ends all tasks; what is under way gets [`GRACE`].
    async fn end(mut self) {
        tracing::info!("node_stopping");
        let _ = self.stop.send(true);
        self.net.stop().await;
        let ending = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ending).await.is_err() {
            tracing::warn!("requests_cut_off");
        }
        self.state.close();
    }
}

/// Waits for SIGTERM or Ctrl-C.
///
/// # Errors
/// [`NodeError::Ended`] if the engine or a task ends before.
async fn wait_for_end(mut engine: JoinHandle<()>, tasks: &mut JoinSet<()>) -> Result<(), NodeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(NodeError::Signals)?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = &mut engine => {
            tracing::error!("engine_stopped");
            Err(NodeError::Ended("the network engine"))
        }
        Some(ended) = tasks.join_next() => {
            tracing::error!(panicked = ended.is_err_and(|error| error.is_panic()), "role_stopped");
            Err(NodeError::Ended("a role of the node"))
        }
    }
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
    if contacts.is_empty() {
        tracing::info!("no_first_contacts");
    }
    loop {
        if !contacts.is_empty() && net.connected().await.is_empty() {
            for address in &contacts {
                if let Err(error) = net.join(address.clone()).await
                    && told.insert(address.clone())
                {
                    tracing::warn!(%address, %error, "first_contact_silent");
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
                    "snapshot_taken"
                );
                for warning in &report.prepayment.warnings {
                    tracing::warn!(warning = wording::prepayment(warning), "prepayment_warning");
                }
            }
            Err(error) => tracing::warn!(%error, retry_seconds = interval.as_secs(), "backup_failed"),
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
            tracing::info!(asked = report.shards, good = report.good, "storage_checked");
            for (what, shard) in report.problems() {
                let BadShard { segment, index, node, .. } = shard;
                tracing::warn!(segment, index, node, what, "shard_bad");
            }
        }
        Err(error) => {
            tracing::warn!(%error, "storage_not_checked");
            tokio::time::sleep(CHECK_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_role_or_of_the_engine_stops_the_node_with_an_error() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        let engine = || tokio::spawn(std::future::pending());
        let ended = wait_for_end(engine(), &mut tasks).await;
        assert!(matches!(ended, Err(NodeError::Ended(_))), "{ended:?}");
        tasks.spawn(std::future::pending());
        let ended = wait_for_end(tokio::spawn(async {}), &mut tasks).await;
        assert!(matches!(ended, Err(NodeError::Ended(_))), "{ended:?}");
    }
}
