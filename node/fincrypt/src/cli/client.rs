//! `fincrypt`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, FromArgMatches};
use fincrypt_protocol::ByteSize;
use fincrypt_vault::words::Words;
use serde::Serialize;
use zeroize::Zeroizing;

use super::args::{Args, Command, MediatorCommand, program};
use super::output::{Exit, complain};
use super::prepayment::warn_of;
use super::secret;
use super::session::{Failure, NAME, Session};
use super::{advice, log};
use crate::config::{Settings, default_home};
use crate::home::Home;
use fincrypt_client as client;
use fincrypt_client::{
    BackupReport, BadShard, CheckReport, ClientError, RestoreOptions, Vault, VerifyOptions,
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
        return Ok(super::config::run(command, &settings));
    }
    let config = settings.resolve()?;
    let session =
        Session { home, config, json: args.json, quiet: args.quiet, password_file: args.password_file };
    session.run(args.command).await
}

impl Session {
    async fn run(&self, command: Command) -> Result<Exit, Failure> {
        match command {
            Command::Init { folders, words_file, slot, .. } => {
                self.init(&folders, words_file.as_deref(), slot)
            }
            Command::Backup { folders } => self.backup(folders).await,
            Command::Snapshots => self.snapshots().await,
            Command::Ls { snapshot, path } => self.ls(&snapshot, path.as_deref()).await,
            Command::Restore { snapshot, target: Some(target), paths, overwrite, direct, .. } => {
                self.restore(RestoreOptions { snapshot, target, paths, overwrite, direct }).await
            }
            Command::Restore { snapshot, target: None, direct, .. } => {
                self.test_restore(&snapshot, direct).await
            }
            Command::Status { brief } => self.status(brief).await,
            Command::Recover { words_file, list_heads: true, .. } => self.list_heads(&words_file).await,
            Command::Recover { words_file, head, .. } => self.recover(&words_file, head.as_deref()).await,
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
            Command::Verify { data, sample } => self.verify(VerifyOptions { data, sample }).await,
            // Answered before the configuration was resolved: it may be wrong.
            Command::Config { .. } => Ok(Exit::Done),
        }
    }

    fn init(&self, folders: &[PathBuf], words_file: Option<&Path>, slot: u32) -> Result<Exit, Failure> {
        if self.home.vault().keyfile().exists() {
            return Err(ClientError::VaultExists(self.home.path().to_owned()).into());
        }
        let mut absolute = Vec::new();
        for folder in folders {
            let path = folder
                .canonicalize()
                .map_err(|error| ClientError::Folder { path: folder.clone(), reason: error.to_string() })?;
            if !path.is_dir() {
                let reason = "not a folder".to_owned();
                return Err(ClientError::Folder { path, reason }.into());
            }
            absolute.push(path);
        }
        let password = secret::password(self.password_file.as_deref(), true)?;
        let words = Words::generate()?;
        let phrase = words.phrase();
        // Written before the vault exists: a vault whose words nobody has would be worth nothing.
        if let Some(path) = words_file {
            write_new(path, &format!("{}\n", *phrase))?;
        }
        self.write_config(&absolute)?;
        Vault::create(&self.home.vault(), &words.vault_keys(), &password)?;
        if slot != 0 {
            let vault = Vault::open(self.home.vault(), self.config.client(), &password)?;
            vault.set_slot(slot)?;
            vault.close();
        }

        #[derive(Serialize)]
        struct Made<'a> {
            home: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            words: Option<&'a str>,
        }
        let made = Made {
            home: self.home.path().display().to_string(),
            words: words_file.is_none().then_some(phrase.as_str()),
        };
        self.print(&made, || {
            println!("The vault is in {}.", made.home);
            match words_file {
                Some(path) => println!(
                    "Its 24 words are in {}. Keep them safe, away from this machine.",
                    path.display()
                ),
                None => {
                    println!(
                        "Its 24 words, shown only now. Write them down: they alone bring everything back.\n"
                    );
                    for (line, words) in phrase.split(' ').collect::<Vec<_>>().chunks(6).enumerate() {
                        println!("  {:>2}. {}", line * 6 + 1, words.join(" "));
                    }
                }
            }
        });
        Ok(Exit::Done)
    }

    /// Writes what later commands need, unless there is a configuration already.
    fn write_config(&self, folders: &[PathBuf]) -> Result<(), Failure> {
        let path = self.home.config();
        self.home.create()?;
        if path.exists() {
            return Ok(());
        }
        let mut table = toml::Table::new();
        let strings =
            |items: Vec<String>| toml::Value::Array(items.into_iter().map(toml::Value::String).collect());
        let config = &self.config;
        table.insert("network".to_owned(), config.network.network.to_string().into());
        table.insert(
            "bootstrap".to_owned(),
            strings(config.network.bootstrap.iter().map(ToString::to_string).collect()),
        );
        let permille = config.client.redundancy.permille();
        let redundancy = format!("{}.{:03}", permille / 1000, permille % 1000);
        table.insert("redundancy".to_owned(), redundancy.into());
        if let Some(price) = config.client.max_price {
            let price = format!("{}.{:03}", price.get() / 1000, price.get() % 1000);
            table.insert("max_price".to_owned(), price.into());
        }
        if !folders.is_empty() {
            let folders = folders.iter().map(|folder| folder.display().to_string()).collect();
            table.insert("folders".to_owned(), strings(folders));
        }
        fincrypt_state::durable::write_file(&path, table.to_string().as_bytes(), 0o600)
            .map_err(|source| ClientError::Io { path, source }.into())
    }

    async fn backup(&self, folders: Vec<PathBuf>) -> Result<Exit, Failure> {
        let vault = self.open()?;
        let folders = if folders.is_empty() { self.config.client.folders.clone() } else { folders };
        if folders.is_empty() {
            return Err(Failure::Usage("nothing to back up: name a folder".to_owned()));
        }
        let result = client::backup(&vault, &folders, self.shows_progress()).await;
        if let Err(ClientError::Unsafe { report, .. }) = &result {
            complain_of(report);
        }
        let report = result?;
        self.print(&report, || show_backup(&report, self.quiet));
        if let Some(check) = &report.self_check {
            complain_of(check);
        }
        warn_of(&report.purse);
        for skipped in &report.skipped {
            eprintln!("{NAME}: skipped {}: {}", skipped.path, skipped.reason);
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
            for snapshot in &list.snapshots {
                let paths = snapshot.paths.join(" ");
                println!(
                    "{}  {}  {:>8} files  {:>10}  {paths}",
                    &snapshot.id[..12],
                    snapshot.when,
                    snapshot.files,
                    ByteSize(snapshot.bytes).to_string()
                );
            }
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
            for entry in &list.entries {
                println!("{:<7} {:04o} {:>12} {}", entry.kind, entry.mode, entry.size, entry.path);
            }
        });
        Ok(Exit::Done)
    }

    async fn recover(&self, words_file: &Path, head: Option<&str>) -> Result<Exit, Failure> {
        if self.home.vault().keyfile().exists() {
            return Err(ClientError::VaultExists(self.home.path().to_owned()).into());
        }
        let words = Words::parse(&secret::words(words_file)?)?;
        let password: Zeroizing<String> = secret::password(self.password_file.as_deref(), true)?;
        let report =
            client::recover(self.home.vault(), self.config.client(), &words, &password, head).await?;
        self.write_config(&[])?;
        self.print(&report, || {
            println!(
                "Found {} snapshots; the head is {} s old, number {}; {} holders answered.",
                report.snapshots, report.age_seconds, report.sequence, report.holders
            );
        });
        Ok(Exit::Done)
    }

    async fn verify(&self, options: VerifyOptions) -> Result<Exit, Failure> {
        let vault = self.open()?;
        let report = client::verify(&vault, options).await?;
        self.print(&report, || {
            println!("{} of {} shards in {} segments are good.", report.good, report.shards, report.segments);
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
        eprintln!("{NAME}: unreachable: {node}, asked for {shards} shards");
    }
}

fn shown(shard: &BadShard) -> String {
    let peer = shard.peer.as_ref().map(|peer| format!(" ({peer})")).unwrap_or_default();
    format!("{}{peer}", shard.node.as_deref().unwrap_or("no holder"))
}

fn show_backup(report: &BackupReport, quiet: bool) {
    println!(
        "Snapshot {}: {} files, {}; new {}, uploaded {}, stored {} in {} segments, {:.1} s.",
        &report.snapshot[..12],
        report.files,
        ByteSize(report.bytes_in),
        ByteSize(report.bytes_new),
        ByteSize(report.bytes_uploaded),
        ByteSize(report.bytes_stored),
        report.segments,
        report.seconds
    );
    if let Some(check) = report.self_check.as_ref().filter(|_| !quiet) {
        println!("Checked at storage: {} of {} shards are good.", check.good, check.shards);
    }
}

/// Writes a secret into a file that must not exist yet, for its owner alone.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let io = |source| Failure::Client(ClientError::Io { path: path.to_owned(), source });
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)
}
