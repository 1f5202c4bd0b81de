//! Migration in: vaults that come from another mediator. Their holders are found, told, and asked what
//! they hold.
//!
//! No shard moves. What is left to do is durable, so that it goes on after a crash; everything in it
//! may be done twice.

mod adoption;
mod holders;
pub(crate) mod table;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fincrypt_accounts::{Accounts, AccountsError, Stored};
use fincrypt_net::{Net, decode_all};
use fincrypt_protocol::admission::holders_key;
use fincrypt_protocol::mediate::{MigrateIn, MigrationProgress};
use fincrypt_protocol::record::Registration;
use fincrypt_protocol::{AccountId, Verified};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use futures::StreamExt;
use parking_lot::Mutex;

use super::context::Context;
use super::error::{Interrupted, StoreError, blocking};
use super::heads::Heads;
use super::migration_out::MigrationOut;
use super::outbox::{Outbox, OutboxError};
use super::stores::Stores;
use adoption::VerifiedAdoption;
use holders::HolderInquiry;
use table::MigrationTable;
use table::{MAX_FOUND, Migration};

/// Holders asked at once.
const AT_ONCE: usize = 8;
/// Time for which holders that do not answer are looked for.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why a vault does not migrate here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrationInError {
    /// A statement is not signed, or of another account, or they do not fit together.
    #[error("the statements of the migration do not fit together")]
    Invalid,
    /// The mandate is not signed, has expired or lasts too long.
    #[error("the mandate of the migration does not hold")]
    NotMandated,
    /// The vault went to another mediator after this.
    #[error("the vault has gone to another mediator since")]
    Departed,
    /// A later migration of the vault to this mediator is known.
    #[error("a later migration of the vault is known")]
    Stale,
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

impl From<KvError> for MigrationInError {
    fn from(error: KvError) -> Self {
        Self::Store(error.into())
    }
}

impl From<AccountsError> for MigrationInError {
    fn from(error: AccountsError) -> Self {
        Self::Store(error.into())
    }
}

impl From<Interrupted> for MigrationInError {
    fn from(error: Interrupted) -> Self {
        Self::Store(error.into())
    }
}

/// Takes vaults over from other mediators. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MigrationIn {
    table: MigrationTable,
    inquiry: HolderInquiry,
    accounts: Accounts,
    stores: Stores,
    heads: Heads,
    outbox: Outbox,
    migration_out: MigrationOut,
    net: Net,
    context: Context,
    /// Accounts whose holders are being asked now.
    running: Arc<Mutex<HashSet<AccountId>>>,
    /// Held while a migration is begun.
    beginning: Arc<Mutex<()>>,
}

impl MigrationIn {
    pub(crate) fn new(
        (state, net): (State, Net),
        (accounts, stores): (Accounts, Stores),
        heads: Heads,
        outbox: Outbox,
        migration_out: MigrationOut,
        context: Context,
    ) -> Self {
        let table = MigrationTable::new(state);
        let inquiry = HolderInquiry {
            table: table.clone(),
            accounts: accounts.clone(),
            segments: stores.segments.clone(),
            migration_out: migration_out.clone(),
            link: migration_out.link().clone(),
            context: context.clone(),
        };
        let (running, beginning) = (Arc::default(), Arc::default());
        Self {
            table,
            inquiry,
            accounts,
            stores,
            heads,
            outbox,
            migration_out,
            net,
            context,
            running,
            beginning,
        }
    }

    /// Begins a migration, or tells its progress.
    ///
    /// # Errors
    /// Why it does not migrate here.
    pub(crate) async fn adopt(
        &self,
        registration: Verified<Registration>,
        adoption: MigrateIn,
    ) -> Result<MigrationProgress, MigrationInError> {
        let account = registration.account;
        let hints: Vec<_> =
            adoption.holders.iter().map(|hint| (hint.node, decode_all(&hint.addresses))).collect();
        let this = self.clone();
        let begun = blocking(move || {
            let (whose, now) = ((this.context.network, this.context.own), this.context.now());
            this.begin(VerifiedAdoption::verify(registration, adoption, whose, now)?)
        });
        if begun.await? {
            let this = self.clone();
            self.context.tasks.spawn(async move {
                let reaching = hints.into_iter().map(|(node, addresses)| this.net.reach(node, addresses));
                let reaching = futures::stream::iter(reaching).buffer_unordered(AT_ONCE);
                // Those that were not reached are looked for in the DHT.
                reaching.for_each(|_| std::future::ready(())).await;
                this.migrate(account).await;
            });
        }
        let this = self.clone();
        Ok(blocking(move || this.progress(&account)).await?)
    }

    /// Begins a migration; false if it has begun already.
    fn begin(&self, adoption: VerifiedAdoption) -> Result<bool, MigrationInError> {
        let (account, sequence) = (adoption.registration.account, adoption.adopt.sequence);
        let _one = self.beginning.lock();
        if self.migration_out.sequence(&account).is_some_and(|gone| gone >= sequence) {
            return Err(MigrationInError::Departed);
        }
        if let Some(known) = self.table.get(&account)?
            && known.sequence >= sequence
        {
            return if known.sequence == sequence { Ok(false) } else { Err(MigrationInError::Stale) };
        }
        self.accounts.register(&adoption.registration)?;
        if let Some(rewound) = &adoption.rewound {
            let mut batch = Batch::default();
            match self.accounts.admit_rewind(&adoption.registration, rewound, &mut batch) {
                Ok(_) | Err(AccountsError::OldRewind) => {}
                Err(error) => return Err(error.into()),
            }
            self.accounts.commit(&batch)?;
        }
        // What was known may be older than what the last mediator has done.
        let before = self.stores.holders.of(&account, MAX_FOUND)?;
        let known = self.stores.heads.get(&account)?;
        self.stores.remove_account(&account)?;
        let used = adoption.head.is_some() || known.is_some();
        self.heads.select_newest(&adoption.registration, adoption.head.into_iter().chain(known))?;
        self.stores.mandates.put(&adoption.mandate)?;
        let migration = Migration {
            registration: Stored(adoption.registration),
            mandate: Stored(adoption.mandate),
            keep: Stored(adoption.keep),
            sequence,
            since: self.context.now(),
            used,
            complete: false,
        };
        let holders = adoption.holders.into_iter().chain(before);
        self.table.begin(&account, &migration, &adoption.statements, holders)?;
        self.migration_out.take_back(&account)?;
        Ok(true)
    }

    fn progress(&self, account: &AccountId) -> Result<MigrationProgress, StoreError> {
        let count = |value| u32::try_from(value).unwrap_or(u32::MAX);
        let found = self.table.found(account)?;
        let listed = found.iter().filter(|(_, listed)| *listed).count();
        let complete = self.table.get(account)?.is_none_or(|migration| migration.complete);
        let (segments, found) = (self.stores.segments.count(account)?, count(found.len()));
        Ok(MigrationProgress { segments, found, acknowledged: count(listed), complete })
    }

    /// Resumes every migration that is not complete.
    pub(crate) fn resume_all(&self) {
        for account in self.table.unfinished().unwrap_or_default() {
            self.context.tasks.spawn(self.clone().migrate(account));
        }
    }

    async fn migrate(self, account: AccountId) {
        let running = || self.running.lock();
        if !running().insert(account) {
            return;
        }
        // As long as holders lead to others, there is something to do at once.
        loop {
            match self.ask_holders(account).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "migration_in_deferred");
                    break;
                }
            }
        }
        running().remove(&account);
    }

    /// Asks every holder that was found and has not listed its shards; whether others were found.
    async fn ask_holders(&self, account: AccountId) -> Result<bool, MigrationInError> {
        let Some(migration) = self.table.get(&account)?.filter(|migration| !migration.complete) else {
            return Ok(false);
        };
        let providers = self.net.providers(holders_key(&account)).await;
        self.table.add(&account, providers)?;
        let waiting: Vec<_> = self.table.found(&account)?.into_iter().filter(|(_, listed)| !listed).collect();
        let asking = waiting.into_iter().map(|(node, _)| self.inquiry.ask(account, &migration, node));
        let mut answers = futures::stream::iter(asking).buffer_unordered(AT_ONCE);
        let (mut answered, mut others) = (0, BTreeSet::new());
        while let Some(answer) = answers.next().await {
            match answer {
                Some(named) => {
                    answered += 1;
                    others.extend(named);
                }
                None if self.migration_out.has_departed(&account) => return Ok(false),
                None => {}
            }
        }
        drop(answers);
        let new = self.table.add(&account, others)?;
        if answered > 0 {
            // Holders must know that repairs under this run are kept.
            self.outbox.keep(account, migration.keep.0.signed()).await?;
        }
        let found = self.table.found(&account)?;
        let all = found.iter().all(|(_, listed)| *listed) && (!found.is_empty() || !migration.used);
        let over = self.context.now() > migration.since.plus(PATIENCE);
        if new == 0 && (all || over) {
            let missing = found.iter().filter(|(_, listed)| !listed).count();
            if missing > 0 {
                tracing::warn!(missing, "migration_holders_never_answered");
            }
            let table = self.table.clone();
            blocking(move || Ok::<_, StoreError>(table.complete(&account, migration)?)).await?;
            tracing::info!(holders = found.len(), "vault_migrated_in");
        }
        Ok(new > 0)
    }
}
