//! A vault from its 24 words alone: accounts slot by slot, their holders from the DHT, the newest
//! valid head, the catalog. No mediator takes part.

use fincrypt_protocol::limits::SLOT_GAP;
use fincrypt_protocol::{NodeId, UnixTime};
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
    /// Sequence of the newest head.
    pub sequence: u64,
    /// Seconds since it was written.
    pub age_seconds: u64,
    /// Snapshots it lists.
    pub snapshots: usize,
}

struct Found {
    slot: u32,
    head: OpenHead,
    mediator: Option<NodeId>,
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
    let (newest, count) = match restored {
        Ok(restored) => restored,
        Err(error) => {
            // The home was made by this call and holds nothing yet; the next try needs it free.
            vault.state.close();
            let _ = std::fs::remove_file(home.keyfile());
            let _ = std::fs::remove_dir_all(home.state());
            return Err(error);
        }
    };
    let report = RecoverReport {
        accounts: count,
        holders,
        sequence: newest.head.sequence,
        age_seconds: UnixTime::now().since(newest.body.time).as_secs(),
        snapshots: vault.index.snapshots()?.len(),
    };
    vault.state.close();
    Ok(report)
}

async fn restore_state(
    swarm: &Swarm,
    vault: &Vault,
    accounts: Vec<(u32, Holders)>,
) -> Result<(OpenHead, usize), ClientError> {
    let network = vault.network();
    let mut found = Vec::new();
    for (slot, holders) in accounts {
        let newest = vault.best_head(slot, &holders).await;
        let Some(head) = newest else { continue };
        let now = UnixTime::now();
        let mandates = holders.mandates.iter().filter_map(|mandate| mandate.verify(network, now).ok());
        let mediator = mandates.max_by_key(|mandate| mandate.sequence).map(|mandate| mandate.mediator);
        let (account, registration) =
            (vault.keys.root.account(slot), vault.keys.registration(network, slot)?);
        let fetcher = Fetcher::new(swarm.net.clone(), None, account, registration, vault.keys.root.tag_key());
        vault.load_catalog(&fetcher, &head.body.refs).await?;
        found.push(Found { slot, head, mediator });
    }
    let count = found.len();
    // The slot of the mediator used last.
    let active =
        found.into_iter().max_by_key(|found| found.slot).ok_or(ClientError::VaultNotFound(network))?;
    vault.set_slot(active.slot)?;
    vault.set_head(active.head.head.signed())?;
    if let Some(mediator) = active.mediator {
        vault.set_mediator(mediator)?;
    }
    Ok((active.head, count))
}
