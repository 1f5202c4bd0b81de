//! What a person can do about an error. The library says what failed and why; this program says what
//! to type.

use fincrypt_client::ClientError;
use fincrypt_protocol::Refusal;

/// What to do about an error, if a person can do something about it.
pub(super) fn on(error: &ClientError) -> Option<&'static str> {
    match error {
        ClientError::Money(refusal) => on_refusal(*refusal),
        ClientError::Call(error) => error.refusal().and_then(on_refusal),
        _ => at_home(error).or_else(|| at_the_mediator(error)).or_else(|| in_the_vault(error)),
    }
}

/// What to do about the home, its configuration and the target.
fn at_home(error: &ClientError) -> Option<&'static str> {
    Some(match error {
        ClientError::NoVault(_) => {
            "run `fincrypt init FOLDER`, or `fincrypt recover --words-file FILE`, first"
        }
        ClientError::VaultExists(_) => "use another --home, or remove that folder if you have its 24 words",
        ClientError::StateDamaged { .. } => {
            "restore it from a copy, or run `fincrypt recover` with the 24 words in a new home"
        }
        ClientError::NoBootstrap => "give --bootstrap MULTIADDR, or write `bootstrap` into config.toml",
        ClientError::TooDear { .. } => "raise `max_price` in config.toml, or give --max-price",
        ClientError::NotOnDisk { .. } => "check it, then restore again, which keeps what is good",
        ClientError::Inner => "please report this",
        _ => return None,
    })
}

/// What to do about the mediator.
fn at_the_mediator(error: &ClientError) -> Option<&'static str> {
    Some(match error {
        ClientError::NoMediator(_) => "wait until one runs, or use another bootstrap address",
        ClientError::MediatorGone { .. } => "try again later; `fincrypt restore` works without it",
        ClientError::NotAMediator(_) => "`fincrypt mediator list` shows the mediators",
        ClientError::Dismissed(_) => {
            "`fincrypt mediator list` shows the mediators, `fincrypt mediator use PEER` moves to one of them"
        }
        ClientError::MediatorLost { .. } => {
            "`fincrypt mediator list` shows others, `fincrypt mediator use PEER` moves the vault to one of them and sends no data again"
        }
        ClientError::RolledBack { .. } => {
            "do not trust this mediator; `fincrypt restore --direct` reads from the storage nodes instead, `fincrypt mediator use PEER` moves to another one, or brings this one up to date if it lost its memory"
        }
        ClientError::Forked { .. } => {
            "do not trust this mediator; `fincrypt restore --direct` reads from the storage nodes instead"
        }
        ClientError::Unsafe { .. } => {
            "run `fincrypt backup` again, which stores it anew, or use another mediator"
        }
        _ => return None,
    })
}

/// What to do about what the vault has stored.
fn in_the_vault(error: &ClientError) -> Option<&'static str> {
    Some(match error {
        ClientError::LatestUnknown { .. } => "name the one to restore",
        ClientError::NoHead(_) => "`fincrypt recover --list-heads` shows those there are",
        ClientError::SeveralHeads(_) => {
            "give the beginning of one's hash instead, see `fincrypt recover --list-heads`"
        }
        ClientError::Contended | ClientError::Rewritten => "try again",
        ClientError::Rewound => "run `fincrypt recover` with them in a new home",
        ClientError::NotRewound => "try again later",
        ClientError::VaultNotFound(_) => "check the words, the network and the bootstrap address",
        ClientError::Unavailable { .. } => "try again when more storage nodes are reachable",
        ClientError::NoSnapshot(_) => "`fincrypt snapshots` lists them",
        ClientError::NoPath(_) => "`fincrypt ls SNAPSHOT` lists its contents",
        _ => return None,
    })
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
    }

    #[test]
    fn an_error_of_each_place_comes_with_what_to_do() {
        let says = |error: &ClientError, word: &str| on(error).is_some_and(|advice| advice.contains(word));
        assert!(says(&ClientError::NoBootstrap, "--bootstrap MULTIADDR"));
        assert!(says(&ClientError::Forked { sequence: 2 }, "restore --direct"));
        assert!(says(&ClientError::NoSnapshot("ffff".to_owned()), "fincrypt snapshots"));
        assert_eq!(on(&ClientError::Damaged("a list".to_owned())), None);
    }
}
