//! How much a storage node lets its mediator owe, and what follows when it owes more.

use std::time::Duration;

use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::statement::Contract;
use fincrypt_protocol::{Epoch, UnixTime};

const DAY: u64 = 24 * 3600;

/// How a contract stands with its storage node. Only `Open` takes shards; reads are always served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditStanding {
    /// So much more may be owed.
    Open {
        /// Until the bound.
        left: Msat,
    },
    /// The bound is reached: no new shards.
    Bound {
        /// What is owed.
        owed: Msat,
        /// What may be owed.
        bound: Msat,
        /// The newest epoch charged.
        epoch: Epoch,
        /// Until when what is there is kept.
        until: UnixTime,
    },
    /// Epochs go by for which there is no statement: no new shards.
    Uncharged {
        /// The newest epoch charged.
        epoch: Epoch,
        /// Until when what is there is kept.
        until: UnixTime,
    },
    /// The grace is over: the shards may go.
    Lapsed {
        /// The newest epoch charged.
        epoch: Epoch,
        /// When it ended.
        since: UnixTime,
    },
}

impl CreditStanding {
    /// Whether new shards are taken.
    #[must_use]
    pub fn takes_shards(self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

/// What a storage node remembers of a contract's credit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Credit {
    /// Since when the bound is reached.
    pub reached: Option<UnixTime>,
}

impl Credit {
    /// How the contract stands when `earned` was countersigned up to `epoch` and `paid` has arrived.
    /// Within `patience` of the end of that epoch no further statement is missed. The grace runs
    /// from when the bound was reached, or from the last epoch charged, whichever was first; a
    /// payment below the bound ends the former, a statement the latter.
    pub fn standing(
        &mut self,
        contract: &Contract,
        (earned, paid): (Msat, Msat),
        epoch: Epoch,
        patience: Duration,
        now: UnixTime,
    ) -> CreditStanding {
        let terms = contract.terms();
        let grace = Duration::from_secs(u64::from(terms.grace_days) * DAY);
        let owed = earned.checked_sub(paid).unwrap_or(Msat::ZERO);
        let left = terms.credit_bound.checked_sub(owed).filter(|left| !left.is_zero() || owed.is_zero());
        self.reached = if left.is_some() { None } else { self.reached.or(Some(now)) };
        let ended = epoch.number().saturating_add(1).saturating_mul(terms.epoch_seconds.get().into());
        let ended = UnixTime::from_secs(ended);
        let missed = (now.since(ended) > patience).then_some(ended);
        let Some(begun) = [self.reached, missed].into_iter().flatten().min() else {
            return CreditStanding::Open { left: left.unwrap_or(Msat::ZERO) };
        };
        let until = begun.plus(grace);
        if until <= now {
            CreditStanding::Lapsed { epoch, since: until }
        } else if left.is_none() {
            CreditStanding::Bound { owed, bound: terms.credit_bound, epoch, until }
        } else {
            CreditStanding::Uncharged { epoch, until }
        }
    }
}
