//! How long a prepayment lasts, and when that is too short. Sans-IO.

use std::time::Duration;

use fincrypt_billing::WARN_DAYS;
use fincrypt_protocol::UnixTime;
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::Balance;
use serde::Serialize;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A prepayment that does not last. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RunwayWarning {
    /// It is used up: nothing new is stored.
    UsedUp {
        /// What is there.
        prepaid_msat: u64,
        /// What is on its way in.
        pending_msat: u64,
        /// Since when.
        since: u64,
        /// Days for which storage keeps what is there, unpaid.
        grace_days: u16,
        /// When these end.
        kept_until: u64,
        /// Whether they have ended.
        grace_is_over: bool,
    },
    /// It lasts for less than a month.
    Short {
        /// What is there.
        prepaid_msat: u64,
        /// What is on its way in.
        pending_msat: u64,
        /// Whole days that it lasts.
        days: u64,
        /// When it ends.
        until: u64,
        /// Days after that until storage deletes what is stored.
        grace_days: u16,
    },
}

/// How long a prepayment lasts, in whole days; none where nothing costs anything.
pub(crate) fn days(balance: &Balance) -> Option<u64> {
    balance.prepaid.get().checked_div(balance.day.get())
}

/// What is on its way in.
pub(crate) fn pending(balance: &Balance) -> Msat {
    let amounts = balance.pending.iter().map(|pending| pending.amount.get());
    Msat::new(amounts.fold(0, u64::saturating_add))
}

/// Until when what is stored is kept unpaid, if the prepayment is used up.
pub(crate) fn kept_until(balance: &Balance) -> Option<UnixTime> {
    balance.empty.map(|since| since.plus(DAY * u32::from(balance.grace_days)))
}

/// Whether the prepayment does not last.
pub(crate) fn warning(balance: &Balance, now: UnixTime) -> Option<RunwayWarning> {
    let (prepaid_msat, pending_msat) = (balance.prepaid.get(), pending(balance).get());
    let grace_days = balance.grace_days;
    if let Some((since, until)) = balance.empty.zip(kept_until(balance)) {
        return Some(RunwayWarning::UsedUp {
            prepaid_msat,
            pending_msat,
            since: since.secs(),
            grace_days,
            kept_until: until.secs(),
            grace_is_over: until <= now,
        });
    }
    let days = days(balance).filter(|days| *days < WARN_DAYS)?;
    // Below 30 days, in whole seconds.
    let seconds = u128::from(prepaid_msat) * u128::from(DAY.as_secs()) / u128::from(balance.day.get().max(1));
    let until = now.secs().saturating_add(u64::try_from(seconds).unwrap_or(u64::MAX));
    Some(RunwayWarning::Short { prepaid_msat, pending_msat, days, until, grace_days })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::TxId;
    use fincrypt_protocol::money::{Arrival, Pending};

    const NOW: UnixTime = UnixTime::from_secs(1_767_225_600); // 2026-01-01

    fn balance(prepaid: u64, day: u64) -> Balance {
        Balance {
            prepaid: Msat::new(prepaid),
            epoch: Msat::new(day.div_ceil(24)),
            day: Msat::new(day),
            pending: Vec::new(),
            leaving: Msat::ZERO,
            empty: None,
            grace_days: 90,
        }
    }

    #[test]
    fn nothing_is_said_where_nothing_costs_anything_or_a_month_is_covered() {
        assert_eq!(warning(&balance(0, 0), NOW), None);
        assert_eq!(warning(&balance(30_000, 1000), NOW), None);
    }

    #[test]
    fn what_lasts_less_than_a_month_is_told_with_its_end() {
        let short = |prepaid_msat, pending_msat, days, seconds| RunwayWarning::Short {
            prepaid_msat,
            pending_msat,
            days,
            until: NOW.secs() + seconds,
            grace_days: 90,
        };
        let until = 29_999 * DAY.as_secs() / 1000;
        assert_eq!(warning(&balance(29_999, 1000), NOW), Some(short(29_999, 0, 29, until)));
        assert_eq!(warning(&balance(500, 1000), NOW), Some(short(500, 0, 0, 12 * 3600)));
        let arrival = Arrival::Output(TxId::from_bytes([1; 32]), 0);
        let pending = Pending { arrival, amount: Msat::new(5_000_000), confirmations: 1, needed: 6 };
        let coming = Balance { pending: vec![pending], ..balance(0, 1000) };
        assert_eq!(warning(&coming, NOW), Some(short(0, 5_000_000, 0, 0)));
    }

    #[test]
    fn what_is_used_up_is_told_with_the_grace_and_its_end() {
        let since = NOW.secs() - 10 * DAY.as_secs();
        let empty = Some(UnixTime::from_secs(since));
        let used_up = |grace_days: u16, grace_is_over| RunwayWarning::UsedUp {
            prepaid_msat: 5,
            pending_msat: 0,
            since,
            grace_days,
            kept_until: since + u64::from(grace_days) * DAY.as_secs(),
            grace_is_over,
        };
        assert_eq!(warning(&Balance { empty, ..balance(5, 1000) }, NOW), Some(used_up(90, false)));
        let over = Balance { empty, grace_days: 10, ..balance(5, 1000) };
        assert_eq!(warning(&over, NOW), Some(used_up(10, true)));
    }
}
