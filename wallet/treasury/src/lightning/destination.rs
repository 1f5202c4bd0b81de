use std::fmt;
use std::str::FromStr;

use bitcoin::secp256k1::PublicKey;
use fincrypt_protocol::amount::Msat;
use ldk_node::lightning::offers::offer::Offer;
use ldk_node::lightning_invoice::Bolt11Invoice;

/// Where a Lightning payment goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A reusable offer of a wallet (BOLT 12), `lno1…`.
    Offer(Box<Offer>),
    /// An invoice (BOLT 11), `lnbc…`: it may be paid once.
    Invoice(Box<Bolt11Invoice>),
    /// A node, 66 hexadecimal digits: keysend.
    Node(PublicKey),
}

impl Destination {
    /// The amount that an invoice asks for; none if it leaves that open, or is none.
    #[must_use]
    pub fn asks(&self) -> Option<Msat> {
        match self {
            Self::Invoice(invoice) => invoice.amount_milli_satoshis().map(Msat::new),
            Self::Offer(_) | Self::Node(_) => None,
        }
    }
}

/// Text that is no Lightning destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no Lightning destination, which is an offer (lno1…), an invoice (lnbc…) or a node's key (66 hexadecimal digits)"
)]
pub struct ParseDestinationError(String);

impl FromStr for Destination {
    type Err = ParseDestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let bare = text.split_once(':').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("lightning"));
        let bare = bare.map_or(text, |(_, rest)| rest);
        let shown = || ParseDestinationError(text.chars().take(80).collect());
        let lower = bare.to_ascii_lowercase();
        if lower.starts_with("lno1") {
            Offer::from_str(bare).map(|offer| Self::Offer(Box::new(offer))).map_err(|_| shown())
        } else if lower.starts_with("ln") {
            Bolt11Invoice::from_str(bare).map(|invoice| Self::Invoice(Box::new(invoice))).map_err(|_| shown())
        } else {
            PublicKey::from_str(bare).map(Self::Node).map_err(|_| shown())
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer(offer) => offer.fmt(f),
            Self::Invoice(invoice) => invoice.fmt(f),
            Self::Node(node) => node.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the test vectors of BOLT 12 and BOLT 11.
    const OFFER: &str = "lno1pqps7sjqpgtyzm3qv4uxzmtsd3jjqer9wd3hy6tsw35k7msjzfpy7nz5yqcnygrfdej82um5wf5k2uckyypwa3eyt44h6txtxquqh7lz5djge4afgfjn7k4rgrkuag0jsd5xvxg";
    const NODE: &str = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";

    #[test]
    fn what_is_read_is_what_is_shown() {
        for text in [OFFER, NODE] {
            let destination: Destination = text.parse().expect("a destination");
            assert_eq!(destination.to_string(), text);
            assert_eq!(format!("LIGHTNING:{text}").parse(), Ok(destination.clone()));
            assert_eq!(format!(" {text}\n").parse(), Ok(destination));
        }
        assert!(matches!(OFFER.to_uppercase().parse(), Ok(Destination::Offer(_))));
    }

    #[test]
    fn anything_else_is_refused_and_named() {
        for text in ["", "lno1qqq", "lnbc1nothing", "02eec7", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"] {
            let error = text.parse::<Destination>().expect_err("refused").to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
