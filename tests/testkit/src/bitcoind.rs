//! A real bitcoind on a chain of its own, for tests and the example.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::process::{ProcessError, wait_until};
use crate::reaper::{self, Child};

/// How long it may take to start, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Installs a bitcoind for its own use.
const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/get-bitcoind.sh");
/// An address of nobody, to which blocks are mined whose reward nobody needs.
const NOBODY: &str = "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202";

/// A bitcoind did not do what it had to.
#[derive(Debug, thiserror::Error)]
pub enum BitcoindError {
    /// None was found and none could be installed.
    #[error(
        "no bitcoind: name one in BITCOIND_EXE or install one; the project's own installation said:\n{0}"
    )]
    Missing(String),
    /// The process failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The system refused.
    #[error("bitcoind: {0}")]
    Io(#[from] std::io::Error),
    /// It refused a call.
    #[error("bitcoind refuses {method}: {reason}")]
    Refused {
        /// What was asked.
        method: String,
        /// Its answer.
        reason: String,
    },
}

/// A running bitcoind in regtest, without peers and without a wallet. Dropped, it is killed.
#[derive(Debug)]
pub struct Bitcoind {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A bitcoind: `BITCOIND_EXE`, else the one on `PATH`, else one that is installed now for the use of
/// tests alone, in the user's cache.
///
/// # Errors
/// [`BitcoindError::Missing`], with what the installation said.
pub fn find_bitcoind() -> Result<PathBuf, BitcoindError> {
    // An empty variable is none.
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(named) = variable("BITCOIND_EXE") {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) =
        std::env::split_paths(&path).map(|dir| dir.join("bitcoind")).find(|file| file.is_file())
    {
        return Ok(found);
    }
    let home = || variable("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let folder = cache.unwrap_or_else(std::env::temp_dir).join("fincrypt-bitcoind");
    let installed = Command::new(INSTALL).arg(&folder).stdin(Stdio::null()).output()?;
    if installed.status.success() {
        Ok(String::from_utf8_lossy(&installed.stdout).trim().into())
    } else {
        Err(BitcoindError::Missing(String::from_utf8_lossy(&installed.stderr).into_owned()))
    }
}

impl Bitcoind {
    /// Starts one that keeps its chain in `folder`.
    ///
    /// # Errors
    /// [`BitcoindError`].
    pub fn start(folder: &Path) -> Result<Self, BitcoindError> {
        std::fs::create_dir_all(folder)?;
        let (program, port) = (find_bitcoind()?, free_port()?);
        let mut bitcoind = Self { program, folder: folder.to_owned(), port, child: None };
        bitcoind.restart()?;
        Ok(bitcoind)
    }

    /// Starts it again, after [`Bitcoind::stop`] or [`Bitcoind::kill9`], at the same port.
    ///
    /// # Errors
    /// [`BitcoindError`].
    pub fn restart(&mut self) -> Result<(), BitcoindError> {
        let log = std::fs::File::create(self.folder.join("out.log"))?;
        let mut command = Command::new(&self.program);
        command
            .arg("-regtest")
            .arg(format!("-datadir={}", self.folder.display()))
            .arg(format!("-rpcport={}", self.port))
            .args(["-listen=0", "-dnsseed=0", "-disablewallet=1", "-fallbackfee=0.00001", "-rpcthreads=8"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.child = Some(reaper::spawn(&mut command)?);
        if wait_until(PATIENCE, || self.call("getblockcount", &json!([])).is_ok()) {
            return Ok(());
        }
        let log = std::fs::read_to_string(self.folder.join("out.log")).unwrap_or_default();
        let what = "answer";
        Err(ProcessError::Slow { name: "bitcoind".to_owned(), what, seconds: PATIENCE.as_secs(), log }.into())
    }

    /// Ends it in order: it keeps its newest blocks, which it writes when it ends.
    ///
    /// # Errors
    /// [`BitcoindError`] if it does not end.
    pub fn stop(&mut self) -> Result<(), BitcoindError> {
        self.call("stop", &json!([]))?;
        let running = self.folder.join("regtest").join("bitcoind.pid");
        let ended = wait_until(PATIENCE, || !running.exists());
        self.child = None;
        let (name, what) = ("bitcoind".to_owned(), "end");
        let slow = || ProcessError::Slow { name, what, seconds: PATIENCE.as_secs(), log: String::new() };
        if ended { Ok(()) } else { Err(slow().into()) }
    }

    /// Kills it without warning; it may have forgotten all blocks since it was started.
    pub fn kill9(&mut self) {
        self.child = None;
    }

    /// The port of its RPC, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file with its user and password.
    #[must_use]
    pub fn cookie(&self) -> PathBuf {
        self.folder.join("regtest").join(".cookie")
    }

    /// User and password of its RPC, as of its last start.
    ///
    /// # Errors
    /// If its cookie cannot be read.
    pub fn credentials(&self) -> Result<(String, String), BitcoindError> {
        let cookie = std::fs::read_to_string(self.cookie())?;
        let (user, password) = cookie.split_once(':').unwrap_or((&cookie, ""));
        Ok((user.to_owned(), password.to_owned()))
    }

    /// Calls its RPC.
    ///
    /// # Errors
    /// [`BitcoindError::Refused`], or that it does not answer.
    pub fn call(&self, method: &str, parameters: &Value) -> Result<Value, BitcoindError> {
        let (user, password) = self.credentials()?;
        let secret = STANDARD.encode(format!("{user}:{password}"));
        let body = json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": parameters}).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {secret}\r\n")?;
        write!(stream, "Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let refused = |reason: String| BitcoindError::Refused { method: method.to_owned(), reason };
        let mut answer: Value = serde_json::from_str(body).map_err(|error| refused(error.to_string()))?;
        match answer["error"].take() {
            Value::Null => Ok(answer["result"].take()),
            error => Err(refused(error.to_string())),
        }
    }

    /// Mines so many blocks whose rewards go to `address`. A reward can be spent 100 blocks later.
    ///
    /// # Errors
    /// [`BitcoindError`].
    pub fn mine_to(&self, blocks: u32, address: &str) -> Result<(), BitcoindError> {
        self.call("generatetoaddress", &json!([blocks, address])).map(drop)
    }

    /// Mines so many blocks.
    ///
    /// # Errors
    /// [`BitcoindError`].
    pub fn mine(&self, blocks: u32) -> Result<(), BitcoindError> {
        self.mine_to(blocks, NOBODY)
    }

    /// Gives `address` 50 bitcoin that can be spent.
    ///
    /// # Errors
    /// [`BitcoindError`].
    pub fn fund(&self, address: &str) -> Result<(), BitcoindError> {
        self.mine_to(1, address)?;
        self.mine(100)
    }
}
