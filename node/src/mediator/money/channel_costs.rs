//! What channels cost and what forwarding earns: the difference between what the books say is in the
//! Lightning node, and what is.
//!
//! Channels are opened, closed and forward payments inside the Lightning library, which keeps no account of
//! it. So whenever nothing is on its way, books and node are compared, and a difference that two looks in a
//! row agree on is booked: what is missing as costs, what is there beyond as income. One that is too large
//! for that is not booked but shown, since a wrong folder or coins that somebody else took are no costs.

use std::sync::PoisonError;

use fincrypt_protocol::UnixTime;
use fincrypt_protocol::amount::Msat;
use fincrypt_wallet::ledger::{Account, Event, LedgerError, Rail};
use fincrypt_wallet::lightning::Holdings;
use fincrypt_wallet::treasury::{StandsOnChain, Treasury};

use super::Money;

/// What is booked by itself at most: so many satoshi, and such a share of what there is, in permille.
const MOST: Msat = Msat::new(100_000_000);
const MOST_PERMILLE: u64 = 50;

/// How the Lightning node stands to the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Compared {
    /// As they say, to what is rounded.
    #[default]
    Equal,
    /// So much is missing, in msat, or there beyond if less than nothing; seen once, or too large.
    Differs(i128),
}

/// What is to be booked.
#[derive(Debug, PartialEq, Eq)]
enum Booked {
    Nothing,
    Cost(Msat),
    Income(Msat),
}

/// Compares what there ought to be with what is there, and with the look before.
fn compare(books: Msat, there: Holdings, before: Compared) -> (Compared, Booked) {
    let missing = i128::from(books.get()) - i128::from(there.total.get());
    let rounded = u128::from(there.channels + 1) * 1000;
    if missing.unsigned_abs() < rounded {
        return (Compared::Equal, Booked::Nothing);
    }
    let share = u128::from(books.get()) * u128::from(MOST_PERMILLE) / 1000;
    let fits = missing.unsigned_abs() <= share.saturating_add(MOST.get().into());
    let amount = u64::try_from(missing.unsigned_abs()).map(Msat::new);
    match amount {
        Ok(amount) if fits && before == Compared::Differs(missing) => {
            (Compared::Equal, if missing > 0 { Booked::Cost(amount) } else { Booked::Income(amount) })
        }
        _ => (Compared::Differs(missing), Booked::Nothing),
    }
}

impl Money {
    /// Books what channels have cost and earned since the last look. Blocks.
    pub(super) fn compare_channels(&self, treasury: &Treasury) -> Result<(), LedgerError> {
        let Some(lightning) = self.lightning() else { return Ok(()) };
        if self.moves_money(treasury) {
            return Ok(());
        }
        let Some(there) = lightning.holdings() else { return Ok(()) };
        if there.height < treasury.funds().height {
            return Ok(());
        }
        // What came in meanwhile is no income.
        self.collect_payments()?;
        let (books, costs, income) = self.ledger.books(|books| {
            (books.balance(Account::Lightning), books.channel_costs(), books.forwarding_income())
        });
        let booked = {
            let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
            let (now, booked) = compare(books, there, *compared);
            *compared = now;
            booked
        };
        let event = match booked {
            Booked::Nothing => return Ok(()),
            Booked::Cost(amount) => costs.checked_add(amount).map(|total| Event::ChannelCosts { total }),
            Booked::Income(amount) => {
                income.checked_add(amount).map(|total| Event::ForwardingIncome { total })
            }
        };
        let Some(event) = event else { return Ok(()) };
        tracing::info!(?event, "what channels have cost or earned is booked");
        self.ledger.record(UnixTime::now(), &event).map(drop)
    }

    /// Whether a payout over Lightning, or money between the wallet and the Lightning node, is on its way.
    fn moves_money(&self, treasury: &Treasury) -> bool {
        let (paying, known) = self.ledger.books(|books| {
            let paying = books.open_payouts().any(|(_, book)| book.rail == Rail::Lightning);
            let pending = treasury.pending().into_iter();
            let moves = pending.filter(|pending| books.payout(pending.payout).is_none());
            (paying, moves.map(|pending| pending.payout).collect::<Vec<_>>())
        });
        let arrived = |payout| matches!(treasury.stands(payout), Some(StandsOnChain::Mined { confirmations, .. }) if confirmations > 1);
        paying || !known.into_iter().all(arrived)
    }

    /// What the Lightning node lacks by the books, in msat; less than nothing if it has more. None if
    /// they agree.
    pub(super) fn lightning_lacks(&self) -> Option<i64> {
        match *self.compared.lock().unwrap_or_else(PoisonError::into_inner) {
            Compared::Equal => None,
            Compared::Differs(missing) => {
                Some(i64::try_from(missing).unwrap_or(if missing > 0 { i64::MAX } else { i64::MIN }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(sat: u64, channels: u64) -> Holdings {
        Holdings { total: Msat::new(sat * 1000), channels, height: 1 }
    }

    #[test]
    fn a_difference_is_booked_once_two_looks_agree_on_it() {
        let books = Msat::new(1_000_000_999);
        let (once, booked) = compare(books, there(999_500, 1), Compared::Equal);
        assert_eq!((once, booked), (Compared::Differs(500_999), Booked::Nothing));
        let (other, booked) = compare(books, there(999_400, 1), once);
        assert_eq!((other, booked), (Compared::Differs(600_999), Booked::Nothing), "something came between");
        assert_eq!(
            compare(books, there(999_400, 1), other),
            (Compared::Equal, Booked::Cost(Msat::new(600_999)))
        );
        let more = compare(books, there(1_000_500, 1), Compared::Equal).0;
        let income = Booked::Income(Msat::new(499_001));
        assert_eq!(compare(books, there(1_000_500, 1), more), (Compared::Equal, income));
    }

    #[test]
    fn parts_of_a_satoshi_in_each_channel_are_nothing() {
        for sat in [999_998, 999_999, 1_000_000, 1_000_001, 1_000_002] {
            let found = compare(Msat::new(1_000_000_500), there(sat, 2), Compared::Equal);
            assert_eq!(found, (Compared::Equal, Booked::Nothing), "{sat}");
        }
    }

    #[test]
    fn what_no_channel_could_have_cost_is_shown_and_not_booked() {
        let books = Msat::new(1_000_000_000);
        let gone = compare(books, there(0, 0), Compared::Equal).0;
        assert_eq!(gone, Compared::Differs(1_000_000_000));
        assert_eq!(compare(books, there(0, 0), gone), (gone, Booked::Nothing));
    }
}
