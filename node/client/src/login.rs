//! Logging in with the vault's mediator: choosing one, following it, or moving away from one that is
//! gone.

use fincrypt_net::Net;
use fincrypt_protocol::{NodeId, Refusal, UnixTime};

use super::error::ClientError;
use super::mediator_client::{MediatorClient, find_mediator};
use super::migration::{follow_move, move_to};
use super::vault::Vault;

fn gone(node: NodeId) -> impl FnOnce(ClientError) -> ClientError {
    move |error| ClientError::MediatorGone { node, reason: error.to_string() }
}

/// Logs in with the vault's mediator for a session, choosing one if it has none yet. Where another
/// device has moved the vault, this one follows.
pub(super) async fn log_in(vault: &Vault, net: &Net) -> Result<MediatorClient, ClientError> {
    let link = match vault.lifecycle.mediator()? {
        Some(node) => match link_to(vault, net, node).await {
            Ok(link) => link,
            Err(error) => match follow_move(vault, net).await? {
                Some(other) => link_to(vault, net, other).await.map_err(gone(other))?,
                None => return mediator_is_gone(vault, net, node, error).await,
            },
        },
        None => {
            let node = find_mediator(net).await?;
            let link = link_to(vault, net, node).await?;
            vault.lifecycle.choose_mediator(node)?;
            link
        }
    };
    vault.notes().saw_mediator()?;
    Ok(link)
}

async fn link_to(vault: &Vault, net: &Net, node: NodeId) -> Result<MediatorClient, ClientError> {
    let account = vault.keys.root.account(vault.slot()?);
    let link = MediatorClient::open(net.clone(), node, account, vault.registration()?).await?;
    // Anyone may log in with a mediator; one that was dismissed refuses all else.
    link.head().await?;
    // It may not have heard, and would refuse this machine's heads.
    if let Some(rewound) = vault.lifecycle.rewound()? {
        link.rewind(rewound).await.map_err(|error| match error {
            // The words have rewound it again since.
            ClientError::Call(error) if error.refusal() == Some(Refusal::Stale) => ClientError::Rewound,
            other => other,
        })?;
    }
    Ok(link)
}

/// What to do without the mediator: wait for it, or move if it has been away for long and the
/// configuration says so.
async fn mediator_is_gone(
    vault: &Vault,
    net: &Net,
    node: NodeId,
    error: ClientError,
) -> Result<MediatorClient, ClientError> {
    if matches!(&error, ClientError::Call(error) if error.refusal() == Some(Refusal::Dismissed)) {
        return Err(ClientError::Dismissed(node));
    }
    let away = vault.notes().mediator_seen()?.map(|seen| UnixTime::now().since(seen));
    let Some(away) = away.filter(|away| *away >= vault.options.mediator_timeout) else {
        return Err(gone(node)(error));
    };
    if !vault.options.auto_migrate {
        return Err(ClientError::MediatorLost { node, days: away.as_secs() / (24 * 3600) });
    }
    let other = find_mediator(net).await?;
    tracing::warn!(old = %node, new = %other, "the mediator is gone; the vault moves to another one");
    move_to(vault, net, other).await?;
    link_to(vault, net, other).await.map_err(gone(other))
}
