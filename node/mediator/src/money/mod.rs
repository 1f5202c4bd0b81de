//! A mediator's money: the ledger always, and with the feature `bitcoin` the wallets that move it.
//!
//! The rest of the mediator knows the money by [`Settlement`] alone. Which implementation is built in
//! is decided here and nowhere else.

#[cfg(feature = "bitcoin")]
mod bitcoin;
#[cfg(not(feature = "bitcoin"))]
mod books_only;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_ledger::{Ledger, LedgerError};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::{Payout, Pending, Withdrawal};
use fincrypt_protocol::{AccountId, NodeId, Refusal};
use tokio::sync::watch;

#[cfg(feature = "bitcoin")]
pub use bitcoin::{LightningView, Money, MoveError, PayoutFailure, WalletView};
#[cfg(not(feature = "bitcoin"))]
pub use books_only::Money;

use super::holder_link::HolderLink;

/// The money cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum MoneyError {
    /// The books cannot be used.
    #[error("the ledger: {0}; nothing is paid or promised without it")]
    Ledger(#[from] LedgerError),
    /// The wallet's seed cannot be had.
    #[cfg(feature = "bitcoin")]
    #[error(transparent)]
    Seed(#[from] fincrypt_treasury::seed_file::SeedError),
    /// The wallet on the chain cannot be used.
    #[cfg(feature = "bitcoin")]
    #[error(transparent)]
    Treasury(#[from] fincrypt_treasury::onchain::TreasuryError),
}

/// Paths of a mediator's money on disk.
#[derive(Debug, Clone)]
pub struct MoneyPaths {
    /// Folder of the ledger.
    pub ledger: PathBuf,
    /// Folder of the wallet on the chain.
    pub treasury: PathBuf,
    /// File with the seed of both wallets.
    pub wallet_seed: PathBuf,
    /// File with the first block that may concern a wallet made from old words.
    pub wallet_birthday: PathBuf,
    /// Folder of the Lightning node.
    pub lightning: PathBuf,
    /// File of peers whose channels count before they are confirmed.
    pub lightning_trusted: PathBuf,
}

/// Options of a mediator's money.
#[derive(Debug, Clone)]
pub struct MoneyOptions {
    /// Its paths.
    pub paths: MoneyPaths,
    /// The chain; without one nothing is paid, and no deposits are taken.
    #[cfg(feature = "bitcoin")]
    pub chain: Option<fincrypt_treasury::Chain>,
    /// Addresses on which the Lightning node listens, `host:port`.
    pub lightning_listen: Vec<String>,
    /// Name of the Lightning node, at most 32 bytes.
    pub lightning_alias: String,
    /// The most that a Lightning route may cost, in permille of the payment.
    pub routing_fee_permille: u16,
    /// Earnings from which a storage node is paid.
    pub payout_threshold: Msat,
    /// Seconds after which anything owed is paid; 0 for never.
    pub payout_interval: u64,
    /// The most that may be owed to a storage node for one account.
    pub credit_bound: Msat,
}

/// The money as the rest of the mediator needs it.
pub(super) trait Settlement: Send + Sync + 'static {
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
