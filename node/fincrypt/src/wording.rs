//! What the library found, in words, with what a person can do about it.

use fincrypt_client::{NotRestored, PrepaymentWarning, RunwayWarning, utc};
#[cfg(feature = "bitcoin")]
use fincrypt_mediator::MoveError;
use fincrypt_protocol::amount::Msat;
#[cfg(feature = "bitcoin")]
use fincrypt_treasury::lightning::LightningError;
#[cfg(feature = "bitcoin")]
use fincrypt_treasury::onchain::TreasuryError;

/// Something about the money that a person should know.
pub(crate) fn prepayment(warning: &PrepaymentWarning) -> String {
    match warning {
        PrepaymentWarning::BalanceUnknown(why) => format!("the prepayment could not be looked at: {why}"),
        PrepaymentWarning::StatementsUnchecked(why) => {
            format!("the statements could not be checked: {why}")
        }
        PrepaymentWarning::StatementsUnreadable(why) => format!("the statements could not be read: {why}"),
        PrepaymentWarning::Runway(warning) => runway(warning),
        PrepaymentWarning::WrongStatements { count, newest } => format!(
            "{count} of the mediator's statements are wrong, the newest: {newest}; `fincrypt prepayment statement` shows them, `fincrypt mediator use PEER` moves to another mediator"
        ),
    }
}

fn coming(pending_msat: u64) -> String {
    match pending_msat {
        0 => String::new(),
        _ => format!(" ({} is on its way in)", Msat::new(pending_msat)),
    }
}

/// A prepayment that does not last, and how to pay in.
pub(crate) fn runway(warning: &RunwayWarning) -> String {
    match *warning {
        RunwayWarning::UsedUp {
            prepaid_msat,
            pending_msat,
            since,
            grace_days,
            kept_until,
            grace_is_over,
        } => {
            let (prepaid, coming) = (Msat::new(prepaid_msat), coming(pending_msat));
            let (since, until) = (utc(since), utc(kept_until));
            let consequence = if grace_is_over {
                format!(
                    "the {grace_days} days of grace ended {until} UTC, and storage may delete what is there at any time"
                )
            } else {
                format!(
                    "storage keeps what is there for {grace_days} days, until {until} UTC, and deletes it then"
                )
            };
            format!(
                "the prepayment of {prepaid} is used up since {since} UTC{coming}: nothing new is stored, {consequence}; pay in with `fincrypt prepayment deposit`"
            )
        }
        RunwayWarning::Short { prepaid_msat, pending_msat, days, until, grace_days } => {
            let (prepaid, coming, until) = (Msat::new(prepaid_msat), coming(pending_msat), utc(until));
            let lasts = match days {
                0 => "less than a day".to_owned(),
                1 => "a day".to_owned(),
                days => format!("{days} days"),
            };
            format!(
                "the prepayment of {prepaid} lasts for {lasts}, until {until} UTC{coming}; {grace_days} days after that storage deletes what is stored: pay in with `fincrypt prepayment deposit`"
            )
        }
    }
}

/// Why something did not come back, with or without --overwrite.
pub(crate) fn not_restored(reason: &NotRestored, overwrite: bool) -> String {
    match reason {
        NotRestored::OtherFile | NotRestored::SomethingElse if overwrite => {
            format!("{reason}, which --overwrite does not replace: move it away")
        }
        NotRestored::OtherFile => format!("{reason}; --overwrite replaces it"),
        NotRestored::SomethingElse => {
            format!("{reason}; --overwrite replaces it, unless it is a folder or a link in place of one")
        }
        NotRestored::NoSpace | NotRestored::Failed(_) => reason.to_string(),
    }
}

/// Why money was not moved, and what to do.
#[cfg(feature = "bitcoin")]
pub(crate) fn money_moved(error: &MoveError) -> String {
    let advice = match error {
        MoveError::NoWallet => Some(LOOK),
        MoveError::Promised { .. } => Some("move less, or add capital"),
        MoveError::Treasury(error) => on_treasury(error),
        _ => None,
    };
    advice.map_or_else(|| error.to_string(), |advice| format!("{error}: {advice}"))
}

/// Why a channel was neither opened nor closed, and what to do.
#[cfg(feature = "bitcoin")]
pub(crate) fn channel_moved(error: &LightningError) -> String {
    match error {
        LightningError::NotRunning => format!("{error}: {LOOK}"),
        _ => error.to_string(),
    }
}

#[cfg(feature = "bitcoin")]
const LOOK: &str = "look whether the bitcoind or Esplora server of the configuration answers";

/// What to do about the wallet on the chain.
#[cfg(feature = "bitcoin")]
pub(crate) fn on_treasury(error: &TreasuryError) -> Option<&'static str> {
    match error {
        TreasuryError::Bitcoind { .. } => {
            Some("look whether it runs, and whether its cookie is the one configured")
        }
        TreasuryError::Esplora { .. } => Some("look whether it runs, and is the one configured"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600; // 2026-01-01
    const DAY: u64 = 24 * 3600;

    fn short(prepaid_msat: u64, pending_msat: u64, days: u64, until: u64) -> String {
        runway(&RunwayWarning::Short { prepaid_msat, pending_msat, days, until, grace_days: 90 })
    }

    fn used_up(grace_days: u16, grace_is_over: bool) -> String {
        let since = NOW - 10 * DAY;
        let kept_until = since + u64::from(grace_days) * DAY;
        let (prepaid_msat, pending_msat) = (5, 0);
        runway(&RunwayWarning::UsedUp {
            prepaid_msat,
            pending_msat,
            since,
            grace_days,
            kept_until,
            grace_is_over,
        })
    }

    #[test]
    fn what_lasts_less_than_a_month_is_told_with_its_end_and_what_to_do() {
        let told = short(29_999, 0, 29, NOW + 29 * DAY);
        for word in ["29.999 sat", "29 days", "2026-01-30", "fincrypt prepayment deposit", "90 days after"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        let told = short(500, 0, 0, NOW + DAY / 2);
        assert!(told.contains("less than a day, until 2026-01-01 12:00:00 UTC"), "{told}");
        let told = short(0, 5_000_000, 0, NOW);
        assert!(told.contains("5000.000 sat is on its way in"), "{told}");
    }

    #[test]
    fn what_is_used_up_is_told_with_the_grace_its_end_and_what_comes_then() {
        let told = used_up(90, false);
        for word in ["used up since 2025-12-22", "nothing new", "90 days, until 2026-03-22", "deletes it"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        let over = used_up(10, true);
        for word in ["10 days of grace ended 2026-01-01", "at any time", "fincrypt prepayment deposit"] {
            assert!(over.contains(word), "{word}: {over}");
        }
    }

    #[test]
    fn wrong_statements_come_with_what_to_type() {
        let told =
            prepayment(&PrepaymentWarning::WrongStatements { count: 2, newest: "too dear".to_owned() });
        for word in ["2 of", "too dear", "fincrypt prepayment statement", "fincrypt mediator use PEER"] {
            assert!(told.contains(word), "{word}: {told}");
        }
    }

    #[test]
    fn only_what_overwriting_helps_against_comes_with_that() {
        assert!(not_restored(&NotRestored::OtherFile, false).contains("--overwrite"));
        assert!(not_restored(&NotRestored::SomethingElse, false).contains("--overwrite"));
        assert!(not_restored(&NotRestored::SomethingElse, true).contains("move it away"));
        assert_eq!(not_restored(&NotRestored::Failed("no room".to_owned()), false), "no room");
    }
}
