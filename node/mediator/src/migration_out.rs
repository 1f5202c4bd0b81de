//! Migration out: vaults that went to another mediator. The duties here end.
//!
//! Their owner says so, or storage shows the newer mandate: a storage node's bare refusal ends
//! nothing, as it may lie.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use fincrypt_protocol::record::{Adopt, Mandate, is_too_far_ahead};
use fincrypt_protocol::shard::RenewMandate;
use fincrypt_protocol::{AccountId, NodeId, Signed};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::{Everything, Table};
use futures::StreamExt;

use super::context::Context;
use super::error::{StoreError, blocking};
use super::holder_link::{Delivery, HolderLink};
use super::migration_in::table::MigrationTable;
use super::stores::Stores;
use fincrypt_accounts::Accounts;
use fincrypt_upkeep::placement::sample;

/// `account` → the sequence of the mandate that ended ours.
const DEPARTURES: Table<AccountId, u64> = Table::new("departures", 9);

/// Accounts asked about at once after a start, and holders asked about each.
const AT_ONCE: usize = 8;
const WITNESSES: usize = 3;

/// Accounts that have gone, durably and in memory, as every request asks for it.
struct Departures {
    state: State,
    known: Mutex<HashMap<AccountId, u64>>,
}

impl Departures {
    fn open(state: State) -> Result<Self, KvError> {
        let known = DEPARTURES.scan(&state, &Everything, None, usize::MAX)?.into_iter().collect();
        Ok(Self { state, known: Mutex::new(known) })
    }

    /// The sequence of the mandate by which the account went elsewhere, if it did.
    fn sequence(&self, account: &AccountId) -> Option<u64> {
        self.known.lock().get(account).copied()
    }

    fn record(&self, account: &AccountId, sequence: u64) -> Result<(), KvError> {
        let mut batch = Batch::default();
        DEPARTURES.put(&mut batch, account, &sequence)?;
        self.state.commit(&batch)?;
        self.known.lock().insert(*account, sequence);
        Ok(())
    }

    /// The account has come back.
    fn remove(&self, account: &AccountId) -> Result<(), KvError> {
        if self.known.lock().remove(account).is_some() {
            let mut batch = Batch::default();
            DEPARTURES.remove(&mut batch, account);
            self.state.commit(&batch)?;
        }
        Ok(())
    }
}

/// Why an owner's statement that its vault has migrated is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrationOutError {
    /// It is not signed, names this mediator, is of an account that is not known here, or its sequence lies
    /// more than a day ahead.
    #[error("the statement does not end a vault's stay here")]
    Invalid,
    /// The account's mandate for this mediator is as new.
    #[error("the account's mandate for this mediator is as new")]
    Stale,
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Ends the duties for vaults that went to another mediator. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MigrationOut {
    departures: Arc<Departures>,
    accounts: Accounts,
    stores: Stores,
    migrations: MigrationTable,
    link: HolderLink,
    context: Context,
}

impl MigrationOut {
    /// Reads which accounts have gone.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be read: requests of accounts that have gone would be answered.
    pub(crate) fn open(
        state: State,
        accounts: Accounts,
        stores: Stores,
        link: HolderLink,
        context: Context,
    ) -> Result<Self, StoreError> {
        let migrations = MigrationTable::new(state.clone());
        let departures = Arc::new(Departures::open(state)?);
        Ok(Self { departures, accounts, stores, migrations, link, context })
    }

    /// Its way to storage nodes.
    pub(crate) fn link(&self) -> &HolderLink {
        &self.link
    }

    /// Whether the account has gone to another mediator.
    pub(crate) fn has_departed(&self, account: &AccountId) -> bool {
        self.sequence(account).is_some()
    }

    /// The sequence of the mandate by which the account went elsewhere, if it did.
    pub(crate) fn sequence(&self, account: &AccountId) -> Option<u64> {
        self.departures.sequence(account)
    }

    /// Takes an account back.
    ///
    /// # Errors
    /// If this cannot be stored.
    pub(crate) fn take_back(&self, account: &AccountId) -> Result<(), StoreError> {
        Ok(self.departures.remove(account)?)
    }

    /// Takes an owner's statement that another mediator has its vault.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) async fn depart(&self, adopt: &Signed<Adopt>) -> Result<(), MigrationOutError> {
        let adopt = adopt.verify(self.context.network, self.context.now());
        let adopt = adopt.map_err(|_| MigrationOutError::Invalid)?;
        let known = self.accounts.registration(&adopt.account).map_err(StoreError::from)?;
        let ahead = is_too_far_ahead(adopt.sequence, self.context.now());
        if adopt.new == self.context.own || known.is_none() || ahead {
            return Err(MigrationOutError::Invalid);
        }
        let own = self.mandated(&adopt.account)?;
        if own.is_some_and(|own| own >= adopt.sequence) {
            return Err(MigrationOutError::Stale);
        }
        Ok(self.end_duties(adopt.account, adopt.sequence).await?)
    }

    /// The sequence of the account's mandate for this mediator.
    fn mandated(&self, account: &AccountId) -> Result<Option<u64>, StoreError> {
        Ok(self.stores.mandates.newest(account)?.map(|own| own.sequence))
    }

    /// Durable first: what a crash leaves of the records goes at the next start.
    async fn end_duties(&self, account: AccountId, sequence: u64) -> Result<(), StoreError> {
        self.departures.record(&account, sequence)?;
        self.migrations.remove(&account)?;
        let stores = self.stores.clone();
        blocking(move || stores.remove_account(&account)).await?;
        tracing::info!(sequence, "vault_migrated_out");
        Ok(())
    }

    /// Whether a mandate that storage shows is a newer one for another mediator; if so, the duties here end.
    pub(crate) async fn is_superseded(&self, account: &AccountId, newest: &Signed<Mandate>) -> bool {
        let Ok(newest) = newest.verify(self.context.network, self.context.now()) else { return false };
        let newer = newest.account == *account
            && newest.mediator != self.context.own
            && !is_too_far_ahead(newest.sequence, self.context.now())
            && self.mandated(account).is_ok_and(|own| own.is_none_or(|own| own < newest.sequence));
        newer && self.end_duties(*account, newest.sequence).await.is_ok()
    }

    /// A node refuses for want of a mandate: whether it can show that the account has gone elsewhere.
    pub(crate) async fn check_departed(&self, account: &AccountId, node: NodeId) -> bool {
        if self.has_departed(account) {
            return true;
        }
        let (Ok(Some(registration)), Ok(Some(mandate))) =
            (self.accounts.registration(account), self.stores.mandates.newest(account))
        else {
            return false;
        };
        let (registration, mandate) = (registration.signed().clone(), mandate.signed().clone());
        let ask = RenewMandate { registration, mandate };
        match self.link.send(node, ask).await {
            Delivery::Acknowledged(newest) => self.is_superseded(account, &newest.mandate).await,
            _ => false,
        }
    }

    /// After a start: asks storage whether accounts have gone elsewhere meanwhile, and forgets what a
    /// crash left of those that have.
    pub(crate) async fn probe_all(self) {
        let mut after = None;
        loop {
            // What cannot be read is asked for at the next start.
            let accounts = match self.stores.mandates.accounts(after.as_ref()) {
                Ok(accounts) => accounts,
                Err(error) => return tracing::error!(%error, "mandates_unreadable"),
            };
            let Some(last) = accounts.last() else { return };
            after = Some(*last);
            let asking = accounts.into_iter().map(|account| self.probe(account));
            futures::stream::iter(asking).buffer_unordered(AT_ONCE).collect::<()>().await;
        }
    }

    async fn probe(&self, account: AccountId) {
        let stores = self.stores.clone();
        if self.has_departed(&account) {
            if let Err(error) = blocking(move || stores.remove_account(&account)).await {
                tracing::error!(%error, "departed_account_not_removed");
            }
            return;
        }
        let holders = stores.holders.of(&account, usize::MAX).unwrap_or_default();
        for node in sample(holders, WITNESSES, self.context.chance()) {
            if self.check_departed(&account, node).await {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder_link::testing::answering;
    use crate::testing::{Bench, mandate, owner};
    use fincrypt_protocol::limits::MAX_MANDATE_AHEAD;
    use fincrypt_protocol::{Network, Refusal, RunId, SigningKey};

    fn adopt(owner: &SigningKey, new: NodeId, sequence: u64) -> Signed<Adopt> {
        let adopt = Adopt { network: Network::Local, account: owner.account(), old: None, new, sequence };
        Signed::seal(&adopt, owner).expect("seals")
    }

    #[tokio::test]
    async fn a_newer_mandate_of_another_mediator_ends_the_duties_for_good() {
        let bench = Bench::new(answering(|_, _| Err(Refusal::Busy)));
        let (owner, node, other) = (owner(1), NodeId::from_bytes([4; 32]), NodeId::from_bytes([9; 32]));
        let account = owner.account();
        bench.admit(&owner, 5);
        bench.hold(&account, node, RunId::from_bytes([5; 16]));
        let out = &bench.migration_out;
        let own = out.depart(&adopt(&owner, bench.context.own, 6)).await;
        assert!(matches!(own, Err(MigrationOutError::Invalid)), "{own:?}");
        let old = out.depart(&adopt(&owner, other, 5)).await;
        assert!(matches!(old, Err(MigrationOutError::Stale)), "{old:?}");
        assert!(!out.has_departed(&account) && bench.stores.held.holds_anything(&node));
        for ahead in [bench.context.now().secs() + MAX_MANDATE_AHEAD + 1, u64::MAX] {
            let refused = out.depart(&adopt(&owner, other, ahead)).await;
            assert!(matches!(refused, Err(MigrationOutError::Invalid)), "{refused:?}");
            let shown = mandate(&owner, other, ahead, bench.context.now());
            assert!(!out.is_superseded(&account, &shown).await);
        }
        out.depart(&adopt(&owner, other, 6)).await.expect("taken");
        assert!(out.has_departed(&account) && !bench.stores.held.holds_anything(&node));
        assert!(bench.stores.mandates.newest(&account).expect("reads").is_none());
        let opened = Departures::open(bench.state.clone()).expect("reads");
        assert_eq!(opened.sequence(&account), Some(6), "over a restart, too");
        out.take_back(&account).expect("written");
        let opened = Departures::open(bench.state.clone()).expect("reads");
        assert_eq!((out.sequence(&account), opened.sequence(&account)), (None, None));
    }
}
