//! How the vault stands.

use fincrypt_protocol::net::peer_of;
use serde::Serialize;

use super::error::ClientError;
use super::vault::{Swarm, Vault};

/// The vault's standing.
#[derive(Debug, Serialize)]
pub struct StatusReport {
    /// The network.
    pub network: String,
    /// The account of the slot in use.
    pub account: String,
    /// The vault's mediator, as a peer id.
    pub mediator: Option<String>,
    /// Whether it answers.
    pub reachable: bool,
    /// Storage nodes that qualify now.
    pub eligible: u16,
    /// Data shards a full segment would get now.
    pub data: u8,
    /// All shards a full segment would get now.
    pub total: u8,
    /// Sequence of the newest head.
    pub sequence: u64,
    /// Snapshots in the vault.
    pub snapshots: usize,
    /// Segments in the vault.
    pub segments: usize,
    /// Why something is not as it should be.
    pub problem: Option<String>,
}

/// Looks at the vault and its mediator. A mediator that does not answer is part of the answer.
///
/// # Errors
/// [`ClientError`] if local state fails.
pub async fn status(vault: &Vault) -> Result<StatusReport, ClientError> {
    let slot = vault.slot()?;
    let head = vault.head()?.map(|head| vault.open_head(slot, &head)).transpose()?;
    let mut report = StatusReport {
        network: vault.network().to_string(),
        account: vault.keys.root.account(slot).account().to_string(),
        mediator: None,
        reachable: false,
        eligible: 0,
        data: 0,
        total: 0,
        sequence: head.map_or(0, |head| head.head.sequence),
        snapshots: vault.index.snapshots()?.len(),
        segments: vault.index.manifests()?.len(),
        problem: None,
    };
    let swarm = match Swarm::join(&vault.config).await {
        Ok(swarm) => swarm,
        Err(error) => {
            report.problem = Some(error.to_string());
            return Ok(report);
        }
    };
    match vault.link(&swarm.net).await {
        Ok(link) => {
            report.reachable = true;
            match link.quote(vault.config.redundancy).await {
                Ok(quote) => {
                    report.eligible = quote.eligible;
                    report.data = quote.code.data();
                    report.total = quote.code.total();
                }
                Err(error) => {
                    if let ClientError::TooFewPeers { eligible, .. } = error {
                        report.eligible = eligible;
                    }
                    report.problem = Some(error.to_string());
                }
            }
        }
        Err(error) => report.problem = Some(error.to_string()),
    }
    report.mediator = vault.mediator()?.and_then(|node| peer_of(&node).ok()).map(|peer| peer.to_string());
    swarm.leave().await;
    Ok(report)
}
