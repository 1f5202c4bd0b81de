//! The storage nodes that hold something for an account, or once did.

use fincrypt_protocol::{AccountId, NodeId};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::Table;

use crate::error::StoreError;

/// `(account, node)`.
const HOLDERS: Table<(AccountId, NodeId), ()> = Table::new("account_holders", 1);

/// Holders by account, in durable state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AccountHolders(State);

impl AccountHolders {
    pub(super) fn new(state: State) -> Self {
        Self(state)
    }

    /// The holders of an account, at most `most`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn of(&self, account: &AccountId, most: usize) -> Result<Vec<NodeId>, StoreError> {
        let entries = HOLDERS.scan(&self.0, account, None, most)?;
        Ok(entries.into_iter().map(|((_, node), ())| node).collect())
    }

    /// Adds holders to the batch; those of them that were none before.
    pub(super) fn stage(
        &self,
        account: &AccountId,
        nodes: impl IntoIterator<Item = NodeId>,
        batch: &mut Batch,
    ) -> Result<Vec<NodeId>, KvError> {
        let mut new = Vec::new();
        for node in nodes {
            let key = (*account, node);
            if !new.contains(&node) && !HOLDERS.contains(&self.0, &key)? {
                HOLDERS.put(batch, &key, &())?;
                new.push(node);
            }
        }
        Ok(new)
    }

    /// Adds the removal of all holders of an account to the batch.
    pub(super) fn remove_all(&self, account: &AccountId, batch: &mut Batch) -> Result<(), StoreError> {
        let nodes = self.of(account, usize::MAX)?;
        nodes.into_iter().for_each(|node| HOLDERS.remove(batch, &(*account, node)));
        Ok(())
    }
}
