//! The newest head of each account.

use fincrypt_accounts::{Stored, stored_limit};
use fincrypt_protocol::record::Head;
use fincrypt_protocol::{AccountId, Verified};
use fincrypt_state::kv::Batch;
use fincrypt_state::state::State;
use fincrypt_state::table::Table;

use crate::error::StoreError;

/// `account` → its head.
const HEADS: Table<AccountId, Stored<Head>> = Table::new("mediated_heads", stored_limit::<Head>());

/// Heads in durable state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HeadStore(State);

impl HeadStore {
    pub(super) fn new(state: State) -> Self {
        Self(state)
    }

    /// An account's head.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn get(&self, account: &AccountId) -> Result<Option<Verified<Head>>, StoreError> {
        Ok(HEADS.get(&self.0, account)?.map(|Stored(head)| head))
    }

    /// Puts a head in place of the account's, durably.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn put(&self, head: &Verified<Head>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        self.stage(head, &mut batch)?;
        Ok(self.0.commit(&batch)?)
    }

    /// Adds a head in place of the account's to the batch.
    ///
    /// # Errors
    /// [`StoreError`] if it is too long.
    pub(crate) fn stage(&self, head: &Verified<Head>, batch: &mut Batch) -> Result<(), StoreError> {
        Ok(HEADS.put(batch, &head.account, &Stored(head.clone()))?)
    }

    pub(super) fn remove(&self, account: &AccountId, batch: &mut Batch) {
        HEADS.remove(batch, account);
    }
}
