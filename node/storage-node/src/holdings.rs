//! What is held for accounts: shards, and what is known of the segments they belong to.

use std::collections::BTreeSet;

use fincrypt_accounts::releases::Holdings;
use fincrypt_accounts::{Accounts, AccountsError};
use fincrypt_protocol::limits::{MAX_LIST, MAX_SHARDS};
use fincrypt_protocol::record::Registration;
use fincrypt_protocol::{AccountId, RunId, SegmentId, ShardIndex, UnixTime, Verified};
use fincrypt_shards::{ShardStore, StoreError};
use fincrypt_state::kv::Batch;

/// Why what is held could not be read or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldingsError {
    /// The shard store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Accounts could not be read or changed.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
}

/// Shards and accounts together; clones share them.
#[derive(Clone)]
pub(crate) struct ShardHoldings {
    store: ShardStore,
    accounts: Accounts,
}

impl ShardHoldings {
    pub(crate) fn new(store: ShardStore, accounts: Accounts) -> Self {
        Self { store, accounts }
    }

    /// The runs of the shards held for an account.
    pub(crate) fn runs(&self, account: &AccountId) -> Result<BTreeSet<RunId>, HoldingsError> {
        Ok(self.store.runs(account)?)
    }

    /// Stages a registration. An account of which something is held already, and that is not known,
    /// was lost with the state.
    pub(crate) fn admit_registration(
        &self,
        registration: &Verified<Registration>,
        now: UnixTime,
        batch: &mut Batch,
    ) -> Result<(), HoldingsError> {
        let account = registration.account;
        if self.accounts.registration(&account)?.is_none() && self.store.bytes_of(&account) > 0 {
            return Ok(self.accounts.regain(registration, self.runs(&account)?, now, batch)?);
        }
        Ok(self.accounts.admit_registration(registration, batch)?)
    }

    /// Removes everything that is held for an account.
    pub(crate) fn remove_all(&self, account: &AccountId) -> Result<(), HoldingsError> {
        let mut after: Option<SegmentId> = None;
        loop {
            let page = self.segments(account, after.as_ref())?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            for segment in &page {
                self.remove(account, segment)?;
            }
        }
        self.settle()
    }
}

impl Holdings for ShardHoldings {
    type Error = HoldingsError;

    fn holds(&self, account: &AccountId, segment: &SegmentId) -> Result<bool, HoldingsError> {
        Ok(self.store.holds(account, segment)?)
    }

    fn segments(
        &self,
        account: &AccountId,
        after: Option<&SegmentId>,
    ) -> Result<Vec<SegmentId>, HoldingsError> {
        let last = u8::try_from(MAX_SHARDS - 1).ok().and_then(|last| ShardIndex::new(last).ok());
        let page = self.store.list(account, after.copied().zip(last), MAX_LIST)?;
        let mut segments: Vec<SegmentId> = page.into_iter().map(|(segment, ..)| segment).collect();
        segments.dedup();
        Ok(segments)
    }

    fn remove(&self, account: &AccountId, segment: &SegmentId) -> Result<u64, HoldingsError> {
        let freed = self.store.remove_segment(account, segment)?;
        let mut batch = Batch::default();
        self.accounts.forget_holders(account, segment, &mut batch)?;
        self.accounts.commit(&batch)?;
        Ok(freed)
    }

    fn settle(&self) -> Result<(), HoldingsError> {
        Ok(self.store.sync_folders()?)
    }
}
