//! Contracts on disk.

use fincrypt_billing::statement::SavedBilling;
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::statement::Terms;
use fincrypt_protocol::{AccountId, NodeId, UnixTime};
use fincrypt_state::kv::{Batch, KeyValue, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::Table;
use serde::{Deserialize, Serialize};

/// `(node, account)` → the contract. A year of epochs that wait for a prepayment takes half of the limit.
pub(super) const CONTRACTS: Table<(NodeId, AccountId), SavedContract> = Table::new("contracts", 2 << 20);
/// `account` → since when its prepayment does not cover the next epoch.
pub(super) const EMPTY: Table<AccountId, UnixTime> = Table::new("empty_prepayments", 16);

/// A contract as it is stored: only what was verified.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedContract {
    pub(super) terms: Terms,
    pub(super) billing: SavedBilling,
    /// Bytes held at the last audit.
    pub(super) held: u64,
    /// The largest sum ever signed.
    pub(super) promised: Msat,
    /// Whether the node has lost its newest statement.
    pub(super) node_is_behind: bool,
}

/// Tables with durable changes.
pub(crate) trait Durable: KeyValue {
    /// Applies a batch and makes it durable.
    ///
    /// # Errors
    /// [`KvError`]: it may or may not be durable.
    fn commit(&self, batch: &Batch) -> Result<(), KvError>;
}

impl Durable for State {
    fn commit(&self, batch: &Batch) -> Result<(), KvError> {
        Self::commit(self, batch)
    }
}
