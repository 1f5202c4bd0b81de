//! Moving a vault to another mediator, and following another device that did. No data moves.

use std::time::Duration;

use fincrypt_net::{Net, encode_all, shown};
use fincrypt_protocol::limits::MAX_ADOPT_HINTS;
use fincrypt_protocol::mediate::{MigrateIn, MigrateOut, MigrationProgress, NodeAddresses};
use fincrypt_protocol::record::Adopt;
use fincrypt_protocol::{NodeId, RunId, Signed, UnixTime};
use serde::Serialize;

use super::error::ClientError;
use super::head::follow;
use super::history::newest_head_at;
use super::home::HomeError;
use super::mandates;
use super::mediator_client::MediatorClient;
use super::statements::{sign_keep, statements};
use super::vault::Vault;

/// How long a move is watched. It goes on at the mediator afterwards.
const WATCHED: Duration = Duration::from_secs(60);
/// Between looks at it.
const LOOK: Duration = Duration::from_millis(300);
/// A move that gets no further for so long is no longer watched: the other holders do not answer.
const STUCK: Duration = Duration::from_secs(15);
/// How long the old mediator may take to hear that it is dismissed; storage tells it, too.
const TELL: Duration = Duration::from_secs(8);

/// What a move came to.
#[derive(Debug, Serialize)]
pub struct MoveReport {
    /// The vault's mediator from now on, as a peer id.
    pub mediator: String,
    /// The one before.
    pub old: Option<String>,
    /// Whether the old one was told. It is not as long as the new one has taken nothing over of what is
    /// stored; storage ends its mandate in any case.
    pub old_told: bool,
    /// Segments taken over by now.
    pub segments: u64,
    /// Holders found by now.
    pub found: u32,
    /// How many of them have told what they hold.
    pub heard: u32,
    /// Whether all is taken over; else it goes on by itself.
    pub complete: bool,
}

/// Moves the vault to the mediator `node`.
pub(crate) async fn move_to(vault: &Vault, net: &Net, node: NodeId) -> Result<MoveReport, ClientError> {
    let account = vault.keys.root.account(vault.slot()?);
    // Reached before anything is signed.
    let mediator = MediatorClient::open(net.clone(), node, account.clone(), vault.registration()?).await?;
    let fetcher = vault.fetcher(net, None)?;
    let head = newest_head_at(vault, fetcher.holders().await).await?;
    if let Some(head) = &head {
        follow(vault, &fetcher, head).await?;
        vault.lifecycle.saw_head(&head.head)?;
    }
    let holders = fetcher.holders().await;
    let stored = head.map_or(!holders.nodes().is_empty(), |head| !head.body.refs.is_empty());
    let newest = holders.newest_mandate();
    let old = newest.as_ref().map(|mandate| mandate.mediator).or(vault.lifecycle.account().mediator()?);
    let known = newest.map_or(0, |mandate| mandate.sequence).max(vault.lifecycle.account().mandate_base()?);
    let sequence = UnixTime::now().secs().max(known.saturating_add(1));
    let adopt = Adopt { network: vault.network(), account: account.account(), old, new: node, sequence };
    let adopt = Signed::seal(&adopt, &account)?;
    let hints: Vec<NodeId> = holders.nodes().iter().copied().take(MAX_ADOPT_HINTS).collect();
    let addresses = net.addresses(&hints).await;
    let (keeps, releases) = statements(vault)?;
    let adoption = MigrateIn {
        adopt: adopt.clone(),
        mandate: mandates::of_sequence(vault, node, sequence)?,
        keep: sign_keep(vault, RunId::from_bytes(fresh()?))?,
        head: vault.lifecycle.head()?,
        rewound: vault.lifecycle.account().rewound()?,
        holders: hints
            .into_iter()
            .zip(addresses)
            .map(|(node, addresses)| NodeAddresses { node, addresses: encode_all(&addresses) })
            .collect(),
        keeps,
        releases,
    };
    let progress = mediator.adopt(adoption.clone()).await?;
    vault.lifecycle.account().moved(node, sequence)?;
    vault.notes().saw_mediator()?;
    let progress = watch(&mediator, adoption, progress).await;
    let old_told = match old.filter(|old| *old != node && may_dismiss(stored, &progress)) {
        Some(old) => tell_old(net, old, adopt).await,
        None => false,
    };
    Ok(MoveReport {
        mediator: shown(&node),
        old: old.filter(|old| *old != node).map(|old| shown(&old)),
        old_told,
        segments: progress.segments,
        found: progress.found,
        heard: progress.acknowledged,
        complete: progress.complete,
    })
}

/// The mediator that storage knows to be the vault's, if another device has moved it there.
pub(crate) async fn follow_move(vault: &Vault, net: &Net) -> Result<Option<NodeId>, ClientError> {
    let fetcher = vault.fetcher(net, None)?;
    let Some(newest) = fetcher.holders().await.newest_mandate() else { return Ok(None) };
    if newest.sequence <= vault.lifecycle.account().mandate_base()?
        || vault.lifecycle.account().mediator()? == Some(newest.mediator)
    {
        return Ok(None);
    }
    vault.lifecycle.account().follow_mandate(&newest)?;
    Ok(Some(newest.mediator))
}

/// Follows a newer mandate for the vault's mediator, which another device has given: it ended this
/// one's. Whether there is one.
pub(crate) async fn follow_mandate(vault: &Vault, net: &Net) -> Result<bool, ClientError> {
    let fetcher = vault.fetcher(net, None)?;
    let Some(newest) = fetcher.holders().await.newest_mandate() else { return Ok(false) };
    if newest.sequence <= mandates::current_sequence(vault)?
        || vault.lifecycle.account().mediator()? != Some(newest.mediator)
    {
        return Ok(false);
    }
    vault.lifecycle.account().follow_mandate(&newest)?;
    Ok(true)
}

async fn watch(
    mediator: &MediatorClient,
    adoption: MigrateIn,
    first: MigrationProgress,
) -> MigrationProgress {
    // It was taken before it was answered: what is left is to ask.
    let adoption = MigrateIn { keeps: Vec::new(), releases: Vec::new(), ..adoption };
    let (mut progress, mut moved) = (first, tokio::time::Instant::now());
    let end = moved + WATCHED;
    while !progress.complete && tokio::time::Instant::now() < end && moved.elapsed() < STUCK {
        tokio::time::sleep(LOOK).await;
        // What fails here fails at the mediator's end: it goes on when it is back.
        if let Ok(next) = mediator.adopt(adoption.clone()).await
            && next != progress
        {
            (progress, moved) = (next, tokio::time::Instant::now());
        }
    }
    progress
}

/// Whether the old mediator may forget the vault: the new one has taken something over, or nothing is stored.
fn may_dismiss(stored: bool, progress: &MigrationProgress) -> bool {
    !stored || progress.segments > 0
}

async fn tell_old(net: &Net, old: NodeId, adopt: Signed<Adopt>) -> bool {
    let told = async {
        net.connect(old, Vec::new()).await.ok()?;
        net.mediate(old, MigrateOut { adopt }).await.ok()
    };
    matches!(tokio::time::timeout(TELL, told).await, Ok(Some(_)))
}

fn fresh() -> Result<[u8; 16], HomeError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(HomeError::Randomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_mediator_is_dismissed_only_when_the_new_one_has_segments_or_nothing_is_stored() {
        let progress = |segments| MigrationProgress { segments, found: 8, acknowledged: 8, complete: true };
        assert!(!may_dismiss(true, &progress(0)));
        assert!(may_dismiss(true, &progress(1)) && may_dismiss(false, &progress(0)));
    }
}
