//! Options of every node.

use fincrypt_net::{Budget, Multiaddr};
use fincrypt_protocol::{ByteSize, Network};

use crate::config::values::{self, Api};

/// Options of every node.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// Network to take part in: local, test or main.
    #[arg(long, value_name = "NETWORK", default_value = "main")]
    pub network: Network,
    /// Multiaddresses to listen on. Without any: all interfaces, or loopback in a local network.
    #[arg(long, value_name = "ADDRESS", value_parser = values::address)]
    pub listen: Vec<Multiaddr>,
    /// Multiaddresses of first contacts.
    #[arg(long, value_name = "ADDRESS", value_parser = values::address)]
    pub bootstrap: Vec<Multiaddr>,
    /// Loopback address of the local interface, or off.
    #[arg(long, value_name = "ADDRESS", default_value = "off", value_parser = values::api)]
    pub api: Api,
    /// Requests that one peer may make in a minute.
    #[arg(long, value_name = "REQUESTS", default_value = "120000",
        value_parser = values::number("requests", 0..=u64::MAX))]
    pub requests_per_minute: u64,
    /// Bytes that one peer may send and fetch in a minute.
    #[arg(long, value_name = "BYTES", default_value = "100GB")]
    pub bytes_per_minute: ByteSize,
    /// Look for peers in the local network: true or false.
    #[arg(long, value_name = "BOOL", default_value = "false",
        action = clap::ArgAction::Set, value_parser = values::switch)]
    pub mdns: bool,
    /// Ask the router for a port: true or false.
    #[arg(long, value_name = "BOOL", default_value = "true",
        action = clap::ArgAction::Set, value_parser = values::switch)]
    pub upnp: bool,
}

impl NetworkArgs {
    /// What one peer may ask for.
    #[must_use]
    pub fn budget(&self) -> Budget {
        Budget { requests: self.requests_per_minute, bytes: self.bytes_per_minute.0 }
    }
}
