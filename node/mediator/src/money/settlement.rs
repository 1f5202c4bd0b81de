//! The money as the rest of the mediator knows it, whichever implementation is built in.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_ledger::Ledger;
use fincrypt_protocol::money::{Payout, Pending, Withdrawal};
use fincrypt_protocol::{AccountId, NodeId, Refusal};
use tokio::sync::watch;

use crate::holder_link::HolderLink;

/// The money as the rest of the mediator needs it.
pub(crate) trait Settlement: Send + Sync + 'static {
    /// The books.
    fn books(&self) -> &Ledger;

    /// Whether clients can pay in: then they have to, before anything that costs is stored for them.
    fn takes_deposits(&self) -> bool;

    /// An address and an offer that are the account's alone, durably. Blocks.
    ///
    /// # Errors
    /// [`Refusal::NoWallet`] if there is neither.
    fn deposit_to(&self, account: AccountId) -> Result<(Option<String>, Option<String>), Refusal>;

    /// Deposits of an account that lack confirmations.
    fn pending(&self, account: &AccountId) -> Vec<Pending>;

    /// Decides on a withdrawal, once for each; repeated, it tells how the first one stands. Blocks.
    ///
    /// # Errors
    /// Why nothing is withdrawn.
    fn withdraw(&self, account: AccountId, withdrawal: &Withdrawal) -> Result<Payout, Refusal>;

    /// Reports all payouts to a storage node once more: it has lost what it knew of them. Blocks.
    ///
    /// # Errors
    /// If this cannot be recorded.
    fn repeat_reports(&self, node: &NodeId) -> Result<(), Refusal>;

    /// Books, pays and reports to storage nodes until told to stop; `epoch` is the time between audits.
    fn run(
        self: Arc<Self>,
        holders: HolderLink,
        epoch: Duration,
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send;
}
