//! Paying in: where to, as a wallet reads it.
//!
//! A BIP 21 address with the amount in bitcoin, and the offer as `lno`; without an address the offer
//! alone, as BIP 321 has it.

use super::client::PrepaymentClient;
use fincrypt_protocol::amount::Sat;
use fincrypt_protocol::limits::MAX_DESTINATION;
use fincrypt_protocol::money::DepositTo;
use serde::Serialize;

use crate::error::ClientError;
use crate::session::with_vault;
use crate::vault::Vault;

const SAT_PER_BITCOIN: u64 = 100_000_000;

/// Where to pay in.
#[derive(Debug, Serialize)]
pub struct DepositReport {
    /// For a wallet that reads it.
    pub uri: String,
    /// The Bitcoin address, which is the vault's alone.
    pub address: Option<String>,
    /// The Lightning offer (BOLT 12), which is the vault's alone.
    pub offer: Option<String>,
    /// Satoshi to pay in.
    pub amount_sat: u64,
    /// Satoshi that the mediator advises to have there.
    pub advised_sat: u64,
}

/// The payment as a URI; none if there is nowhere to pay in.
fn uri(to: &DepositTo, amount: Sat) -> Option<String> {
    if to.address.is_none() && to.offer.is_none() {
        return None;
    }
    let (whole, rest) = (amount.get() / SAT_PER_BITCOIN, amount.get() % SAT_PER_BITCOIN);
    let address = to.address.as_deref().unwrap_or_default();
    let offer = to.offer.as_ref().map(|offer| format!("&lno={offer}")).unwrap_or_default();
    Some(format!("bitcoin:{address}?amount={whole}.{rest:08}{offer}"))
}

/// Whether a text may be shown and put into a URI: what comes from a mediator may be anything.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_DESTINATION && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Asks the mediator where to pay in: `amount`, or what it advises.
///
/// # Errors
/// [`ClientError`] if the mediator does not answer or takes no money.
pub async fn deposit(vault: &Vault, amount: Option<Sat>) -> Result<DepositReport, ClientError> {
    with_vault(vault, async |session| {
        let mediator = session.mediator(vault).await?;
        let to = PrepaymentClient(&mediator).deposit_to().await?;
        let amount = amount.unwrap_or(to.advised);
        let plain = to.address.iter().chain(&to.offer).all(|text| is_plain(text));
        let uri = uri(&to, amount).filter(|_| plain).ok_or_else(|| mediator.unexpected())?;
        let (amount_sat, advised_sat) = (amount.get(), to.advised.get());
        Ok(DepositReport { uri, address: to.address, offer: to.offer, amount_sat, advised_sat })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_names_what_there_is_and_the_amount_in_bitcoin() {
        let to = |address: Option<&str>, offer: Option<&str>| DepositTo {
            address: address.map(str::to_owned),
            offer: offer.map(str::to_owned),
            advised: Sat::new(1000),
        };
        let uri = |to, sat| uri(&to, Sat::new(sat));
        let both = to(Some("bcrt1qxyz"), Some("lno1abc"));
        assert_eq!(uri(both, 1000).as_deref(), Some("bitcoin:bcrt1qxyz?amount=0.00001000&lno=lno1abc"));
        let address = to(Some("bcrt1qxyz"), None);
        assert_eq!(uri(address, 123_456_789).as_deref(), Some("bitcoin:bcrt1qxyz?amount=1.23456789"));
        let offer = to(None, Some("lno1abc"));
        assert_eq!(uri(offer, 1).as_deref(), Some("bitcoin:?amount=0.00000001&lno=lno1abc"));
        assert_eq!(uri(to(None, None), 1), None);
    }

    #[test]
    fn what_is_no_address_is_not_shown() {
        for bad in ["", "bc1 x", "bc1?amount=9", "bc1\u{1b}[2J", "bc1é"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
        assert!(is_plain("bcrt1qxyz"));
    }
}
