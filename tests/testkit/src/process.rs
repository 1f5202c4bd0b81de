//! Nodes as processes: started, waited for by their ready line, logged into a file.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::reaper::{self, Child};

/// Lines of a log that an error shows.
const TAIL: usize = 20;

/// A process did not do what it had to.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A program is not where it was looked for.
    #[error("no program {0}: build it with `cargo build --release -p fincrypt --bins`")]
    NoProgram(PathBuf),
    /// It could not be started.
    #[error("cannot run {program}: {source}")]
    Start {
        /// What was to run.
        program: String,
        /// Why it does not.
        source: std::io::Error,
    },
    /// A file could not be written or read.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It ended before it could serve.
    #[error("{name} ended ({status}) before it was ready; its log ends with:\n{log}")]
    Ended {
        /// Which node.
        name: String,
        /// How.
        status: String,
        /// The last lines it wrote.
        log: String,
    },
    /// It took too long.
    #[error("{name} did not {what} within {seconds} s; its log ends with:\n{log}")]
    Slow {
        /// Which process.
        name: String,
        /// What was waited for.
        what: &'static str,
        /// How long, in seconds.
        seconds: u64,
        /// The last lines it wrote.
        log: String,
    },
    /// The ready line has another form.
    #[error("{name} printed {line:?} instead of `ready peer=… listen=… api=…`")]
    Unready {
        /// Which node.
        name: String,
        /// What it printed.
        line: String,
    },
    /// The process is not running.
    #[error("{0} is not running")]
    Gone(String),
}

/// The most bytes of memory that a process had resident so far; zero if it has gone.
#[must_use]
pub(crate) fn peak_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or_default() << 10
}

/// Waits until `condition` holds; false if it does not within `limit`.
#[must_use]
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What a node's ready line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its peer id.
    pub peer: String,
    /// Addresses it listens on, none empty.
    pub listen: Vec<String>,
    /// Its local interface, or `off`.
    pub api: String,
}

impl FromStr for Ready {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let mut words = line.split_whitespace();
        let mut field = |name: &str| words.next().and_then(|word| word.strip_prefix(name)).ok_or(());
        field("ready")?;
        let (peer, listen, api) = (field("peer=")?, field("listen=")?, field("api=")?);
        let listen: Vec<_> =
            listen.split(',').filter(|address| !address.is_empty()).map(str::to_owned).collect();
        if peer.is_empty() || listen.is_empty() || words.next().is_some() {
            return Err(());
        }
        Ok(Self { peer: peer.to_owned(), listen, api: api.to_owned() })
    }
}

impl Ready {
    /// The first address, with the peer id at its end.
    #[must_use]
    pub fn address(&self) -> String {
        let first = self.listen.first().map_or("", String::as_str);
        if first.contains("/p2p/") { first.to_owned() } else { format!("{first}/p2p/{}", self.peer) }
    }

    /// The first address without the peer id, to listen on again.
    #[must_use]
    pub fn bound(&self) -> String {
        let first = self.listen.first().map_or("", String::as_str);
        first.split("/p2p/").next().unwrap_or(first).to_owned()
    }
}

/// A node that was started. Dropped, it is killed.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    lines: Receiver<String>,
}

impl Daemon {
    /// Starts a node; both its outputs are appended to the file `log`.
    ///
    /// # Errors
    /// [`ProcessError`] if it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, ProcessError> {
        let file_error = |source| ProcessError::File { path: log.to_owned(), source };
        let file = OpenOptions::new().create(true).append(true).open(log).map_err(file_error)?;
        let errors = file.try_clone().map_err(file_error)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = reaper::spawn(command)
            .map_err(|source| ProcessError::Start { program: name.to_owned(), source })?;
        let (sender, lines) = channel();
        if let (Some(stdout), _) = child.take_pipes() {
            // Ends with the process, whose end closes the pipe.
            std::thread::spawn(move || {
                copy_lines(BufReader::new(stdout), file, |line| sender.send(line).is_ok())
            });
        }
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), lines })
    }

    /// Waits for the ready line.
    ///
    /// # Errors
    /// [`ProcessError`] if it does not come within `limit`, or the process ends.
    pub fn ready(&mut self, limit: Duration) -> Result<Ready, ProcessError> {
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => {
                    return line
                        .parse()
                        .map_err(|()| ProcessError::Unready { name: self.name.clone(), line });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait_until(deadline).ok().flatten();
                    let status =
                        status.map_or_else(|| "output closed".to_owned(), |status| status.to_string());
                    return Err(ProcessError::Ended { name: self.name.clone(), status, log: self.tail() });
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    return Err(self.slow("get ready", limit));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Its name, as in the plan.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// [`ProcessError::Slow`] if it still runs after `limit`.
    pub fn stop(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus, ProcessError> {
        let gone = |_| ProcessError::Gone(self.name.clone());
        self.child.signal(signal).map_err(gone)?;
        let ended = self.child.wait_until(Instant::now() + limit);
        ended.ok().flatten().ok_or_else(|| self.slow("end", limit))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It can only fail for a process that is no more.
        let _ = self.child.kill();
    }

    /// The last lines of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    fn slow(&self, what: &'static str, limit: Duration) -> ProcessError {
        ProcessError::Slow { name: self.name.clone(), what, seconds: limit.as_secs(), log: self.tail() }
    }
}

fn copy_lines(source: impl BufRead, mut log: File, mut each: impl FnMut(String) -> bool) {
    let mut wanted = true;
    for line in source.lines().map_while(Result::ok) {
        // The log is a help for people; a full disk must not stop the node under test.
        let _ = writeln!(log, "{line}");
        wanted = wanted && each(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_line_is_read() {
        let ready: Ready = "ready peer=12D3 listen=/ip4/127.0.0.1/tcp/1,/ip4/127.0.0.1/udp/2 api=off"
            .parse()
            .expect("valid");
        assert_eq!(ready.address(), "/ip4/127.0.0.1/tcp/1/p2p/12D3");
        assert_eq!(ready.bound(), "/ip4/127.0.0.1/tcp/1");
        assert_eq!(ready.listen.len(), 2);
    }

    #[test]
    fn other_lines_are_refused() {
        for line in
            ["", "ready", "ready peer= listen=/x api=off", "ready peer=a listen= api=off", "listening on x"]
        {
            assert!(line.parse::<Ready>().is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_node_that_ends_early_shows_its_log() {
        let scratch = crate::Scratch::new("process").expect("made");
        let mut command = Command::new("sh");
        command.args(["-c", "echo it does not work >&2; exit 1"]);
        let mut daemon = Daemon::start("node", &mut command, &scratch.path().join("log")).expect("starts");
        let error = daemon.ready(Duration::from_secs(5)).expect_err("ended").to_string();
        assert!(error.contains("it does not work") && error.contains('1'), "{error}");
    }
}
