//! Addresses of a Bitcoin network.

use std::str::FromStr;

use bitcoin::{Address, Network};

use super::error::TreasuryError;

/// Whether a text is an address of a network.
#[must_use]
pub fn is_address(text: &str, network: Network) -> bool {
    address(text, network).is_ok()
}

pub(super) fn address(text: &str, network: Network) -> Result<Address, TreasuryError> {
    let refused = || TreasuryError::Address(text.chars().take(100).collect());
    Address::from_str(text).ok().and_then(|address| address.require_network(network).ok()).ok_or_else(refused)
}
