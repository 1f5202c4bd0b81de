//! One shard to or from one storage node.

use bytes::Bytes;
use fincrypt_protocol::record::Receipt;
use fincrypt_protocol::shard::{GetShard, PutShard};
use fincrypt_protocol::{AccountId, NodeId, Refusal, SegmentId, ShardIndex, Verified};

use super::context::Context;
use super::holder_link::HolderLink;
use super::migration_out::MigrationOut;
use super::outbox::Outbox;
use super::stores::SegmentRecord;

/// Why a shard was not put on a storage node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PutError {
    /// The node was not reached, or gave no valid receipt.
    #[error("the storage node gave no receipt")]
    NoReceipt,
    /// The vault has gone to another mediator.
    #[error("the vault has gone to another mediator")]
    Departed,
    /// The node refused.
    #[error("the storage node refused the shard: {0}")]
    Refused(Refusal),
}

/// Why a shard was not fetched from a storage node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// It has no holder, or the holder was not reached or does not have it.
    #[error("no holder gave the shard")]
    NotHeld,
    /// The vault has gone to another mediator.
    #[error("the vault has gone to another mediator")]
    Departed,
    /// The holder refused.
    #[error("the holder refused to give the shard: {0}")]
    Refused(Refusal),
}

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
    ///
    /// # Errors
    /// [`PutError`].
    pub(crate) async fn put_shard(
        &self,
        account: AccountId,
        node: NodeId,
        placement: PutShard,
        payload: Bytes,
    ) -> Result<Verified<Receipt>, PutError> {
        if !self.link.connect(node).await {
            return Err(PutError::NoReceipt);
        }
        if !self.outbox.catch_up(&account, &node).await {
            return Err(PutError::NoReceipt);
        }
        let (index, segment) = (placement.index, placement.manifest.id());
        let shard = placement.manifest.shard(index);
        let receipt = match self.link.call(node, placement, payload).await {
            Ok((receipt, _)) => receipt,
            Err(error) if error.refusal() == Some(Refusal::NotMandated) => {
                let departed = self.migration_out.check_departed(&account, node).await;
                return Err(if departed {
                    PutError::Departed
                } else {
                    PutError::Refused(Refusal::NotMandated)
                });
            }
            Err(error) => return Err(error.refusal().map_or(PutError::NoReceipt, PutError::Refused)),
        };
        let checked =
            receipt.verify(self.context.network, self.context.now()).map_err(|_| PutError::NoReceipt)?;
        let fits = checked.node == node
            && checked.account == account
            && checked.segment == segment
            && checked.index == index
            && Some(checked.shard) == shard;
        if fits { Ok(checked) } else { Err(PutError::NoReceipt) }
    }

    /// Fetches a shard from its holder, unchecked.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) async fn fetch(
        &self,
        account: AccountId,
        record: &SegmentRecord,
        index: ShardIndex,
    ) -> Result<Bytes, FetchError> {
        let node = record.holder(index).ok_or(FetchError::NotHeld)?;
        self.fetch_from(node, account, record.manifest.id(), index).await
    }

    /// Fetches a shard from a node, unchecked.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) async fn fetch_from(
        &self,
        node: NodeId,
        account: AccountId,
        segment: SegmentId,
        index: ShardIndex,
    ) -> Result<Bytes, FetchError> {
        if !self.link.connect(node).await {
            return Err(FetchError::NotHeld);
        }
        match self.link.call(node, GetShard { account, segment, index }, Bytes::new()).await {
            Ok((_, payload)) => Ok(payload),
            Err(error) if error.refusal() == Some(Refusal::NotMandated) => {
                let departed = self.migration_out.check_departed(&account, node).await;
                Err(if departed { FetchError::Departed } else { FetchError::NotHeld })
            }
            Err(error) => Err(error.refusal().map_or(FetchError::NotHeld, FetchError::Refused)),
        }
    }
}
