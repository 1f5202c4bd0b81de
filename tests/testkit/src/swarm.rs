//! A swarm of real nodes on this machine.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use crate::bitcoind::Bitcoind;
use crate::client::Client;
use crate::process::{Daemon, ProcessError, Ready, peak_of, wait_until};
use crate::programs::Programs;
use crate::reaper;

/// A node starts within this.
const START: Duration = Duration::from_secs(30);

/// Which nodes, and where they live.
#[derive(Debug, Clone)]
pub struct SwarmPlan {
    /// The programs to run.
    pub programs: Programs,
    /// Folder for the nodes' homes; made if it is missing.
    pub folder: PathBuf,
    /// Storage nodes.
    pub storage: usize,
    /// Mediators.
    pub mediators: usize,
    /// What each storage node offers, as `--capacity` takes it.
    pub capacity: String,
    /// What the last storage node offers, if not the same.
    pub last_capacity: Option<String>,
    /// Seconds of an epoch; the program's default if none.
    pub epoch: Option<u64>,
    /// Seconds that releases wait; the program's default if none.
    pub release_delay: Option<u64>,
    /// Further settings of all nodes: keys of the configuration and their values.
    pub settings: Vec<(String, String)>,
    /// Further settings of single nodes.
    pub of: BTreeMap<Member, Vec<(String, String)>>,
    /// Whether the nodes' local interfaces listen.
    pub api: bool,
}

impl SwarmPlan {
    /// One mediator and eight storage nodes of 50 GB.
    #[must_use]
    pub fn new(programs: Programs, folder: PathBuf) -> Self {
        Self {
            programs,
            folder,
            storage: 8,
            mediators: 1,
            capacity: "50GB".to_owned(),
            last_capacity: None,
            epoch: None,
            release_delay: None,
            settings: Vec::new(),
            of: BTreeMap::new(),
            api: false,
        }
    }

    /// Lets all mediators use a bitcoind on regtest; each gets a wallet before it starts.
    pub fn with_bitcoind(&mut self, bitcoind: &Bitcoind) {
        for at in 0..self.mediators {
            self.of.entry(Member::Mediator(at)).or_default().extend(chain_settings(bitcoind));
        }
    }
}

/// What a node needs to use a bitcoind.
#[must_use]
pub fn chain_settings(bitcoind: &Bitcoind) -> Vec<(String, String)> {
    let url = format!("http://127.0.0.1:{}", bitcoind.port());
    let cookie = bitcoind.cookie().to_string_lossy().into_owned();
    vec![("bitcoind_url".to_owned(), url), ("bitcoind_cookie".to_owned(), cookie)]
}

/// One node of a swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Member {
    /// The first contact.
    Bootstrap,
    /// A mediator, counted from 0.
    Mediator(usize),
    /// A storage node, counted from 0.
    Storage(usize),
}

impl Member {
    fn role(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Mediator(_) => "mediator",
            Self::Storage(_) => "storage",
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bootstrap => f.write_str("bootstrap"),
            Self::Mediator(at) | Self::Storage(at) => write!(f, "{}-{at}", self.role()),
        }
    }
}

#[derive(Debug)]
struct Node {
    /// Kept after the process's end, for its log.
    daemon: Daemon,
    ready: Ready,
}

/// Running nodes. Dropped, all are killed; if a test is failing, their logs' ends are shown.
#[derive(Debug)]
pub struct Swarm {
    plan: SwarmPlan,
    bootstrap: String,
    nodes: BTreeMap<Member, Node>,
}

impl Swarm {
    /// Starts the first contact, then all others at once, and waits for their ready lines.
    /// From here on, signals that end this program end the nodes first.
    ///
    /// # Errors
    /// [`ProcessError`] if one does not start within 30 s.
    pub fn start(plan: SwarmPlan) -> Result<Self, ProcessError> {
        reaper::end_all_on_signal();
        let mut swarm = Self { plan, bootstrap: String::new(), nodes: BTreeMap::new() };
        let first = swarm.launch(Member::Bootstrap, None)?;
        swarm.settle(Member::Bootstrap, first)?;
        swarm.bootstrap = swarm.ready(Member::Bootstrap).map(Ready::address).unwrap_or_default();
        let mediators = (0..swarm.plan.mediators).map(Member::Mediator);
        let members: Vec<_> = mediators.chain((0..swarm.plan.storage).map(Member::Storage)).collect();
        let mut starting = Vec::new();
        for member in members {
            starting.push((member, swarm.launch(member, None)?));
        }
        for (member, daemon) in starting {
            swarm.settle(member, daemon)?;
        }
        Ok(swarm)
    }

    fn launch(&self, member: Member, listen: Option<String>) -> Result<Daemon, ProcessError> {
        let home = self.home(member);
        std::fs::create_dir_all(&home).map_err(|source| ProcessError::File { path: home.clone(), source })?;
        let mut command = self.plan.programs.node.command();
        let listen = listen.unwrap_or_else(|| "/ip4/127.0.0.1/tcp/0".to_owned());
        command.args(["--role", member.role(), "--network", "local", "--listen", &listen]);
        command.args(["--api", if self.plan.api { "127.0.0.1:0" } else { "off" }]);
        command.arg("--home").arg(&home);
        if member != Member::Bootstrap {
            command.args(["--bootstrap", &self.bootstrap]);
        }
        if let Member::Storage(at) = member {
            let other = self.plan.last_capacity.as_ref().filter(|_| at + 1 == self.plan.storage);
            command.args(["--capacity", other.unwrap_or(&self.plan.capacity)]);
        }
        if let Some(epoch) = self.plan.epoch {
            command.args(["--epoch", &epoch.to_string()]);
        }
        if let Some(delay) = self.plan.release_delay {
            command.args(["--release-delay", &delay.to_string()]);
        }
        let own = self.plan.of.get(&member).into_iter().flatten();
        if matches!(member, Member::Mediator(_))
            && own.clone().any(|(key, _)| key == "bitcoind_url" || key == "esplora_url")
        {
            self.make_wallet(member)?;
        }
        for (key, value) in self.plan.settings.iter().chain(own) {
            command.env(format!("FINCRYPT_{}", key.to_ascii_uppercase()), value);
        }
        Daemon::start(&member.to_string(), &mut command, &self.plan.folder.join(format!("{member}.log")))
    }

    /// Gives a mediator a wallet, unless it has one; its words are beside its home.
    fn make_wallet(&self, member: Member) -> Result<(), ProcessError> {
        let home = self.home(member);
        if home.join("wallet.seed").exists() {
            return Ok(());
        }
        let mut command = self.plan.programs.node.command();
        command.arg("--home").arg(&home).args(["wallet", "init", "--words-file"]);
        command.arg(self.plan.folder.join(format!("{member}.words")));
        let file = |source| ProcessError::File { path: home.clone(), source };
        let done = command.output().map_err(file)?;
        if done.status.success() {
            Ok(())
        } else {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            Err(file(std::io::Error::other(said)))
        }
    }

    fn settle(&mut self, member: Member, mut daemon: Daemon) -> Result<(), ProcessError> {
        let ready = daemon.ready(START)?;
        self.nodes.insert(member, Node { daemon, ready });
        Ok(())
    }

    fn node(&mut self, member: Member) -> Result<&mut Node, ProcessError> {
        self.nodes.get_mut(&member).ok_or_else(|| ProcessError::Gone(member.to_string()))
    }

    /// The first contact's address, as `--bootstrap` takes it.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A node's home.
    #[must_use]
    pub fn home(&self, member: Member) -> PathBuf {
        self.plan.folder.join(member.to_string())
    }

    /// A node's ready line; of its last start if it was restarted.
    #[must_use]
    pub fn ready(&self, member: Member) -> Option<&Ready> {
        self.nodes.get(&member).map(|node| &node.ready)
    }

    /// All nodes, dead or alive.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.nodes.keys().copied().collect()
    }

    /// What a node's local interface answers under `path`; none if it does not, or not with JSON.
    #[must_use]
    pub fn ask(&self, member: Member, path: &str) -> Option<serde_json::Value> {
        let address = self.ready(member)?.api.strip_prefix("http://")?.to_owned();
        let token = std::fs::read_to_string(self.home(member).join("api.token")).ok()?;
        crate::api::get(&address, path, &token)
    }

    /// The most bytes of memory that a node had resident since it was started; zero if it is dead.
    #[must_use]
    pub fn peak(&self, member: Member) -> u64 {
        self.nodes.get(&member).map_or(0, |node| peak_of(node.daemon.id()))
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// [`ProcessError::Gone`] if the node is not one of this swarm.
    pub fn kill9(&mut self, member: Member) -> Result<(), ProcessError> {
        self.node(member)?.daemon.kill();
        Ok(())
    }

    /// Starts a node again with the home and the address it had.
    ///
    /// # Errors
    /// [`ProcessError`] if it does not start within 30 s.
    pub fn restart(&mut self, member: Member) -> Result<(), ProcessError> {
        let node = self.node(member)?;
        node.daemon.kill();
        let listen = node.ready.bound();
        let daemon = self.launch(member, Some(listen))?;
        self.settle(member, daemon)
    }

    /// Gives a node a setting from its next start on.
    pub fn set(&mut self, member: Member, key: &str, value: &str) {
        let of = self.plan.of.entry(member).or_default();
        of.retain(|(known, _)| known != key);
        of.push((key.to_owned(), value.to_owned()));
    }

    /// Runs `fincrypt-node` with a node's home and these arguments.
    ///
    /// # Errors
    /// [`ProcessError`] if it cannot be run.
    pub fn operate(&self, member: Member, arguments: &[&str]) -> Result<std::process::Output, ProcessError> {
        let home = self.home(member);
        let mut command = self.plan.programs.node.command();
        command.arg("--home").arg(&home).args(arguments);
        command.output().map_err(|source| ProcessError::File { path: home, source })
    }

    /// Asks a node to end, with SIGTERM or SIGINT, and waits for its end.
    ///
    /// # Errors
    /// [`ProcessError::Slow`] if it runs on for longer than `limit`.
    pub fn stop(
        &mut self,
        member: Member,
        signal: Signal,
        limit: Duration,
    ) -> Result<ExitStatus, ProcessError> {
        self.node(member)?.daemon.stop(signal, limit)
    }

    /// Waits until a client's mediator knows so many storage nodes.
    ///
    /// # Errors
    /// [`ProcessError::Slow`] if it does not within `limit`; with what the client last said.
    pub fn wait_eligible(&self, client: &Client, nodes: usize, limit: Duration) -> Result<(), ProcessError> {
        let mut last = String::new();
        let known = wait_until(limit, || match client.run(["status", "--brief"]) {
            Ok(outcome) => {
                last = format!("{}{}", outcome.stdout, outcome.stderr);
                outcome.number("eligible") == Some(nodes as u64)
            }
            Err(error) => {
                last = error.to_string();
                false
            }
        });
        let what = "find the storage nodes";
        let slow = || ProcessError::Slow {
            name: "the mediator".to_owned(),
            what,
            seconds: limit.as_secs(),
            log: last,
        };
        if known { Ok(()) } else { Err(slow()) }
    }

    /// Bytes of the files that storage nodes, dead or alive, hold.
    #[must_use]
    pub fn held(&self) -> u64 {
        (0..self.plan.storage).map(|at| size_below(&self.home(Member::Storage(at)).join("shards"))).sum()
    }

    /// The last lines of every node's log.
    #[must_use]
    pub fn logs(&self) -> String {
        let log = |node: &Node| format!("--- {}\n{}\n", node.daemon.name(), node.daemon.tail());
        self.nodes.values().map(log).collect()
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// Bytes of all files below a folder. Those that come and go meanwhile may or may not count.
fn size_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}
