//! Options of a client: what its owner decides.

use std::time::Duration;

use fincrypt_net::Multiaddr;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::limits::MAX_CATALOG_REFS;
use fincrypt_protocol::{Network, Redundancy};

/// Options of a client.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The network of its vault.
    pub network: Network,
    /// First contacts; at least one is needed to reach the network.
    pub bootstrap: Vec<Multiaddr>,
    /// Look for peers in the local network.
    pub mdns: bool,
    /// Stored bytes per source byte.
    pub redundancy: Redundancy,
    /// The most that storage may cost; none for any price.
    pub max_price: Option<Price>,
    /// Patterns of files to leave out, in gitignore syntax.
    pub exclude: Vec<String>,
    /// How long a mediator that is gone is waited for before the vault may move to another one.
    pub mediator_timeout: Duration,
    /// Whether the vault moves without being asked.
    pub auto_migrate: bool,
    /// Between the client's own checks of its storage.
    pub self_check_interval: Duration,
    /// Segments of the catalog that a head names itself, 2 to [`MAX_CATALOG_REFS`]; more go into a list.
    pub catalog_refs: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
        Self {
            network: Network::Main,
            bootstrap: Vec::new(),
            mdns: false,
            redundancy: Redundancy::MIN,
            max_price: None,
            exclude: Vec::new(),
            mediator_timeout: WEEK,
            auto_migrate: false,
            self_check_interval: WEEK,
            catalog_refs: MAX_CATALOG_REFS,
        }
    }
}
