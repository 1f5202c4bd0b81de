//! A vault from its 24 words alone: accounts slot by slot, their holders from the DHT, the newest
//! valid head, the catalog. No mediator takes part.

use fincrypt_protocol::UnixTime;
use fincrypt_protocol::limits::SLOT_GAP;
use fincrypt_storage::keyfile::VaultKeys;
use fincrypt_storage::words::Words;
use futures::StreamExt;
use serde::Serialize;
use zeroize::Zeroizing;

use super::error::ClientError;
use super::fetch::Fetcher;
use super::head::OpenHead;
use super::holders::Holders;
use super::vault::{Home, Swarm, Vault};
use crate::config::Config;

/// What recovery found.
#[derive(Debug, Serialize)]
pub struct RecoverReport {
    /// Slots of the vault that were found.
    pub accounts: usize,
    /// Holders that answered.
    pub holders: usize,
    /// Sequence of the newest head; 0 if none was found.
    pub sequence: u64,
    /// Seconds since it was written.
    pub age_seconds: u64,
    /// Snapshots it lists.
    pub snapshots: usize,
    /// Segments that were read one by one because no head or catalog could be had.
    pub rebuilt_segments: usize,
}

#[derive(Default)]
struct Restored {
    accounts: usize,
    rebuilt_segments: usize,
    head: Option<OpenHead>,
}

/// Slots looked for at once.
const SLOTS_AT_ONCE: usize = 4;

/// Finds the vault of `words` in the network and makes `home` its new home.
///
/// # Errors
/// [`ClientError`] if the home is taken or no valid head is found.
pub async fn recover(
    home: Home,
    config: Config,
    words: &Words,
    password: &Zeroizing<String>,
) -> Result<RecoverReport, ClientError> {
    let keys = words.vault_keys();
    if home.keyfile().exists() {
        return Err(ClientError::VaultExists(home.path().to_owned()));
    }
    let swarm = Swarm::join(&config).await?;
    let result = recover_in(&swarm, home, config, &keys, password).await;
    swarm.leave().await;
    result
}

async fn recover_in(
    swarm: &Swarm,
    home: Home,
    config: Config,
    keys: &VaultKeys,
    password: &Zeroizing<String>,
) -> Result<RecoverReport, ClientError> {
    let network = config.network;
    // Searched before anything is written, so that wrong words leave no trace.
    let mut accounts = Vec::new();
    let (mut holders, mut empty, mut slot) = (0, 0, 0);
    while empty < SLOT_GAP {
        let slots: Vec<u32> = (slot..).take(SLOTS_AT_ONCE).collect();
        slot += u32::try_from(SLOTS_AT_ONCE).unwrap_or(1);
        let searches = slots.into_iter().map(|slot| async move {
            let registration = keys.registration(network, slot)?;
            let found = Holders::find(&swarm.net, &keys.root.account(slot), &registration).await;
            Ok::<_, ClientError>((slot, found))
        });
        let mut searched: Vec<_> = futures::stream::iter(searches).buffered(SLOTS_AT_ONCE).collect().await;
        for result in searched.drain(..) {
            let (slot, found) = result?;
            if found.nodes().is_empty() {
                empty += 1;
            } else {
                empty = 0;
                holders += found.nodes().len();
                accounts.push((slot, found));
            }
        }
    }
    if accounts.is_empty() {
        return Err(ClientError::VaultNotFound(network));
    }

    Vault::create(&home, keys, password)?;
    let vault = Vault::open(home.clone(), config, password)?;
    let restored = restore_state(swarm, &vault, accounts).await;
    let restored = match restored {
        Ok(restored) => restored,
        Err(error) => {
            // The home was made by this call and holds nothing yet; the next try needs it free.
            vault.state.close();
            let _ = std::fs::remove_file(home.keyfile());
            let _ = std::fs::remove_dir_all(home.state());
            return Err(error);
        }
    };
    let head = restored.head.as_ref();
    let report = RecoverReport {
        accounts: restored.accounts,
        holders,
        sequence: head.map_or(0, |head| head.head.sequence),
        age_seconds: head.map_or(0, |head| UnixTime::now().since(head.body.time).as_secs()),
        snapshots: vault.index.snapshots()?.len(),
        rebuilt_segments: restored.rebuilt_segments,
    };
    vault.state.close();
    Ok(report)
}

/// Fills the vault's state from what the accounts' holders have. Without a head, or without its
/// catalog, the index is rebuilt from the segments themselves.
async fn restore_state(
    swarm: &Swarm,
    vault: &Vault,
    accounts: Vec<(u32, Holders)>,
) -> Result<Restored, ClientError> {
    let network = vault.network();
    let mut restored = Restored::default();
    for (slot, holders) in accounts {
        let head = vault.best_head(slot, &holders).await;
        let now = UnixTime::now();
        let own = vault.keys.root.account(slot).account();
        let mandates = holders.mandates.iter().filter_map(|mandate| mandate.verify(network, now).ok());
        // A holder could show somebody else's mandate, to lead us to a mediator of its choice.
        let mediator = mandates
            .filter(|mandate| mandate.account == own)
            .max_by_key(|mandate| mandate.sequence)
            .map(|mandate| mandate.mediator);
        let (account, registration) =
            (vault.keys.root.account(slot), vault.keys.registration(network, slot)?);
        let fetcher = Fetcher::new(swarm.net.clone(), None, account, registration, vault.keys.root.tag_key());
        let refs = head.as_ref().map(|head| head.body.refs.as_slice()).unwrap_or_default();
        let loaded = vault.load_catalog(&fetcher, refs).await;
        if head.is_none() || loaded.is_err() {
            tracing::warn!(slot, "the catalog cannot be had; reading every segment instead");
            let segments = vault.rebuild_index(&fetcher).await?;
            restored.rebuilt_segments += segments;
            vault.set_rebuilt(true)?;
            if head.is_none() && segments == 0 {
                continue;
            }
        }
        restored.accounts += 1;
        // Slots come in order; the last is that of the mediator used last.
        vault.set_slot(slot)?;
        if let Some(mediator) = mediator {
            vault.set_mediator(mediator)?;
        }
        if let Some(head) = head {
            vault.set_head(head.head.signed())?;
            restored.head = Some(head);
        }
    }
    if restored.accounts == 0 { Err(ClientError::VaultNotFound(network)) } else { Ok(restored) }
}
