//! Deleting what a vault stored, and undoing it with the words.

use fincrypt_protocol::limits::MAX_RELEASE_AHEAD;
use fincrypt_protocol::mediate::UndoReleases;
use fincrypt_protocol::record::{Release, Released, Undo};
use fincrypt_protocol::{Network, Refusal, Signed, UnixTime};
use fincrypt_vault::head::HeadBody;
use fincrypt_vault::words::Words;
use serde::Serialize;

use super::error::ClientError;
use super::head::{HeadError, OpenHead};
use super::history::{History, rewind};
use super::mediator_client::{MediatorClient, Refused, tell_mediator};
use super::recover::error::RecoveryError;
use super::recover::find_accounts;
use super::session::{Session, in_session, with_vault};
use super::snapshots::utc;
use super::statements::{forget_releases, remember_release};
use super::vault::Vault;

/// Times a head is put over another device's before giving up.
const TRIES: usize = 8;

/// What a release came to.
#[derive(Debug, Serialize)]
pub struct ReleaseReport {
    /// Nodes that hold something for the vault.
    pub holders: u32,
    /// How many of them have heard it by now; the mediator tells the others.
    pub heard: u32,
    /// Until when it can surely be undone, in seconds since 1970; none if nobody has heard it.
    pub until: Option<u64>,
    /// The same for people, in UTC.
    #[serde(skip)]
    pub when: String,
}

/// What an undo came to.
#[derive(Debug, Default, Serialize)]
pub struct UndoReport {
    /// Accounts of the vault that were found.
    pub accounts: usize,
    /// Holders that answered.
    pub holders: usize,
    /// Holders that took the undo.
    pub heard: usize,
    /// Holders where a release was pending, which is cancelled now.
    pub cancelled: usize,
    /// Mediators that took the undo; they tell holders that did not answer.
    pub mediators: usize,
    /// Whether further releases are refused from now on.
    pub guarded: bool,
    /// Holders that took the rewind, if one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewound: Option<usize>,
}

/// Releases everything that the vault stored, and puts an empty head in the place of the old one.
///
/// # Errors
/// [`ClientError`] if the mediator does not answer or refuses; [`Refused::Guarded`] if an undo forbids
/// it.
pub async fn release_everything(vault: &Vault) -> Result<ReleaseReport, ClientError> {
    with_vault(vault, async |session| release_in(session, vault).await).await
}

async fn release_in(session: &Session, vault: &Vault) -> Result<ReleaseReport, ClientError> {
    let mediator = session.mediator(vault).await?;
    match release_once(vault, &mediator).await {
        // An undo of the same second, or a release of another device: the next number is higher.
        Err(error) if error.refused() == Some(Refused::Stale) => release_once(vault, &mediator).await,
        other => other,
    }
}

async fn release_once(vault: &Vault, mediator: &MediatorClient) -> Result<ReleaseReport, ClientError> {
    let slot = vault.slot()?;
    let key = vault.keys.head_key(slot);
    let sequence = vault.lifecycle.account().reserve_release_sequence(UnixTime::now())?;
    let release = Release {
        network: vault.network(),
        account: vault.keys.root.account(slot).account(),
        head_key: key.head_key(),
        what: Released::Everything,
        sequence,
    };
    let release = Signed::seal(&release, &key)?;
    let hash = release.hash();
    // The head first: no device may go on from a catalog that is about to be deleted.
    let old = replace_head(vault, mediator, |base| emptied(base, hash)).await?;
    let progress = match mediator.release(release.clone()).await {
        Err(error) if matches!(error.refused(), Some(Refused::Guarded | Refused::Stale)) => {
            if error.refused() == Some(Refused::Guarded) {
                forget_releases(vault)?;
            }
            // Nothing is deleted, so the catalog is put back.
            if let Some(old) = old {
                replace_head(vault, mediator, |_| old.clone()).await?;
            }
            return Err(error.into());
        }
        other => other?,
    };
    remember_release(vault, sequence, &release)?;
    let until = progress.due.map(UnixTime::secs);
    let (holders, heard) = (progress.holders, progress.acknowledged);
    Ok(ReleaseReport { holders, heard, until, when: until.map(utc).unwrap_or_default() })
}

/// Puts a head in the place of whatever the mediator has, and goes by it from now on; the contents
/// of the one replaced.
async fn replace_head(
    vault: &Vault,
    mediator: &MediatorClient,
    body: impl Fn(Option<&HeadBody>) -> HeadBody,
) -> Result<Option<HeadBody>, ClientError> {
    for _ in 0..TRIES {
        let base = vault.current_head(mediator).await?;
        let body = body(base.as_ref().map(|base| &base.body));
        let head = vault.next_head(base.as_ref(), &body)?;
        if mediator.swap_head(base.as_ref().map(OpenHead::hash), head.clone()).await? {
            let head = vault.open_head(vault.slot()?, &head)?;
            vault.lifecycle.replaced_head(&head.head, &body.releases)?;
            return Ok(base.map(|base| base.body));
        }
    }
    Err(HeadError::Contended.into())
}

/// A head without a catalog that names a release beside those named before, as many as fit.
fn emptied(base: Option<&HeadBody>, release: [u8; 32]) -> HeadBody {
    let releases = base.map(|body| body.releases.clone()).unwrap_or_default();
    let slots = base.map_or(0, |body| body.slots);
    let mut body = HeadBody { refs: Vec::new(), slots, time: UnixTime::now(), releases };
    body.name_release(release);
    body
}

/// Cancels all pending releases of the vault of `words`, at every holder that answers and at its
/// mediators. Further releases are refused afterwards, unless the guard is to be `lifted`. If `head`
/// names one, by its sequence or at least eight digits of its hash, the vault goes back to it, and
/// every machine of it has to be recovered.
///
/// # Errors
/// [`ClientError`] if no holder is found, or no such head.
pub async fn undo_release(
    options: &crate::options::ClientOptions,
    words: &Words,
    lifted: bool,
    head: Option<&str>,
) -> Result<UndoReport, ClientError> {
    in_session(options, async |session| undo_in(session, options.network, words, lifted, head).await).await
}

async fn undo_in(
    session: &Session,
    network: Network,
    words: &Words,
    lifted: bool,
    wanted: Option<&str>,
) -> Result<UndoReport, ClientError> {
    let keys = words.vault_keys();
    let mut report = UndoReport { guarded: !lifted, ..UndoReport::default() };
    for (slot, holders) in find_accounts(session, network, &keys).await? {
        let guard = words.guard(slot);
        let now = UnixTime::now().secs();
        let (mut sequence, mut tries) = (now, 1);
        let (undo, heard) = loop {
            let undo = Undo {
                network,
                account: keys.root.account(slot).account(),
                guard_key: guard.guard_key(),
                sequence,
                guarded: !lifted,
            };
            let undo = Signed::seal(&undo, &guard)?;
            let heard = holders.undo(&undo).await;
            // A holder knows an undo from a clock that was ahead of this one.
            if tries >= TRIES || !heard.contains(&Err(Refusal::Stale)) {
                break (undo, heard);
            }
            sequence = higher_undo(sequence, now);
            tries += 1;
        };
        let heard: Vec<_> = heard.into_iter().flatten().collect();
        report.accounts += 1;
        report.holders += holders.nodes().len();
        report.heard += heard.len();
        report.cancelled += heard.into_iter().filter(|pending| *pending).count();
        if let Some(mediator) = holders.mediator()
            && tell_mediator(&session.net, mediator, UndoReleases { undo }).await
        {
            report.mediators += 1;
        }
        if let Some(wanted) = wanted {
            let history = History::at(&keys, network, slot, &holders, None).await;
            let known = history.rewound.clone();
            if let Some(base) = history.named(wanted)? {
                let made = rewind(&session.net, words, slot, &holders, known.as_ref(), &base).await?;
                *report.rewound.get_or_insert(0) += made.heard;
            }
        }
    }
    if let Some(wanted) = wanted.filter(|_| report.rewound.is_none()) {
        return Err(RecoveryError::NoHead(wanted.to_owned()).into());
    }
    Ok(report)
}

/// The sequence of an undo after one that was too low: halfway to the furthest that holders take. They know
/// none further ahead than that.
fn higher_undo(refused: u64, now: u64) -> u64 {
    refused + (now.saturating_add(MAX_RELEASE_AHEAD).saturating_sub(refused) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undo_gets_past_one_from_a_clock_that_was_hours_ahead() {
        let (now, minutes) = (1_700_000_000, 60);
        let known = now + MAX_RELEASE_AHEAD - 15 * minutes;
        let mut sequence = now;
        let tries = (1..TRIES).take_while(|_| {
            let stale = sequence <= known;
            sequence = if stale { higher_undo(sequence, now) } else { sequence };
            stale
        });
        assert!(tries.count() < TRIES && sequence > known);
        assert!(sequence < now + MAX_RELEASE_AHEAD, "holders refuse more");
    }
}
