//! Options of whatever moves money: a mediator, a storage node's own Lightning node.

use crate::config::values;

/// Options of the chain and of the Lightning node.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Bitcoin")]
pub struct BitcoinArgs {
    /// Bitcoin network: regtest, signet, testnet4 or bitcoin. Without it: regtest in a local network,
    /// signet in test; in main it must be named.
    #[arg(long, value_name = "NETWORK", value_parser = values::bitcoin_network)]
    pub bitcoin_network: Option<String>,
    /// RPC address of a bitcoind, such as http://127.0.0.1:8332.
    #[arg(long, value_name = "URL", value_parser = values::chain_source)]
    pub bitcoind_url: Option<String>,
    /// File with the user and password of its RPC, such as ~/.bitcoin/.cookie.
    #[arg(long, value_name = "FILE")]
    pub bitcoind_cookie: Option<String>,
    /// Address of an Esplora server, if there is no bitcoind.
    #[arg(long, value_name = "URL", value_parser = values::chain_source)]
    pub esplora_url: Option<String>,
    /// Where the Lightning node listens, host:port. Without any: loopback in a local network, else
    /// nowhere.
    #[arg(long, value_name = "ADDRESS")]
    pub lightning_listen: Vec<String>,
    /// Name of the Lightning node, at most 32 bytes.
    #[arg(long, value_name = "NAME", default_value = "fincrypt", value_parser = values::alias)]
    pub lightning_alias: String,
}
