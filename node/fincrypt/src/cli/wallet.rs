//! `fincrypt-node wallet`: a mediator's money.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use fincrypt_ledger::Ledger;
use fincrypt_protocol::amount::Msat;
#[cfg(feature = "bitcoin")]
use fincrypt_vault::words::Words;
use serde_json::{Value, json};

use super::local::{ask, call};
use super::output::{Exit, complain, print_json};
#[cfg(feature = "bitcoin")]
use super::{advice, secret};
use crate::home::Home;
#[cfg(feature = "bitcoin")]
use fincrypt_treasury::seed_file;

#[derive(Subcommand)]
pub(super) enum WalletCommand {
    /// Makes the wallet of a mediator and shows its 24 words, once.
    Init {
        /// Write the words into this file (mode 0600) instead of showing them.
        #[arg(long, conflicts_with = "from_words")]
        words_file: Option<PathBuf>,
        /// Make it from the words of before: a file, or - for standard input.
        #[arg(long)]
        from_words: Option<PathBuf>,
        /// The first block that may have something of theirs [default: all blocks are read].
        #[arg(long, requires = "from_words", value_name = "BLOCK", default_value_t = 0)]
        since: u32,
    },
    /// Shows what there is, on the chain and in channels, and how payouts stand.
    Show {
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Reads the whole ledger again, checks that it holds together, and shows what it comes to.
    Audit,
    /// Shows an address to which the operator's own money can be sent.
    Address,
    /// Shows the public descriptors, with which another wallet can watch this one.
    Descriptors,
    /// Moves money from the chain to the Lightning node, which opens channels with it.
    Fund {
        /// Satoshi that arrive there.
        sat: u64,
    },
    /// Lists the Lightning channels.
    Channels {
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Opens a Lightning channel that the network may know of, so that payments find a way.
    Open {
        /// The node to open it with, KEY@HOST:PORT.
        peer: String,
        /// Satoshi that go into it.
        sat: u64,
    },
    /// Closes a Lightning channel.
    Close {
        /// Its number, as `channels` shows it.
        channel: String,
        /// Without the other node, which costs more and takes a day or more.
        #[arg(long)]
        force: bool,
    },
}

pub(super) fn run(name: &str, home: &Home, command: WalletCommand) -> Exit {
    if cfg!(not(feature = "bitcoin")) && !matches!(command, WalletCommand::Audit) {
        complain(name, &"this build has no Bitcoin: use one with the feature `bitcoin`");
        return Exit::Failed;
    }
    let done = match command {
        WalletCommand::Init { words_file, from_words, since } => {
            init(home, words_file.as_deref(), from_words.as_deref(), since)
        }
        WalletCommand::Audit => return audit(name, home),
        WalletCommand::Show { json } => show(home, json),
        WalletCommand::Address => address(home),
        WalletCommand::Descriptors => descriptors(home),
        WalletCommand::Fund { sat } => fund(home, sat),
        WalletCommand::Channels { json } => channels(home, json),
        WalletCommand::Open { peer, sat } => open(home, &peer, sat),
        WalletCommand::Close { channel, force } => close(home, &channel, force),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(name, &error);
            Exit::Failed
        }
    }
}

#[cfg(not(feature = "bitcoin"))]
fn init(_: &Home, _: Option<&Path>, _: Option<&Path>, _: u32) -> Result<(), String> {
    Err("this build makes no wallets".to_owned())
}

#[cfg(feature = "bitcoin")]
fn init(home: &Home, words_file: Option<&Path>, from_words: Option<&Path>, since: u32) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    home.create().map_err(|error| told(&error))?;
    if home.wallet_seed().exists() {
        return Err(seed_file::SeedError::Exists(home.wallet_seed()).to_string());
    }
    let words = match from_words {
        Some(path) => {
            let text = secret::words(path).map_err(|error| told(&error))?;
            Words::parse(&text).map_err(|error| match advice::on_words(&error) {
                Some(advice) => format!("{error}: {advice}"),
                None => told(&error),
            })?
        }
        None => Words::generate().map_err(|error| told(&error))?,
    };
    // Written before the wallet exists: money whose words nobody has would be lost with the disk.
    if let Some(path) = words_file {
        let phrase = words.phrase();
        fincrypt_state::durable::write_file(path, phrase.as_bytes(), 0o600)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if from_words.is_some() {
        let path = home.wallet_birthday();
        fincrypt_state::durable::write_file(&path, since.to_string().as_bytes(), 0o600)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    seed_file::create(&home.wallet_seed(), &words.bitcoin_seed()).map_err(|error| told(&error))?;
    match (words_file, from_words) {
        (_, Some(_)) => println!("The wallet is made from its words."),
        (Some(path), None) => {
            println!(
                "The wallet's 24 words are in {}. Keep them safe, away from this machine.",
                path.display()
            );
        }
        (None, None) => println!(
            "The wallet's 24 words, shown only now. Write them down: they bring back what is on the chain.\n\n{}\n",
            *words.phrase()
        ),
    }
    println!(
        "What is in Lightning channels needs {} besides: back it up while the node is stopped only, and never run an old copy of it.",
        home.lightning().display()
    );
    Ok(())
}

/// Shows what the books come to: by the node that runs in the home, or from its ledger if none runs.
fn audit(name: &str, home: &Home) -> Exit {
    if let Ok(answer) = ask(home, "/api/v1/wallet/audit") {
        println!("{}", answer["report"].as_str().unwrap_or_default());
        return if answer["sound"] == true { Exit::Done } else { Exit::Failed };
    }
    if !home.ledger().exists() {
        complain(name, &format!("no ledger in {}: no mediator has run in this home", home.path().display()));
        return Exit::Failed;
    }
    let audited = Ledger::open(&home.ledger()).and_then(|(ledger, _)| ledger.audit());
    match audited {
        Ok(audit) => {
            println!("{audit}");
            if audit.is_sound() { Exit::Done } else { Exit::Failed }
        }
        Err(error) => {
            complain(name, &error);
            Exit::Failed
        }
    }
}

fn amount(msat: &Value) -> String {
    Msat::new(msat.as_u64().unwrap_or_default()).to_string()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn show(home: &Home, as_json: bool) -> Result<(), String> {
    let wallet = ask(home, "/api/v1/wallet")?;
    if as_json {
        print_json(&wallet);
        return Ok(());
    }
    for (name, key) in [
        ("on the chain", "on_chain_msat"),
        ("in channels", "lightning_msat"),
        ("capital", "capital_msat"),
        ("fees earned", "fees_earned_msat"),
        ("forwarding", "forwarding_msat"),
        ("network fees", "network_fees_msat"),
    ] {
        println!("{name:<16}{:>24}", amount(&wallet[key]));
    }
    let lightning = &wallet["lightning"];
    let chain = &wallet["chain"];
    if let Some(reason) = wallet["chain_down"].as_str() {
        println!("the chain cannot be read: {reason}");
    } else if chain.is_object() {
        println!(
            "wallet on the chain: {} sat in coins, {} sat of them in payouts under way, at block {}",
            chain["confirmed_sat"], chain["committed_sat"], chain["height"]
        );
    }
    if lightning.is_object() {
        println!("Lightning node {}", text(&lightning["node"]));
        println!(
            "  its own coins {} sat, {} sat to be spent now, {} sat kept to close channels; in channels {} sat",
            lightning["on_chain_sat"],
            lightning["spendable_sat"],
            lightning["reserve_sat"],
            lightning["channels_sat"]
        );
    } else if let Some(reason) = wallet["lightning_down"].as_str() {
        println!("the Lightning node does not run: {reason}");
    }
    if let Some(lacks) = wallet["lightning_lacks_msat"].as_i64() {
        let (sum, than) = (Msat::new(lacks.unsigned_abs()), if lacks > 0 { "less" } else { "more" });
        println!(
            "the Lightning node has {sum} {than} than the books say; if that stays so, look whether the folder `lightning` is the right one"
        );
    }
    for payout in wallet["payouts"].as_array().into_iter().flatten() {
        println!(
            "payout {} over {}: {} of {} contracts, {} {}",
            text(&payout["id"]),
            text(&payout["rail"]),
            amount(&payout["msat"]),
            payout["parts"],
            text(&payout["state"]),
            payout["sending"].as_str().unwrap_or_default(),
        );
    }
    for failure in wallet["payout_failures"].as_array().into_iter().flatten() {
        println!(
            "{} is not paid: {}; tried {} times, again in {} s",
            text(&failure["node"]),
            text(&failure["reason"]),
            failure["tries"],
            failure["again_in"]
        );
    }
    Ok(())
}

fn address(home: &Home) -> Result<(), String> {
    let answer = call(home, "POST", "/api/v1/wallet/address", None)?;
    println!("{}", text(&answer["address"]));
    Ok(())
}

fn descriptors(home: &Home) -> Result<(), String> {
    let answer = ask(home, "/api/v1/wallet/descriptors")?;
    println!("{}\n{}", text(&answer["receive"]), text(&answer["change"]));
    Ok(())
}

fn fund(home: &Home, sat: u64) -> Result<(), String> {
    let answer = call(home, "POST", "/api/v1/wallet/fund", Some(&json!({ "sat": sat })))?;
    println!("{sat} sat go to the Lightning node in transaction {}", text(&answer["transaction"]));
    Ok(())
}

fn channels(home: &Home, as_json: bool) -> Result<(), String> {
    let wallet = ask(home, "/api/v1/wallet")?;
    let channels = &wallet["lightning"]["channels"];
    if as_json {
        print_json(channels);
        return Ok(());
    }
    if let Some(reason) = wallet["lightning_down"].as_str() {
        return Err(format!("the Lightning node does not run: {reason}"));
    }
    for channel in channels.as_array().into_iter().flatten() {
        println!(
            "{} with {}: {} sat, can send {}, can receive {}, {}{}",
            text(&channel["id"]),
            text(&channel["peer"]),
            channel["value_sat"],
            amount(&channel["can_send_msat"]),
            amount(&channel["can_receive_msat"]),
            if channel["usable"] == true { "usable" } else { "not usable" },
            if channel["usable"] == true {
                String::new()
            } else {
                format!(", {} of {} confirmations", channel["confirmations"], channel["confirmations_needed"])
            },
        );
    }
    Ok(())
}

fn open(home: &Home, peer: &str, sat: u64) -> Result<(), String> {
    let opened = call(home, "POST", "/api/v1/wallet/channels", Some(&json!({ "peer": peer, "sat": sat })))?;
    println!("channel {} is being opened; `wallet channels` shows how far it is", text(&opened["id"]));
    Ok(())
}

fn close(home: &Home, channel: &str, force: bool) -> Result<(), String> {
    let digits = !channel.is_empty() && channel.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err(format!("{channel} is no channel: `wallet channels` lists them"));
    }
    call(home, "DELETE", &format!("/api/v1/wallet/channels/{channel}?force={force}"), None)?;
    println!("the channel is being closed; its money comes back to the Lightning node's own coins");
    Ok(())
}
