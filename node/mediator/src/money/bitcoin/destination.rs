//! What a storage operator or client names as its destination.

use fincrypt_protocol::NodeId;
use fincrypt_protocol::limits::MAX_DESTINATION;
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::Table;
use fincrypt_treasury::BitcoinNetwork;
use fincrypt_treasury::lightning::{Destination, Peer};
use fincrypt_treasury::onchain::is_address;

/// `node` → where its operator wants to be paid, as it said last.
const PAY_TO: Table<NodeId, String> = Table::new("pay_to", MAX_DESTINATION + 16);

/// A destination of money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum To {
    /// To an address on the chain.
    Chain(String),
    /// Over Lightning, by whatever route.
    Lightning(Box<Destination>),
    /// To a Lightning node that waits for a channel of ours, `key@host:port`.
    Channel(Peer),
}

/// Text that is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no money can be sent to `{0}`: name an address of the mediator's Bitcoin network, an offer, or a Lightning node"
)]
pub(crate) struct NoDestination(String);

impl To {
    /// Reads what somebody named; `is_address` knows the addresses of the network.
    pub(crate) fn read(text: &str, is_address: impl Fn(&str) -> bool) -> Result<Self, NoDestination> {
        let text = text.trim();
        if is_address(text) {
            return Ok(Self::Chain(text.to_owned()));
        }
        if let Ok(peer) = text.parse() {
            return Ok(Self::Channel(peer));
        }
        let refused = |_| NoDestination(text.chars().take(80).collect());
        text.parse().map(|to| Self::Lightning(Box::new(to))).map_err(refused)
    }
}

/// Payout destinations of storage nodes.
pub(super) struct Destinations {
    state: State,
    /// None without a chain.
    network: Option<BitcoinNetwork>,
}

impl Destinations {
    /// Destinations on this network of Bitcoin.
    pub(super) fn new(state: State, network: Option<BitcoinNetwork>) -> Self {
        Self { state, network }
    }

    /// Reads where money is to go.
    ///
    /// # Errors
    /// [`NoDestination`] if nothing can be sent there.
    pub(super) fn read(&self, text: &str) -> Result<To, NoDestination> {
        To::read(text, |text| self.network.is_some_and(|network| is_address(text, network)))
    }

    /// The newest payout destination of a node.
    ///
    /// # Errors
    /// If that cannot be read.
    pub(super) fn known(&self, node: &NodeId) -> Result<Option<String>, KvError> {
        PAY_TO.get(&self.state, node)
    }

    /// Remembers what a node says.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub(super) fn learn(&self, node: &NodeId, to: &str) -> Result<(), KvError> {
        if self.known(node)?.as_deref() == Some(to) {
            return Ok(());
        }
        let mut batch = Batch::default();
        PAY_TO.put(&mut batch, node, &to.to_owned())?;
        self.state.commit(&batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";

    #[test]
    fn addresses_peers_and_lightning_destinations_are_told_apart_and_the_rest_is_named() {
        let read = |text: &str| To::read(text, |text| text == "bcrt1qours");
        assert_eq!(read(" bcrt1qours\n"), Ok(To::Chain("bcrt1qours".to_owned())));
        assert!(matches!(read(NODE), Ok(To::Lightning(_))));
        assert!(matches!(read(&format!("{NODE}@127.0.0.1:9735")), Ok(To::Channel(_))));
        let error = read("bc1qforeign").expect_err("another network's").to_string();
        assert!(error.contains("`bc1qforeign`"), "{error}");
    }
}
