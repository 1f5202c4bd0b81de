//! The arguments of `fincrypt`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use fincrypt_protocol::limits::MAX_SLOTS;

use super::config::ConfigCommand;
use super::forget::{ForgetArgs, PruneArgs};
use super::prepayment::PrepaymentCommand;
use crate::config::with_flags;

/// Backs up folders to machines of other people, encrypted and spread so that several may vanish,
/// and brings them back with 24 words.
///
/// A vault is a set of snapshots of folders. Files are cut into pieces, compressed, encrypted here and
/// encoded into shards, of which any few bring a piece back. A mediator places the shards on storage
/// nodes, audits and repairs them, and pays for storage out of what is prepaid; neither it nor storage
/// can read or forge anything.
///
/// First: `fincrypt init FOLDER`, then `fincrypt backup`. On a new machine: `fincrypt recover`.
#[derive(Parser)]
#[command(name = "fincrypt", version, about)]
pub(super) struct Args {
    /// Where the vault's local part is [default: the user's data folder].
    #[arg(long, global = true)]
    pub(super) home: Option<PathBuf>,
    /// Print one JSON document on standard output.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say nothing but errors and results.
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Say more; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// File whose first line is the vault's password.
    #[arg(long, global = true)]
    pub(super) password_file: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The program, with flags for the options that a person sets by hand; all others come from the file
/// or the environment.
pub(super) fn program() -> clap::Command {
    let everywhere = |key: &str| matches!(key, "network" | "bootstrap" | "max_price");
    with_flags(Args::command(), everywhere, true)
        .mut_subcommand("init", |init| with_flags(init, |key| key == "redundancy", false))
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Makes a vault and shows its 24 words, once.
    Init {
        /// Folders to back up.
        #[arg(required = true)]
        folders: Vec<PathBuf>,
        /// Write the words into this file (mode 0600) instead of showing them.
        #[arg(long)]
        words_file: Option<PathBuf>,
        /// Which of the vault's accounts to use.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..i64::from(MAX_SLOTS)))]
        slot: u32,
    },
    /// Takes a snapshot of the vault's folders, or of those given.
    Backup {
        /// Folders to back up this time.
        folders: Vec<PathBuf>,
    },
    /// Lists the snapshots.
    Snapshots,
    /// Lists what a snapshot holds.
    Ls {
        /// Snapshot id, at least four digits of it, or latest.
        snapshot: String,
        /// Path inside the snapshot.
        path: Option<PathBuf>,
    },
    /// Brings a snapshot back.
    Restore {
        /// Snapshot id, at least four digits of it, or latest.
        snapshot: String,
        /// Folder to restore into; needed unless --test.
        #[arg(long)]
        target: Option<PathBuf>,
        /// Write nothing: fetch and check everything that the snapshot needs.
        #[arg(long, conflicts_with_all = ["target", "paths", "overwrite"])]
        test: bool,
        /// Paths inside the snapshot; all if none is given.
        paths: Vec<PathBuf>,
        /// Replace existing files that differ.
        #[arg(long)]
        overwrite: bool,
        /// Fetch straight from storage, without the mediator; storage nodes see this machine's
        /// address.
        #[arg(long)]
        direct: bool,
    },
    /// Shows how the vault and each of its snapshots stand.
    Status {
        /// Look at the vault and its mediator only.
        #[arg(long)]
        brief: bool,
    },
    /// Finds a vault in the network by its 24 words and makes a new home for it.
    Recover {
        /// File with the 24 words, or - for standard input.
        #[arg(long)]
        words_file: PathBuf,
        /// Show the heads that storage keeps, and recover nothing.
        #[arg(long, conflicts_with = "head")]
        list_heads: bool,
        /// Go back to this head rather than by the newest: its sequence, or eight digits of its hash.
        /// The keys that other machines have of this vault are refused afterwards: each has to be
        /// recovered, too.
        #[arg(long)]
        head: Option<String>,
    },
    /// Forgets snapshots: those named, and those that no rule keeps.
    Forget(ForgetArgs),
    /// Gives back the room of what no snapshot uses any more: marks it first, releases it in a later
    /// run.
    Prune(PruneArgs),
    /// Deletes what the vault stored, after a delay within which the words can undo it.
    Release {
        /// Everything, all snapshots included.
        #[arg(long, required = true)]
        all: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Cancels pending deletions with the 24 words alone, and refuses further ones.
    UndoRelease {
        /// File with the 24 words, or - for standard input.
        #[arg(long)]
        words_file: PathBuf,
        /// Cancel what is pending, but let later deletions in again.
        #[arg(long)]
        lift: bool,
        /// Go back to this head, too: its sequence, or eight digits of its hash. Every machine of the
        /// vault has to be recovered afterwards; a thief's writes no more.
        #[arg(long, value_name = "HEAD")]
        rewind: Option<String>,
    },
    /// Shows mediators, or moves the vault to one.
    Mediator {
        #[command(subcommand)]
        command: MediatorCommand,
    },
    /// Shows what is prepaid and what for, pays in and out.
    Prepayment {
        #[command(subcommand)]
        command: PrepaymentCommand,
    },
    /// Looks at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Asks storage straight for a proof of every shard: a leaf of 1 KiB that nobody could foresee.
    Verify {
        /// Fetch whole shards rather than single leaves.
        #[arg(long, alias = "all")]
        data: bool,
        /// Check only this number of random shards, at least 1.
        #[arg(long, value_name = "SHARDS")]
        sample: Option<NonZeroUsize>,
    },
}

#[derive(Subcommand)]
pub(super) enum MediatorCommand {
    /// Lists the mediators that announce themselves, cheapest first.
    List,
    /// Moves the vault to a mediator; no data is sent again.
    Use {
        /// Its peer id or an address of it.
        mediator: String,
    },
}

#[cfg(test)]
mod tests {
    #[test]
    fn arguments_and_options_fit_together() {
        super::program().debug_assert();
    }

    #[test]
    fn a_sample_of_nothing_is_wrong_usage() {
        let parse =
            |sample| super::program().try_get_matches_from(["fincrypt", "verify", "--sample", sample]);
        assert!(parse("1").is_ok() && parse("0").is_err());
    }
}
