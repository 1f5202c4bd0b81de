//! The steps, one after the other.

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fincrypt_testkit::{
    Client, Comparison, Member, Outcome, Programs, Scratch, SeededRandom, Swarm, SwarmPlan, TreePlan,
    compare, generate, measure,
};
use serde_json::Value;

use crate::report::{Report, Step, human};

type Outcomes<T> = Result<T, Box<dyn Error>>;

/// A command runs at most so long: a day, for folders of any size.
const LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Between two signs of life.
const TICK: Duration = Duration::from_secs(5);
/// The mediator hears of all storage nodes within this.
const GATHER: Duration = Duration::from_secs(60);

/// The swarm, its client, and the folder.
pub(crate) struct Stage {
    // Fields are dropped in this order: processes first, then their folder.
    swarm: Swarm,
    owner: Client,
    source: PathBuf,
    storage: usize,
    killed: Vec<Member>,
    skipped: BTreeSet<String>,
    report: Report,
    scratch: Scratch,
}

fn say(line: &str) {
    eprintln!("{line}");
}

impl Stage {
    /// Makes the folder if none is given, and starts the swarm.
    pub(crate) fn set(programs: Programs, storage: usize, folder: Option<PathBuf>) -> Outcomes<Self> {
        let scratch = Scratch::new("swarm")?;
        let source = match folder {
            Some(folder) => folder,
            None => {
                let seed = SeededRandom::any_seed();
                say(&format!("making a folder of 64 MB (seed {seed})"));
                let folder = scratch.path().join("folder");
                generate(&folder, &TreePlan::EXAMPLE, seed)?;
                folder
            }
        };
        let (files, bytes) = measure(&source)?;
        say(&format!("{}: {files} files, {}", source.display(), human(bytes)));
        enough_room(scratch.path(), bytes)?;

        say(&format!("starting 1 bootstrap, 1 mediator and {storage} storage nodes"));
        let start = Instant::now();
        let plan = SwarmPlan { storage, ..SwarmPlan::new(programs.clone(), scratch.path().join("swarm")) };
        let swarm = Swarm::start(plan)?;
        let owner = Client::new(programs, swarm.bootstrap(), scratch.path().join("owner")).with_limit(LIMIT);
        let report = Report { files, bytes_in: bytes, ..Report::default() };
        let (killed, skipped) = (Vec::new(), BTreeSet::new());
        let mut stage = Self { swarm, owner, source, storage, killed, skipped, report, scratch };
        stage.init()?;
        stage.swarm.wait_eligible(&stage.owner, storage, GATHER)?;
        stage.timed("start", start, None);
        Ok(stage)
    }

    fn words(&self) -> PathBuf {
        self.scratch.path().join("words")
    }

    fn timed(&mut self, name: &'static str, start: Instant, bytes: Option<u64>) {
        self.report.steps.push(Step { name, seconds: start.elapsed().as_secs_f64(), bytes });
    }

    /// Runs a command that has to end with 0, or with 3 where `partly` will do.
    fn run(&self, client: &Client, partly: bool, arguments: &[OsString]) -> Outcomes<Outcome> {
        let outcome = client.run_watched(arguments, TICK, |passed| {
            let held = human(self.swarm.held());
            say(&format!("  {:>4} s, storage holds {held}", passed.as_secs()));
        })?;
        match outcome.code {
            Some(0) => Ok(outcome),
            Some(3) if partly => Ok(outcome),
            code => {
                let name =
                    arguments.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let code = code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
                Err(format!("`fincrypt {name}` ended with {code}: {}", outcome.stderr.trim_end()).into())
            }
        }
    }

    fn init(&mut self) -> Outcomes<()> {
        let arguments =
            ["init".into(), self.source.clone().into(), "--words-file".into(), self.words().into()];
        self.run(&self.owner, false, &arguments).map(drop)
    }

    /// Everything, from the first backup to the last comparison.
    pub(crate) fn play(&mut self) -> Outcomes<Report> {
        let bytes = self.report.bytes_in;
        say("backing up");
        let start = Instant::now();
        let first = self.run(&self.owner, true, &["backup".into()])?;
        self.timed("backup", start, Some(bytes));
        self.note_backup(&first)?;

        say("backing up again, nothing changed");
        let start = Instant::now();
        let second = self.run(&self.owner, true, &["backup".into()])?;
        self.timed("second backup", start, Some(bytes));
        self.report.second_uploaded = number(&second, "bytes_uploaded")?;

        // Not the first two: which ones must not matter.
        for member in [Member::Storage(1), Member::Storage(self.storage - 1)] {
            say(&format!("killing {member} (SIGKILL)"));
            self.kill(member)?;
        }
        self.bring_back("new-machine", ["recover", "restore"])?;

        say("killing the mediator (SIGKILL): from here on straight from storage");
        self.kill(Member::Mediator(0))?;
        self.bring_back("newest-machine", ["recover, no mediator", "restore, no mediator"])?;

        self.report.equal = self.report.differences.is_empty();
        Ok(std::mem::take(&mut self.report))
    }

    fn note_backup(&mut self, outcome: &Outcome) -> Outcomes<()> {
        self.report.bytes_new = number(outcome, "bytes_new")?;
        self.report.bytes_uploaded = number(outcome, "bytes_uploaded")?;
        self.report.bytes_stored = number(outcome, "bytes_stored")?;
        self.report.segments = number(outcome, "segments")?;
        let json = outcome.json();
        for skipped in json.get("skipped").and_then(Value::as_array).into_iter().flatten() {
            let text = |key| skipped.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            self.report.skipped.push(format!("{}: {}", text("path"), text("reason")));
            self.skipped.insert(text("path"));
        }
        Ok(())
    }

    fn kill(&mut self, member: Member) -> Outcomes<()> {
        self.swarm.kill9(member)?;
        self.killed.push(member);
        Ok(())
    }

    /// A new home, nothing but the words: recover, restore, compare, throw away.
    fn bring_back(&mut self, name: &str, steps: [&'static str; 2]) -> Outcomes<()> {
        let client = self.owner.with_home(self.scratch.path().join(name));
        say(&format!("recovering from the 24 words on {name}"));
        let start = Instant::now();
        let recovered =
            self.run(&client, false, &["recover".into(), "--words-file".into(), self.words().into()])?;
        self.timed(steps[0], start, None);
        let count = |key| recovered.number(key).unwrap_or_default();
        say(&format!("  {} snapshots, {} holders answered", count("snapshots"), count("holders")));

        say("restoring");
        let target = self.scratch.path().join(format!("{name}-restored"));
        let arguments = ["restore", "latest", "--target"].map(OsString::from);
        let start = Instant::now();
        let outcome = self.run(&client, true, &[arguments.as_slice(), &[target.clone().into()]].concat())?;
        self.timed(steps[1], start, Some(self.report.bytes_in));

        say("comparing every byte, mode, symlink and time");
        let mut comparison = compare(&self.source, &restored(&target, &self.source))?;
        self.forgive_skipped(&mut comparison);
        say(&format!("  {comparison}"));
        self.report.differences.extend(comparison.differences.iter().map(ToString::to_string));
        if outcome.code == Some(3) && comparison.equal() {
            self.report.differences.push(outcome.stderr.trim_end().to_owned());
        }
        // A folder of any size: two copies at a time are enough.
        drop(Scratch::adopt(target));
        Ok(())
    }

    /// What the backup named as left out cannot come back.
    fn forgive_skipped(&self, comparison: &mut Comparison) {
        comparison.forgive(|difference| {
            let path = self.source.join(&difference.path);
            path.ancestors().any(|path| self.skipped.contains(path.to_string_lossy().as_ref()))
        });
    }

    /// Starts again what was killed.
    pub(crate) fn mend(&mut self) -> Outcomes<()> {
        for member in std::mem::take(&mut self.killed) {
            say(&format!("starting {member} again"));
            self.swarm.restart(member)?;
        }
        Ok(self.swarm.wait_eligible(&self.owner, self.storage, GATHER)?)
    }

    /// Commands to paste.
    pub(crate) fn how_to_use(&self) -> String {
        let target = self.scratch.path().join("restored");
        let restore = format!("restore latest --target {}", target.display());
        let commands = ["status", "backup", "snapshots", "ls latest", &restore, "verify --all"];
        let mut text = format!(
            "\nThe swarm runs until Ctrl-C. Its vault, in another terminal:\n\n  export FINCRYPT_PASSWORD='{}'\n",
            Client::PASSWORD
        );
        for command in commands {
            text.push_str(&format!("  {}\n", self.owner.command_line(command)));
        }
        text.push_str(&format!(
            "\nThe 24 words are in {}; everything in {} is removed at the end.\n",
            self.words().display(),
            self.scratch.path().display()
        ));
        text
    }
}

fn number(outcome: &Outcome, key: &str) -> Outcomes<u64> {
    outcome.number(key).ok_or_else(|| format!("`fincrypt backup --json` printed no number {key:?}").into())
}

/// Where a restored folder is: below the target by its own name.
fn restored(target: &Path, source: &Path) -> PathBuf {
    target.join(source.file_name().unwrap_or_else(|| OsStr::new("root")))
}

/// Refuses early what would fill the disk: shards are twice the folder, a restore once more.
fn enough_room(folder: &Path, bytes: u64) -> Outcomes<()> {
    let disk = rustix::fs::statvfs(folder)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    // The nodes leave 64 MiB of every disk free.
    let needed = bytes.saturating_mul(4).saturating_add(512 << 20);
    if free >= needed {
        return Ok(());
    }
    let place = folder.display();
    Err(format!(
        "{place} has {} free, {} are needed: set TMPDIR to a larger disk",
        human(free),
        human(needed)
    )
    .into())
}
