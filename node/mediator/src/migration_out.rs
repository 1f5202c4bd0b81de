//! Migration out: vaults that went to another mediator. The duties here end.
//!
//! Their owner says so, or storage shows the newer mandate: a storage node's bare refusal ends
//! nothing, as it may lie.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

use fincrypt_protocol::record::{Adopt, Mandate};
use fincrypt_protocol::shard::RenewMandate;
use fincrypt_protocol::{AccountId, NodeId, Refusal, Signed, UnixTime};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;
use futures::StreamExt;

use super::context::Context;
use super::holder_link::{Delivery, HolderLink};
use super::migration_in::table::MigrationTable;
use super::records::Records;
use fincrypt_accounts::Accounts;
use fincrypt_accounts::failed;
use fincrypt_net::blocking;
use fincrypt_upkeep::placement::sample;

/// `account` → the sequence of the mandate that ended ours, `u64le`.
const DEPARTURES: Tree = Tree("dismissals");

/// Accounts asked about at once after a start, and holders asked about each.
const AT_ONCE: usize = 8;
const WITNESSES: usize = 3;

/// Accounts that have gone, durably and in memory, as every request asks for it.
struct Departures {
    state: State,
    known: Mutex<HashMap<AccountId, u64>>,
}

impl Departures {
    fn open(state: State) -> Self {
        let entries = state.scan(DEPARTURES, &[], None, usize::MAX).unwrap_or_default();
        let parse = |(key, value): (Vec<u8>, Vec<u8>)| {
            let account = AccountId::from_bytes(key.try_into().ok()?);
            Some((account, u64::from_le_bytes(value.try_into().ok()?)))
        };
        let known = entries.into_iter().filter_map(parse).collect();
        Self { state, known: Mutex::new(known) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, u64>> {
        self.known.lock()
    }

    /// The sequence of the mandate by which the account went elsewhere, if it did.
    fn sequence(&self, account: &AccountId) -> Option<u64> {
        self.lock().get(account).copied()
    }

    fn record(&self, account: &AccountId, sequence: u64) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.put(DEPARTURES, *account.as_bytes(), sequence.to_le_bytes().to_vec());
        self.state.commit(&batch).map_err(|error| failed(&error))?;
        self.lock().insert(*account, sequence);
        Ok(())
    }

    /// The account has come back.
    fn lift(&self, account: &AccountId) -> Result<(), Refusal> {
        if self.lock().remove(account).is_some() {
            let mut batch = Batch::default();
            batch.remove(DEPARTURES, *account.as_bytes());
            self.state.commit(&batch).map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

/// Ends the duties for vaults that went to another mediator. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MigrationOut {
    departures: Arc<Departures>,
    accounts: Accounts,
    records: Records,
    migrations: MigrationTable,
    link: HolderLink,
    context: Context,
}

impl MigrationOut {
    pub(crate) fn new(
        state: State,
        accounts: Accounts,
        records: Records,
        link: HolderLink,
        context: Context,
    ) -> Self {
        let migrations = MigrationTable::new(state.clone());
        Self { departures: Arc::new(Departures::open(state)), accounts, records, migrations, link, context }
    }

    /// Its way to storage nodes.
    pub(crate) fn link(&self) -> &HolderLink {
        &self.link
    }

    /// Whether the account has gone.
    pub(crate) fn is_gone(&self, account: &AccountId) -> bool {
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
    pub(crate) fn lift(&self, account: &AccountId) -> Result<(), Refusal> {
        self.departures.lift(account)
    }

    /// Takes an owner's word that another mediator has its vault.
    pub(crate) async fn dismiss(&self, adopt: &Signed<Adopt>) -> Result<(), Refusal> {
        let adopt = adopt.verify(self.context.network, self.context.now()).map_err(|_| Refusal::Invalid)?;
        if adopt.new == self.context.own || self.accounts.registration(&adopt.account)?.is_none() {
            return Err(Refusal::Invalid);
        }
        let own = self.mandated(&adopt.account)?;
        if own.is_some_and(|own| own >= adopt.sequence) {
            return Err(Refusal::Stale);
        }
        self.end_duties(adopt.account, adopt.sequence).await
    }

    /// The sequence of the account's mandate for this mediator.
    fn mandated(&self, account: &AccountId) -> Result<Option<u64>, Refusal> {
        let own = self.records.mandate(account)?;
        // It held when it was kept; as of the beginning of time it has not expired.
        let own = own.and_then(|own| own.verify(self.context.network, UnixTime::from_secs(0)).ok());
        Ok(own.map(|own| own.sequence))
    }

    /// Durable first: what a crash leaves of the records goes at the next start.
    async fn end_duties(&self, account: AccountId, sequence: u64) -> Result<(), Refusal> {
        self.departures.record(&account, sequence)?;
        self.migrations.forget(&account)?;
        let records = self.records.clone();
        blocking(move || records.forget_account(&account)).await?;
        tracing::info!(sequence, "vault_migrated_out");
        Ok(())
    }

    /// Whether a mandate that storage shows dismisses this mediator; if so, its duties end.
    pub(crate) async fn is_superseded(&self, account: &AccountId, newest: &Signed<Mandate>) -> bool {
        let Ok(newest) = newest.verify(self.context.network, self.context.now()) else { return false };
        let newer = newest.account == *account
            && newest.mediator != self.context.own
            && self.mandated(account).is_ok_and(|own| own.is_none_or(|own| own < newest.sequence));
        newer && self.end_duties(*account, newest.sequence).await.is_ok()
    }

    /// A node refuses for want of a mandate: whether it can show that the account has gone elsewhere.
    pub(crate) async fn is_dismissed(&self, account: &AccountId, node: NodeId) -> bool {
        if self.is_gone(account) {
            return true;
        }
        let (Ok(Some(registration)), Ok(Some(mandate))) =
            (self.accounts.registration(account), self.records.mandate(account))
        else {
            return false;
        };
        let ask = RenewMandate { registration: registration.signed().clone(), mandate };
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
            let Ok(page) = self.records.mandates(after.as_ref()) else { return };
            let valid =
                page.iter().filter_map(|held| held.verify(self.context.network, UnixTime::from_secs(0)).ok());
            let accounts: Vec<_> = valid.map(|held| held.account).collect();
            let Some(last) = accounts.last() else { return };
            after = Some(*last);
            let asking = accounts.into_iter().map(|account| self.probe(account));
            futures::stream::iter(asking).buffer_unordered(AT_ONCE).collect::<()>().await;
        }
    }

    async fn probe(&self, account: AccountId) {
        let records = self.records.clone();
        if self.is_gone(&account) {
            let _ = blocking(move || records.forget_account(&account)).await;
            return;
        }
        let holders = records.holders(&account, usize::MAX).unwrap_or_default();
        for node in sample(holders, WITNESSES, self.context.chance()) {
            if self.is_dismissed(&account, node).await {
                return;
            }
        }
    }
}
