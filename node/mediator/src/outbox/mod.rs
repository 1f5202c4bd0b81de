//! The outbox: keeps, releases, undos and rewinds of an account's owner or guard, for its holders. Durable
//! here first, then sent to every holder until it has acknowledged or rejected them.

mod delivery;
mod pins;
mod queue;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use fincrypt_accounts::releases::Releases;
use fincrypt_accounts::{Accounts, AccountsError};
use fincrypt_protocol::mediate::ReleaseProgress;
use fincrypt_protocol::record::{Release, Undo};
use fincrypt_protocol::shard::ReleaseSegments;
use fincrypt_protocol::{AccountId, Body, NodeId, Signed, UnixTime, Verified, VerifiedRewound};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;

use super::context::Context;
use super::error::StoreError;
use super::holder_link::HolderLink;
use super::migration_out::MigrationOut;
use super::stores::Stores;
use delivery::Courier;
use queue::{Item, OutboxQueue};

/// Why a statement is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    /// It is not signed, or of another account than it must be.
    #[error("the statement is not one of the account")]
    Invalid,
    /// Nothing is known of its account.
    #[error("the account is not known here")]
    UnknownAccount,
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<KvError> for OutboxError {
    fn from(error: KvError) -> Self {
        Self::Store(error.into())
    }
}

impl From<AccountsError> for OutboxError {
    fn from(error: AccountsError) -> Self {
        Self::Store(error.into())
    }
}

/// Takes statements for holders, and delivers them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbox {
    queue: OutboxQueue,
    accounts: Accounts,
    stores: Stores,
    releases: Arc<Releases>,
    courier: Courier,
    context: Context,
}

impl Outbox {
    pub(crate) fn new(
        state: State,
        accounts: Accounts,
        stores: Stores,
        releases: Arc<Releases>,
        migration_out: MigrationOut,
        context: Context,
    ) -> Self {
        let queue = OutboxQueue(state);
        let link: HolderLink = migration_out.link().clone();
        let courier = Courier::new(queue.clone(), (accounts.clone(), stores.clone()), migration_out, link);
        Self { queue, accounts, stores, releases, courier, context }
    }

    /// A statement, if it is signed.
    fn verify<T: Body>(&self, statement: &Signed<T>) -> Result<Verified<T>, OutboxError> {
        statement.verify(self.context.network, self.context.now()).map_err(|_| OutboxError::Invalid)
    }

    /// Queues a rewind for some of an account's holders, with the batch.
    ///
    /// # Errors
    /// If this cannot be stored.
    pub(crate) fn put_rewind(
        &self,
        holders: &[NodeId],
        rewound: &VerifiedRewound,
        batch: Batch,
    ) -> Result<(), StoreError> {
        Ok(self.queue.put_rewind(holders, rewound, batch)?)
    }

    /// Takes an owner's release: how many nodes hold something for the account, how many of them have
    /// acknowledged it by now, and when the first of these deletes.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) async fn release(
        &self,
        account: AccountId,
        release: &Signed<Release>,
    ) -> Result<ReleaseProgress, OutboxError> {
        let (now, statement) = (self.context.now(), self.verify(release)?);
        if statement.account != account {
            return Err(OutboxError::Invalid);
        }
        let holders = tokio::task::block_in_place(|| {
            let registration = self.accounts.registration(&account)?.ok_or(OutboxError::UnknownAccount)?;
            self.accounts.check_head_key(&registration, statement.head_key)?;
            self.releases.release(&statement, now, &self.stores.segments)?;
            let holders = self.stores.holders.of(&account, usize::MAX)?;
            self.queue.put_release(&holders, &statement)?;
            Ok::<_, OutboxError>(holders)
        })?;
        let answers = self.courier.deliver_to(account).await?;
        let this = Item::Release(statement.sequence);
        let answers = answers.into_iter().filter(|(item, _)| *item == this);
        let dues = answers.filter_map(|(_, answer)| Some(answer.read::<ReleaseSegments>().ok()?.ok()?.due));
        let dues: Vec<UnixTime> = dues.collect();
        let count = |value| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(ReleaseProgress {
            holders: count(holders.len()),
            acknowledged: count(dues.len()),
            due: dues.into_iter().min(),
        })
    }

    /// An undo with its signature checked.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] if it is not signed.
    pub(crate) fn verify_undo(&self, undo: &Signed<Undo>) -> Result<Verified<Undo>, OutboxError> {
        self.verify(undo)
    }

    /// Takes an undo from anyone: the guard's signature suffices.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) async fn undo(&self, undo: &Signed<Undo>) -> Result<(), OutboxError> {
        let (now, statement) = (self.context.now(), self.verify_undo(undo)?);
        let account = statement.account;
        tokio::task::block_in_place(|| {
            let known = self.accounts.registration(&account)?.ok_or(OutboxError::UnknownAccount)?;
            // Anyone may bring it again. What was released since is not void for that.
            if self.queue.undo(&account)?.is_some_and(|newest| newest.signed() == undo) {
                return Ok(());
            }
            self.releases.undo(&statement, &known.guard_key, now)?;
            let mut batch = Batch::default();
            self.queue.stage_undo(&statement, &mut batch)?;
            let holders = self.stores.holders.of(&account, usize::MAX)?;
            self.queue.put_undo(&holders, &statement, batch)?;
            Ok::<_, OutboxError>(())
        })?;
        self.deliver_soon(account);
        Ok(())
    }

    /// Queues, for nodes that have become holders, what tells them whether the account is guarded or was
    /// rewound.
    ///
    /// # Errors
    /// If this cannot be stored.
    pub(crate) fn introduce(&self, account: &AccountId, nodes: &[NodeId]) -> Result<(), StoreError> {
        if let Some(rewound) = self.accounts.rewind(account)? {
            self.queue.put_rewind(nodes, &rewound, Batch::default())?;
        }
        if let Some(undo) = self.queue.undo(account)? {
            self.queue.put_undo(nodes, &undo, Batch::default())?;
        }
        Ok(())
    }

    /// Delivers an account's statements in the background.
    pub(crate) fn deliver_soon(&self, account: AccountId) {
        let courier = self.courier.clone();
        // What is not delivered now is delivered by the next round.
        self.context.tasks.spawn(async move { drop(courier.deliver_to(account).await) });
    }

    /// Sends a node the releases, undos and rewinds that it has not acknowledged; whether none is left.
    /// Nothing new may be stored there before: a release of everything would take it, too.
    pub(crate) async fn catch_up(&self, account: &AccountId, node: &NodeId) -> bool {
        self.courier.catch_up(account, node).await
    }

    /// Sends holders what they have not acknowledged: a page at a time, going round, so that nodes that
    /// never answer hold up nobody else.
    pub(crate) async fn deliver_round(&self) {
        self.courier.deliver_round().await;
    }
}
