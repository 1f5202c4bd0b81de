//! The mandates that a vault gives to its mediator, and the limit of the price in them.

use std::time::Duration;

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::record::{Mandate, Rights};
use fincrypt_protocol::{NodeId, Signed, UnixTime};

use super::error::ClientError;
use super::vault::Vault;
use super::vault_state::PriceLimit;

/// Mandates are renewed every 90 days and hold for at least as long.
const MANDATE_PERIOD: Duration = Duration::from_secs(90 * 24 * 3600);
/// Bytes one storage node may hold under a mandate: 1 PiB, as the network sets the true limit.
const MANDATE_CAP: u64 = 1 << 50;

/// The most that storage may take, by the vault's mandates. A setting that was changed on this
/// machine begins a new mandate; without one, what another device has set holds here, too.
pub(crate) fn max_price(vault: &Vault) -> Result<Option<Price>, ClientError> {
    let configured = vault.options.max_price;
    match vault.lifecycle.account().price_limit(configured)? {
        PriceLimit::Unchanged(limit) => Ok(limit),
        PriceLimit::Changed => {
            let sequence = UnixTime::now().secs().max(current_sequence(vault)?.saturating_add(1));
            vault.lifecycle.account().set_price_limit(configured, sequence)?;
            Ok(configured)
        }
    }
}

/// The mandate for a mediator: in each period the same to the byte, on every device of the vault.
/// A newer one supersedes, so devices with mandates of their own would shut each other out.
pub(crate) fn current(vault: &Vault, mediator: NodeId) -> Result<Signed<Mandate>, ClientError> {
    // A changed limit of the price begins a new one.
    max_price(vault)?;
    of_sequence(vault, mediator, current_sequence(vault)?)
}

/// The sequence of the mandate that holds now.
pub(crate) fn current_sequence(vault: &Vault) -> Result<u64, ClientError> {
    let period = MANDATE_PERIOD.as_secs();
    Ok((UnixTime::now().secs() / period * period).max(vault.lifecycle.account().mandate_base()?))
}

/// The mandate of a sequence, which alone decides when it ends, with the limit of the price.
pub(crate) fn of_sequence(
    vault: &Vault,
    mediator: NodeId,
    sequence: u64,
) -> Result<Signed<Mandate>, ClientError> {
    let account = vault.keys.root.account(vault.slot()?);
    let period = MANDATE_PERIOD.as_secs();
    let mandate = Mandate {
        network: vault.network(),
        account: account.account(),
        mediator,
        rights: Rights { put: true, audit: true, get: true },
        byte_cap: MANDATE_CAP,
        sequence,
        expiry: UnixTime::from_secs((sequence / period + 2).saturating_mul(period)),
        max_price: max_price(vault)?,
    };
    Ok(Signed::seal(&mandate, &account)?)
}
