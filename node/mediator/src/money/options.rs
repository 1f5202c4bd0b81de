//! What a mediator's money is made of, and why it cannot be opened.

use std::path::PathBuf;

use fincrypt_ledger::LedgerError;
use fincrypt_protocol::amount::Msat;

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
