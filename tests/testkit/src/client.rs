//! What a person types, typed by a program.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{ProcessError, peak_of};
use crate::programs::{Program, Programs};
use crate::reaper;

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output; bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// Standard error; likewise.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
    /// The most bytes of memory it had resident, as of the last time that it was looked at.
    pub peak: u64,
}

impl Outcome {
    /// The JSON document on standard output; null if there is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or(Value::Null)
    }

    /// A number of that document; none if the key is missing or no number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.json().get(key).and_then(Value::as_u64)
    }
}

/// `fincrypt` with one home.
#[derive(Debug, Clone)]
pub struct Client {
    programs: Programs,
    home: PathBuf,
    network: String,
    bootstrap: Vec<String>,
    password: Option<String>,
    user: Option<u32>,
    limit: Duration,
}

impl Client {
    /// The password that clients have unless told otherwise.
    pub const PASSWORD: &str = "a password for one run";

    /// A client of the local network, allowed ten minutes per command.
    #[must_use]
    pub fn new(programs: Programs, bootstrap: &str, home: PathBuf) -> Self {
        Self {
            programs,
            home,
            network: "local".to_owned(),
            bootstrap: vec![bootstrap.to_owned()],
            password: Some(Self::PASSWORD.to_owned()),
            user: None,
            limit: Duration::from_secs(600),
        }
    }

    /// The same with another home.
    #[must_use]
    pub fn with_home(&self, home: PathBuf) -> Self {
        Self { home, ..self.clone() }
    }

    /// The same by another program.
    #[must_use]
    pub fn with_program(&self, client: Program) -> Self {
        let programs = Programs { client, node: self.programs.node.clone() };
        Self { programs, ..self.clone() }
    }

    /// The same in another network.
    #[must_use]
    pub fn with_network(&self, network: &str) -> Self {
        Self { network: network.to_owned(), ..self.clone() }
    }

    /// The same with other first contacts.
    #[must_use]
    pub fn with_bootstrap(&self, bootstrap: &[&str]) -> Self {
        Self { bootstrap: bootstrap.iter().map(|&address| address.to_owned()).collect(), ..self.clone() }
    }

    /// The same with another password, or none.
    #[must_use]
    pub fn with_password(&self, password: Option<&str>) -> Self {
        Self { password: password.map(str::to_owned), ..self.clone() }
    }

    /// The same as another user of the system; only root may.
    #[must_use]
    pub fn as_user(&self, user: u32) -> Self {
        Self { user: Some(user), ..self.clone() }
    }

    /// The same with another limit for each command.
    #[must_use]
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Its home.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Everything of the command line but the command.
    fn leading(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec!["--home".into(), self.home.clone().into(), "--network".into(), self.network.clone().into()];
        for address in &self.bootstrap {
            arguments.extend(["--bootstrap".into(), address.into()]);
        }
        arguments
    }

    /// The command line for a person to type. Network and first contacts are left out: a home that
    /// was made with them remembers them.
    #[must_use]
    pub fn command_line(&self, arguments: &str) -> String {
        let [program, home] =
            [self.programs.client.path(), &self.home].map(|path| quoted(&path.to_string_lossy()));
        format!("{program} --home {home} {arguments}")
    }

    /// Runs a command with `--json`.
    ///
    /// # Errors
    /// [`ProcessError`] if it cannot be started or exceeds its limit. A command that fails is no error.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Outcome, ProcessError> {
        self.run_watched(arguments, Duration::MAX, |_| ())
    }

    /// The same, calling `tick` with the time passed about every `every`.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub fn run_watched<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        every: Duration,
        mut tick: impl FnMut(Duration),
    ) -> Result<Outcome, ProcessError> {
        let never = |passed| {
            tick(passed);
            false
        };
        let outcome = self.drive(arguments, every, never)?;
        outcome.ok_or_else(|| ProcessError::Gone("fincrypt".to_owned()))
    }

    /// Runs a command until it ends, or kills it with SIGKILL once `enough` holds, which is asked
    /// about every `every`; none if it was killed.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub fn run_until<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        every: Duration,
        mut enough: impl FnMut() -> bool,
    ) -> Result<Option<Outcome>, ProcessError> {
        self.drive(arguments, every, |_| enough())
    }

    fn drive<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        every: Duration,
        mut enough: impl FnMut(Duration) -> bool,
    ) -> Result<Option<Outcome>, ProcessError> {
        let mut command = self.programs.client.command();
        command.args(self.leading()).arg("--json").args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(password) = &self.password {
            command.env("FINCRYPT_PASSWORD", password);
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let failed = |source| ProcessError::Start { program: "fincrypt".to_owned(), source };
        let started = Instant::now();
        let mut child = reaper::spawn(&mut command).map_err(failed)?;
        let (stdout, stderr) = child.take_pipes();
        let (stdout, stderr) = (stdout.map(collect), stderr.map(collect));
        let mut next = started.checked_add(every);
        let mut peak = 0;
        let status = loop {
            let limit = started + self.limit;
            let until = next.map_or(limit, |next| next.min(limit));
            if let Some(status) = child.wait_until(until).map_err(failed)? {
                break Some(status);
            }
            if Instant::now() >= limit {
                let _ = child.kill();
                break None;
            }
            peak = peak_of(child.id()).max(peak);
            if enough(started.elapsed()) {
                let _ = child.kill();
                return Ok(None);
            }
            next = Instant::now().checked_add(every);
        };
        let took = started.elapsed();
        let (stdout, stderr) = (text(stdout), text(stderr));
        match status {
            Some(status) => Ok(Some(Outcome { code: status.code(), stdout, stderr, took, peak })),
            None => Err(ProcessError::Slow {
                name: "fincrypt".to_owned(),
                what: "end",
                seconds: self.limit.as_secs(),
                log: stderr,
            }),
        }
    }
}

/// Reads a pipe beside the process, which would block on a full one.
fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn text(reader: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell_where_needed() {
        assert_eq!(quoted("/ip4/127.0.0.1/tcp/1"), "/ip4/127.0.0.1/tcp/1");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let sleeper = Program { path: "/bin/sh".into(), leading: vec!["-c".into(), "sleep 60".into()] };
        let programs = Programs { node: sleeper.clone(), client: sleeper };
        let client = Client::new(programs, "", PathBuf::new()).with_limit(Duration::from_millis(300));
        let mut ticks = 0;
        let error = client.run_watched(["x"], Duration::from_millis(50), |_| ticks += 1);
        assert!(matches!(error, Err(ProcessError::Slow { .. })), "{error:?}");
        assert!(ticks > 0);
    }
}
