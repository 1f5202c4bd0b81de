//! A segment as a mediator knows it.

use fincrypt_accounts::{Stored, stored_limit};
use fincrypt_protocol::limits::MAX_SHARDS;
use fincrypt_protocol::record::Receipt;
use fincrypt_protocol::{Manifest, NodeId, RunId, ShardIndex, Tag, Verified};
use serde::{Deserialize, Serialize};

/// The most bytes of a segment's record: a manifest, and for each shard a node and its receipt.
pub(super) const MAX_RECORD: usize = (MAX_SHARDS + 4) * (stored_limit::<Receipt>() + 128);

/// The placement of one shard of a segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardPlacement {
    /// The storage node chosen for it; none while no node qualifies.
    pub(crate) node: Option<NodeId>,
    /// Why the node counts as its holder; none until it does.
    pub(crate) evidence: Option<Evidence>,
}

impl ShardPlacement {
    /// A shard for which `node` is chosen and that nobody holds yet.
    pub(crate) fn planned(node: Option<NodeId>) -> Self {
        Self { node, evidence: None }
    }

    /// A shard for which a node has signed.
    pub(crate) fn receipted(receipt: Verified<Receipt>) -> Self {
        Self { node: Some(receipt.node), evidence: Some(Evidence::Receipt(Box::new(Stored(receipt)))) }
    }

    /// A shard that a node listed.
    pub(crate) fn listed(node: NodeId) -> Self {
        Self { node: Some(node), evidence: Some(Evidence::Listed) }
    }

    /// Whether a node counts as the shard's holder.
    pub(crate) fn is_held(&self) -> bool {
        self.evidence.is_some()
    }

    /// The node that counts as the shard's holder.
    pub(crate) fn holder(&self) -> Option<NodeId> {
        self.node.filter(|_| self.is_held())
    }
}

/// Why a storage node counts as the holder of a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Evidence {
    /// It signed for the shard.
    Receipt(Box<Stored<Receipt>>),
    /// It listed the shard when the vault migrated here; audits show whether that is true.
    Listed,
}

/// A segment: its manifest and where its shards are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SegmentRecord {
    pub(crate) manifest: Manifest,
    pub(crate) tag: Tag,
    pub(crate) run: RunId,
    /// Of each shard, in order.
    pub(crate) placements: Vec<ShardPlacement>,
    /// Grows with each change of holders.
    pub(crate) sequence: u64,
}

impl SegmentRecord {
    /// A new segment whose shards are to go to `placements`.
    pub(crate) fn new(manifest: Manifest, tag: Tag, run: RunId, placements: Vec<ShardPlacement>) -> Self {
        Self { manifest, tag, run, placements, sequence: 1 }
    }

    /// The shards that have a holder, and their holders.
    pub(crate) fn holders(&self) -> impl Iterator<Item = (ShardIndex, NodeId)> + '_ {
        let placements = self.manifest.code().indices().zip(&self.placements);
        placements.filter_map(|(index, placement)| Some((index, placement.holder()?)))
    }

    /// The holder of one shard.
    pub(crate) fn holder(&self, index: ShardIndex) -> Option<NodeId> {
        self.placements.get(index.get())?.holder()
    }

    /// The placement of one shard.
    pub(crate) fn placement_mut(&mut self, index: ShardIndex) -> Option<&mut ShardPlacement> {
        self.placements.get_mut(index.get())
    }

    /// Whether every shard has a holder.
    pub(crate) fn is_complete(&self) -> bool {
        self.holders().count() == usize::from(self.manifest.code().total())
    }

    /// The receipts of the holders that signed.
    pub(crate) fn receipts(&self) -> impl Iterator<Item = &Verified<Receipt>> {
        self.placements.iter().filter_map(|placement| match &placement.evidence {
            Some(Evidence::Receipt(receipt)) => Some(&receipt.0),
            _ => None,
        })
    }

    /// Whether the segment's owner may state this tag: a tag that holders alone have told may be false.
    pub(crate) fn accepts_tag(&self, tag: Tag) -> bool {
        self.tag == tag || self.receipts().next().is_none()
    }

    /// The same segment without holders: those it had were told to delete it.
    pub(crate) fn without_holders(mut self) -> Self {
        self.placements.iter_mut().for_each(|placement| placement.evidence = None);
        self
    }

    /// The same segment, of which only the holders that signed count. Its owner stores the other shards
    /// again, at the same nodes, and counts their receipts.
    pub(crate) fn with_receipts_only(mut self) -> Self {
        for placement in &mut self.placements {
            placement.evidence.take_if(|evidence| *evidence == Evidence::Listed);
        }
        self
    }
}
