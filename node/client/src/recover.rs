//! A vault from its 24 words alone: accounts slot by slot, their holders from the DHT, the newest
//! valid head, the catalog. No mediator takes part.

pub(crate) mod error;

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::limits::{MAX_SLOTS, SLOT_GAP};
use fincrypt_protocol::{
    Code, Manifest, Network, RecordError, Redundancy, Rewound, UnixTime, VerifiedRewound,
};
use fincrypt_vault::keyfile::VaultKeys;
use fincrypt_vault::words::Words;
use futures::StreamExt;
use serde::Serialize;
use zeroize::Zeroizing;

use super::catalog_reader::load_catalog;
use super::error::ClientError;
use super::fetch::Fetcher;
use super::head::OpenHead;
use super::history::{FoundHead, History, follow_rewind, rewind};
use super::holders::Holders;
use super::home::{HomeError, VaultHome};
use super::mandates;
use super::rebuild::rebuild_index;
use super::session::{Session, in_session};
use super::snapshots::utc;
use super::vault::Vault;
use super::vault_state::FoundAccount;
use crate::options::ClientOptions;
pub use error::RecoveryError;

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
    /// The limit of the price in the newest mandate, in millisatoshi per GiB-month. It holds on.
    pub max_price_msat: Option<u64>,
    /// The lowest redundancy, in permille, of segments that have more than this home's setting gives to
    /// new ones; none if there are no such segments.
    pub higher_redundancy: Option<u32>,
}

#[derive(Default)]
struct Restored {
    accounts: usize,
    rebuilt_segments: usize,
    head: Option<OpenHead>,
}

/// Slots looked for at once.
const SLOTS_AT_ONCE: usize = 4;

/// One head that holders have.
#[derive(Debug, Serialize)]
pub struct HeadInfo {
    /// The slot it is of.
    pub slot: u32,
    /// Its sequence.
    pub sequence: u64,
    /// Its hash, in hexadecimal.
    pub hash: String,
    /// When it was written, by its writer's clock, in seconds since 1970.
    pub time: u64,
    /// The same for people, in UTC.
    #[serde(skip)]
    pub when: String,
    /// Segments of the catalog it refers to; a head without any lists no snapshot.
    pub catalog_segments: usize,
    /// Holders that have it.
    pub holders: usize,
    /// Whether a rewind made it count no more.
    pub superseded: bool,
}

/// Finds the vault of `words` in the network and makes `home` its new home. Goes by the newest head,
/// or back to the one that `head` names, its sequence or at least eight digits of its hash: then
/// every other machine of the vault has to be recovered, too.
///
/// # Errors
/// [`ClientError`] if the home is taken or no valid head is found.
pub async fn recover(
    home: VaultHome,
    options: ClientOptions,
    words: &Words,
    password: &Zeroizing<String>,
    head: Option<&str>,
) -> Result<RecoverReport, ClientError> {
    if home.keyfile().exists() {
        return Err(HomeError::VaultExists(home.path().to_owned()).into());
    }
    let joined = options.clone();
    in_session(&joined, async |session| recover_in(session, home, options, words, password, head).await).await
}

/// The heads that holders of the vault of `words` have, the one to go by of each slot last.
///
/// # Errors
/// [`ClientError`] if no holder is found.
pub async fn list_heads(options: &ClientOptions, words: &Words) -> Result<Vec<HeadInfo>, ClientError> {
    let keys = words.vault_keys();
    in_session(options, async |session| {
        let mut heads = Vec::new();
        for (slot, holders) in find_accounts(session, options.network, &keys).await? {
            let history = History::at(&keys, options.network, slot, &holders, None).await;
            heads.extend(history.heads.into_iter().map(|FoundHead { open, holders, counts }| HeadInfo {
                slot,
                sequence: open.head.sequence,
                hash: open.hash().to_string(),
                time: open.body.time.secs(),
                when: utc(open.body.time.secs()),
                catalog_segments: open.body.refs.len(),
                holders,
                superseded: !counts,
            }));
        }
        Ok(heads)
    })
    .await
}

/// The accounts of a vault that have holders, slot by slot.
pub(super) async fn find_accounts(
    session: &Session,
    network: Network,
    keys: &VaultKeys,
) -> Result<Vec<(u32, Holders)>, ClientError> {
    let mut accounts = Vec::new();
    let (mut empty, mut slot) = (0, 0);
    // A vault has no more slots than it keeps guard keys for.
    while empty < SLOT_GAP && slot < MAX_SLOTS {
        let slots: Vec<u32> = (slot..MAX_SLOTS).take(SLOTS_AT_ONCE).collect();
        slot += u32::try_from(SLOTS_AT_ONCE).unwrap_or(1);
        let searches = slots.into_iter().map(|slot| async move {
            let registration = keys.registration(network, slot)?;
            let found = Holders::find(&session.net, &keys.root.account(slot), &registration).await;
            Ok::<_, ClientError>((slot, found))
        });
        let mut searched: Vec<_> = futures::stream::iter(searches).buffered(SLOTS_AT_ONCE).collect().await;
        for result in searched.drain(..) {
            let (slot, found) = result?;
            if found.nodes().is_empty() {
                empty += 1;
            } else {
                empty = 0;
                accounts.push((slot, found));
            }
        }
    }
    if accounts.is_empty() { Err(RecoveryError::VaultNotFound(network).into()) } else { Ok(accounts) }
}

/// A slot in use.
struct Account {
    slot: u32,
    holders: Holders,
    chosen: Option<OpenHead>,
    rewound: Option<Rewound>,
}

/// A slot, its holders, the head chosen and the newest rewind.
type Found = (u32, Holders, Option<OpenHead>, Option<VerifiedRewound>);

/// Rewinds to the heads that were chosen by name: from now on only the words' owner goes on from
/// there, and other machines of the vault have to be recovered, too.
async fn go_back(
    session: &Session,
    words: &Words,
    keys: &mut VaultKeys,
    found: Vec<Found>,
    by_name: bool,
) -> Result<Vec<Account>, ClientError> {
    let mut accounts = Vec::new();
    for (slot, holders, chosen, known) in found {
        let mut rewound = known.as_ref().map(VerifiedRewound::rewound);
        if let Some(base) = chosen.as_ref().filter(|_| by_name) {
            let made = rewind(&session.net, words, slot, &holders, known.as_ref(), base).await?;
            let guard = keys.guard_key(slot).ok_or(RecordError::Inconsistent)?;
            let network = session.net.network();
            follow_rewind(keys, words, slot, &made.rewound.verify(network, &guard, UnixTime::now())?);
            rewound = Some(made.rewound);
        }
        accounts.push(Account { slot, holders, chosen, rewound });
    }
    Ok(accounts)
}

async fn recover_in(
    session: &Session,
    home: VaultHome,
    options: ClientOptions,
    words: &Words,
    password: &Zeroizing<String>,
    wanted: Option<&str>,
) -> Result<RecoverReport, ClientError> {
    // Searched before anything is written, so that wrong words leave no trace.
    let mut keys = words.vault_keys();
    let mut accounts = Vec::new();
    let mut holders = 0;
    for (slot, found) in find_accounts(session, options.network, &keys).await? {
        let history = History::at(&keys, options.network, slot, &found, None).await;
        holders += found.nodes().len();
        let rewound = history.rewound.clone();
        if let Some(known) = &rewound {
            follow_rewind(&mut keys, words, slot, known);
        }
        let chosen = match wanted {
            Some(wanted) => history.named(wanted)?,
            None => history.newest(),
        };
        accounts.push((slot, found, chosen, rewound));
    }
    if let Some(wanted) = wanted
        && accounts.iter().all(|(_, _, chosen, _)| chosen.is_none())
    {
        return Err(RecoveryError::NoHead(wanted.to_owned()).into());
    }
    let accounts = go_back(session, words, &mut keys, accounts, wanted.is_some()).await?;
    let keys = &keys;

    let vault = Vault::begin(home.clone(), options, keys.clone())?;
    let restored = restore_state(session, &vault, accounts).await;
    let max_price = mandates::max_price(&vault);
    // Before the keyfile, which makes a vault of it.
    vault.state.close();
    let restored = restored?;
    Vault::create(&home, keys, password)?;
    let head = restored.head.as_ref();
    let report = RecoverReport {
        accounts: restored.accounts,
        holders,
        sequence: head.map_or(0, |head| head.head.sequence),
        age_seconds: head.map_or(0, |head| UnixTime::now().since(head.body.time).as_secs()),
        snapshots: vault.index.snapshots()?.len(),
        rebuilt_segments: restored.rebuilt_segments,
        max_price_msat: max_price?.map(Price::get),
        higher_redundancy: higher_redundancy(&vault.index.manifests()?, vault.options.redundancy),
    };
    Ok(report)
}

/// The lowest redundancy of the segments that have more than `setting` would have given them, in
/// permille. A small segment has parity for its own sake, and few nodes make a code of more.
fn higher_redundancy(manifests: &[Manifest], setting: Redundancy) -> Option<u32> {
    let higher = manifests.iter().map(Manifest::code).filter(|code| {
        let full = Code::for_peers(usize::from(code.total()), setting);
        let (data, total, permille) = (u32::from(code.data()), u32::from(code.total()), setting.permille());
        let small = (data * u32::from(permille)).div_ceil(1000).max(data + 4);
        full.is_ok_and(|full| full.data() > code.data()) && total > small
    });
    higher.map(|code| u32::from(code.total()) * 1000 / u32::from(code.data())).min()
}

/// Fills the vault's state from what the accounts' holders have. Without a head, or without its
/// catalog, the index is rebuilt from the segments themselves.
async fn restore_state(
    session: &Session,
    vault: &Vault,
    accounts: Vec<Account>,
) -> Result<Restored, ClientError> {
    let network = vault.network();
    let mut restored = Restored::default();
    for Account { slot, holders, chosen: head, rewound } in accounts {
        let mandate = holders.newest_mandate();
        let (account, registration) =
            (vault.keys.root.account(slot), vault.keys.registration(network, slot)?);
        let fetcher =
            Fetcher::new(session.net.clone(), None, account, registration, vault.keys.root.tag_key());
        let refs = head.as_ref().map(|head| head.body.refs.as_slice()).unwrap_or_default();
        let loaded = load_catalog(vault, &fetcher, refs).await;
        if head.is_none() || loaded.is_err() {
            tracing::warn!(slot, "catalog_unreadable_index_rebuilt");
            let segments = rebuild_index(vault, &fetcher).await?;
            restored.rebuilt_segments += segments;
            if head.is_none() && segments == 0 {
                continue;
            }
        }
        restored.accounts += 1;
        // Slots come in order; the last is that of the mediator used last.
        vault.lifecycle.account().recover(FoundAccount {
            index: slot,
            mandate: mandate.as_deref(),
            head: head.as_ref().map(|head| (&head.head, head.body.releases.as_slice())),
            rewound,
        })?;
        if head.is_some() {
            restored.head = head;
        }
    }
    if restored.accounts == 0 { Err(RecoveryError::VaultNotFound(network).into()) } else { Ok(restored) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{ShardId, ShardLen};

    fn manifest(data: u8, total: u8) -> Manifest {
        let code = Code::new(data, total - data).expect("valid");
        let ids = (0..total).map(|at| ShardId::from_bytes([at; 32])).collect();
        Manifest::new(code, ShardLen::FULL, ids).expect("valid")
    }

    #[test]
    fn only_more_than_the_setting_gives_counts_as_higher_redundancy() {
        let two = Redundancy::MIN;
        // A full segment, one of nine nodes and a small one, at a redundancy of 2.
        let plain = [manifest(15, 30), manifest(4, 9), manifest(1, 5)];
        assert_eq!(higher_redundancy(&plain, two), None);
        let three = [manifest(10, 30), manifest(1, 5), manifest(15, 30)];
        assert_eq!(higher_redundancy(&three, two), Some(3000));
    }
}
