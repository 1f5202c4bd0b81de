//! The measurements.

use std::error::Error;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fincrypt_testkit::{Client, Programs, Swarm, SwarmPlan, measure};

type Outcomes<T> = Result<T, Box<dyn Error>>;

/// A command runs at most so long.
const LIMIT: Duration = Duration::from_secs(3600);
/// The mediator hears of all storage nodes within this.
const GATHER: Duration = Duration::from_secs(60);
const STORAGE: usize = 8;
/// Between rounds: ext4 passes over inodes that became free within the last minute, one by one,
/// which would slow down whoever comes next.
const REST: Duration = Duration::from_secs(65);

/// Seconds of each step; the best of all rounds.
#[derive(Clone, Copy)]
struct Times {
    backup: f64,
    again: f64,
    restore: f64,
    direct: Option<f64>,
}

impl Times {
    fn best(self, other: Self) -> Self {
        Self {
            backup: self.backup.min(other.backup),
            again: self.again.min(other.again),
            restore: self.restore.min(other.restore),
            direct: self.direct.zip(other.direct).map(|(a, b)| a.min(b)),
        }
    }
}

/// What was measured.
pub(crate) struct Table {
    files: u64,
    bytes: u64,
    restic: Times,
    fincrypt: Times,
    version: String,
}

fn timed<T>(work: impl FnOnce() -> Outcomes<T>) -> Outcomes<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Runs both on the set, one after the other in each round.
pub(crate) fn compare(programs: &Programs, source: &Path, scratch: &Path, rounds: usize) -> Outcomes<Table> {
    let (files, bytes) = measure(source)?;
    let version = Command::new("restic")
        .arg("version")
        .output()
        .map_err(|error| format!("restic cannot be run ({error}): install it, Debian has it as restic"))?;
    let version =
        String::from_utf8_lossy(&version.stdout).split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let mut best: Option<(Times, Times)> = None;
    for round in 1..=rounds.max(1) {
        if round > 1 {
            std::thread::sleep(REST);
        }
        eprintln!("round {round}: restic");
        let restic = restic(source, &scratch.join(format!("restic-{round}")))?;
        eprintln!("round {round}: swarm");
        let fincrypt = swarm(programs, source, &scratch.join(format!("swarm-{round}")))?;
        fs::remove_dir_all(scratch.join(format!("restic-{round}")))?;
        fs::remove_dir_all(scratch.join(format!("swarm-{round}")))?;
        best = Some(match best {
            Some((a, b)) => (a.best(restic), b.best(fincrypt)),
            None => (restic, fincrypt),
        });
    }
    let (restic, fincrypt) = best.ok_or("no round was run")?;
    Ok(Table { files, bytes, restic, fincrypt, version })
}

fn restic(source: &Path, scratch: &Path) -> Outcomes<Times> {
    fs::create_dir_all(scratch)?;
    let run = |arguments: &[&std::ffi::OsStr]| -> Outcomes<()> {
        let status = Command::new("restic")
            .args(["--quiet", "--no-cache", "--repo"])
            .arg(scratch.join("repo"))
            .args(arguments)
            .env("RESTIC_PASSWORD", "password")
            .stdout(Stdio::null())
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("restic {arguments:?} ended with {status}").into())
        }
    };
    run(&["init".as_ref()])?;
    let backup = timed(|| run(&["backup".as_ref(), source.as_ref()]))?;
    let again = timed(|| run(&["backup".as_ref(), source.as_ref()]))?;
    let target = scratch.join("restored");
    let restore =
        timed(|| run(&["restore".as_ref(), "latest".as_ref(), "--target".as_ref(), target.as_ref()]))?;
    Ok(Times { backup, again, restore, direct: None })
}

fn swarm(programs: &Programs, source: &Path, scratch: &Path) -> Outcomes<Times> {
    fs::create_dir_all(scratch)?;
    let plan = SwarmPlan { storage: STORAGE, ..SwarmPlan::new(programs.clone(), scratch.join("nodes")) };
    let swarm = Swarm::start(plan)?;
    let client = Client::new(programs.clone(), swarm.bootstrap(), scratch.join("owner")).with_limit(LIMIT);
    let run = |arguments: &[&std::ffi::OsStr]| -> Outcomes<()> {
        let outcome = client.run(arguments)?;
        match outcome.code {
            Some(0) => Ok(()),
            code => Err(format!("fincrypt {arguments:?} ended with {code:?}: {}", outcome.stderr).into()),
        }
    };
    let words = scratch.join("words");
    run(&["init".as_ref(), source.as_ref(), "--words-file".as_ref(), words.as_ref()])?;
    swarm.wait_eligible(&client, STORAGE, GATHER)?;
    let backup = timed(|| run(&["backup".as_ref()]))?;
    let again = timed(|| run(&["backup".as_ref()]))?;
    let restored = |name: &str, direct: bool| {
        let target = scratch.join(name);
        let mut arguments: Vec<&std::ffi::OsStr> =
            vec!["restore".as_ref(), "latest".as_ref(), "--target".as_ref(), target.as_ref()];
        if direct {
            arguments.push("--direct".as_ref());
        }
        timed(|| run(&arguments))
    };
    let restore = restored("restored", false)?;
    let direct = Some(restored("direct", true)?);
    Ok(Times { backup, again, restore, direct })
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.bytes as f64 / 1e6;
        let speed = |seconds: f64| format!("{:.0} MB/s", megabytes / seconds);
        writeln!(f, "{:.0} MB in {} files, on {} processors", megabytes, self.files, processors())?;
        writeln!(f)?;
        writeln!(f, "| | first backup | files/s | unchanged | restore |")?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        let mut line = |name: &str, times: &Times, restore: f64| {
            writeln!(
                f,
                "| {name} | {} | {:.0} | {:.2} s | {} |",
                speed(times.backup),
                self.files as f64 / times.backup,
                times.again,
                speed(restore)
            )
        };
        line(&format!("{} to a local folder", self.version), &self.restic, self.restic.restore)?;
        line("Fincrypt, eight storage nodes", &self.fincrypt, self.fincrypt.restore)?;
        if let Some(direct) = self.fincrypt.direct {
            line("the same, `restore --direct`", &self.fincrypt, direct)?;
        }
        let (a, b) = (&self.fincrypt, &self.restic);
        let restore = a.direct.map_or(a.restore, |direct| direct.min(a.restore));
        writeln!(f)?;
        writeln!(
            f,
            "Against restic: backup {:.2}×, unchanged {:.2}×, restore {:.2}×",
            b.backup / a.backup,
            b.again / a.again,
            b.restore / restore
        )
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
