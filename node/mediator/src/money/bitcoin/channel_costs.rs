//! What channels cost and what forwarding earns: the difference between what the books say is in the
//! Lightning node, and what is.
//!
//! Channels are opened, closed and forward payments inside the Lightning library, which keeps no account of
//! it. So whenever nothing is on its way, books and node are compared, and a difference that looks at two
//! different blocks agree on is booked: what is missing as costs, what is there beyond as income. One that is too large
//! for that is not booked but shown, since a wrong folder or coins that somebody else took are no costs.

use std::sync::Arc;

use fincrypt_ledger::{Account, Event, LedgerError, Rail};
use fincrypt_protocol::amount::Msat;
use fincrypt_treasury::lightning::Holdings;
use fincrypt_treasury::onchain::{StandsOnChain, Treasury};
use parking_lot::Mutex;

use super::deposits::Deposits;
use super::wallets::Wallets;

/// What is booked by itself at most: such a share of what there is, in permille, or what a dear channel
/// costs, if that is more.
const MOST_PERMILLE: u64 = 50;
const CHANNEL: Msat = Msat::new(25_000_000);

/// How the Lightning node stands to the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Compared {
    /// As they say, to what is rounded.
    #[default]
    Equal,
    /// So much is missing, in msat, or there beyond if less than nothing; seen first at this block, or too
    /// large.
    Differs { missing: i128, since: u32 },
}

/// An entry to be booked.
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
    let fits = missing.unsigned_abs() <= share.max(CHANNEL.get().into()) && !there.total.is_zero();
    let since = match before {
        Compared::Differs { missing: known, since } if known == missing => since,
        _ => there.height,
    };
    match u64::try_from(missing.unsigned_abs()).map(Msat::new) {
        Ok(amount) if fits && since < there.height => {
            (Compared::Equal, if missing > 0 { Booked::Cost(amount) } else { Booked::Income(amount) })
        }
        _ => (Compared::Differs { missing, since }, Booked::Nothing),
    }
}

/// Compares the Lightning node with the books.
pub(super) struct ChannelCosts {
    wallets: Arc<Wallets>,
    deposits: Arc<Deposits>,
    /// How they stood to each other at the last look.
    compared: Mutex<Compared>,
}

impl ChannelCosts {
    /// Nothing was compared yet.
    pub(super) fn new(wallets: Arc<Wallets>, deposits: Arc<Deposits>) -> Self {
        Self { wallets, deposits, compared: Mutex::default() }
    }

    /// Books what channels have cost and earned since the last look. Blocks.
    pub(super) fn settle(&self, treasury: &Treasury) -> Result<(), LedgerError> {
        let Some(lightning) = self.wallets.lightning() else { return Ok(()) };
        if self.moves_money(treasury) {
            return Ok(());
        }
        let Some(there) = lightning.holdings() else { return Ok(()) };
        if there.height < treasury.funds().height {
            return Ok(());
        }
        // What came in meanwhile is no income.
        self.deposits.collect_payments()?;
        let (books, costs, income) = self.wallets.ledger.books(|books| {
            (books.balance(Account::Lightning), books.channel_costs(), books.forwarding_income())
        });
        let booked = {
            let mut compared = self.compared.lock();
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
        tracing::info!(?event, "channel_costs_booked");
        self.wallets.record(&event).map(drop)
    }

    /// Whether a payout over Lightning, or money between the wallet and the Lightning node, is on its way.
    fn moves_money(&self, treasury: &Treasury) -> bool {
        // Before the ledger is locked: no other lock is taken under its.
        let pending = treasury.pending();
        let (paying, known) = self.wallets.ledger.books(|books| {
            let paying = books.open_payouts().any(|(_, book)| book.rail == Rail::Lightning);
            let pending = pending.into_iter();
            let moves = pending.filter(|pending| books.payout(pending.payout).is_none());
            (paying, moves.map(|pending| pending.payout).collect::<Vec<_>>())
        });
        let arrived = |payout| matches!(treasury.stands(payout), Some(StandsOnChain::Mined { confirmations, .. }) if confirmations > 1);
        paying || !known.into_iter().all(arrived)
    }

    /// What the Lightning node lacks by the books, in msat; less than nothing if it has more. None if
    /// they agree.
    pub(super) fn lightning_lacks(&self) -> Option<i64> {
        match *self.compared.lock() {
            Compared::Equal => None,
            Compared::Differs { missing, .. } => {
                Some(i64::try_from(missing).unwrap_or(if missing > 0 { i64::MAX } else { i64::MIN }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(sat: u64, channels: u64, height: u32) -> Holdings {
        Holdings { total: Msat::new(sat * 1000), channels, height }
    }

    fn differs(missing: i128, since: u32) -> Compared {
        Compared::Differs { missing, since }
    }

    #[test]
    fn a_difference_is_booked_once_two_blocks_agree_on_it() {
        let books = Msat::new(1_000_000_999);
        let once = compare(books, there(999_500, 1, 7), Compared::Equal);
        assert_eq!(once, (differs(500_999, 7), Booked::Nothing));
        assert_eq!(compare(books, there(999_500, 1, 7), once.0), once, "the same block tells nothing new");
        let other = compare(books, there(999_400, 1, 8), once.0);
        assert_eq!(other, (differs(600_999, 8), Booked::Nothing), "something came between");
        let cost = Booked::Cost(Msat::new(600_999));
        assert_eq!(compare(books, there(999_400, 1, 9), other.0), (Compared::Equal, cost));
        let more = compare(books, there(1_000_500, 1, 9), Compared::Equal).0;
        let income = Booked::Income(Msat::new(499_001));
        assert_eq!(compare(books, there(1_000_500, 1, 10), more), (Compared::Equal, income));
    }

    #[test]
    fn parts_of_a_satoshi_in_each_channel_are_nothing() {
        for sat in [999_998, 999_999, 1_000_000, 1_000_001, 1_000_002] {
            let found = compare(Msat::new(1_000_000_500), there(sat, 2, 1), Compared::Equal);
            assert_eq!(found, (Compared::Equal, Booked::Nothing), "{sat}");
        }
    }

    #[test]
    fn what_no_channel_could_have_cost_is_shown_and_not_booked() {
        for (books, left) in [(1_000_000_000, 900_000), (20_000_000, 0)] {
            let missing = i128::from(books) - i128::from(left) * 1000;
            let gone = compare(Msat::new(books), there(left, 0, 1), Compared::Equal).0;
            assert_eq!(gone, differs(missing, 1));
            assert_eq!(compare(Msat::new(books), there(left, 0, 2), gone), (gone, Booked::Nothing));
        }
    }
}
