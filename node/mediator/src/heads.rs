//! Heads of vaults: compared, swapped and rewound durably here first, then sent to the holders.

use fincrypt_protocol::limits::{MAX_SEQUENCE_STEP, MAX_SHARDS};
use fincrypt_protocol::record::{Head, Registration};
use fincrypt_protocol::shard::PutHead;
use fincrypt_protocol::{AccountId, HeadHash, Refusal, Rewound, Signed, Verified};
use futures::StreamExt;

use std::sync::Arc;

use super::context::Context;
use super::error::{StoreError, blocking};
use super::holder_link::{Delivery, HolderLink};
use super::migration_out::MigrationOut;
use super::outbox::Outbox;
use super::stores::Stores;
use fincrypt_accounts::releases::Releases;
use fincrypt_accounts::{Accounts, AccountsError, HeadAuthority};
use fincrypt_state::kv::Batch;
use fincrypt_upkeep::placement::sample;
use parking_lot::Mutex;

/// Holders that must have a head before its swap is acknowledged, if there are as many.
const HEAD_COPIES: usize = 2;

/// Why a head or a rewind is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    /// It is not signed, or does not fit what it is for.
    #[error("the head or rewind does not hold")]
    Invalid,
    /// Another head is the account's newest.
    #[error("another head is the newest")]
    Moved,
    /// Nothing is known of its account.
    #[error("the account is not known here")]
    UnknownAccount,
    /// The vault has gone to another mediator.
    #[error("the vault has gone to another mediator")]
    Departed,
    /// Too few holders have it.
    #[error("{have} holders have the head, of {need} that must")]
    TooFewCopies {
        /// Holders that acknowledged it.
        have: usize,
        /// Holders that must.
        need: usize,
    },
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AccountsError> for HeadError {
    fn from(error: AccountsError) -> Self {
        Self::Store(error.into())
    }
}

/// Owns the heads of vaults. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Heads {
    accounts: Accounts,
    stores: Stores,
    releases: Arc<Releases>,
    outbox: Outbox,
    migration_out: MigrationOut,
    link: HolderLink,
    context: Context,
    /// Held while a head is compared and swapped.
    swapping: Arc<Mutex<()>>,
}

impl Heads {
    pub(crate) fn new(
        accounts: Accounts,
        stores: Stores,
        releases: Arc<Releases>,
        outbox: Outbox,
        migration_out: MigrationOut,
        context: Context,
    ) -> Self {
        let (link, swapping) = (migration_out.link().clone(), Arc::default());
        Self { accounts, stores, releases, outbox, migration_out, link, context, swapping }
    }

    /// Puts the newest of some heads of an account in place: of those that its head key, after rewinds,
    /// has signed.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub(crate) fn select_newest(
        &self,
        registration: &Verified<Registration>,
        heads: impl IntoIterator<Item = Verified<Head>>,
    ) -> Result<(), StoreError> {
        let account = registration.account;
        let _one = self.swapping.lock();
        let current = HeadAuthority::of(registration, self.accounts.rewind(&account)?.as_ref());
        let heads = heads.into_iter().filter(|head| current.accepts(head));
        match heads.max_by_key(|head| (head.sequence, head.signed().head_hash())) {
            Some(newest) => self.stores.heads.put(&newest),
            None => Ok(()),
        }
    }

    /// The newest head of an account.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) async fn newest(&self, account: AccountId) -> Result<Option<Signed<Head>>, StoreError> {
        let heads = self.stores.heads.clone();
        let head = blocking(move || heads.get(&account)).await?;
        Ok(head.map(|head| head.signed().clone()))
    }

    /// Compares and swaps the account's head. The same swap may be repeated.
    ///
    /// # Errors
    /// Why it is not swapped. With [`HeadError::TooFewCopies`] it is, but too few holders know it.
    pub(crate) async fn swap(
        &self,
        registration: &Verified<Registration>,
        expected: Option<HeadHash>,
        head: &Signed<Head>,
    ) -> Result<(), HeadError> {
        let account = registration.account;
        let new = head.verify(self.context.network, self.context.now()).map_err(|_| HeadError::Invalid)?;
        if new.account != account || new.previous != expected {
            return Err(HeadError::Invalid);
        }
        // Waits for the disk, which must not hold up the network's threads.
        tokio::task::block_in_place(|| self.compare_and_swap(registration, expected, &new))?;
        self.send_to_holders(registration, head).await
    }

    /// One swap at a time: of two devices over one head, only one may win.
    fn compare_and_swap(
        &self,
        registration: &Registration,
        expected: Option<HeadHash>,
        new: &Verified<Head>,
    ) -> Result<(), HeadError> {
        let sequence = new.sequence;
        let _one = self.swapping.lock();
        self.accounts.check_head_key(registration, new.head_key)?;
        let current = self.stores.heads.get(&registration.account)?;
        if current.as_ref().is_some_and(|current| current.signed() == new.signed()) {
            return Ok(());
        }
        if current.as_ref().map(|current| current.signed().head_hash()) != expected {
            return Err(HeadError::Moved);
        }
        let known = current.map_or(0, |head| head.sequence);
        if sequence <= known || sequence > known.saturating_add(MAX_SEQUENCE_STEP) {
            return Err(HeadError::Invalid);
        }
        Ok(self.stores.heads.put(new)?)
    }

    async fn send_to_holders(
        &self,
        registration: &Verified<Registration>,
        head: &Signed<Head>,
    ) -> Result<(), HeadError> {
        let (holders, account) = (self.stores.holders.clone(), registration.account);
        let all = blocking(move || holders.of(&account, usize::MAX)).await?;
        let holders = sample(all, MAX_SHARDS, self.context.chance());
        let need = HEAD_COPIES.min(holders.len());
        let sending = holders.into_iter().map(|node| {
            let put = PutHead { registration: registration.signed().clone(), head: head.clone() };
            async move {
                // One that does not know of a rewind refuses the new key's heads.
                let delivery = if self.outbox.catch_up(&account, &node).await {
                    self.link.send(node, put).await
                } else {
                    Delivery::TimedOut
                };
                (node, delivery)
            }
        });
        let mut sent = futures::stream::iter(sending).buffer_unordered(MAX_SHARDS);
        let (mut have, mut unmandated) = (0, None);
        while let Some((node, delivery)) = sent.next().await {
            match delivery {
                Delivery::Acknowledged(_) => have += 1,
                Delivery::Rejected(Refusal::NotMandated) => unmandated = Some(node),
                _ => {}
            }
        }
        drop(sent);
        if let Some(node) = unmandated
            && self.migration_out.check_departed(&account, node).await
        {
            return Err(HeadError::Departed);
        }
        if have < need {
            return Err(HeadError::TooFewCopies { have, need });
        }
        Ok(())
    }

    /// Takes a rewind from anyone: the guard's signature suffices. An account that is new here must have
    /// logged in, as `login`.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) async fn rewind(
        &self,
        login: Option<Verified<Registration>>,
        rewound: &Rewound,
    ) -> Result<(), HeadError> {
        let now = self.context.now();
        let rewind = rewound.rewind.verify(self.context.network, now).map_err(|_| HeadError::Invalid)?;
        let account = rewind.account;
        let new = tokio::task::block_in_place(|| {
            let known = match self.accounts.registration(&account)? {
                Some(known) => known,
                None => login.filter(|login| login.account == account).ok_or(HeadError::UnknownAccount)?,
            };
            let new = rewound.verify(self.context.network, &known.guard_key, now);
            let new = new.map_err(|_| HeadError::Invalid)?;
            self.accounts.register(&known)?;
            let _one = self.swapping.lock();
            let mut batch = Batch::default();
            if !self.accounts.admit_rewind(&known, &new, &mut batch)? {
                return Ok::<_, HeadError>(false);
            }
            // What the old key released is void. First: a rewind that is known is not carried out again.
            self.releases.void(&account)?;
            self.stores.heads.stage(&new.base, &mut batch)?;
            let holders = self.stores.holders.of(&account, usize::MAX)?;
            self.outbox.put_rewind(&holders, &new, batch)?;
            Ok(true)
        })?;
        if new {
            self.outbox.deliver_soon(account);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder_link::HolderLink;
    use crate::holder_link::testing::answering;
    use crate::testing::{Bench, owner, registration};
    use fincrypt_protocol::{Network, NodeId, RunId, SigningKey};

    fn head(owner: &SigningKey, sequence: u64, previous: Option<HeadHash>) -> Signed<Head> {
        let (network, account, head_key) = (Network::Local, owner.account(), owner.head_key());
        let body = vec![sequence.to_le_bytes()[0]].into();
        let head = Head { network, account, head_key, sequence, previous, body };
        Signed::seal(&head, owner).expect("seals")
    }

    fn heads(link: HolderLink) -> (Bench, Heads) {
        let bench = Bench::new(link);
        let heads = Heads::new(
            bench.accounts.clone(),
            bench.stores.clone(),
            Arc::clone(&bench.releases),
            bench.outbox.clone(),
            bench.migration_out.clone(),
            bench.context.clone(),
        );
        (bench, heads)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_two_heads_over_one_the_first_wins_and_a_swap_may_be_repeated() {
        let (_bench, heads) = heads(answering(|_, _| Err(Refusal::Busy)));
        let owner = owner(1);
        let (known, first, other) = (registration(&owner), head(&owner, 1, None), head(&owner, 2, None));
        for _ in 0..2 {
            heads.swap(&known, None, &first).await.expect("swapped");
        }
        assert!(matches!(heads.swap(&known, None, &other).await, Err(HeadError::Moved)));
        let next = head(&owner, 2, Some(first.head_hash()));
        heads.swap(&known, Some(first.head_hash()), &next).await.expect("swapped");
        assert_eq!(heads.newest(owner.account()).await.expect("reads"), Some(next));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_head_that_no_holder_takes_is_kept_and_not_acknowledged() {
        let (bench, heads) = heads(answering(|_, _| Err(Refusal::Busy)));
        let (owner, node) = (owner(1), NodeId::from_bytes([4; 32]));
        bench.hold(&owner.account(), node, RunId::from_bytes([5; 16]));
        let first = head(&owner, 1, None);
        let swapped = heads.swap(&registration(&owner), None, &first).await;
        assert!(matches!(swapped, Err(HeadError::TooFewCopies { have: 0, need: 1 })), "{swapped:?}");
        assert_eq!(heads.newest(owner.account()).await.expect("reads"), Some(first));
    }
}
