//! Clients take out what they prepaid and did not use.

use std::sync::Arc;

use fincrypt_ledger::{Account, Event, LedgerError, Owed, Part, PayTo, Rail};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::limits::MAX_DESTINATION;
use fincrypt_protocol::money::{Payout, Withdrawal};
use fincrypt_protocol::{AccountId, PayoutId};
use fincrypt_treasury::lightning::Destination;
use fincrypt_treasury::onchain::{Output, TreasuryError};

use super::batch::NotDecided;
use super::destination::{Destinations, To};
use super::due::arrives;
use super::payout_intents::PayoutIntents;
use super::payout_reports::PayoutReports;
use super::wallets::Wallets;

/// The network's largest share of a withdrawal, in permille.
const MOST_FEE_PERMILLE: u64 = 500;
/// The least that is worth a payment.
const LEAST: Msat = Msat::new(2000);

/// Why nothing is withdrawn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WithdrawalError {
    /// It names nothing to which a client's money can be sent.
    #[error("no money can be sent to the destination")]
    Destination,
    /// The sum is no whole satoshi, is more than the prepayment, or is not worth what sending it costs.
    #[error("the sum is not covered, or too small")]
    Insufficient,
    /// The invoice was named before.
    #[error("the invoice was used before")]
    Used,
    /// There is no such wallet, or too little in it.
    #[error("no wallet can send the sum")]
    NoWallet,
    /// What was decided on is not in the books.
    #[error("the withdrawal is not in the books")]
    Lost,
    /// The books.
    #[error("the ledger: {0}")]
    Ledger(#[source] LedgerError),
}

/// Decides on withdrawals.
pub(super) struct Withdrawals {
    pub(super) wallets: Arc<Wallets>,
    pub(super) destinations: Arc<Destinations>,
    pub(super) intents: Arc<PayoutIntents>,
    pub(super) reports: Arc<PayoutReports>,
}

impl Withdrawals {
    /// Pays out of an account's prepayment, once for each withdrawal.
    ///
    /// # Errors
    /// Why nothing is paid.
    pub(super) fn withdraw(
        &self,
        account: AccountId,
        withdrawal: &Withdrawal,
    ) -> Result<Payout, WithdrawalError> {
        let id = withdrawal.payout(&account);
        if self.reports.to_client(account, id).is_none() {
            self.intend_withdrawal(account, id, withdrawal)?;
            self.wallets.wake();
        }
        self.reports.to_client(account, id).ok_or(WithdrawalError::Lost)
    }

    fn intend_withdrawal(
        &self,
        account: AccountId,
        id: PayoutId,
        withdrawal: &Withdrawal,
    ) -> Result<(), WithdrawalError> {
        if withdrawal.to.len() > MAX_DESTINATION {
            return Err(WithdrawalError::Destination);
        }
        let to = self.destinations.read(&withdrawal.to).map_err(|_| WithdrawalError::Destination)?;
        let there = self.wallets.ledger.books(|books| books.balance(Account::Prepayment(account)));
        let whole = Msat::new(there.get() - there.get() % 1000);
        let amount = withdrawal.amount.unwrap_or(whole);
        if amount < LEAST || amount > there || !amount.get().is_multiple_of(1000) {
            return Err(WithdrawalError::Insufficient);
        }
        match to {
            To::Lightning(to) => self.withdraw_over_lightning(account, id, amount, &to),
            // Whoever wants a channel of ours is a storage node.
            To::Channel(_) => Err(WithdrawalError::Destination),
            To::Chain(address) => self.withdraw_on_chain(account, id, amount, address),
        }
    }

    fn withdraw_on_chain(
        &self,
        account: AccountId,
        id: PayoutId,
        amount: Msat,
        address: String,
    ) -> Result<(), WithdrawalError> {
        let treasury = self.wallets.treasury().ok_or(WithdrawalError::NoWallet)?;
        let parts = vec![Part { owed: Owed::Client(account), amount }];
        let output = Output { address, amount: amount.whole_sat() };
        // Who withdraws chose the chain, and bears what it costs.
        match self.intents.intend_transaction(treasury, id, parts, &[output], MOST_FEE_PERMILLE) {
            Ok(()) => Ok(()),
            Err(NotDecided::Dear(_) | NotDecided::Treasury(TreasuryError::Dust(_))) => {
                Err(WithdrawalError::Insufficient)
            }
            Err(NotDecided::Treasury(_) | NotDecided::Ledger(LedgerError::Books(_))) => {
                Err(WithdrawalError::NoWallet)
            }
            Err(NotDecided::Ledger(error)) => Err(WithdrawalError::Ledger(error)),
        }
    }

    fn withdraw_over_lightning(
        &self,
        account: AccountId,
        id: PayoutId,
        amount: Msat,
        to: &Destination,
    ) -> Result<(), WithdrawalError> {
        let most = arrives(amount, self.intents.terms.routing_permille, false)
            .ok_or(WithdrawalError::Insufficient)?;
        let arriving = to.asks().unwrap_or(most);
        if arriving > most {
            return Err(WithdrawalError::Insufficient);
        }
        let _deciding = self.wallets.decide();
        if self.intents.is_used(to) {
            return Err(WithdrawalError::Used);
        }
        let to = vec![PayTo { destination: to.to_string(), amount: arriving }];
        let parts = vec![Part { owed: Owed::Client(account), amount }];
        let event = Event::PayoutIntent { payout: id, rail: Rail::Lightning, parts, to };
        match self.wallets.record(&event) {
            Ok(_) => Ok(()),
            // Too little in the channels.
            Err(LedgerError::Books(_)) => Err(WithdrawalError::NoWallet),
            Err(error) => Err(WithdrawalError::Ledger(error)),
        }
    }
}
