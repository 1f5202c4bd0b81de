//! `fincrypt-node`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use fincrypt_net::{Role, Roles};

use super::config::{self, ConfigCommand};
use super::output::{Exit, complain};
use super::secret::SecretError;
use super::wallet::WalletCommand;
use super::{drain, log, node_status, secret, wallet};
use crate::config::{Config, ConfigError, Settings, default_home, variables, with_flags};
use crate::daemon;
use crate::error::NodeError;
use crate::home::Home;

const NAME: &str = "fincrypt-node";

/// Runs a node of the encrypted filestore Fincrypt: storage, mediator, bootstrap, or several at once.
///
/// A storage node keeps shards of other people's encrypted backups and is paid for it; a mediator
/// places, audits and repairs shards and bills for them; a bootstrap node is a first contact; a client
/// node backs up its home's vault at intervals.
///
/// Each option but --role, --home, --config and --password-file can also be set by a variable
/// `FINCRYPT_KEY` or by its key in config.toml, with _ for -; flags win over variables, these over the
/// file. `fincrypt-node config check` shows where each value
/// comes from.
#[derive(Parser)]
#[command(name = NAME, version, about)]
struct Args {
    /// What the node does; may be given several times.
    #[arg(long = "role", value_enum)]
    roles: Vec<RoleArg>,
    /// Where the node keeps everything [default: the user's data folder].
    #[arg(long, global = true)]
    home: Option<PathBuf>,
    /// Configuration file [default: config.toml in the home].
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// File whose first line is the password of the home's vault, for the client role.
    #[arg(long, global = true)]
    password_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Prepares to switch a storage node off: it takes no new shards, and those it has are moved to
    /// other nodes. Waits until all are.
    Drain {
        /// Takes it back: the node stays.
        #[arg(long)]
        cancel: bool,
        /// Does not wait.
        #[arg(long)]
        no_wait: bool,
    },
    /// Shows how the node that runs in the home stands: who is audited, and what that came to.
    Status {
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Makes a mediator's wallet, and looks after its money.
    Wallet {
        #[command(subcommand)]
        command: WalletCommand,
    },
    /// Looks at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// A command did not work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("cannot start threads: {0}")]
    Runtime(std::io::Error),
    #[error("{0}")]
    Usage(&'static str),
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Usage(_) => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    Client,
    Storage,
    Mediator,
    Bootstrap,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Client => Self::Client,
            RoleArg::Storage => Self::Storage,
            RoleArg::Mediator => Self::Mediator,
            RoleArg::Bootstrap => Self::Bootstrap,
        }
    }
}

/// The program, with a flag for every option.
fn program() -> clap::Command {
    with_flags(Args::command(), |_| true, true)
}

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
    // The Lightning node logs at every block of a regtest chain that it knows no fees, the DHT that a
    // first node has no peers.
    log::to_standard_error("fincrypt=info,ldk_node::chain=off,libp2p_kad=error,warn");
    let Some(home) = args.home.clone().or_else(default_home) else {
        complain(NAME, &"no home: give --home DIR or set HOME");
        return Exit::Usage;
    };
    let home = Home::new(home);
    match run(args, &matches, home) {
        Ok(exit) => exit,
        Err(failure) => {
            let advice = match &failure {
                Failure::Node(error) => super::advice::on_node(error),
                Failure::Config(error) => super::advice::on_config(error),
                _ => None,
            };
            match advice {
                Some(advice) => complain(NAME, &format_args!("{failure}: {advice}")),
                None => complain(NAME, &failure),
            }
            failure.exit()
        }
    }
}

fn run(args: Args, matches: &ArgMatches, home: Home) -> Result<Exit, Failure> {
    if let Some(Command::Status { json }) = args.command {
        node_status::show(&home, json).map_err(Failure::Other)?;
        return Ok(Exit::Done);
    }
    let file = args.config.clone().unwrap_or_else(|| home.config());
    let settings = Settings::defaults()
        .with_file(&file, args.config.is_some())?
        .with_environment(|name| std::env::var(name).ok())
        .with_flags(matches);
    match args.command {
        Some(Command::Config { command }) => Ok(config::run(command, &settings, false)),
        Some(Command::Wallet { command }) => Ok(wallet::run(NAME, &home, command)),
        Some(Command::Drain { cancel, no_wait }) => Ok(drain::run(NAME, &home, cancel, !no_wait)),
        Some(Command::Status { .. }) | None => {
            settings.check_variables(variables())?;
            serve(home, settings.resolve()?, args.roles, args.password_file.as_deref())
        }
    }
}

fn serve(
    home: Home,
    config: Config,
    roles: Vec<RoleArg>,
    password_file: Option<&Path>,
) -> Result<Exit, Failure> {
    if roles.is_empty() {
        return Err(Failure::Usage("no role: give --role storage, mediator, bootstrap or client"));
    }
    let is_client = roles.iter().any(|role| matches!(role, RoleArg::Client));
    let password = is_client.then(|| secret::password(password_file, false)).transpose()?;
    let roles = Roles::new(roles.into_iter().map(Role::from));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(Failure::Runtime)?.block_on(daemon::run(home, config, roles, password))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    #[test]
    fn arguments_and_options_fit_together() {
        super::program().debug_assert();
    }
}
