//! The ledger without a wallet: statements are countersigned and booked, no deposits are taken and
//! nothing is paid.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_ledger::Ledger;
use fincrypt_protocol::money::{Payout, Pending, Withdrawal};
use fincrypt_protocol::{AccountId, Clock, NodeId, Random};
use fincrypt_state::kv::KvError;
use fincrypt_state::state::State;
use tokio::sync::watch;

use super::options::{MoneyError, MoneyOptions};
use super::settlement::{DepositTargets, Settlement, SettlementError};
use crate::holder_link::HolderLink;

/// The books alone.
pub struct Money {
    ledger: Ledger,
}

impl Money {
    /// Opens the books.
    ///
    /// # Errors
    /// [`MoneyError`]: nothing may be promised then.
    pub fn open(
        options: &MoneyOptions,
        _state: State,
        _clock: Clock,
        _random: Random,
    ) -> Result<Self, MoneyError> {
        let (ledger, found) = Ledger::open(&options.paths.ledger)?;
        tracing::info!(entries = found.entries, cut = found.cut, rebuilt = found.rebuilt, "ledger_opened");
        Ok(Self { ledger })
    }

    /// The books.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

impl Settlement for Money {
    fn books(&self) -> &Ledger {
        &self.ledger
    }

    fn takes_deposits(&self) -> bool {
        false
    }

    fn deposit_to(&self, _account: AccountId) -> Result<DepositTargets, SettlementError> {
        Err(SettlementError::NoWallet)
    }

    fn pending(&self, _account: &AccountId) -> Vec<Pending> {
        Vec::new()
    }

    fn withdraw(&self, _account: AccountId, _withdrawal: &Withdrawal) -> Result<Payout, SettlementError> {
        Err(SettlementError::NoWallet)
    }

    fn repeat_reports(&self, _node: &NodeId) -> Result<(), KvError> {
        Ok(())
    }

    async fn run(self: Arc<Self>, _holders: HolderLink, _epoch: Duration, mut stop: watch::Receiver<bool>) {
        // A sender that is gone is a stop, too.
        drop(stop.changed().await);
    }
}
