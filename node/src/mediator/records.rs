//! What a mediator remembers of segments and heads, durably.

use fincrypt_protocol::record::{Head, Keep, Receipt};
use fincrypt_protocol::{
    AccountId, Manifest, Network, NodeId, Refusal, RunId, SegmentId, ShardIndex, Signed, Tag, UnixTime, cbor,
};
use fincrypt_storage::kv::{Batch, KeyValue, Tree};
use fincrypt_storage::state::State;
use serde::{Deserialize, Serialize};

use crate::accounts::failed;

/// `account ‖ segment` → [`SegmentRecord`].
const SEGMENTS: Tree = Tree("segments");
/// `account` → its head.
const HEADS: Tree = Tree("mediated_heads");
/// `account ‖ node` → nothing: the nodes that hold something for the account.
const HOLDERS: Tree = Tree("account_holders");
/// `account ‖ run ‖ node` → the owner's statement, until the node has heard it.
const PENDING_KEEPS: Tree = Tree("pending_keeps");

/// The most bytes of a segment's record: a manifest and 30 receipts.
const MAX_RECORD: usize = 64 << 10;

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

    pub(crate) fn receipts(&self) -> impl Iterator<Item = &Signed<Receipt>> {
        self.slots.iter().filter_map(|slot| slot.receipt.as_ref())
    }
}

/// A keep that a holder has not heard of yet.
pub(crate) struct PendingKeep {
    pub(crate) key: Vec<u8>,
    pub(crate) node: NodeId,
    pub(crate) keep: Signed<Keep>,
}

#[derive(Clone)]
pub(crate) struct Records {
    state: State,
    network: Network,
}

fn at(account: &AccountId, rest: &[u8]) -> Vec<u8> {
    [account.as_bytes(), rest].concat()
}

impl Records {
    pub(crate) fn new(state: State, network: Network) -> Self {
        Self { state, network }
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

    /// Remembers a segment, and that its keepers hold something for the account.
    pub(crate) fn put_segment(&self, account: &AccountId, record: &SegmentRecord) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        let bytes = cbor::encode(record).map_err(|error| failed(&error))?;
        batch.put(SEGMENTS, at(account, record.manifest.id().as_bytes()), bytes);
        for (_, node) in record.holders() {
            let key = at(account, node.as_bytes());
            if self.state.get(HOLDERS, &key).map_err(|error| failed(&error))?.is_none() {
                batch.put(HOLDERS, key, Vec::new());
            }
        }
        self.state.commit(&batch).map_err(|error| failed(&error))
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

    /// Remembers, durably, that all these nodes must hear of a keep.
    pub(crate) fn put_keep(
        &self,
        keep: &Signed<Keep>,
        account: &AccountId,
        run: &RunId,
        nodes: &[NodeId],
    ) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        let bytes = keep.to_bytes().map_err(|error| failed(&error))?;
        for node in nodes {
            let key = [account.as_bytes().as_slice(), run.as_bytes(), node.as_bytes()].concat();
            batch.put(PENDING_KEEPS, key, bytes.clone());
        }
        self.state.commit(&batch).map_err(|error| failed(&error))
    }

    /// Keeps still to be told, at most `most`, after the key `after`.
    pub(crate) fn pending_keeps(
        &self,
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<PendingKeep>, Refusal> {
        let entries = self.state.scan(PENDING_KEEPS, &[], after, most).map_err(|error| failed(&error))?;
        let pending = entries.into_iter().filter_map(|(key, value)| {
            let node = NodeId::from_bytes(key.get(48..80)?.try_into().ok()?);
            let keep = Signed::<Keep>::from_bytes(&value).ok()?;
            keep.verify(self.network, UnixTime::now()).ok()?;
            Some(PendingKeep { key, node, keep })
        });
        Ok(pending.collect())
    }

    pub(crate) fn keep_told(&self, keys: Vec<Vec<u8>>) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        for key in keys {
            batch.remove(PENDING_KEEPS, key);
        }
        if batch.is_empty() { Ok(()) } else { self.state.commit(&batch).map_err(|error| failed(&error)) }
    }
}
