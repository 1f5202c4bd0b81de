//! `fincrypt init` and `fincrypt recover`: a vault is made, or comes back from its words.

use std::path::{Path, PathBuf};

use fincrypt_client as client;
use fincrypt_client::{BackupError, HomeError, Vault};
use fincrypt_vault::words::Words;
use serde::Serialize;
use zeroize::Zeroizing;

use super::invocation::{Failure, Invocation};
use super::output::Exit;
use super::secret;

pub(super) fn init(
    invocation: &Invocation,
    folders: &[PathBuf],
    words_file: Option<&Path>,
    slot: u32,
) -> Result<Exit, Failure> {
    if invocation.home.vault().keyfile().exists() {
        return Err(HomeError::VaultExists(invocation.home.path().to_owned()).into());
    }
    let mut absolute = Vec::new();
    for folder in folders {
        let path = folder
            .canonicalize()
            .map_err(|error| BackupError::Folder { path: folder.clone(), reason: error.to_string() })?;
        if !path.is_dir() {
            let reason = "not a folder".to_owned();
            return Err(BackupError::Folder { path, reason }.into());
        }
        // The configuration is text.
        if path.to_str().is_none() {
            let reason = "its path is not UTF-8, so config.toml cannot name it: rename it, or leave it out here and give it to each `fincrypt backup`";
            return Err(BackupError::Folder { path, reason: reason.to_owned() }.into());
        }
        absolute.push(path);
    }
    let password = secret::password(invocation.password_file.as_deref(), true)?;
    let words = Words::generate()?;
    let phrase = words.phrase();
    // Written before the vault exists: a vault whose words nobody has would be worth nothing.
    if let Some(path) = words_file {
        write_new(path, &format!("{}\n", *phrase))?;
    }
    write_config(invocation, &absolute)?;
    Vault::create(&invocation.home.vault(), &words.vault_keys(), &password)?;
    if slot != 0 {
        let vault = Vault::open(invocation.home.vault(), invocation.config.client(), &password)?;
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
        home: invocation.home.path().display().to_string(),
        words: words_file.is_none().then_some(phrase.as_str()),
    };
    invocation.print(&made, || {
        println!("The vault is in {}.", made.home);
        match words_file {
            Some(path) => {
                println!("Its 24 words are in {}. Keep them safe, away from this machine.", path.display())
            }
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

/// A number of thousandths, with three decimals.
fn decimals(thousandths: u64) -> String {
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// Writes what later commands need, unless there is a configuration already.
fn write_config(invocation: &Invocation, folders: &[PathBuf]) -> Result<(), Failure> {
    let path = invocation.home.config();
    invocation.home.create()?;
    if path.exists() {
        return Ok(());
    }
    let mut table = toml::Table::new();
    let strings =
        |items: Vec<String>| toml::Value::Array(items.into_iter().map(toml::Value::String).collect());
    let config = &invocation.config;
    table.insert("network".to_owned(), config.network.network.to_string().into());
    table.insert(
        "bootstrap".to_owned(),
        strings(config.network.bootstrap.iter().map(ToString::to_string).collect()),
    );
    let redundancy = decimals(config.client.redundancy.permille().into());
    table.insert("redundancy".to_owned(), redundancy.into());
    if let Some(price) = config.client.max_price {
        table.insert("max_price".to_owned(), decimals(price.get()).into());
    }
    if !folders.is_empty() {
        let folders = folders.iter().map(|folder| folder.display().to_string()).collect();
        table.insert("folders".to_owned(), strings(folders));
    }
    fincrypt_state::durable::write_file(&path, table.to_string().as_bytes(), 0o600)
        .map_err(|source| HomeError::Io { path, source }.into())
}

pub(super) async fn recover(
    invocation: &Invocation,
    words_file: &Path,
    head: Option<&str>,
) -> Result<Exit, Failure> {
    if invocation.home.vault().keyfile().exists() {
        return Err(HomeError::VaultExists(invocation.home.path().to_owned()).into());
    }
    let words = Words::parse(&secret::words(words_file)?)?;
    let password: Zeroizing<String> = secret::password(invocation.password_file.as_deref(), true)?;
    let report =
        client::recover(invocation.home.vault(), invocation.config.client(), &words, &password, head).await?;
    write_config(invocation, &[])?;
    invocation.print(&report, || {
        println!(
            "Found {} snapshots; the head is {} s old, number {}; {} holders answered.",
            report.snapshots, report.age_seconds, report.sequence, report.holders
        );
        let config = invocation.home.config();
        if let Some(permille) = report.higher_redundancy {
            let set = invocation.config.client.redundancy.permille();
            println!(
                "Segments of it have a redundancy of {}, new ones get {}: to keep it, set `redundancy` in {}.",
                decimals(permille.into()),
                decimals(set.into()),
                config.display()
            );
        }
        if let Some(price) = report.max_price_msat {
            println!(
                "Its limit of the price holds on: {} sat per GiB-month; `max_price` in {} changes it.",
                decimals(price),
                config.display()
            );
        }
        println!("Its other settings and folders are not in the network: see {}.", config.display());
    });
    Ok(Exit::Done)
}

/// Writes a secret into a file that must not exist yet, for its owner alone.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let io = |source| Failure::from(HomeError::Io { path: path.to_owned(), source });
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)
}
