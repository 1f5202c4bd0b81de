//! The money as the rest of the mediator knows it, whichever implementation is built in.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_ledger::{Ledger, LedgerError};
use fincrypt_protocol::money::{Payout, Pending, Withdrawal};
use fincrypt_protocol::{AccountId, NodeId};
use fincrypt_state::kv::KvError;
use tokio::sync::watch;

use crate::holder_link::HolderLink;

/// Why an account gets no destination for deposits, or nothing of its prepayment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettlementError {
    /// There is no wallet.
    #[error("there is no wallet")]
    NoWallet,
    /// The withdrawal was not decided on.
    #[cfg(feature = "bitcoin")]
    #[error(transparent)]
    Withdrawal(#[from] super::bitcoin::withdrawals::WithdrawalError),
    /// The wallet on the chain.
    #[cfg(feature = "bitcoin")]
    #[error("the wallet: {0}")]
    Treasury(#[from] fincrypt_treasury::onchain::TreasuryError),
    /// What belongs to the account could not be read or recorded.
    #[error("the mediator's state: {0}")]
    State(#[from] KvError),
    /// The books.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
}

/// An address and an offer that are an account's alone.
pub(crate) type DepositTargets = (Option<String>, Option<String>);

/// The money as the rest of the mediator needs it.
pub(crate) trait Settlement: Send + Sync + 'static {
    /// The books.
    fn books(&self) -> &Ledger;

    /// Whether clients can pay in: then they have to, before anything that costs is stored for them.
    fn takes_deposits(&self) -> bool;

    /// An address and an offer that are the account's alone, durably. Blocks.
    ///
    /// # Errors
    /// [`SettlementError::NoWallet`] if there is neither.
    fn deposit_to(&self, account: AccountId) -> Result<DepositTargets, SettlementError>;

    /// Deposits of an account that lack confirmations.
    fn pending(&self, account: &AccountId) -> Vec<Pending>;

    /// Decides on a withdrawal, once for each; repeated, it tells how the first one stands. Blocks.
    ///
    /// # Errors
    /// Why nothing is withdrawn.
    fn withdraw(&self, account: AccountId, withdrawal: &Withdrawal) -> Result<Payout, SettlementError>;

    /// Reports all payouts to a storage node once more: it has lost what it knew of them. Blocks.
    ///
    /// # Errors
    /// If this cannot be recorded.
    fn repeat_reports(&self, node: &NodeId) -> Result<(), KvError>;

    /// Books, pays and reports to storage nodes until told to stop; `epoch` is the time between audits.
    fn run(
        self: Arc<Self>,
        holders: HolderLink,
        epoch: Duration,
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send;
}
