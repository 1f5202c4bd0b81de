//! The unfinished work of migrations to this mediator, durably.

use std::collections::BTreeSet;

use fincrypt_accounts::Stored;
use fincrypt_protocol::limits::MAX_REQUEST_HEADER;
use fincrypt_protocol::record::{Keep, Mandate, Registration, Release};
use fincrypt_protocol::shard::{KeepRun, ReleaseSegments, Request};
use fincrypt_protocol::{AccountId, NodeId, UnixTime};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::{Everything, Table};
use serde::{Deserialize, Serialize};

/// The most bytes of a [`Migration`].
const MAX_MIGRATION: usize = 4096;
/// Holders looked into for one vault, far more than one has; each is 65 bytes.
pub(super) const MAX_FOUND: usize = 4096;

const MIGRATIONS: Table<AccountId, Migration> = Table::new("migrations", MAX_MIGRATION);
/// Whether each holder has listed what it holds.
const FOUND: Table<(AccountId, NodeId), bool> = Table::new("migration_holders", 1);
/// Of the account's owner for every holder, until the migration is complete. They came in one request.
const STATEMENTS: Table<AccountId, Statements> =
    Table::new("migration_statements", MAX_REQUEST_HEADER as usize);

/// A vault on its way here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Migration {
    pub(super) registration: Stored<Registration>,
    pub(super) mandate: Stored<Mandate>,
    pub(super) keep: Stored<Keep>,
    pub(super) sequence: u64,
    pub(super) since: UnixTime,
    /// Whether the owner knows a head: then there must be holders.
    pub(super) used: bool,
    pub(super) complete: bool,
}

/// Statements that the mediator before may not have delivered to the holders.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Statements {
    pub(super) keeps: Vec<Stored<Keep>>,
    /// Oldest first, as a holder refuses one that is older than the last.
    pub(super) releases: Vec<Stored<Release>>,
}

impl Statements {
    pub(super) fn requests(&self) -> impl Iterator<Item = Request> {
        let release =
            |Stored(release): &Stored<Release>| ReleaseSegments { release: release.signed().clone() }.into();
        let keep = |Stored(keep): &Stored<Keep>| KeepRun { keep: keep.signed().clone() }.into();
        self.keeps.iter().map(keep).chain(self.releases.iter().map(release))
    }
}

/// The tables of migrations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MigrationTable(State);

impl MigrationTable {
    pub(crate) fn new(state: State) -> Self {
        Self(state)
    }

    /// Removes what is left to do for an account that has gone elsewhere.
    ///
    /// # Errors
    /// If this cannot be stored.
    pub(crate) fn remove(&self, account: &AccountId) -> Result<(), KvError> {
        let mut batch = Batch::default();
        MIGRATIONS.remove(&mut batch, account);
        STATEMENTS.remove(&mut batch, account);
        self.remove_found(account, &mut batch)?;
        self.0.commit(&batch)
    }

    fn remove_found(&self, account: &AccountId, batch: &mut Batch) -> Result<(), KvError> {
        self.found(account)?.into_iter().for_each(|(node, _)| FOUND.remove(batch, &(*account, node)));
        Ok(())
    }

    pub(super) fn get(&self, account: &AccountId) -> Result<Option<Migration>, KvError> {
        MIGRATIONS.get(&self.0, account)
    }

    pub(super) fn statements(&self, account: &AccountId) -> Result<Statements, KvError> {
        Ok(STATEMENTS.get(&self.0, account)?.unwrap_or_default())
    }

    /// Begins a migration, in place of an older one of the account.
    pub(super) fn begin(
        &self,
        account: &AccountId,
        migration: &Migration,
        statements: &Statements,
        holders: impl IntoIterator<Item = NodeId>,
    ) -> Result<(), KvError> {
        let mut batch = Batch::default();
        self.remove_found(account, &mut batch)?;
        STATEMENTS.put(&mut batch, account, statements)?;
        for node in holders {
            FOUND.put(&mut batch, &(*account, node), &false)?;
        }
        MIGRATIONS.put(&mut batch, account, migration)?;
        self.0.commit(&batch)
    }

    /// Nothing is left to do.
    pub(super) fn complete(&self, account: &AccountId, migration: Migration) -> Result<(), KvError> {
        let mut batch = Batch::default();
        STATEMENTS.remove(&mut batch, account);
        MIGRATIONS.put(&mut batch, account, &Migration { complete: true, ..migration })?;
        self.0.commit(&batch)
    }

    /// The holders found, and whether each has listed what it holds.
    pub(super) fn found(&self, account: &AccountId) -> Result<Vec<(NodeId, bool)>, KvError> {
        let entries = FOUND.scan(&self.0, account, None, MAX_FOUND)?;
        Ok(entries.into_iter().map(|((_, node), listed)| (node, listed)).collect())
    }

    /// Adds holders that were not known; how many.
    pub(super) fn add(
        &self,
        account: &AccountId,
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> Result<usize, KvError> {
        let known: BTreeSet<_> = self.found(account)?.into_iter().map(|(node, _)| node).collect();
        let new: BTreeSet<_> = nodes.into_iter().filter(|node| !known.contains(node)).collect();
        let room = MAX_FOUND.saturating_sub(known.len());
        let new: Vec<_> = new.into_iter().take(room).collect();
        let mut batch = Batch::default();
        for node in &new {
            FOUND.put(&mut batch, &(*account, *node), &false)?;
        }
        if !batch.is_empty() {
            self.0.commit(&batch)?;
        }
        Ok(new.len())
    }

    /// A holder has listed what it holds.
    pub(super) fn listed(&self, account: &AccountId, node: &NodeId) -> Result<(), KvError> {
        let mut batch = Batch::default();
        FOUND.put(&mut batch, &(*account, *node), &true)?;
        self.0.commit(&batch)
    }

    /// Accounts whose migration is not complete.
    pub(super) fn unfinished(&self) -> Result<Vec<AccountId>, KvError> {
        let mut open = Vec::new();
        let visited = MIGRATIONS.visit(&self.0, &Everything, |account, migration| {
            open.extend((!migration.complete).then_some(account));
            Ok::<_, KvError>(())
        });
        visited?;
        Ok(open)
    }
}
