//! What a storage operator or client names as its destination.

use fincrypt_treasury::lightning::{Destination, Peer};

/// Where money is to go.
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
