//! `fincrypt-node`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use fincrypt_net::{Role, Roles};

use super::output::{Exit, complain};
use super::wallet::WalletCommand;
use super::{drain, node_status, secret, wallet};
use crate::config::{Settings, default_home};
use crate::daemon;
use crate::home::Home;

const NAME: &str = "fincrypt-node";

/// Runs a Fincrypt node: storage, mediator, bootstrap, or several at once.
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
    /// local, test or main.
    #[arg(long, global = true)]
    network: Option<String>,
    /// Address to listen on; may be given several times.
    #[arg(long, global = true)]
    listen: Vec<String>,
    /// Address of a first contact; may be given several times.
    #[arg(long, global = true)]
    bootstrap: Vec<String>,
    /// Bytes a storage node offers, such as 500GB.
    #[arg(long, global = true)]
    capacity: Option<String>,
    /// Seconds of an epoch.
    #[arg(long, global = true)]
    epoch: Option<String>,
    /// Epochs that a storage node may be silent before its shards are rebuilt elsewhere.
    #[arg(long, global = true, value_name = "EPOCHS")]
    absence_epochs: Option<String>,
    /// Epochs of silence after which a storage node is given up.
    #[arg(long, global = true, value_name = "EPOCHS")]
    loss_epochs: Option<String>,
    /// Loopback address of the local interface, or off.
    #[arg(long, global = true)]
    api: Option<String>,
    /// Satoshi per GiB-month, three decimals.
    #[arg(long, global = true)]
    price: Option<String>,
    /// Satoshi per GiB read beyond what is included, three decimals.
    #[arg(long, global = true, value_name = "SAT")]
    egress_price: Option<String>,
    /// A mediator's fee on what storage earns, in percent, one decimal.
    #[arg(long, global = true, value_name = "PERCENT")]
    fee_percent: Option<String>,
    /// Where a storage node is paid: a Bitcoin address, a Lightning offer, a Lightning node, or
    /// `lightning` for a node of its own.
    #[arg(long, global = true, value_name = "DESTINATION")]
    payout: Option<String>,
    /// regtest, signet, testnet4 or bitcoin [default: regtest in a local network, signet in test].
    #[arg(long, global = true, value_name = "NETWORK")]
    bitcoin_network: Option<String>,
    /// RPC address of a bitcoind, such as http://127.0.0.1:8332.
    #[arg(long, global = true, value_name = "URL")]
    bitcoind_url: Option<String>,
    /// File with the user and password of its RPC, such as ~/.bitcoin/.cookie.
    #[arg(long, global = true, value_name = "FILE")]
    bitcoind_cookie: Option<String>,
    /// Address of an Esplora server, if there is no bitcoind.
    #[arg(long, global = true, value_name = "URL")]
    esplora_url: Option<String>,
    /// Where the Lightning node listens, host:port; may be given several times.
    #[arg(long, global = true, value_name = "ADDRESS")]
    lightning_listen: Vec<String>,
    /// Seconds that storage waits before it deletes what an owner released [default: 604800].
    #[arg(long, global = true, value_name = "SECONDS")]
    release_delay: Option<String>,
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

#[derive(Subcommand)]
enum ConfigCommand {
    /// Shows each value, where it came from, and what is wrong with it.
    Check,
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

pub(super) fn main(args: Vec<OsString>) -> Exit {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    // The Lightning node says of every look at a regtest chain that it knows no fees.
    super::log("fincrypt=info,ldk_node::chain=off,warn");
    let Some(home) = args.home.clone().or_else(default_home) else {
        complain(NAME, &"no home: give --home DIR or set HOME");
        return Exit::Usage;
    };
    let home = Home::new(home);
    if let Some(Command::Status { json }) = args.command {
        return match node_status::show(&home, json) {
            Ok(()) => Exit::Done,
            Err(error) => {
                complain(NAME, &error);
                Exit::Failed
            }
        };
    }
    let settings = match settings(&args, &home) {
        Ok(settings) => settings,
        Err(error) => {
            complain(NAME, &error);
            return Exit::Usage;
        }
    };
    match args.command {
        Some(Command::Config { command: ConfigCommand::Check }) => return check(&settings),
        Some(Command::Wallet { command }) => return wallet::run(NAME, &home, command),
        Some(Command::Drain { cancel, no_wait }) => return drain::run(NAME, &home, cancel, !no_wait),
        Some(Command::Status { .. }) | None => {}
    }
    let config = match settings.resolve() {
        Ok(config) => config,
        Err(error) => {
            complain(NAME, &error);
            return Exit::Usage;
        }
    };
    if args.roles.is_empty() {
        complain(NAME, &"no role: give --role storage, mediator, bootstrap or client");
        return Exit::Usage;
    }
    let password = if args.roles.iter().any(|role| matches!(role, RoleArg::Client)) {
        match secret::password(args.password_file.as_deref(), false) {
            Ok(password) => Some(password),
            Err(error) => {
                complain(NAME, &error);
                return Exit::Failed;
            }
        }
    } else {
        None
    };
    let roles = Roles::new(args.roles.into_iter().map(Role::from));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(NAME, &error);
            return Exit::Failed;
        }
    };
    match runtime.block_on(daemon::run(home, config, roles, password)) {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(NAME, &error);
            Exit::Failed
        }
    }
}

fn settings(args: &Args, home: &Home) -> Result<Settings, crate::config::ConfigError> {
    let file = args.config.clone().unwrap_or_else(|| home.config());
    let one = |value: &Option<String>| value.clone().into_iter().collect::<Vec<_>>();
    Ok(Settings::defaults()
        .with_file(&file, args.config.is_some())?
        .with_environment()
        .with_flag("network", one(&args.network))
        .with_flag("listen", args.listen.clone())
        .with_flag("bootstrap", args.bootstrap.clone())
        .with_flag("capacity", one(&args.capacity))
        .with_flag("epoch", one(&args.epoch))
        .with_flag("absence_epochs", one(&args.absence_epochs))
        .with_flag("loss_epochs", one(&args.loss_epochs))
        .with_flag("api", one(&args.api))
        .with_flag("price", one(&args.price))
        .with_flag("egress_price", one(&args.egress_price))
        .with_flag("fee_percent", one(&args.fee_percent))
        .with_flag("payout", one(&args.payout))
        .with_flag("bitcoin_network", one(&args.bitcoin_network))
        .with_flag("bitcoind_url", one(&args.bitcoind_url))
        .with_flag("bitcoind_cookie", one(&args.bitcoind_cookie))
        .with_flag("esplora_url", one(&args.esplora_url))
        .with_flag("lightning_listen", args.lightning_listen.clone())
        .with_flag("release_delay", one(&args.release_delay)))
}

fn check(settings: &Settings) -> Exit {
    let mut exit = Exit::Done;
    for (line, problem) in settings.explain() {
        println!("{line}");
        if let Some(problem) = problem {
            println!("    wrong: {problem}");
            exit = Exit::Failed;
        }
    }
    exit
}
