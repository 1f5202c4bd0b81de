//! `fincrypt`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, FromArgMatches};
use fincrypt_protocol::ByteSize;
use serde::Serialize;

use super::args::{Args, Command, MediatorCommand, program};
use super::init::{init, recover};
use super::invocation::{Failure, Invocation, NAME};
use super::output::{Exit, complain, counted, print_lines, printable};
use super::prepayment::warn_of;
use super::{advice, log};
use crate::config::{Settings, default_home, variables};
use crate::home::Home;
use fincrypt_client as client;
use fincrypt_client::{
    BackupError, BackupReport, BadShard, CheckReport, ClientError, RestoreOptions, VerifyOptions,
};

pub(super) fn main(args: Vec<OsString>) -> Exit {
    let parsed = program()
        .try_get_matches_from(args)
        .and_then(|matches| Args::from_arg_matches(&matches).map(|args| (args, matches)));
    let (args, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    log::to_standard_error(match (args.quiet, args.verbose) {
        (true, _) => "off",
        (_, 0) => "off,fincrypt=warn",
        (_, 1) => "fincrypt=info,warn",
        _ => "fincrypt=debug,info",
    });
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(NAME, &error);
            return Exit::Failed;
        }
    };
    match runtime.block_on(run(args, &matches)) {
        Ok(exit) => exit,
        Err(failure) => {
            match &failure {
                Failure::Client(error) => match advice::on(error) {
                    Some(advice) => complain(NAME, &format_args!("{error}: {advice}")),
                    None => complain(NAME, error),
                },
                Failure::Config(error) => match advice::on_config(error) {
                    Some(advice) => complain(NAME, &format_args!("{error}: {advice}")),
                    None => complain(NAME, error),
                },
                _ => complain(NAME, &failure),
            }
            failure.exit()
        }
    }
}

async fn run(args: Args, matches: &ArgMatches) -> Result<Exit, Failure> {
    let home = args.home.or_else(default_home);
    let home =
        Home::new(home.ok_or_else(|| Failure::Usage("no home: give --home DIR or set HOME".to_owned()))?);
    let mut settings = Settings::defaults()
        .with_file(&home.config(), false)?
        .with_environment(|name| std::env::var(name).ok())
        .with_flags(matches);
    if let Some(("init", matches)) = matches.subcommand() {
        settings = settings.with_flags(matches);
    }
    if let Command::Config { command } = args.command {
        return Ok(super::config::run(command, &settings, args.json));
    }
    settings.check_variables(variables())?;
    let config = settings.resolve()?;
    let invocation =
        Invocation { home, config, json: args.json, quiet: args.quiet, password_file: args.password_file };
    invocation.run(args.command).await
}

impl Invocation {
    async fn run(&self, command: Command) -> Result<Exit, Failure> {
        match command {
            Command::Init { folders, words_file, slot, .. } => {
                init(self, &folders, words_file.as_deref(), slot)
            }
            Command::Backup { folders } => self.backup(folders).await,
            Command::Snapshots => self.snapshots().await,
            Command::Ls { snapshot, path } => self.ls(&snapshot, path.as_deref()).await,
            Command::Restore { snapshot, target: Some(target), paths, overwrite, direct, .. } => {
                self.restore(RestoreOptions { snapshot, target, paths, overwrite, direct }).await
            }
            Command::Restore { target: None, test: false, .. } => Err(Failure::Usage(
                "restore into which folder? Give --target DIR, or --test, which writes nothing".to_owned(),
            )),
            Command::Restore { snapshot, target: None, direct, .. } => {
                self.test_restore(&snapshot, direct).await
            }
            Command::Status { brief } => self.status(brief).await,
            Command::Recover { words_file, list_heads: true, .. } => self.list_heads(&words_file).await,
            Command::Recover { words_file, head, .. } => recover(self, &words_file, head.as_deref()).await,
            Command::Forget(args) => self.forget(args).await,
            Command::Prune(args) => self.prune(args).await,
            Command::Release { yes, .. } => self.release(yes).await,
            Command::UndoRelease { words_file, lift, rewind } => {
                self.undo_release(&words_file, lift, rewind.as_deref()).await
            }
            Command::Mediator { command: MediatorCommand::List } => self.mediators().await,
            Command::Mediator { command: MediatorCommand::Use { mediator } } => {
                self.use_mediator(&mediator).await
            }
            Command::Prepayment { command } => self.prepayment(command).await,
            Command::Verify { data, sample } => {
                self.verify(VerifyOptions { data, sample: sample.map(NonZeroUsize::get) }).await
            }
            // Answered before the configuration was resolved: it may be wrong.
            Command::Config { .. } => Ok(Exit::Done),
        }
    }

    async fn backup(&self, folders: Vec<PathBuf>) -> Result<Exit, Failure> {
        let vault = self.open()?;
        let folders = if folders.is_empty() { self.config.client.folders.clone() } else { folders };
        if folders.is_empty() {
            return Err(Failure::Usage("nothing to back up: name a folder".to_owned()));
        }
        let result = client::backup(&vault, &folders, self.shows_progress()).await;
        if let Err(ClientError::Backup(BackupError::Unsafe { report, .. })) = &result {
            complain_of(report);
        }
        let report = result?;
        self.print(&report, || show_backup(&report, self.quiet));
        if let Some(check) = &report.self_check {
            complain_of(check);
        }
        warn_of(&report.prepayment);
        for skipped in &report.skipped {
            eprintln!("{NAME}: skipped {}: {}", printable(&skipped.path), skipped.reason);
        }
        Ok(if report.failed() { Exit::Partly } else { Exit::Done })
    }

    async fn snapshots(&self) -> Result<Exit, Failure> {
        let vault = self.open()?;
        #[derive(Serialize)]
        struct List {
            snapshots: Vec<client::SnapshotInfo>,
        }
        let list = List { snapshots: client::list_snapshots(&vault).await? };
        self.print(&list, || {
            print_lines(list.snapshots.iter().map(|snapshot| {
                format!(
                    "{}  {}  {:>14}  {:>10}  {}",
                    &snapshot.id[..12],
                    snapshot.when,
                    counted(snapshot.files, "file"),
                    ByteSize(snapshot.bytes).to_string(),
                    printable(&snapshot.paths.join(" "))
                )
            }));
        });
        Ok(Exit::Done)
    }

    async fn ls(&self, snapshot: &str, path: Option<&Path>) -> Result<Exit, Failure> {
        let vault = self.open()?;
        #[derive(Serialize)]
        struct List {
            entries: Vec<client::EntryInfo>,
        }
        let list = List { entries: client::list_entries(&vault, snapshot, path).await? };
        self.print(&list, || {
            print_lines(list.entries.iter().map(|entry| {
                format!("{:<7} {:04o} {:>12} {}", entry.kind, entry.mode, entry.size, printable(&entry.path))
            }));
        });
        Ok(Exit::Done)
    }

    async fn verify(&self, options: VerifyOptions) -> Result<Exit, Failure> {
        let vault = self.open()?;
        let report = client::verify(&vault, options).await?;
        self.print(&report, || {
            let segments = counted(report.segments as u64, "segment");
            println!("{} of {} shards in {segments} are good.", report.good, report.shards);
        });
        complain_of(&report);
        Ok(if report.good == report.shards { Exit::Done } else { Exit::Failed })
    }
}

/// Names the shards that a check did not find good, and their nodes.
fn complain_of(report: &CheckReport) {
    for (what, shard) in report.problems().filter(|(what, _)| *what != "unreachable") {
        eprintln!("{NAME}: {what}: shard {} of segment {} at {}", shard.index, shard.segment, shown(shard));
    }
    let mut silent: BTreeMap<String, usize> = BTreeMap::new();
    report.unreachable.iter().for_each(|shard| *silent.entry(shown(shard)).or_default() += 1);
    for (node, shards) in silent {
        eprintln!("{NAME}: unreachable: {node}: {}", counted(shards as u64, "shard"));
    }
}

fn shown(shard: &BadShard) -> String {
    let peer = shard.peer.as_ref().map(|peer| format!(" ({peer})")).unwrap_or_default();
    format!("{}{peer}", shard.node.as_deref().unwrap_or("no known holder"))
}

fn show_backup(report: &BackupReport, quiet: bool) {
    println!(
        "Snapshot {}: {}, {}; new {}, uploaded {}, stored {} in {}, {:.1} s.",
        &report.snapshot[..12],
        counted(report.files, "file"),
        ByteSize(report.bytes_in),
        ByteSize(report.bytes_new),
        ByteSize(report.bytes_uploaded),
        ByteSize(report.bytes_stored),
        counted(report.segments as u64, "segment"),
        report.seconds
    );
    if let Some(check) = report.self_check.as_ref().filter(|_| !quiet) {
        println!("Checked at storage: {} of {} shards are good.", check.good, check.shards);
    }
}
