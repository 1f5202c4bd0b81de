//! A vault on this machine: its home, keys, state and network connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::net::{Role, Roles, Setup};
use fincrypt_protocol::record::{Head, Mandate, Registration, Rights};
use fincrypt_protocol::{Network, NodeId, RecordError, Refusal, Rewound, RunId, Signed, UnixTime, cbor};
use fincrypt_storage::index::BlobIndex;
use fincrypt_storage::keyfile::{self, VaultKeys};
use fincrypt_storage::kv::{Batch, KeyValue, KvError, Tree};
use fincrypt_storage::state::State;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::error::ClientError;
use super::fetch::Fetcher;
use super::head::remove;
use super::link::{Link, find_mediator};
use crate::config::Config;
use crate::engine::{Engine, EngineSetup, Inboxes, Net};
use crate::identity::Identity;
use crate::rewinds::MAX_REWOUND;

/// Small facts of the vault, durable: its mediator, slot, newest head.
const VAULT: Tree = Tree("vault");
/// `run` → nothing: runs that are to be said to be kept before the next head.
const UNKEPT: Tree = Tree("unkept_runs");
/// Runs read and noted at once.
const UNKEPT_PAGE: usize = 256;
/// What the index beside it is worth. As volatile as the index.
const INDEX: Tree = Tree("index_state");
/// The generation it is of.
const GENERATION: &[u8] = b"generation";
/// Set in an index that was rebuilt from segments.
const REBUILT: &[u8] = b"rebuilt";

/// Mandates are renewed every 90 days and hold for at least as long.
const MANDATE_PERIOD: Duration = Duration::from_secs(90 * 24 * 3600);
/// Bytes one storage node may hold under a mandate: 1 PiB, as the network sets the true limit.
const MANDATE_CAP: u64 = 1 << 50;
/// Inbound payload of a client that serves nobody.
const CLIENT_INTAKE: usize = 1 << 20;

/// Paths inside a home.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// The home at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `config.toml`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// `keyfile`.
    #[must_use]
    pub fn keyfile(&self) -> PathBuf {
        self.0.join("keyfile")
    }

    /// `identity.key`.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity.key")
    }

    /// `state/`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// `shards/`.
    #[must_use]
    pub fn shards(&self) -> PathBuf {
        self.0.join("shards")
    }

    /// `ledger/`, a mediator's books.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.0.join("ledger")
    }

    /// The journal of an unfinished run.
    #[must_use]
    pub fn run_journal(&self) -> PathBuf {
        self.0.join("journal").join("run")
    }

    /// The journal of an unfinished prune.
    #[must_use]
    pub fn prune_journal(&self) -> PathBuf {
        self.0.join("journal").join("prune")
    }

    /// Makes the folder, for its owner alone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(&self) -> Result<(), ClientError> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.0).map_err(ClientError::io(&self.0))
    }
}

fn gone(node: NodeId) -> impl FnOnce(ClientError) -> ClientError {
    move |error| ClientError::MediatorGone { node, reason: error.to_string() }
}

/// A client's connection to the swarm.
pub struct Swarm {
    /// The engine's handle.
    pub net: Net,
    task: JoinHandle<()>,
}

impl Swarm {
    /// Starts an engine with a fresh identity and joins by the configured first contacts.
    ///
    /// # Errors
    /// If none is configured, or none answers.
    pub async fn join(config: &Config) -> Result<Self, ClientError> {
        if config.bootstrap.is_empty() {
            return Err(ClientError::NoBootstrap);
        }
        let behaviour = Setup {
            network: config.network,
            roles: Roles::new([Role::Client]),
            intake: CLIENT_INTAKE,
            mdns: config.mdns,
            upnp: false,
        };
        let keypair = Identity::fresh()?.keypair;
        let setup = EngineSetup { behaviour, keypair, listen: Vec::new(), inboxes: Inboxes::default() };
        let (engine, net, ..) = Engine::start(setup).await?;
        let task = tokio::spawn(engine.run());
        let swarm = Self { net, task };
        let mut last = None;
        let mut joined = false;
        for address in &config.bootstrap {
            match swarm.net.join(address.clone()).await {
                Ok(_) => joined = true,
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if !joined => Err(error.into()),
            _ => Ok(swarm),
        }
    }

    /// Leaves the swarm.
    pub async fn leave(self) {
        self.net.stop().await;
        let _ = self.task.await;
    }
}

/// An open vault.
pub struct Vault {
    pub(crate) home: Home,
    pub(crate) config: Config,
    pub(crate) keys: VaultKeys,
    pub(crate) state: State,
    pub(crate) index: BlobIndex<State>,
}

impl Vault {
    /// Makes a vault in an empty home.
    ///
    /// # Errors
    /// If there is one already, or the home cannot be written.
    pub fn create(home: &Home, keys: &VaultKeys, password: &Zeroizing<String>) -> Result<(), ClientError> {
        if home.keyfile().exists() {
            return Err(ClientError::VaultExists(home.path().to_owned()));
        }
        home.create()?;
        let sealed = keyfile::seal(keys, password, keyfile::KdfParams::default())?;
        fincrypt_storage::durable::write_file(&home.keyfile(), &sealed, 0o600)
            .map_err(ClientError::io(&home.keyfile()))
    }

    /// Opens the vault of a home.
    ///
    /// # Errors
    /// If there is none, the password is wrong, or its state is in use.
    pub fn open(home: Home, config: Config, password: &Zeroizing<String>) -> Result<Self, ClientError> {
        let keys = Self::unseal(&home, password)?;
        let state = Self::open_state(&home)?;
        Self::over(home, config, keys, state)
    }

    /// A vault in a home without one, to be filled: its keyfile comes last, so that one which was
    /// filled half is none. Whatever an earlier attempt left of a vault is forgotten; a node that
    /// shares the home keeps its state.
    pub(crate) fn begin(home: Home, config: Config, keys: VaultKeys) -> Result<Self, ClientError> {
        home.create()?;
        let vault = Self::over(home.clone(), config, keys, Self::open_state(&home)?)?;
        let mut batch = Batch::default();
        for (key, _) in vault.state.scan(VAULT, &[], None, usize::MAX)? {
            batch.remove(VAULT, key);
        }
        vault.state.commit(&batch)?;
        vault.forget_stored(&[])?;
        Ok(vault)
    }

    fn open_state(home: &Home) -> Result<State, ClientError> {
        let (state, report) = State::open(&home.state()).map_err(|error| match error {
            KvError::Database(reason) => ClientError::StateDamaged { path: home.state(), reason },
            other => other.into(),
        })?;
        if let Some(aside) = &report.set_aside {
            tracing::warn!(aside = %aside.display(), "the state database did not open; it was set aside and is rebuilt");
        }
        Ok(state)
    }

    fn unseal(home: &Home, password: &Zeroizing<String>) -> Result<VaultKeys, ClientError> {
        let path = home.keyfile();
        let sealed = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ClientError::NoVault(home.path().to_owned()));
            }
            Err(error) => return Err(ClientError::io(&path)(error)),
        };
        Ok(keyfile::open(&sealed, password)?)
    }

    /// Opens the vault of a home whose state is open already.
    ///
    /// # Errors
    /// If there is none, or the password is wrong.
    pub fn open_over(
        home: Home,
        config: Config,
        password: &Zeroizing<String>,
        state: State,
    ) -> Result<Self, ClientError> {
        let keys = Self::unseal(&home, password)?;
        Self::over(home, config, keys, state)
    }

    fn over(home: Home, config: Config, keys: VaultKeys, state: State) -> Result<Self, ClientError> {
        let index = BlobIndex::new(state.clone());
        let vault = Self { home, config, keys, state, index };
        vault.settle_index()?;
        Ok(vault)
    }

    pub(crate) fn network(&self) -> Network {
        self.config.network
    }

    fn fact(&self, name: &str) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.state.get(VAULT, name.as_bytes())?)
    }

    fn set_fact(&self, name: &str, value: Vec<u8>) -> Result<(), ClientError> {
        let mut batch = Batch::default();
        batch.put(VAULT, name.as_bytes(), value);
        Ok(self.state.commit(&batch)?)
    }

    /// The slot in use; 0 for a new vault.
    pub(crate) fn slot(&self) -> Result<u32, ClientError> {
        let bytes = self.fact("slot")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map_or(0, u32::from_le_bytes))
    }

    pub(crate) fn set_slot(&self, slot: u32) -> Result<(), ClientError> {
        self.set_fact("slot", slot.to_le_bytes().to_vec())
    }

    /// The vault's mediator, once it has one.
    pub(crate) fn mediator(&self) -> Result<Option<NodeId>, ClientError> {
        let bytes = self.fact("mediator")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map(NodeId::from_bytes))
    }

    pub(crate) fn set_mediator(&self, node: NodeId) -> Result<(), ClientError> {
        self.set_fact("mediator", node.as_bytes().to_vec())
    }

    /// The newest head this machine has seen.
    pub(crate) fn head(&self) -> Result<Option<Signed<Head>>, ClientError> {
        self.fact("head")?.map(|bytes| Ok(Signed::from_bytes(&bytes)?)).transpose()
    }

    pub(crate) fn set_head(&self, head: &Signed<Head>) -> Result<(), ClientError> {
        self.set_fact("head", head.to_bytes()?)
    }

    /// Whether the index was rebuilt from segments: the catalog is to be written anew.
    pub(crate) fn is_rebuilt(&self) -> Result<bool, ClientError> {
        Ok(self.fact("rebuilt")?.is_some_and(|value| value == [1]))
    }

    pub(crate) fn set_rebuilt(&self, rebuilt: bool) -> Result<(), ClientError> {
        let mut batch = Batch::default();
        batch.put(INDEX, REBUILT, [rebuilt.into()]);
        self.state.apply(&batch)?;
        self.set_fact("rebuilt", vec![rebuilt.into()])
    }

    /// Notes runs that were perhaps never said to be kept, as their heads are lost.
    pub(crate) fn add_unkept(&self, runs: &[RunId]) -> Result<(), ClientError> {
        for page in runs.chunks(UNKEPT_PAGE) {
            let mut batch = Batch::default();
            page.iter().for_each(|run| batch.put(UNKEPT, *run.as_bytes(), Vec::new()));
            self.state.commit(&batch)?;
        }
        Ok(())
    }

    /// Some runs that are still to be said to be kept.
    pub(crate) fn unkept(&self) -> Result<Vec<RunId>, ClientError> {
        let entries = self.state.scan(UNKEPT, &[], None, UNKEPT_PAGE)?;
        Ok(entries
            .into_iter()
            .filter_map(|(key, _)| key.as_slice().try_into().ok().map(RunId::from_bytes))
            .collect())
    }

    /// Forgets runs that were said to be kept.
    pub(crate) fn remove_unkept(&self, runs: &[RunId]) -> Result<(), ClientError> {
        let mut batch = Batch::default();
        runs.iter().for_each(|run| batch.remove(UNKEPT, *run.as_bytes()));
        Ok(self.state.commit(&batch)?)
    }

    /// Whether the index that was rebuilt has been lost since, with the database it was in.
    pub(crate) fn lost_rebuilt(&self) -> Result<bool, ClientError> {
        Ok(self.is_rebuilt()? && self.state.get(INDEX, REBUILT)?.is_none_or(|value| value != [1]))
    }

    /// Hashes of the releases that the index takes into account.
    pub(crate) fn releases(&self) -> Result<Vec<[u8; 32]>, ClientError> {
        Ok(self.fact("releases")?.map(|bytes| bytes.as_chunks().0.to_vec()).unwrap_or_default())
    }

    pub(crate) fn set_releases(&self, releases: &[[u8; 32]]) -> Result<(), ClientError> {
        self.set_fact("releases", releases.concat())
    }

    /// How often everything stored had to be forgotten.
    fn generation(&self) -> Result<u64, ClientError> {
        let bytes = self.fact("generation")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map_or(0, u64::from_le_bytes))
    }

    /// Forgets what is stored, as these releases are about to delete it: the next backup stores
    /// everything anew, under new segments.
    pub(crate) fn forget_stored(&self, releases: &[[u8; 32]]) -> Result<(), ClientError> {
        // An unfinished run would count what it stored before as stored.
        remove(&self.home.run_journal())?;
        remove(&self.home.prune_journal())?;
        self.set_rebuilt(false)?;
        self.forget_index(releases)
    }

    /// Empties the index, to be filled from the catalog of a head that names these releases. The
    /// decision is durable before anything is forgotten, and an index that did not hear of it is
    /// emptied when the vault is opened. A run that was interrupted still counts: nobody but it knows
    /// its segments.
    pub(crate) fn forget_index(&self, releases: &[[u8; 32]]) -> Result<(), ClientError> {
        // Never one that an index may be marked with, even if the facts were lost.
        let marked = self.state.get(INDEX, GENERATION)?.and_then(|bytes| bytes.as_slice().try_into().ok());
        let generation = self.generation()?.max(marked.map_or(0, u64::from_le_bytes)).saturating_add(1);
        let mut batch = Batch::default();
        batch.put(VAULT, *b"generation", generation.to_le_bytes());
        batch.put(VAULT, *b"releases", releases.concat());
        self.state.commit(&batch)?;
        self.settle_index()
    }

    /// Empties an index of an earlier generation.
    fn settle_index(&self) -> Result<(), ClientError> {
        let generation = self.generation()?.to_le_bytes();
        let marked = self.state.get(INDEX, GENERATION)?.unwrap_or_else(|| vec![0; 8]);
        if marked == generation {
            return Ok(());
        }
        self.forget_loaded()?;
        self.index.clear()?;
        let mut batch = Batch::default();
        batch.put(INDEX, GENERATION, generation);
        Ok(self.state.apply(&batch)?)
    }

    /// The rewind under which this machine's head key is the vault's, if there was one.
    pub(crate) fn rewound(&self) -> Result<Option<Rewound>, ClientError> {
        let bytes = self.fact("rewound")?;
        Ok(bytes.map(|bytes| cbor::decode(&bytes, MAX_REWOUND)).transpose().map_err(RecordError::from)?)
    }

    pub(crate) fn set_rewound(&self, rewound: &Rewound) -> Result<(), ClientError> {
        self.set_fact("rewound", cbor::encode(rewound).map_err(RecordError::from)?)
    }

    /// A run whose head was sent off, unless it is known what came of that.
    pub(crate) fn committing(&self) -> Result<Option<RunId>, ClientError> {
        let bytes = self.fact("committing")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map(RunId::from_bytes))
    }

    pub(crate) fn set_committing(&self, run: Option<RunId>) -> Result<(), ClientError> {
        self.set_fact("committing", run.map(|run| run.as_bytes().to_vec()).unwrap_or_default())
    }

    /// Whether what an interrupted run stored is perhaps released by now.
    pub(crate) fn is_doubted(&self) -> Result<bool, ClientError> {
        Ok(self.fact("doubted")?.is_some_and(|value| value == [1]))
    }

    pub(crate) fn set_doubted(&self, doubted: bool) -> Result<(), ClientError> {
        self.set_fact("doubted", vec![doubted.into()])
    }

    /// The next release's sequence: the time, or more if the last one's was not less.
    pub(crate) fn next_release_sequence(&self) -> Result<u64, ClientError> {
        let last = self.fact("release_sequence")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        let last = last.map_or(0, u64::from_le_bytes);
        let next = UnixTime::now().secs().max(last.saturating_add(1));
        self.set_fact("release_sequence", next.to_le_bytes().to_vec())?;
        Ok(next)
    }

    pub(crate) fn registration(&self) -> Result<Signed<Registration>, ClientError> {
        Ok(self.keys.registration(self.network(), self.slot()?)?)
    }

    /// The newest mandate's sequence that this machine knows of a move; 0 if there was none.
    pub(crate) fn mandate_base(&self) -> Result<u64, ClientError> {
        let bytes = self.fact("mandate_base")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map_or(0, u64::from_le_bytes))
    }

    pub(crate) fn set_mandate_base(&self, sequence: u64) -> Result<(), ClientError> {
        self.set_fact("mandate_base", sequence.to_le_bytes().to_vec())
    }

    /// The mandate for a mediator: in each period the same to the byte, on every device of the vault.
    /// A newer one supersedes, so devices with mandates of their own would shut each other out.
    pub(crate) fn mandate(&self, mediator: NodeId) -> Result<Signed<Mandate>, ClientError> {
        let period = MANDATE_PERIOD.as_secs();
        let begun = UnixTime::now().secs() / period * period;
        self.mandate_of(mediator, begun.max(self.mandate_base()?))
    }

    /// The mandate of a sequence, which alone decides when it ends.
    pub(crate) fn mandate_of(&self, mediator: NodeId, sequence: u64) -> Result<Signed<Mandate>, ClientError> {
        let account = self.keys.root.account(self.slot()?);
        let period = MANDATE_PERIOD.as_secs();
        let mandate = Mandate {
            network: self.network(),
            account: account.account(),
            mediator,
            rights: Rights { put: true, audit: true, get: true },
            byte_cap: MANDATE_CAP,
            sequence,
            expiry: UnixTime::from_secs((sequence / period + 2).saturating_mul(period)),
        };
        Ok(Signed::seal(&mandate, &account)?)
    }

    /// Logs in with the vault's mediator, choosing one if it has none yet. Where another device has
    /// moved the vault, this one follows.
    pub(crate) async fn link(&self, net: &Net) -> Result<Link, ClientError> {
        let link = match self.mediator()? {
            Some(node) => match self.link_to(net, node).await {
                Ok(link) => link,
                Err(error) => match self.follow_move(net).await? {
                    Some(other) => self.link_to(net, other).await.map_err(gone(other))?,
                    None => return self.mediator_is_gone(net, node, error).await,
                },
            },
            None => {
                let node = find_mediator(net).await?;
                let link = self.link_to(net, node).await?;
                self.set_mediator(node)?;
                link
            }
        };
        self.notes().saw_mediator()?;
        Ok(link)
    }

    async fn link_to(&self, net: &Net, node: NodeId) -> Result<Link, ClientError> {
        let account = self.keys.root.account(self.slot()?);
        let link = Link::open(net.clone(), node, account, self.registration()?).await?;
        // Anyone may log in with a mediator; one that was dismissed refuses all else.
        link.head().await?;
        // It may not have heard, and would refuse this machine's heads.
        if let Some(rewound) = self.rewound()? {
            link.rewind(rewound).await?;
        }
        Ok(link)
    }

    /// What to do without the mediator: wait for it, or move if it has been away for long and the
    /// configuration says so.
    async fn mediator_is_gone(
        &self,
        net: &Net,
        node: NodeId,
        error: ClientError,
    ) -> Result<Link, ClientError> {
        if matches!(&error, ClientError::Call(error) if error.refusal() == Some(Refusal::Dismissed)) {
            return Err(ClientError::Dismissed(node));
        }
        let away = self.notes().mediator_seen()?.map(|seen| UnixTime::now().since(seen));
        let Some(away) = away.filter(|away| *away >= self.config.mediator_patience) else {
            return Err(gone(node)(error));
        };
        if !self.config.move_by_itself {
            return Err(ClientError::MediatorLost { node, days: away.as_secs() / (24 * 3600) });
        }
        let other = find_mediator(net).await?;
        tracing::warn!(old = %node, new = %other, "the mediator is gone; the vault moves to another one");
        self.move_to(net, other).await?;
        self.link_to(net, other).await.map_err(gone(other))
    }

    /// A fetcher through `link` where there is one, else straight from the holders.
    pub(crate) fn fetcher(&self, net: &Net, link: Option<Link>) -> Result<Arc<Fetcher>, ClientError> {
        let account = self.keys.root.account(self.slot()?);
        let (registration, tags) = (self.registration()?, self.keys.root.tag_key());
        Ok(Arc::new(Fetcher::new(net.clone(), link, account, registration, tags)))
    }
}
