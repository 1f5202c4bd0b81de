//! Keeps a Lightning node running: started again whenever its chain source comes back, and opened
//! anew when the chain source's password or the trusted peers change.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use zeroize::Zeroizing;

use super::node::{ChainAccess, Lightning, Setup, key};
use crate::BitcoinNetwork;
use crate::chain::{Bitcoind, Chain, ChainSource};

/// Peers trusted at most.
const MAX_TRUSTED: usize = 64;
/// Between looks at the chain source's password and tries to start.
const LOOK: Duration = Duration::from_secs(1);

/// What the node is opened with.
pub struct LightningSetup {
    /// Where it keeps its state.
    pub folder: PathBuf,
    /// Its seed.
    pub seed: Zeroizing<[u8; 64]>,
    /// Where it listens, `host:port`.
    pub listen: Vec<String>,
    /// Its name.
    pub alias: String,
    /// The chain.
    pub chain: Chain,
    /// File of peers whose channels count at once, one to a line.
    pub trusted: PathBuf,
}

/// What a node was opened with that may change.
#[derive(Clone, PartialEq, Eq)]
struct Opened {
    password: Option<Zeroizing<String>>,
    trusted: BTreeSet<String>,
}

/// A Lightning node, whenever it can run.
pub struct LightningKeeper {
    setup: LightningSetup,
    trusted: Mutex<BTreeSet<String>>,
    running: Mutex<Option<Arc<Lightning>>>,
    /// Why it does not run.
    reason: Mutex<Option<String>>,
    /// Told when the trusted peers changed.
    changed: Notify,
    /// Told of everything that happens to the node.
    happened: Arc<Notify>,
}

/// Peers in their file, one to a line; what is no node's key is left out.
fn read_peers(text: &str) -> BTreeSet<String> {
    let (good, bad): (Vec<_>, Vec<_>) = text.lines().partition(|line| key(line).is_ok());
    if !bad.is_empty() {
        tracing::warn!(lines = bad.len(), "lightning_peers_skipped");
    }
    good.into_iter().map(str::to_owned).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl LightningKeeper {
    /// A node that starts with [`Self::run`]; `happened` is told of payments and channels.
    pub fn new(setup: LightningSetup, happened: Arc<Notify>) -> Self {
        let known = std::fs::read_to_string(&setup.trusted).unwrap_or_default();
        let trusted = Mutex::new(read_peers(&known));
        let (running, reason, changed) = (Mutex::default(), Mutex::default(), Notify::new());
        Self { setup, trusted, running, reason, changed, happened }
    }

    /// The node, while it runs.
    pub fn get(&self) -> Option<Arc<Lightning>> {
        lock(&self.running).clone()
    }

    /// Why it does not run.
    pub fn reason(&self) -> Option<String> {
        lock(&self.reason).clone()
    }

    /// Bitcoin's network.
    pub fn network(&self) -> BitcoinNetwork {
        self.setup.chain.network
    }

    /// Trusts another peer from now on, over restarts, too; the node is opened anew for that. What is no
    /// node's key is not trusted: no node could be opened with it.
    pub fn trust(&self, peer: &str) {
        if key(peer).is_err() {
            tracing::warn!("lightning_peer_invalid");
            return;
        }
        let mut trusted = lock(&self.trusted);
        if trusted.len() >= MAX_TRUSTED || !trusted.insert(peer.to_owned()) {
            return;
        }
        let text = trusted.iter().map(|peer| format!("{peer}\n")).collect::<String>();
        let written = fincrypt_state::durable::write_file(&self.setup.trusted, text.as_bytes(), 0o600);
        if let Err(error) = written {
            tracing::warn!(%error, "a trusted Lightning node is not remembered");
        }
        self.changed.notify_one();
    }

    /// How others reach it, `key@host:port`; none while it does not run, or if it listens nowhere.
    pub fn address(&self) -> Option<String> {
        let listen = self.setup.listen.first()?;
        Some(format!("{}@{listen}", self.get()?.id()))
    }

    /// What it is to be opened with now.
    fn wanted(&self) -> Result<Opened, String> {
        let password = match &self.setup.chain.source {
            ChainSource::Esplora { .. } => None,
            ChainSource::Bitcoind(Bitcoind { cookie, .. }) => {
                let text = std::fs::read_to_string(cookie)
                    .map_err(|error| format!("cannot read the cookie {}: {error}", cookie.display()))?;
                Some(Zeroizing::new(text))
            }
        };
        Ok(Opened { password, trusted: lock(&self.trusted).clone() })
    }

    fn open(&self, with: &Opened) -> Result<Lightning, String> {
        let LightningSetup { folder, seed, listen, alias, chain, .. } = &self.setup;
        let source = match (&chain.source, &with.password) {
            (ChainSource::Esplora { url }, _) => ChainAccess::Esplora { url: url.clone() },
            (ChainSource::Bitcoind(Bitcoind { host, port, cookie }), Some(text)) => {
                let parts = text.trim().split_once(':');
                let (user, password) =
                    parts.ok_or_else(|| format!("{} holds no user and password", cookie.display()))?;
                let (user, password) = (user.to_owned(), Zeroizing::new(password.to_owned()));
                ChainAccess::Bitcoind { host: host.clone(), port: *port, user, password }
            }
            (ChainSource::Bitcoind(_), None) => return Err("no password".to_owned()),
        };
        let setup = Setup {
            network: chain.network,
            folder: folder.clone(),
            seed: seed.clone(),
            listen: listen.clone(),
            alias: Some(alias.clone()),
            chain: source,
            trusted: with.trusted.iter().cloned().collect(),
        };
        Lightning::open(setup).map_err(|error| error.to_string())
    }

    /// Notes why it does not run, and says so once.
    fn down(&self, reason: String) {
        let before = lock(&self.reason).replace(reason.clone());
        if before.as_ref() != Some(&reason) {
            tracing::warn!(reason, "the Lightning node does not run; it is tried again");
        }
    }

    /// Keeps it running until told to stop.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut opened: Option<Opened> = None;
        loop {
            match self.wanted() {
                Err(reason) if opened.is_none() => self.down(reason),
                // It may run on while bitcoind is away.
                Err(_) => {}
                Ok(wanted) if opened.as_ref() == Some(&wanted) => {}
                Ok(wanted) => {
                    self.close().await;
                    opened = self.start(wanted).await;
                }
            }
            tokio::select! {
                _ = stop.changed() => break,
                () = self.take_events() => {}
                () = self.changed.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        self.close().await;
    }

    async fn start(self: &Arc<Self>, wanted: Opened) -> Option<Opened> {
        let (keeper, with) = (Arc::clone(self), wanted.clone());
        let started = tokio::task::spawn_blocking(move || keeper.open(&with)).await;
        match started.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(node) => {
                tracing::info!("the Lightning node runs");
                *lock(&self.reason) = None;
                *lock(&self.running) = Some(Arc::new(node));
                self.happened.notify_one();
                Some(wanted)
            }
            Err(reason) => {
                self.down(reason);
                None
            }
        }
    }

    async fn close(&self) {
        let Some(node) = lock(&self.running).take() else { return };
        let closed = tokio::task::spawn_blocking(move || node.close()).await;
        if let Ok(Err(error)) = closed {
            tracing::warn!(%error, "the Lightning node did not close in order");
        }
    }

    /// Passes on that something happened. Whoever is told looks at everything there is, so an event
    /// itself need not be kept.
    async fn take_events(&self) {
        let Some(node) = self.get() else { return std::future::pending().await };
        node.next().await;
        self.happened.notify_one();
        if let Err(error) = node.noted() {
            tracing::warn!(%error, "the Lightning node forgets that an event was heard");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generator of the curve.
    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn keeper(folder: &std::path::Path) -> LightningKeeper {
        let setup = LightningSetup {
            folder: folder.to_owned(),
            seed: Zeroizing::new([1; 64]),
            listen: Vec::new(),
            alias: "test".to_owned(),
            chain: Chain {
                network: BitcoinNetwork::Regtest,
                source: ChainSource::Esplora { url: "http://127.0.0.1:1".to_owned() },
            },
            trusted: folder.join("trusted"),
        };
        LightningKeeper::new(setup, Arc::default())
    }

    #[test]
    fn what_is_no_node_key_is_neither_trusted_nor_read_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = keeper(dir.path());
        first.trust(&"z".repeat(66));
        first.trust(&"02".repeat(33).replace("02", "ff"));
        assert!(lock(&first.trusted).is_empty());
        first.trust(KEY);
        let known = std::fs::read_to_string(dir.path().join("trusted")).expect("written");
        // As an earlier version may have written it.
        std::fs::write(dir.path().join("trusted"), format!("{}\n{known}", "z".repeat(66))).expect("written");
        assert_eq!(lock(&keeper(dir.path()).trusted).iter().collect::<Vec<_>>(), [KEY]);
    }
}
