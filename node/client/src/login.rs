//! Logging in with the vault's mediator: choosing one, following it, or moving away from one that is
//! gone.

use fincrypt_net::Net;
use fincrypt_protocol::{NodeId, UnixTime};

use super::error::ClientError;
use super::head::HeadError;
use super::mediator_client::{MediatorClient, MediatorError, Refused, find_mediator};
use super::migration::{follow_move, move_to};
use super::vault::Vault;

/// A mediator that answered, with a refusal, is not gone.
fn gone(node: NodeId) -> impl FnOnce(ClientError) -> ClientError {
    move |error| match error {
        ClientError::Head(_) => error,
        ClientError::Mediator(ref answer) if answer.is_answer() => error,
        error => MediatorError::Gone { node, reason: error.to_string() }.into(),
    }
}

/// Logs in with the vault's mediator for a session, choosing one if it has none yet. Where another
/// device has moved the vault, this one follows.
pub(super) async fn log_in(vault: &Vault, net: &Net) -> Result<MediatorClient, ClientError> {
    let mediator = match vault.lifecycle.account().mediator()? {
        Some(node) => match log_in_with(vault, net, node).await {
            Ok(mediator) => mediator,
            // No other mediator would take this machine's keys either.
            Err(error @ ClientError::Head(HeadError::Rewound)) => return Err(error),
            Err(error) => match follow_move(vault, net).await? {
                Some(other) => log_in_with(vault, net, other).await.map_err(gone(other))?,
                None => return mediator_is_gone(vault, net, node, error).await,
            },
        },
        None => {
            let node = find_mediator(net).await?;
            let mediator = log_in_with(vault, net, node).await?;
            vault.lifecycle.account().choose_mediator(node)?;
            mediator
        }
    };
    vault.notes().saw_mediator()?;
    Ok(mediator)
}

async fn log_in_with(vault: &Vault, net: &Net, node: NodeId) -> Result<MediatorClient, ClientError> {
    let account = vault.keys.root.account(vault.slot()?);
    let mediator = MediatorClient::open(net.clone(), node, account, vault.registration()?).await?;
    // Anyone may log in with a mediator; one that was dismissed refuses all else.
    mediator.head().await?;
    // It may not have heard, and would refuse this machine's heads.
    if let Some(rewound) = vault.lifecycle.account().rewound()? {
        mediator.rewind(rewound).await.map_err(|error| match error.refused() {
            // The words have rewound it again since.
            Some(Refused::Stale) => HeadError::Rewound.into(),
            _ => ClientError::from(error),
        })?;
    }
    Ok(mediator)
}

/// What to do without the mediator: wait for it, or move if it has been away for long and the
/// configuration says so.
async fn mediator_is_gone(
    vault: &Vault,
    net: &Net,
    node: NodeId,
    error: ClientError,
) -> Result<MediatorClient, ClientError> {
    if error.refused() == Some(Refused::Dismissed) {
        return Err(MediatorError::Dismissed(node).into());
    }
    let away = vault.notes().mediator_seen()?.map(|seen| UnixTime::now().since(seen));
    let Some(away) = away.filter(|away| *away >= vault.options.mediator_timeout) else {
        return Err(gone(node)(error));
    };
    if !vault.options.auto_migrate {
        return Err(MediatorError::Lost { node, days: away.as_secs() / (24 * 3600) }.into());
    }
    let other = find_mediator(net).await?;
    tracing::warn!(old = %node, new = %other, "vault_moves_itself");
    move_to(vault, net, other).await?;
    log_in_with(vault, net, other).await.map_err(gone(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_net::CallError;
    use fincrypt_protocol::Refusal;

    #[test]
    fn only_a_mediator_that_does_not_answer_is_gone() {
        let node = NodeId::from_bytes([7; 32]);
        let rewound = gone(node)(HeadError::Rewound.into());
        assert!(matches!(rewound, ClientError::Head(HeadError::Rewound)), "{rewound:?}");
        let refused = CallError::Refused { node, refusal: Refusal::Rewound };
        assert_eq!(gone(node)(MediatorError::from(refused).into()).refused(), Some(Refused::Rewound));
        let silent = gone(node)(MediatorError::from(CallError::Stopped).into());
        assert!(matches!(silent, ClientError::Mediator(MediatorError::Gone { .. })), "{silent:?}");
    }
}
