//! Deposits, and the accounts that they belong to.

use std::collections::BTreeSet;
use std::sync::Arc;

use fincrypt_ledger::{Event, LedgerError, Owner, Source};
use fincrypt_protocol::amount::Sat;
use fincrypt_protocol::money::{Arrival, Pending};
use fincrypt_protocol::{AccountId, PaymentHash};
use fincrypt_state::kv::Batch;
use fincrypt_state::state::State;
use fincrypt_state::table::Table;

use fincrypt_treasury::onchain::{Arrived, Treasury, TreasuryError};
use parking_lot::Mutex;

use super::wallets::Wallets;
use crate::money::settlement::{DepositTargets, SettlementError};

/// `account` → its offer.
const OFFERS: Table<AccountId, String> = Table::new("deposit_offers", 1 << 16);

/// Confirmations from which on a deposit counts, and those of one above [`LARGE`].
const CREDITED: u32 = 3;
const CREDITED_LARGE: u32 = 6;
const LARGE: Sat = Sat::new(1_000_000);

/// Confirmations that a deposit needs.
fn needed(amount: Sat) -> u32 {
    if amount > LARGE { CREDITED_LARGE } else { CREDITED }
}

/// Addresses and offers of accounts, and the deposits that arrive there.
pub(super) struct Deposits {
    wallets: Arc<Wallets>,
    state: State,
    /// Held while an address or an offer is given to an account.
    attributing: Mutex<()>,
}

impl Deposits {
    /// Deposits into these wallets.
    pub(super) fn new(wallets: Arc<Wallets>, state: State) -> Self {
        Self { wallets, state, attributing: Mutex::default() }
    }

    /// An address and an offer of the account.
    ///
    /// # Errors
    /// [`SettlementError::NoWallet`] if there is neither.
    pub(super) fn deposit_to(&self, account: AccountId) -> Result<DepositTargets, SettlementError> {
        let address = self.address_for::<SettlementError>(Owner::Client(account))?;
        let offer = self.offer_for(account)?;
        if address.is_none() && offer.is_none() {
            Err(SettlementError::NoWallet)
        } else {
            Ok((address, offer))
        }
    }

    /// Somebody's address: another one once something has come to it. None without a wallet on the chain.
    ///
    /// # Errors
    /// If the wallet gives none, or its owner cannot be booked.
    pub(super) fn address_for<E>(&self, owner: Owner) -> Result<Option<String>, E>
    where
        E: From<LedgerError> + From<TreasuryError>,
    {
        let Some(treasury) = self.wallets.treasury() else { return Ok(None) };
        let used: BTreeSet<u32> = treasury.arrivals().into_iter().map(|came| came.index).collect();
        let _one = self.attributing.lock();
        let (known, next) = self.wallets.ledger.books(|books| {
            let index = |source| match source {
                Source::Address(index) => Some(index),
                Source::Offer(_) => None,
            };
            (books.sources_of(owner).filter_map(index).max(), books.next_address())
        });
        let index = match known.filter(|index| !used.contains(index)) {
            Some(index) => index,
            None => {
                let event = Event::Attributed { source: Source::Address(next), owner };
                self.wallets.record(&event)?;
                next
            }
        };
        Ok(Some(treasury.address(index)?))
    }

    /// The account's offer: always the same. None while the Lightning node has no peer that could
    /// pass a payment on.
    fn offer_for(&self, account: AccountId) -> Result<Option<String>, SettlementError> {
        let _one = self.attributing.lock();
        if let Some(known) = OFFERS.get(&self.state, &account)? {
            return Ok(Some(known));
        }
        let Some(lightning) = self.wallets.lightning() else { return Ok(None) };
        let Ok((id, offer)) = lightning.offer("Fincrypt storage, prepaid") else { return Ok(None) };
        // Whose it is comes first: nobody has seen it yet.
        let event = Event::Attributed { source: Source::Offer(id.0), owner: Owner::Client(account) };
        self.wallets.record(&event)?;
        let mut batch = Batch::default();
        OFFERS.put(&mut batch, &account, &offer)?;
        self.state.commit(&batch)?;
        Ok(Some(offer))
    }

    fn owner(&self, index: u32) -> Owner {
        self.wallets.ledger.books(|books| books.owner(Source::Address(index))).unwrap_or(Owner::Operator)
    }

    /// Deposits of an account that lack confirmations and do not count yet.
    pub(super) fn pending(&self, account: &AccountId) -> Vec<Pending> {
        let Some(treasury) = self.wallets.treasury() else { return Vec::new() };
        let arrivals =
            treasury.arrivals().into_iter().filter(|came| came.confirmations < needed(came.amount));
        let ours = arrivals.filter(|came| self.owner(came.index) == Owner::Client(*account));
        ours.filter_map(|came| {
            let Arrived { arrival, amount, confirmations, .. } = came;
            Some(Pending { arrival, amount: amount.to_msat()?, confirmations, needed: needed(amount) })
        })
        .collect()
    }

    /// Books what has come deep enough into the chain, and takes back what is no longer in it.
    pub(super) fn collect_outputs(&self, treasury: &Treasury) -> Result<(), LedgerError> {
        let arrivals = treasury.arrivals();
        let there: BTreeSet<Arrival> = arrivals.iter().map(|came| came.arrival).collect();
        let credited: Vec<(Arrival, u32)> = self.wallets.ledger.books(|books| {
            let outputs = books.credited().filter(|(arrival, ..)| matches!(arrival, Arrival::Output(..)));
            outputs.map(|(arrival, round, _)| (arrival, round)).collect()
        });
        for (arrival, round) in credited.into_iter().filter(|(arrival, _)| !there.contains(arrival)) {
            tracing::warn!(?arrival, "deposit_reorganised");
            self.wallets.record(&Event::DepositReorged { arrival, round })?;
        }
        for came in arrivals.into_iter().filter(|came| came.confirmations >= needed(came.amount)) {
            let arrival = came.arrival;
            let (round, known) = self.wallets.ledger.books(|books| books.deposit(arrival));
            if let (false, Some(amount)) = (known, came.amount.to_msat()) {
                let event = Event::Deposit { arrival, round, owner: self.owner(came.index), amount };
                self.wallets.record(&event)?;
                tracing::info!(%amount, "chain_deposit_credited");
            }
        }
        Ok(())
    }

    /// Books whatever came in over Lightning and is not booked.
    pub(super) fn collect_payments(&self) -> Result<(), LedgerError> {
        let Some(lightning) = self.wallets.lightning() else { return Ok(()) };
        for deposit in lightning.deposits() {
            let arrival = Arrival::Payment(PaymentHash::from_bytes(deposit.id));
            let (known, owner) = self.wallets.ledger.books(|books| {
                let owner = deposit.offer.and_then(|offer| books.owner(Source::Offer(offer.0)));
                (books.deposit(arrival).1, owner.unwrap_or(Owner::Operator))
            });
            if !known {
                let event = Event::Deposit { arrival, round: 0, owner, amount: deposit.amount };
                self.wallets.record(&event)?;
                tracing::info!(amount = %deposit.amount, "lightning_deposit_credited");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_million_satoshi_wait_for_six_confirmations() {
        let needed = |sat: u64| needed(Sat::new(sat));
        assert_eq!((needed(1), needed(1_000_000), needed(1_000_001), needed(u64::MAX)), (3, 3, 6, 6));
    }
}
