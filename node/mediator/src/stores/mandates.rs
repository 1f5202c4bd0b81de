//! The newest mandate of each account for this mediator.

use fincrypt_accounts::{Stored, stored_limit};
use fincrypt_protocol::record::Mandate;
use fincrypt_protocol::{AccountId, UnixTime, Verified};
use fincrypt_state::kv::Batch;
use fincrypt_state::state::State;
use fincrypt_state::table::{Everything, Table};

use crate::error::StoreError;

/// `account` → its newest mandate for this mediator.
const MANDATES: Table<AccountId, Stored<Mandate>> =
    Table::new("mediated_mandates", stored_limit::<Mandate>());

/// Accounts read at once.
const PAGE: usize = 256;

/// Mandates in durable state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MandateStore(State);

impl MandateStore {
    pub(super) fn new(state: State) -> Self {
        Self(state)
    }

    /// The newest mandate of an account, which may have expired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn newest(&self, account: &AccountId) -> Result<Option<Verified<Mandate>>, StoreError> {
        Ok(MANDATES.get(&self.0, account)?.map(|Stored(mandate)| mandate))
    }

    /// The newest mandate of an account, unless it has expired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn valid(
        &self,
        account: &AccountId,
        now: UnixTime,
    ) -> Result<Option<Verified<Mandate>>, StoreError> {
        Ok(self.newest(account)?.filter(|mandate| mandate.expiry > now))
    }

    /// Records a mandate whose sequence is not below the known one's, durably.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn put(&self, mandate: &Verified<Mandate>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        MANDATES.put(&mut batch, &mandate.account, &Stored(mandate.clone()))?;
        Ok(self.0.commit(&batch)?)
    }

    pub(super) fn remove(&self, account: &AccountId, batch: &mut Batch) {
        MANDATES.remove(batch, account);
    }

    /// Accounts that gave this mediator a mandate, after `after`: at most 256; none if there are no more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn accounts(&self, after: Option<&AccountId>) -> Result<Vec<AccountId>, StoreError> {
        let page = MANDATES.scan(&self.0, &Everything, after, PAGE)?;
        Ok(page.into_iter().map(|(account, _)| account).collect())
    }
}
