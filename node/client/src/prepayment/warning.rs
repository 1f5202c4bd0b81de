//! When a person is told to pay in, and what. Sans-IO.

use std::time::Duration;

use fincrypt_billing::WARN_DAYS;
use fincrypt_protocol::UnixTime;
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::Balance;

use crate::snapshots::utc;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a prepayment lasts, in whole days; none where nothing costs anything.
pub(crate) fn days(balance: &Balance) -> Option<u64> {
    balance.prepaid.get().checked_div(balance.day.get())
}

/// Until when what is stored is kept unpaid, if the prepayment is used up.
pub(crate) fn kept_until(balance: &Balance) -> Option<UnixTime> {
    balance.empty.map(|since| since.plus(DAY * u32::from(balance.grace_days)))
}

/// What to tell, if there is anything to tell.
pub(crate) fn warning(balance: &Balance, now: UnixTime) -> Option<String> {
    let coming = balance.pending.iter().fold(Msat::ZERO, |sum, pending| {
        let sum = sum.checked_add(pending.amount);
        sum.unwrap_or(Msat::new(u64::MAX))
    });
    let coming = if coming.is_zero() { String::new() } else { format!(" ({coming} is on its way in)") };
    let prepaid = balance.prepaid;
    if let Some((since, until)) = balance.empty.zip(kept_until(balance)) {
        let (since, until_text) = (utc(since.secs()), utc(until.secs()));
        let consequence = if until > now {
            format!(
                "storage keeps what is there for {} days, until {until_text} UTC, and deletes it then",
                balance.grace_days
            )
        } else {
            format!(
                "the {} days of grace ended {until_text} UTC, and storage may delete what is there at any time",
                balance.grace_days
            )
        };
        return Some(format!(
            "the prepayment of {prepaid} is used up since {since} UTC{coming}: nothing new is stored, {consequence}; pay in with `fincrypt prepayment deposit`"
        ));
    }
    let days = days(balance).filter(|days| *days < WARN_DAYS)?;
    // Below 30 days, in whole seconds.
    let seconds =
        u128::from(prepaid.get()) * u128::from(DAY.as_secs()) / u128::from(balance.day.get().max(1));
    let until = utc(now.secs().saturating_add(u64::try_from(seconds).unwrap_or(u64::MAX)));
    let lasts = match days {
        0 => "less than a day".to_owned(),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    };
    Some(format!(
        "the prepayment of {prepaid} lasts for {lasts}, until {until} UTC{coming}; {} days after that storage deletes what is stored: pay in with `fincrypt prepayment deposit`",
        balance.grace_days
    ))
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
    fn what_lasts_less_than_a_month_is_told_with_its_end_and_what_to_do() {
        let told = warning(&balance(29_999, 1000), NOW).expect("a warning");
        for word in ["29.999 sat", "29 days", "2026-01-30", "fincrypt prepayment deposit", "90 days after"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        let told = warning(&balance(500, 1000), NOW).expect("a warning");
        assert!(told.contains("less than a day, until 2026-01-01 12:00:00 UTC"), "{told}");
        let arrival = Arrival::Output(TxId::from_bytes([1; 32]), 0);
        let pending = Pending { arrival, amount: Msat::new(5_000_000), confirmations: 1, needed: 6 };
        let told = warning(&Balance { pending: vec![pending], ..balance(0, 1000) }, NOW).expect("a warning");
        assert!(told.contains("5000.000 sat is on its way in"), "{told}");
    }

    #[test]
    fn what_is_used_up_is_told_with_the_grace_its_end_and_what_comes_then() {
        let empty = Some(UnixTime::from_secs(NOW.secs() - 10 * DAY.as_secs()));
        let told = warning(&Balance { empty, ..balance(5, 1000) }, NOW).expect("a warning");
        for word in ["used up since 2025-12-22", "nothing new", "90 days, until 2026-03-22", "deletes it"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        let over = warning(&Balance { empty, grace_days: 10, ..balance(5, 1000) }, NOW).expect("a warning");
        for word in ["10 days of grace ended 2026-01-01", "at any time", "fincrypt prepayment deposit"] {
            assert!(over.contains(word), "{word}: {over}");
        }
    }
}
