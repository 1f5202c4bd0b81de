//! Which mediators there are, and choosing another one.

use fincrypt_net::{Multiaddr, Net, PeerId, node_of, shown};
use fincrypt_protocol::{NodeId, Redundancy};
use serde::Serialize;

use super::error::ClientError;
use super::mediator_client::{MediatorError, announced_records, ask_quote};
use super::migration::{MoveReport, move_to};
use super::session::{in_session, with_vault};
use super::vault::Vault;

/// One mediator that announces itself.
#[derive(Debug, Serialize)]
pub struct MediatorInfo {
    /// Its peer id.
    pub peer: String,
    /// Its fee on what storage earns, in permille.
    pub fee_permille: u16,
    /// The redundancy it never goes under, in permille.
    pub floor_permille: u32,
    /// Storage nodes it would choose from now; none if it does not say.
    pub eligible: Option<u16>,
    /// Whether it is the vault's.
    pub ours: bool,
}

/// Mediators that announce themselves, cheapest first.
///
/// # Errors
/// [`ClientError`] if the swarm cannot be joined.
pub async fn list_mediators(vault: &Vault) -> Result<Vec<MediatorInfo>, ClientError> {
    in_session(&vault.options, async |session| {
        let ours = vault.lifecycle.account().mediator()?;
        let mut list = Vec::new();
        for record in announced_records(&session.net).await {
            let quote = ask_quote(&session.net, record.node, Redundancy::MIN).await;
            list.push(MediatorInfo {
                peer: shown(&record.node),
                fee_permille: record.fee_permille,
                floor_permille: record.floor.permille().into(),
                eligible: quote.map(|quote| quote.eligible),
                ours: ours == Some(record.node),
            });
        }
        Ok(list)
    })
    .await
}

/// Moves the vault to a mediator, given as a peer id or an address; the same one looks anew at what
/// storage holds.
///
/// # Errors
/// [`ClientError`] if it does not answer or refuses.
pub async fn use_mediator(vault: &Vault, mediator: &str) -> Result<MoveReport, ClientError> {
    with_vault(vault, async |session| {
        let node = find(&session.net, mediator).await?;
        move_to(vault, &session.net, node).await
    })
    .await
}

async fn find(net: &Net, mediator: &str) -> Result<NodeId, ClientError> {
    let wrong = || MediatorError::NotAMediator(mediator.to_owned());
    if let Ok(peer) = mediator.parse::<PeerId>() {
        return node_of(&peer).map_err(|_| wrong().into());
    }
    let address: Multiaddr = mediator.parse().map_err(|_| wrong())?;
    Ok(net.join(address).await?)
}
