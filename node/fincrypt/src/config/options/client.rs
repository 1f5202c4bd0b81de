//! Options of a vault.

use std::path::PathBuf;
use std::time::Duration;

use fincrypt_client::ClientOptions;
use fincrypt_protocol::Redundancy;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::limits::MAX_CATALOG_REFS;

use super::NetworkArgs;
use crate::config::values;

/// Options of a vault.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Vault")]
pub struct ClientArgs {
    /// Stored bytes per source byte, 2.0 to 30, three decimals.
    #[arg(long, value_name = "FACTOR", default_value = "2.0", value_parser = values::redundancy)]
    pub redundancy: Redundancy,
    /// The most that storage may take, in satoshi per GiB-month, before the mediator's fee. Storage
    /// that takes more is not used, and a run for which there is none is refused. Without it: any price.
    #[arg(long, value_name = "SAT")]
    pub max_price: Option<Price>,
    /// Folders to back up.
    #[arg(long, value_name = "FOLDER")]
    pub folders: Vec<PathBuf>,
    /// Patterns of files to leave out, in gitignore syntax.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Seconds without the mediator after which the vault may move to another one, 1 to 31536000.
    #[arg(long, value_name = "SECONDS", default_value = "604800",
        value_parser = values::seconds(1..=31_536_000))]
    pub mediator_timeout: Duration,
    /// Move to another mediator after mediator_timeout without asking: true or false.
    #[arg(long, value_name = "BOOL", default_value = "false",
        action = clap::ArgAction::Set, value_parser = values::switch)]
    pub auto_migrate: bool,
    /// Seconds between backups of a client node, 1 to 2592000.
    #[arg(long, value_name = "SECONDS", default_value = "3600",
        value_parser = values::seconds(1..=2_592_000))]
    pub backup_interval: Duration,
    /// Seconds between a client's own checks of its storage, 1 to 31536000.
    #[arg(long, value_name = "SECONDS", default_value = "604800",
        value_parser = values::seconds(1..=31_536_000))]
    pub self_check_interval: Duration,
    /// Catalog segments that a head names itself, 2 to 48. For tests, as the default is best.
    #[arg(long, value_name = "SEGMENTS", default_value = "48",
        value_parser = values::number("segments", 2..=MAX_CATALOG_REFS))]
    pub catalog_refs: usize,
}

impl ClientArgs {
    /// Options of the client role.
    #[must_use]
    pub fn options(&self, network: &NetworkArgs) -> ClientOptions {
        ClientOptions {
            network: network.network,
            bootstrap: network.bootstrap.clone(),
            mdns: network.mdns,
            redundancy: self.redundancy,
            max_price: self.max_price,
            exclude: self.exclude.clone(),
            mediator_timeout: self.mediator_timeout,
            auto_migrate: self.auto_migrate,
            self_check_interval: self.self_check_interval,
            catalog_refs: self.catalog_refs,
        }
    }
}
