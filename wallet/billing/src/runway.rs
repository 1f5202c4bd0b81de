//! How long a client's prepayment lasts, and what follows when it does not.

use std::time::Duration;

use fincrypt_protocol::UnixTime;
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::statement::Terms;

use crate::accrual::{AccrualOverflow, earned};

/// Days that a prepayment should cover; below, the client is warned.
pub const WARN_DAYS: u64 = 30;
const DAY: u32 = 24 * 3600;

/// What storage costs a client, the mediator's fee included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// In the longest epoch that any of its contracts has: what has to be there before an audit.
    pub epoch: Msat,
    /// In a day.
    pub day: Msat,
}

impl Cost {
    /// The cost of holding so many bytes under each of these terms, every part rounded up.
    ///
    /// # Errors
    /// [`AccrualOverflow`] if a sum does not fit.
    pub fn of<'a>(held: impl IntoIterator<Item = (&'a Terms, u64)>) -> Result<Self, AccrualOverflow> {
        let mut cost = Self::default();
        for (terms, bytes) in held {
            let over = |seconds: u32| -> Result<Msat, AccrualOverflow> {
                let due = earned(terms.price, bytes, seconds)?;
                // A msat for what rounding left out of each, where there is anything to pay at all.
                let up = |amount: Msat| amount.checked_add(Msat::new(u64::from(terms.price.get() > 0)));
                let due = up(due).ok_or(AccrualOverflow)?;
                let fee = if terms.fee.get() > 0 { up(terms.fee.of(due)) } else { Some(Msat::ZERO) };
                fee.and_then(|fee| due.checked_add(fee)).ok_or(AccrualOverflow)
            };
            cost.epoch = cost.epoch.checked_add(over(terms.epoch_seconds.get())?).ok_or(AccrualOverflow)?;
            cost.day = cost.day.checked_add(over(DAY)?).ok_or(AccrualOverflow)?;
        }
        Ok(cost)
    }
}

/// How a client's prepayment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runway {
    /// Nothing costs anything.
    Free,
    /// It lasts.
    Covered {
        /// Whole days.
        days: u64,
    },
    /// It lasts for less than [`WARN_DAYS`].
    Low {
        /// Whole days.
        days: u64,
    },
    /// The next epoch is not covered: nothing new is stored; a deposit in time loses nothing.
    Empty {
        /// Until when what is stored is kept.
        until: UnixTime,
    },
    /// The grace is over.
    Lapsed {
        /// When it ended.
        since: UnixTime,
    },
}

/// Since when the next epoch is not covered by a client's prepayment, if it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EmptySince(pub Option<UnixTime>);

impl EmptySince {
    /// How `balance` stands against `cost`; while it does not cover an epoch the grace runs.
    pub fn runway(&mut self, balance: Msat, cost: Cost, grace: Duration, now: UnixTime) -> Runway {
        if balance < cost.epoch {
            let until = self.0.get_or_insert(now).plus(grace);
            return if until <= now { Runway::Lapsed { since: until } } else { Runway::Empty { until } };
        }
        self.0 = None;
        match balance.get().checked_div(cost.day.get()) {
            None => Runway::Free,
            Some(days) if days < WARN_DAYS => Runway::Low { days },
            Some(days) => Runway::Covered { days },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::amount::{Permille, Price};
    use fincrypt_protocol::{AccountId, Epoch, Network, NodeId};
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    fn terms(price: u64, fee: u16) -> Terms {
        Terms {
            network: Network::Local,
            storage: NodeId::from_bytes([1; 32]),
            mediator: NodeId::from_bytes([2; 32]),
            account: AccountId::from_bytes([3; 32]),
            price: Price::new(price),
            fee: Permille::new(fee).expect("a share"),
            first: Epoch::new(0),
            epoch_seconds: NonZeroU32::new(3600).expect("not zero"),
            credit_bound: Msat::new(200_000),
            payout_threshold: Msat::new(100_000),
            grace_days: 90,
            minimum_days: 30,
        }
    }

    #[test]
    fn a_prepayment_warns_runs_out_and_is_as_before_after_a_deposit() {
        // A GiB at 30 sat a month: a sat a day, and 42 msat an hour.
        let cost = Cost::of([(&terms(30_000, 0), 1 << 30)]).expect("fits");
        assert_eq!(cost, Cost { epoch: Msat::new(42), day: Msat::new(1001) });
        let (mut empty, grace) = (EmptySince::default(), Duration::from_secs(1000));
        let mut at = |balance, now| empty.runway(Msat::new(balance), cost, grace, UnixTime::from_secs(now));
        assert_eq!(at(30_030, 1), Runway::Covered { days: 30 });
        assert_eq!(at(30_029, 2), Runway::Low { days: 29 });
        assert_eq!(at(41, 3), Runway::Empty { until: UnixTime::from_secs(1003) });
        assert_eq!(at(41, 1002), Runway::Empty { until: UnixTime::from_secs(1003) });
        assert_eq!(at(60_000, 1002), Runway::Covered { days: 59 });
        assert_eq!(at(41, 1100), Runway::Empty { until: UnixTime::from_secs(2100) });
        assert_eq!(at(41, 2100), Runway::Lapsed { since: UnixTime::from_secs(2100) });
    }

    #[test]
    fn what_is_free_needs_no_prepayment() {
        let cost = Cost::of([(&terms(0, 25), 1 << 40)]).expect("fits");
        let now = UnixTime::from_secs(1);
        let standing = EmptySince::default().runway(Msat::ZERO, cost, Duration::ZERO, now);
        assert_eq!((cost, standing), (Cost::default(), Runway::Free));
    }

    proptest! {
        #[test]
        fn what_covers_an_epoch_covers_every_statement_for_it(
            price in 0u64..1_000_000, fee in 0u16..=1000, before in 0u64..1 << 50, bytes in 0u64..1 << 44,
        ) {
            let terms = terms(price, fee);
            let charged = |byte_epochs| earned(terms.price, byte_epochs, 3600).map(|sum| (sum, terms.fee.of(sum)));
            let ((sum, fee), (next, next_fee)) = (charged(before)?, charged(before + bytes)?);
            let step = next.get() - sum.get() + next_fee.get() - fee.get();
            prop_assert!(Cost::of([(&terms, bytes)])?.epoch.get() >= step);
        }
    }
}
