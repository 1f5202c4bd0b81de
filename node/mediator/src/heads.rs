//! Heads of vaults: compared, swapped and rewound durably here first, then sent to the holders.

use fincrypt_protocol::limits::{MAX_SEQUENCE_STEP, MAX_SHARDS};
use fincrypt_protocol::record::{Head, Registration};
use fincrypt_protocol::shard::PutHead;
use fincrypt_protocol::{HeadHash, Refusal, Rewound, Signed, Verified};
use futures::StreamExt;

use std::sync::Arc;

use super::context::Context;
use super::holder_link::{Delivery, HolderLink};
use super::migration_out::MigrationOut;
use super::outbox::Outbox;
use super::records::Records;
use fincrypt_accounts::releases::Releases;
use fincrypt_accounts::{Accounts, HeadAuthority};
use fincrypt_net::blocking;
use fincrypt_state::kv::Batch;
use fincrypt_upkeep::placement::sample;
use parking_lot::Mutex;

/// Holders that must have a head before its swap is acknowledged, if there are so many.
const HEAD_COPIES: usize = 2;

/// Owns the heads of vaults. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Heads {
    accounts: Accounts,
    records: Records,
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
        records: Records,
        releases: Arc<Releases>,
        outbox: Outbox,
        migration_out: MigrationOut,
        context: Context,
    ) -> Self {
        let (link, swapping) = (migration_out.link().clone(), Arc::default());
        Self { accounts, records, releases, outbox, migration_out, link, context, swapping }
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
    ) -> Result<(), Refusal> {
        let account = registration.account;
        let _one = self.swapping.lock();
        let current = HeadAuthority::of(registration, self.accounts.rewind(&account)?.as_ref());
        let heads = heads.into_iter().filter(|head| current.accepts(head));
        match heads.max_by_key(|head| (head.sequence, head.signed().head_hash())) {
            Some(newest) => self.records.put_head(&account, newest.signed()),
            None => Ok(()),
        }
    }

    /// Compares and swaps the account's head. The same swap may be repeated.
    pub(crate) async fn swap(
        &self,
        registration: &Verified<Registration>,
        expected: Option<HeadHash>,
        head: &Signed<Head>,
    ) -> Result<(), Refusal> {
        let account = registration.account;
        let new = head.verify(self.context.network, self.context.now()).map_err(|_| Refusal::Invalid)?;
        if new.account != account || new.previous != expected {
            return Err(Refusal::Invalid);
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
    ) -> Result<(), Refusal> {
        let (account, head, sequence) = (registration.account, new.signed(), new.sequence);
        let _one = self.swapping.lock();
        self.accounts.check_head_key(registration, new.head_key)?;
        let current = self.records.head(&account)?;
        if current.as_ref() == Some(head) {
            return Ok(());
        }
        if current.as_ref().map(Signed::head_hash) != expected {
            return Err(Refusal::HeadMoved);
        }
        let known = current.and_then(|head| head.verify(self.context.network, self.context.now()).ok());
        let known = known.map_or(0, |head| head.sequence);
        if sequence <= known || sequence > known.saturating_add(MAX_SEQUENCE_STEP) {
            return Err(Refusal::Invalid);
        }
        self.records.put_head(&account, head)
    }

    async fn send_to_holders(
        &self,
        registration: &Verified<Registration>,
        head: &Signed<Head>,
    ) -> Result<(), Refusal> {
        let (records, account) = (self.records.clone(), registration.account);
        let all = blocking(move || records.holders(&account, usize::MAX)).await?;
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
            && self.migration_out.is_dismissed(&account, node).await
        {
            return Err(Refusal::Dismissed);
        }
        if have < need {
            let count = |value| u8::try_from(value).unwrap_or(u8::MAX);
            return Err(Refusal::NotStored { have: count(have), need: count(need) });
        }
        Ok(())
    }

    /// Takes a rewind from anyone: the guard's signature suffices. An account that is new here must have
    /// logged in, as `login`.
    pub(crate) async fn rewind(
        &self,
        login: Option<Verified<Registration>>,
        rewound: &Rewound,
    ) -> Result<(), Refusal> {
        let now = self.context.now();
        let account = rewound.rewind.verify(self.context.network, now).map_err(|_| Refusal::Invalid)?.account;
        let new = tokio::task::block_in_place(|| {
            let known = match self.accounts.registration(&account)? {
                Some(known) => known,
                None => login.filter(|login| login.account == account).ok_or(Refusal::NotHeld)?,
            };
            let new =
                rewound.verify(self.context.network, &known.guard_key, now).map_err(|_| Refusal::Invalid)?;
            self.accounts.register(&known)?;
            let _one = self.swapping.lock();
            let mut batch = Batch::default();
            if !self.accounts.admit_rewind(&known, &new, &mut batch)? {
                return Ok::<_, Refusal>(false);
            }
            // What the old key released is void. First: a rewind that is known is not carried out again.
            self.releases.void(&account)?;
            self.records.replace_head(&account, &rewound.base, &mut batch)?;
            let holders = self.records.holders(&account, usize::MAX)?;
            self.outbox.put_rewind(&account, &holders, &new, batch)?;
            Ok(true)
        })?;
        if new {
            self.outbox.deliver_soon(account);
        }
        Ok(())
    }
}
