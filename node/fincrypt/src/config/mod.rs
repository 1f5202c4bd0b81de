//! Configuration: defaults < file < `FINCRYPT_*` < flags, each value with where it came from.
//!
//! `options` declares every option once. [`Settings`] merges the layers and checks each value;
//! [`Config`] is what comes out.

#[cfg(feature = "bitcoin")]
mod chain;
mod error;
mod file;
mod options;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::path::PathBuf;

use fincrypt_client::ClientOptions;
use fincrypt_mediator::{MediatorTerms, MoneyOptions, MoneyPaths};
use fincrypt_protocol::Network;
use fincrypt_storage_node::StorageTerms;
#[cfg(feature = "bitcoin")]
use fincrypt_treasury::Chain;

use crate::home::Home;

pub use error::{ConfigError, Origin};
pub use options::{BitcoinArgs, ClientArgs, MediatorArgs, NetworkArgs, StorageArgs};
pub use settings::{Explained, Settings, with_flags};
pub use values::Api;

/// The configuration, checked. Its fields declare the options.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Of every node.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Of a vault.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Of a storage node.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Of a mediator.
    #[command(flatten)]
    pub mediator: MediatorArgs,
    /// Of whatever moves money.
    #[command(flatten)]
    pub bitcoin: BitcoinArgs,
    /// Where the chain is read, if anywhere: from the options of Bitcoin.
    #[cfg(feature = "bitcoin")]
    #[arg(skip)]
    pub chain: Option<Chain>,
}

impl Config {
    /// Options of a client.
    #[must_use]
    pub fn client(&self) -> ClientOptions {
        self.client.options(&self.network)
    }

    /// Terms of a storage node.
    #[must_use]
    pub fn storage(&self) -> StorageTerms {
        self.storage.terms()
    }

    /// Terms of a mediator.
    #[must_use]
    pub fn mediator(&self) -> MediatorTerms {
        self.mediator.terms(&self.storage)
    }

    /// Options of the money of a mediator in `home`.
    ///
    /// # Errors
    /// If no port for the Lightning node can be had or remembered.
    pub fn money(&self, home: &Home) -> std::io::Result<MoneyOptions> {
        let paths = MoneyPaths {
            ledger: home.ledger(),
            treasury: home.treasury(),
            wallet_seed: home.wallet_seed(),
            wallet_birthday: home.wallet_birthday(),
            lightning: home.lightning(),
            lightning_trusted: home.lightning_trusted(),
        };
        if !self.has_chain() && paths.wallet_seed.exists() {
            tracing::warn!("wallet_without_chain: give --bitcoind-url or --esplora-url");
        }
        Ok(MoneyOptions {
            paths,
            #[cfg(feature = "bitcoin")]
            chain: self.chain.clone(),
            lightning_listen: if self.has_chain() { self.lightning_listen(home)? } else { Vec::new() },
            lightning_alias: self.bitcoin.lightning_alias.clone(),
            routing_fee_permille: self.mediator.routing_fee_permille,
            payout_threshold: self.mediator.payout_threshold,
            payout_interval: self.mediator.payout_interval.as_secs(),
            credit_bound: self.mediator.credit_bound,
        })
    }

    #[cfg(feature = "bitcoin")]
    fn has_chain(&self) -> bool {
        self.chain.is_some()
    }

    #[cfg(not(feature = "bitcoin"))]
    fn has_chain(&self) -> bool {
        false
    }

    /// Where a Lightning node listens: as configured; else, in a local network, at a port of loopback
    /// that is chosen once.
    ///
    /// # Errors
    /// If no port can be had or remembered.
    pub fn lightning_listen(&self, home: &Home) -> std::io::Result<Vec<String>> {
        if !self.bitcoin.lightning_listen.is_empty() || self.network.network != Network::Local {
            return Ok(self.bitcoin.lightning_listen.clone());
        }
        let path = home.lightning_port();
        if let Ok(known) = std::fs::read_to_string(&path) {
            return Ok(vec![known]);
        }
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        fincrypt_state::durable::write_file(&path, address.as_bytes(), 0o600)?;
        Ok(vec![address])
    }
}

/// The variables of the environment that are text.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The default home: `$XDG_DATA_HOME/fincrypt`, else `~/.local/share/fincrypt`.
#[must_use]
pub fn default_home() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("fincrypt"))
}
