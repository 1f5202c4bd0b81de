//! The history of a vault's heads as its holders know it, and rewinding it with the words: what a
//! thief of the machine wrote does not count any more, and nothing they write will.

use fincrypt_protocol::record::Rewind;
use fincrypt_protocol::{Network, NodeId, Rewound, Signed, UnixTime, VerifiedRewound, mediate};
use fincrypt_vault::head::supersedes;
use fincrypt_vault::keyfile::VaultKeys;
use fincrypt_vault::words::Words;

use super::error::ClientError;
use super::head::{HeadError, OpenHead};
use super::holders::Holders;
use super::mediator_client::tell_mediator;
use super::recover::error::RecoveryError;
use super::vault::Vault;
use fincrypt_net::Net;

/// A head that some holders have.
pub(crate) struct FoundHead {
    pub(crate) open: OpenHead,
    /// How many have it.
    pub(crate) holders: usize,
    /// Whether it counts: it is signed with the head key of now, or the one that a rewind names.
    pub(crate) counts: bool,
}

/// What holders know of a slot's heads.
pub(crate) struct History {
    /// Heads that open, the one to go by last.
    pub(crate) heads: Vec<FoundHead>,
    /// The newest rewind.
    pub(crate) rewound: Option<VerifiedRewound>,
}

impl History {
    /// Asks all holders. What they cannot prove does not count. Of a rewind that is `known` here they
    /// need not have heard.
    pub(crate) async fn at(
        keys: &VaultKeys,
        network: Network,
        slot: u32,
        holders: &Holders,
        known: Option<Rewound>,
    ) -> Self {
        let (heads, mut rewounds) = holders.heads().await;
        rewounds.extend(known);
        let now = UnixTime::now();
        let guard = keys.guard_key(slot);
        let verify = |rewound: Rewound| guard.and_then(|guard| rewound.verify(network, &guard, now).ok());
        let account = keys.root.account(slot).account();
        let mut rewounds: Vec<VerifiedRewound> =
            rewounds.into_iter().filter_map(verify).filter(|known| known.rewind.account == account).collect();
        rewounds.sort_by_key(|known| known.rewind.sequence);

        let first = keys.root.first_head_key(slot).head_key();
        let current = rewounds.last().map_or(first, |known| known.rewind.head_key);
        // Of older keys, too: whoever rewound to the wrong head may go back further. Only who has the
        // root can seal a head that opens.
        let bases = rewounds.iter().map(|known| known.base.clone());
        let base = rewounds.last().map(|known| known.rewind.base);

        let mut found: Vec<FoundHead> = Vec::new();
        for (head, holders) in heads.into_iter().map(|head| (head, 1)).chain(bases.map(|head| (head, 0))) {
            let hash = head.signed().head_hash();
            if let Some(known) = found.iter_mut().find(|known| known.open.hash() == hash) {
                known.holders += holders;
                continue;
            }
            let counts = head.head_key == current || base == Some(hash);
            if let Ok(open) = OpenHead::unseal(&keys.root, slot, head) {
                found.push(FoundHead { open, holders, counts });
            }
        }
        found.sort_by_key(|head| (head.counts, head.open.head.sequence, head.open.hash()));
        Self { heads: found, rewound: rewounds.pop() }
    }

    /// Whether the newest rewind names another key than this machine has.
    fn is_of_other_key(&self, keys: &VaultKeys, slot: u32) -> bool {
        let own = keys.head_key(slot).head_key();
        self.rewound.as_ref().is_some_and(|known| known.rewind.head_key != own)
    }

    /// The head to go by.
    pub(crate) fn newest(self) -> Option<OpenHead> {
        self.heads.into_iter().next_back().filter(|head| head.counts).map(|head| head.open)
    }

    /// The head that a person named: its sequence, or at least eight digits of its hash.
    pub(crate) fn named(self, wanted: &str) -> Result<Option<OpenHead>, RecoveryError> {
        let named = |head: &FoundHead| {
            wanted.parse() == Ok(head.open.head.sequence)
                || (wanted.len() >= 8 && head.open.hash().to_string().starts_with(&wanted.to_lowercase()))
        };
        let mut found: Vec<FoundHead> = self.heads.into_iter().filter(named).collect();
        match found.pop() {
            Some(_) if !found.is_empty() => Err(RecoveryError::SeveralHeads(wanted.to_owned())),
            head => Ok(head.map(|head| head.open)),
        }
    }
}

/// What a rewind came to.
pub(crate) struct Rewinding {
    /// The rewind, to be remembered by whoever goes on from it.
    pub(crate) rewound: Rewound,
    /// Holders that took it.
    pub(crate) heard: usize,
}

/// Makes the heads of a slot go on from `base` under a key that the words alone derive, and tells
/// every holder and the mediator.
pub(crate) async fn rewind(
    net: &Net,
    words: &Words,
    slot: u32,
    holders: &Holders,
    known: Option<&VerifiedRewound>,
    base: &OpenHead,
) -> Result<Rewinding, ClientError> {
    let guard = words.guard(slot);
    let known = known.map_or(0, |known| known.rewind.sequence);
    let sequence = UnixTime::now().secs().max(known.saturating_add(1));
    let rewind = Rewind {
        network: net.network(),
        account: base.head.account,
        guard_key: guard.guard_key(),
        base: base.hash(),
        head_key: words.rewound_head_key(slot, sequence).head_key(),
        sequence,
    };
    let rewound = Rewound { rewind: Signed::seal(&rewind, &guard)?, base: base.head.signed().clone() };
    let heard = holders.rewind(&rewound).await;
    let mediator = match holders.mediator() {
        Some(node) => tell(net, node, &rewound).await,
        None => false,
    };
    // Else nothing has changed, and the new key would be refused everywhere.
    if heard == 0 && !mediator {
        Err(RecoveryError::NotRewound.into())
    } else {
        Ok(Rewinding { rewound, heard })
    }
}

async fn tell(net: &Net, mediator: NodeId, rewound: &Rewound) -> bool {
    tell_mediator(net, mediator, mediate::RewindAccount { rewound: rewound.clone() }).await
}

/// The keys of a vault as its newest rewind leaves them. One that names another key than its words
/// derive is none of theirs.
pub(crate) fn follow_rewind(keys: &mut VaultKeys, words: &Words, slot: u32, rewound: &VerifiedRewound) {
    let key = words.rewound_head_key(slot, rewound.rewind.sequence);
    if key.head_key() == rewound.rewind.head_key {
        keys.rewind(slot, key);
    }
}

/// Whether the words have rewound the vault to a key that this machine does not have, as its holders
/// prove.
pub(crate) async fn was_rewound(vault: &Vault, net: &Net) -> Result<bool, ClientError> {
    let fetcher = vault.fetcher(net, None)?;
    let slot = vault.slot()?;
    let known = vault.lifecycle.account().rewound()?;
    let history = History::at(&vault.keys, vault.network(), slot, fetcher.holders().await, known).await;
    Ok(history.is_of_other_key(&vault.keys, slot))
}

/// The newest valid head that the holders have, if it is newer than the one known.
pub(crate) async fn newest_head_at(
    vault: &Vault,
    holders: &Holders,
) -> Result<Option<OpenHead>, ClientError> {
    let slot = vault.slot()?;
    let history =
        History::at(&vault.keys, vault.network(), slot, holders, vault.lifecycle.account().rewound()?).await;
    if history.is_of_other_key(&vault.keys, slot) {
        return Err(HeadError::Rewound.into());
    }
    let rank = |open: &OpenHead| (open.head.sequence, open.hash());
    let known = vault.known_head()?;
    Ok(history.newest().filter(|found| known.is_none_or(|known| supersedes(rank(found), rank(&known)))))
}
