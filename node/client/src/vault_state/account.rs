//! The account in use, its mediator and the mandates' limits.

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::limits::MAX_RELEASE_AHEAD;
use fincrypt_protocol::record::{Head, Mandate};
use fincrypt_protocol::{NodeId, Rewound, UnixTime, Verified};
use fincrypt_state::kv::{Batch, KvError};

use super::VaultState;
use super::error::VaultStateError;
use super::medium::Medium;
use super::record::AccountState;

/// An account that a recovery has found.
pub(crate) struct FoundAccount<'a> {
    pub(crate) index: u32,
    pub(crate) mandate: Option<&'a Mandate>,
    /// The head chosen and the releases that it names.
    pub(crate) head: Option<(&'a Verified<Head>, &'a [[u8; 32]])>,
    /// The newest rewind.
    pub(crate) rewound: Option<Rewound>,
}

/// The account's part of a vault's state: what changes it is a transition of the whole.
pub(crate) struct VaultAccount<'a, M: Medium>(&'a VaultState<M>);

impl<M: Medium> VaultState<M> {
    /// The account in use.
    pub(crate) fn account(&self) -> VaultAccount<'_, M> {
        VaultAccount(self)
    }
}

impl<M: Medium> VaultAccount<'_, M> {
    fn read(&self) -> Result<AccountState, KvError> {
        Ok(self.0.record()?.account)
    }

    fn set(&self, change: impl FnOnce(&mut AccountState)) -> Result<(), VaultStateError> {
        self.0.set(|record| change(&mut record.account))
    }

    /// Index of the account in use; 0 for a new vault.
    pub(crate) fn index(&self) -> Result<u32, KvError> {
        Ok(self.read()?.index)
    }

    /// Chooses the account of a new vault.
    ///
    /// # Errors
    /// [`VaultStateError::AccountInUse`] if another account has a head already.
    pub(crate) fn choose(&self, index: u32) -> Result<(), VaultStateError> {
        self.0.change(Batch::default(), |record| {
            if record.head.is_some() && record.account.index != index {
                return Err(VaultStateError::AccountInUse { used: record.account.index });
            }
            record.account.index = index;
            Ok(())
        })
    }

    /// Takes over an account that a recovery has found, with its head. Another account's head counts
    /// no longer.
    pub(crate) fn recover(&self, found: FoundAccount<'_>) -> Result<(), VaultStateError> {
        self.0.set(|record| {
            if record.account.index != found.index {
                record.head = None;
                record.account.rewound = None;
            }
            record.account.index = found.index;
            if let Some(mandate) = found.mandate {
                record.account.follow(mandate);
            }
            if let Some((head, releases)) = found.head {
                record.head = Some((head.sequence, head.signed().clone()));
                record.index.releases = releases.to_vec();
                if let Some(rewound) = found.rewound {
                    record.account.rewound = Some(rewound);
                }
            }
        })
    }

    /// The vault's mediator, once it has one.
    pub(crate) fn mediator(&self) -> Result<Option<NodeId>, KvError> {
        Ok(self.read()?.mediator)
    }

    /// Chooses the vault's first mediator.
    pub(crate) fn choose_mediator(&self, node: NodeId) -> Result<(), VaultStateError> {
        self.set(|account| account.mediator = Some(node))
    }

    /// The vault has moved to a mediator, under a mandate of this sequence.
    pub(crate) fn moved(&self, node: NodeId, sequence: u64) -> Result<(), VaultStateError> {
        self.set(|account| {
            account.mediator = Some(node);
            account.mandate_base = sequence;
        })
    }

    /// Follows a mandate that another device has given.
    pub(crate) fn follow_mandate(&self, mandate: &Mandate) -> Result<(), VaultStateError> {
        self.set(|account| account.follow(mandate))
    }

    /// Sequence of the newest mandate known of a move or a changed price; 0 if there was none.
    pub(crate) fn mandate_base(&self) -> Result<u64, KvError> {
        Ok(self.read()?.mandate_base)
    }

    /// The limit of the price in the vault's mandates, unless the configured one has changed since this
    /// machine last set it.
    pub(crate) fn price_limit(&self, configured: Option<Price>) -> Result<PriceLimit, KvError> {
        let account = self.read()?;
        if account.price_set == configured {
            return Ok(PriceLimit::Unchanged(account.price_limit));
        }
        Ok(PriceLimit::Changed)
    }

    /// Sets the limit of the price that mandates from this sequence on have.
    pub(crate) fn set_price_limit(&self, limit: Option<Price>, sequence: u64) -> Result<(), VaultStateError> {
        self.set(|account| {
            (account.price_set, account.price_limit) = (limit, limit);
            account.mandate_base = sequence;
        })
    }

    /// Reserves the sequence of the next release: the time, or more if the last one's was not less. No
    /// sequence is returned twice, unless it was of a clock more than a day ahead: no node has taken that.
    pub(crate) fn reserve_release_sequence(&self, now: UnixTime) -> Result<u64, VaultStateError> {
        self.0.change(Batch::default(), |record| {
            let next = next_release(record.account.release_sequence, now);
            record.account.release_sequence = next;
            Ok(next)
        })
    }

    /// The rewind under which this machine's head key is the vault's, if there was one.
    pub(crate) fn rewound(&self) -> Result<Option<Rewound>, KvError> {
        Ok(self.read()?.rewound)
    }
}

impl AccountState {
    fn follow(&mut self, mandate: &Mandate) {
        self.price_limit = mandate.max_price;
        self.mandate_base = mandate.sequence;
        self.mediator = Some(mandate.mediator);
    }
}

/// The sequence of the release after `known`. One that lies further ahead than nodes take is forgotten.
fn next_release(known: u64, now: UnixTime) -> u64 {
    let furthest = now.secs().saturating_add(MAX_RELEASE_AHEAD);
    if known < furthest { now.secs().max(known + 1) } else { now.secs() }
}

/// What is known of the limit of the price.
pub(crate) enum PriceLimit {
    /// The limit that holds.
    Unchanged(Option<Price>),
    /// The configured limit differs and has to be set.
    Changed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_a_fast_clock_failed_with_blocks_no_later_one() {
        let now = UnixTime::from_secs(1_700_000_000);
        let furthest = now.secs() + MAX_RELEASE_AHEAD;
        for days in [2, 400] {
            let failed = next_release(0, UnixTime::from_secs(now.secs() + days * MAX_RELEASE_AHEAD));
            assert_eq!(next_release(failed, now), now.secs());
        }
        assert_eq!(next_release(furthest - 1, now), furthest, "taken from a clock a day ahead");
        assert_eq!(next_release(now.secs(), now), now.secs() + 1);
    }
}
