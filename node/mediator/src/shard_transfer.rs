//! One shard to or from one storage node.

use bytes::Bytes;
use fincrypt_protocol::record::Receipt;
use fincrypt_protocol::shard::{GetShard, PutShard};
use fincrypt_protocol::{AccountId, NodeId, Refusal, SegmentId, ShardIndex, Signed};

use super::context::Context;
use super::holder_link::HolderLink;
use super::migration_out::MigrationOut;
use super::outbox::Outbox;
use super::records::SegmentRecord;

/// Puts shards on storage nodes and fetches them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ShardTransfer {
    link: HolderLink,
    outbox: Outbox,
    migration_out: MigrationOut,
    context: Context,
}

impl ShardTransfer {
    pub(crate) fn new(outbox: Outbox, migration_out: MigrationOut, context: Context) -> Self {
        Self { link: migration_out.link().clone(), outbox, migration_out, context }
    }

    /// Puts a shard on a node; the node's receipt for it, checked.
    pub(crate) async fn put_shard(
        &self,
        account: AccountId,
        node: NodeId,
        placement: PutShard,
        payload: Bytes,
    ) -> Result<Signed<Receipt>, Refusal> {
        if !self.link.connect(node).await {
            return Err(Refusal::Failed);
        }
        if !self.outbox.catch_up(&account, &node).await {
            return Err(Refusal::Failed);
        }
        let (index, segment) = (placement.index, placement.manifest.id());
        let shard = placement.manifest.shard(index);
        let receipt = match self.link.call(node, placement, payload).await {
            Ok((receipt, _)) => receipt,
            Err(error) if error.refusal() == Some(Refusal::NotMandated) => {
                let dismissed = self.migration_out.is_dismissed(&account, node).await;
                return Err(if dismissed { Refusal::Dismissed } else { Refusal::NotMandated });
            }
            Err(error) => return Err(error.refusal().unwrap_or(Refusal::Failed)),
        };
        let checked =
            receipt.verify(self.context.network, self.context.now()).map_err(|_| Refusal::Failed)?;
        let fits = checked.node == node
            && checked.account == account
            && checked.segment == segment
            && checked.index == index
            && Some(checked.shard) == shard;
        if fits { Ok(receipt) } else { Err(Refusal::Failed) }
    }

    /// Fetches a shard from its holder, unchecked.
    pub(crate) async fn fetch(
        &self,
        account: AccountId,
        record: &SegmentRecord,
        index: ShardIndex,
    ) -> Result<Bytes, Refusal> {
        let holder = record.holders().find(|(held, _)| *held == index);
        let (_, node) = holder.ok_or(Refusal::NotHeld)?;
        self.fetch_from(node, account, record.manifest.id(), index).await
    }

    /// Fetches a shard from a node, unchecked.
    pub(crate) async fn fetch_from(
        &self,
        node: NodeId,
        account: AccountId,
        segment: SegmentId,
        index: ShardIndex,
    ) -> Result<Bytes, Refusal> {
        if !self.link.connect(node).await {
            return Err(Refusal::NotHeld);
        }
        match self.link.call(node, GetShard { account, segment, index }, Bytes::new()).await {
            Ok((_, payload)) => Ok(payload),
            Err(error) if error.refusal() == Some(Refusal::NotMandated) => {
                let dismissed = self.migration_out.is_dismissed(&account, node).await;
                Err(if dismissed { Refusal::Dismissed } else { Refusal::NotHeld })
            }
            Err(error) => Err(error.refusal().unwrap_or(Refusal::NotHeld)),
        }
    }
}
