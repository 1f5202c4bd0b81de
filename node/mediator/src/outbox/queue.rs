//! The tables of the outbox: statements that wait for a holder's acknowledgement, and the newest ones for
//! nodes that become holders later.

use fincrypt_accounts::{Stored, stored_limit};
use fincrypt_protocol::limits::MAX_REWOUND;
use fincrypt_protocol::record::{Keep, Release, Undo};
use fincrypt_protocol::shard::{KeepRun, ReleaseSegments, Request, RewindAccount, UndoReleases};
use fincrypt_protocol::{AccountId, NodeId, Rewound, RunId, Verified, VerifiedRewound};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::{Key, Prefix, Table};
use serde::{Deserialize, Serialize};

/// The most bytes of a [`Statement`].
const MAX_STATEMENT: usize = MAX_REWOUND + stored_limit::<Release>() + 32;

/// Statements that a node has neither acknowledged nor rejected.
const PENDING: Table<PendingKey, Statement> = Table::new("outbox", MAX_STATEMENT);
/// `account` → its guard's newest undo.
const UNDOS: Table<AccountId, Stored<Undo>> = Table::new("mediated_undos", stored_limit::<Undo>());

/// A statement of an account that waits for one holder.
pub(super) type PendingKey = (AccountId, NodeId, Item);

/// Identifies a statement. A holder is sent its statements in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// A keep that stands for all that the node needs.
    AllKeeps,
    /// The keep of one run.
    Keep(RunId),
    /// An undo, by sequence.
    Undo(u64),
    /// A rewind, by sequence. Before releases, which the new head key signs.
    Rewind(u64),
    /// A release, by sequence, as a node refuses one that is older than the last.
    Release(u64),
}

impl Item {
    /// Whether it is a keep. A keep protects shards; what else is not delivered may delete some.
    pub(super) fn is_keep(self) -> bool {
        matches!(self, Self::AllKeeps | Self::Keep(_))
    }
}

impl Key for Item {
    const LEN: usize = 1 + RunId::LEN;

    fn write(&self, out: &mut Vec<u8>) {
        let sequence = |sequence: u64| RunId::from_bytes(u128::from(sequence).to_be_bytes());
        let (kind, number): (u8, RunId) = match self {
            Self::AllKeeps => (0, sequence(0)),
            Self::Keep(run) => (1, *run),
            Self::Undo(number) => (2, sequence(*number)),
            Self::Rewind(number) => (3, sequence(*number)),
            Self::Release(number) => (4, sequence(*number)),
        };
        (kind, number).write(out);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, run) = <(u8, RunId)>::read(bytes)?;
        let sequence = u64::try_from(u128::from_be_bytes(*run.as_bytes()));
        Some(match kind {
            0 => Self::AllKeeps,
            1 => Self::Keep(run),
            2 => Self::Undo(sequence.ok()?),
            3 => Self::Rewind(sequence.ok()?),
            4 => Self::Release(sequence.ok()?),
            _ => return None,
        })
    }
}

/// A statement of an account's owner or guard for its holders.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Statement {
    Keep(Stored<Keep>),
    Undo(Stored<Undo>),
    Rewind(Rewound),
    Release(Stored<Release>),
}

impl Statement {
    /// The request that brings it.
    pub(super) fn request(&self) -> Request {
        match self {
            Self::Keep(Stored(keep)) => KeepRun { keep: keep.signed().clone() }.into(),
            Self::Undo(Stored(undo)) => UndoReleases { undo: undo.signed().clone() }.into(),
            Self::Rewind(rewound) => RewindAccount { rewound: rewound.clone() }.into(),
            Self::Release(Stored(release)) => ReleaseSegments { release: release.signed().clone() }.into(),
        }
    }
}

/// A statement that waits for one holder.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) key: PendingKey,
    pub(super) statement: Statement,
}

/// The outbox in durable state. Cheap to clone.
#[derive(Clone)]
pub(super) struct OutboxQueue(pub(super) State);

impl OutboxQueue {
    pub(super) fn commit(&self, batch: &Batch) -> Result<(), KvError> {
        if batch.is_empty() { Ok(()) } else { self.0.commit(batch) }
    }

    /// Adds a statement for one node to the batch.
    pub(super) fn stage(
        &self,
        key: PendingKey,
        statement: &Statement,
        batch: &mut Batch,
    ) -> Result<(), KvError> {
        PENDING.put(batch, &key, statement)
    }

    fn put(
        &self,
        account: &AccountId,
        nodes: &[NodeId],
        (item, statement): (Item, Statement),
        mut batch: Batch,
    ) -> Result<(), KvError> {
        for node in nodes {
            self.stage((*account, *node, item), &statement, &mut batch)?;
        }
        self.commit(&batch)
    }

    /// Queues a release for these nodes.
    pub(super) fn put_release(&self, nodes: &[NodeId], release: &Verified<Release>) -> Result<(), KvError> {
        let statement = Statement::Release(Stored(release.clone()));
        self.put(&release.account, nodes, (Item::Release(release.sequence), statement), Batch::default())
    }

    /// Queues a rewind for these nodes, with the batch.
    pub(super) fn put_rewind(
        &self,
        nodes: &[NodeId],
        rewound: &VerifiedRewound,
        batch: Batch,
    ) -> Result<(), KvError> {
        let item = Item::Rewind(rewound.rewind.sequence);
        self.put(&rewound.rewind.account, nodes, (item, Statement::Rewind(rewound.rewound())), batch)
    }

    /// Queues an undo for these nodes, with the batch.
    pub(super) fn put_undo(
        &self,
        nodes: &[NodeId],
        undo: &Verified<Undo>,
        batch: Batch,
    ) -> Result<(), KvError> {
        let statement = Statement::Undo(Stored(undo.clone()));
        self.put(&undo.account, nodes, (Item::Undo(undo.sequence), statement), batch)
    }

    /// Adds an undo in place of the account's newest to the batch, with the removal of what it makes void:
    /// releases that are queued, and older undos.
    pub(super) fn stage_undo(&self, undo: &Verified<Undo>, batch: &mut Batch) -> Result<(), KvError> {
        for (account, node, item) in PENDING.keys(&self.0, &undo.account, None, usize::MAX)? {
            if matches!(item, Item::Release(_) | Item::Undo(_)) {
                PENDING.remove(batch, &(account, node, item));
            }
        }
        UNDOS.put(batch, &undo.account, &Stored(undo.clone()))
    }

    /// The newest undo of an account.
    pub(super) fn undo(&self, account: &AccountId) -> Result<Option<Verified<Undo>>, KvError> {
        Ok(UNDOS.get(&self.0, account)?.map(|Stored(undo)| undo))
    }

    /// Statements that wait, after `after`: at most `most`.
    pub(super) fn pending(
        &self,
        prefix: &impl Prefix<PendingKey>,
        after: Option<&PendingKey>,
        most: usize,
    ) -> Result<Vec<Pending>, KvError> {
        let entries = PENDING.scan(&self.0, prefix, after, most)?;
        Ok(entries.into_iter().map(|(key, statement)| Pending { key, statement }).collect())
    }

    /// The statements that wait for one holder of an account: at most `most`.
    pub(super) fn waiting(
        &self,
        account: &AccountId,
        node: &NodeId,
        most: usize,
    ) -> Result<Vec<Item>, KvError> {
        let keys = PENDING.keys(&self.0, &(*account, *node), None, most)?;
        Ok(keys.into_iter().map(|(.., item)| item).collect())
    }

    /// Removes what was acknowledged or rejected.
    pub(super) fn remove(&self, keys: &[PendingKey]) -> Result<(), KvError> {
        let mut batch = Batch::default();
        keys.iter().for_each(|key| PENDING.remove(&mut batch, key));
        self.commit(&batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item() -> impl Strategy<Value = Item> {
        prop_oneof![
            Just(Item::AllKeeps),
            any::<[u8; 16]>().prop_map(|run| Item::Keep(RunId::from_bytes(run))),
            any::<u64>().prop_map(Item::Undo),
            any::<u64>().prop_map(Item::Rewind),
            any::<u64>().prop_map(Item::Release),
        ]
    }

    proptest! {
        #[test]
        fn items_survive_their_bytes_and_keep_the_order_of_delivery(one in item(), other in item()) {
            prop_assert_eq!(Item::read(&one.bytes()), Some(one));
            prop_assert_eq!(one.bytes().len(), Item::LEN);
            prop_assert_eq!(one.bytes().cmp(&other.bytes()), one.cmp(&other));
        }
    }
}
