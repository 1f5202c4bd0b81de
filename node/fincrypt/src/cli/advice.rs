//! What a person can do about a refusal. Machines say why they refuse; this program says what to type.

use fincrypt_client::ClientError;
use fincrypt_protocol::Refusal;

/// What to do about an error, if it is a refusal that a person can do something about.
pub(super) fn on(error: &ClientError) -> Option<&'static str> {
    let refusal = match error {
        ClientError::Money(refusal) => Some(*refusal),
        ClientError::Call(error) => error.refusal(),
        _ => None,
    };
    refusal.and_then(on_refusal)
}

fn on_refusal(refusal: Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::Rewound => Some("run `fincrypt recover` with the words in a new home"),
        Refusal::Unpaid => Some("pay in with `fincrypt prepayment deposit`"),
        Refusal::Destination => {
            Some("give an address, an offer or an invoice of the mediator's Bitcoin network")
        }
        Refusal::Used => Some("ask the payee for another, or for an offer"),
        Refusal::Guarded => Some("`fincrypt undo-release --lift` lets releases in again"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_comes_with_what_to_type() {
        let unpaid = on(&ClientError::Money(Refusal::Unpaid)).expect("advice");
        assert!(unpaid.contains("fincrypt prepayment deposit"));
        assert!(on_refusal(Refusal::Rewound).is_some_and(|text| text.contains("fincrypt recover")));
        assert_eq!(on(&ClientError::Money(Refusal::Insufficient)), None);
        assert_eq!(on(&ClientError::NoBootstrap), None);
    }
}
