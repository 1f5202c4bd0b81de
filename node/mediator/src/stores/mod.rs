//! Durable stores of vaults: records of segments with the shards that each storage node holds, heads and
//! mandates.

mod account_holders;
mod announced;
mod heads;
mod held_shards;
mod loads;
mod mandates;
mod segment_cache;
mod segment_record;
mod segments;
#[cfg(test)]
pub(crate) mod tests;

use fincrypt_protocol::{AccountId, Clock};
use fincrypt_state::kv::Batch;
use fincrypt_state::state::State;

use crate::error::StoreError;
pub(crate) use account_holders::AccountHolders;
pub(crate) use announced::AnnounceError;
pub(crate) use heads::HeadStore;
pub(crate) use held_shards::{HeldShard, HeldShards};
pub(crate) use loads::Load;
pub(crate) use mandates::MandateStore;
pub(crate) use segment_record::{SegmentRecord, ShardPlacement};
pub(crate) use segments::SegmentStore;

/// The stores of one mediator, over one state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) segments: SegmentStore,
    pub(crate) held: HeldShards,
    pub(crate) holders: AccountHolders,
    pub(crate) heads: HeadStore,
    pub(crate) mandates: MandateStore,
    state: State,
}

impl Stores {
    /// Opens the stores.
    ///
    /// # Errors
    /// [`StoreError`] if what storage nodes hold cannot be read.
    pub(crate) fn open(state: State, clock: Clock) -> Result<Self, StoreError> {
        let (held, holders) = (HeldShards::open(state.clone())?, AccountHolders::new(state.clone()));
        let segments = SegmentStore::new(state.clone(), clock, held.clone(), holders.clone());
        let (heads, mandates) = (HeadStore::new(state.clone()), MandateStore::new(state.clone()));
        Ok(Self { segments, held, holders, heads, mandates, state })
    }

    /// Removes all that is known of an account, which has gone to another mediator or comes from one. Its
    /// registration stays.
    ///
    /// # Errors
    /// [`StoreError`]: some of it may be left.
    pub(crate) fn remove_account(&self, account: &AccountId) -> Result<(), StoreError> {
        self.segments.remove_account(account)?;
        let mut batch = Batch::default();
        self.heads.remove(account, &mut batch);
        self.mandates.remove(account, &mut batch);
        Ok(self.state.commit(&batch)?)
    }
}
