//! What a mediator remembers of segments and heads, durably.

use fincrypt_protocol::record::{Head, Receipt};
use fincrypt_protocol::{
    AccountId, Manifest, NodeId, Refusal, RunId, SegmentId, ShardIndex, Signed, Tag, cbor,
};
use fincrypt_storage::kv::{Batch, KeyValue, Tree};
use fincrypt_storage::state::State;
use serde::{Deserialize, Serialize};

use crate::accounts::failed;
use crate::releases::Holdings;

/// `account ‖ segment` → [`SegmentRecord`].
const SEGMENTS: Tree = Tree("segments");
/// `account` → its head.
const HEADS: Tree = Tree("mediated_heads");
/// `account ‖ node` → nothing: the nodes that hold something for the account.
const HOLDERS: Tree = Tree("account_holders");

/// The most bytes of a segment's record: a manifest and 30 receipts.
const MAX_RECORD: usize = 64 << 10;
/// Records looked through at once.
const PAGE: usize = 256;

/// Where one shard went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// The node chosen for it; none while no node qualifies.
    pub(crate) node: Option<NodeId>,
    /// The node's receipt, once it gave one.
    pub(crate) receipt: Option<Signed<Receipt>>,
}

/// A segment as a mediator remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SegmentRecord {
    pub(crate) manifest: Manifest,
    pub(crate) tag: Tag,
    pub(crate) run: RunId,
    pub(crate) slots: Vec<Slot>,
    /// Grows each time that holders change.
    pub(crate) sequence: u64,
}

impl SegmentRecord {
    /// The shards that have a keeper, and their keepers.
    pub(crate) fn holders(&self) -> impl Iterator<Item = (ShardIndex, NodeId)> + '_ {
        let slots = self.manifest.code().indices().zip(&self.slots);
        slots.filter_map(|(index, slot)| {
            slot.node.filter(|_| slot.receipt.is_some()).map(|node| (index, node))
        })
    }

    /// The same segment, of which nothing counts as kept: its keepers were told to delete it.
    pub(crate) fn released(mut self) -> Self {
        self.slots.iter_mut().for_each(|slot| slot.receipt = None);
        self
    }

    pub(crate) fn receipts(&self) -> impl Iterator<Item = &Signed<Receipt>> {
        self.slots.iter().filter_map(|slot| slot.receipt.as_ref())
    }
}

#[derive(Clone)]
pub(crate) struct Records {
    state: State,
}

fn at(account: &AccountId, rest: &[u8]) -> Vec<u8> {
    [account.as_bytes(), rest].concat()
}

impl Records {
    pub(crate) fn new(state: State) -> Self {
        Self { state }
    }

    pub(crate) fn segment(
        &self,
        account: &AccountId,
        segment: &SegmentId,
    ) -> Result<Option<SegmentRecord>, Refusal> {
        let bytes =
            self.state.get(SEGMENTS, &at(account, segment.as_bytes())).map_err(|error| failed(&error))?;
        bytes.map(|bytes| cbor::decode(&bytes, MAX_RECORD).map_err(|error| failed(&error))).transpose()
    }

    /// Remembers a segment, and that its keepers hold something for the account; the nodes that held
    /// nothing for it before.
    pub(crate) fn put_segment(
        &self,
        account: &AccountId,
        record: &SegmentRecord,
    ) -> Result<Vec<NodeId>, Refusal> {
        let mut new = Vec::new();
        let mut batch = Batch::default();
        let bytes = cbor::encode(record).map_err(|error| failed(&error))?;
        batch.put(SEGMENTS, at(account, record.manifest.id().as_bytes()), bytes);
        for (_, node) in record.holders() {
            let key = at(account, node.as_bytes());
            if self.state.get(HOLDERS, &key).map_err(|error| failed(&error))?.is_none() {
                batch.put(HOLDERS, key, Vec::new());
                new.push(node);
            }
        }
        self.state.commit(&batch).map_err(|error| failed(&error))?;
        Ok(new)
    }

    /// Nodes that hold something for the account, at most `most`.
    pub(crate) fn holders(&self, account: &AccountId, most: usize) -> Result<Vec<NodeId>, Refusal> {
        let entries =
            self.state.scan(HOLDERS, account.as_bytes(), None, most).map_err(|error| failed(&error))?;
        let node =
            |key: &[u8]| key.get(32..64).and_then(|bytes| bytes.try_into().ok()).map(NodeId::from_bytes);
        Ok(entries.iter().filter_map(|(key, _)| node(key)).collect())
    }

    pub(crate) fn head(&self, account: &AccountId) -> Result<Option<Signed<Head>>, Refusal> {
        let bytes = self.state.get(HEADS, account.as_bytes()).map_err(|error| failed(&error))?;
        bytes.map(|bytes| Signed::from_bytes(&bytes).map_err(|error| failed(&error))).transpose()
    }

    pub(crate) fn put_head(&self, account: &AccountId, head: &Signed<Head>) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.put(HEADS, *account.as_bytes(), head.to_bytes().map_err(|error| failed(&error))?);
        self.state.commit(&batch).map_err(|error| failed(&error))
    }
}

/// What a mediator forgets when a release is due: its records, as storage deletes the shards.
impl Holdings for Records {
    fn holds(&self, account: &AccountId, segment: &SegmentId) -> Result<bool, Refusal> {
        Ok(self.segment(account, segment)?.is_some())
    }

    fn segments(&self, account: &AccountId, after: Option<&SegmentId>) -> Result<Vec<SegmentId>, Refusal> {
        let after = after.map(|segment| at(account, segment.as_bytes()));
        let entries = self.state.scan(SEGMENTS, account.as_bytes(), after.as_deref(), PAGE);
        let id = |key: &[u8]| key.get(32..64)?.try_into().ok().map(SegmentId::from_bytes);
        Ok(entries.map_err(|error| failed(&error))?.iter().filter_map(|(key, _)| id(key)).collect())
    }

    fn remove(&self, account: &AccountId, segment: &SegmentId) -> Result<u64, Refusal> {
        let mut batch = Batch::default();
        batch.remove(SEGMENTS, at(account, segment.as_bytes()));
        self.state.commit(&batch).map_err(|error| failed(&error))?;
        Ok(0)
    }

    fn settle(&self) -> Result<(), Refusal> {
        Ok(())
    }
}
