//! One shard to or from one storage node.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use fincrypt_net::CallError;
use fincrypt_protocol::record::{Mandate, Receipt, Registration};
use fincrypt_protocol::shard::{Authority, GetShard, PutShard};
use fincrypt_protocol::{
    AccountId, MandateHash, Manifest, NodeId, Refusal, RunId, SegmentId, ShardIndex, Signed, Tag, Verified,
};
use parking_lot::Mutex;

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

/// Nodes and mandates remembered as shown to them; at 64 bytes each, 4 MiB.
const MAX_SHOWN: usize = 1 << 16;

/// Where a shard belongs, and by what right it is put.
#[derive(Clone)]
pub(crate) struct ShardPlace {
    pub(crate) registration: Signed<Registration>,
    pub(crate) mandate: Signed<Mandate>,
    pub(crate) run: RunId,
    pub(crate) manifest: Manifest,
    pub(crate) index: ShardIndex,
    pub(crate) tag: Tag,
}

/// Mandates under which nodes have stored something: their hash may stand for them. What is forgotten is
/// shown again.
#[derive(Clone, Default)]
struct ShownMandates(Arc<Mutex<HashSet<(NodeId, MandateHash)>>>);

impl ShownMandates {
    fn has(&self, node: NodeId, mandate: MandateHash) -> bool {
        self.0.lock().contains(&(node, mandate))
    }

    fn add(&self, node: NodeId, mandate: MandateHash) {
        let mut shown = self.0.lock();
        // Any one gives way: were all forgotten, the next shards would be sent twice.
        if shown.len() >= MAX_SHOWN
            && let Some(other) = shown.iter().next().copied()
        {
            shown.remove(&other);
        }
        shown.insert((node, mandate));
    }

    fn remove(&self, node: NodeId, mandate: MandateHash) {
        self.0.lock().remove(&(node, mandate));
    }
}

/// Puts shards on storage nodes and fetches them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ShardTransfer {
    link: HolderLink,
    outbox: Outbox,
    migration_out: MigrationOut,
    context: Context,
    shown: ShownMandates,
}

impl ShardTransfer {
    pub(crate) fn new(outbox: Outbox, migration_out: MigrationOut, context: Context) -> Self {
        Self {
            link: migration_out.link().clone(),
            outbox,
            migration_out,
            context,
            shown: ShownMandates::default(),
        }
    }

    /// Puts a shard on a node; the node's receipt for it, checked.
    ///
    /// # Errors
    /// [`PutError`].
    pub(crate) async fn put_shard(
        &self,
        account: AccountId,
        node: NodeId,
        place: ShardPlace,
        payload: Bytes,
    ) -> Result<Verified<Receipt>, PutError> {
        if !self.link.connect(node).await {
            return Err(PutError::NoReceipt);
        }
        if !self.outbox.catch_up(&account, &node).await {
            return Err(PutError::NoReceipt);
        }
        let (index, segment) = (place.index, place.manifest.id());
        let shard = place.manifest.shard(index);
        let receipt = match self.send(node, place, payload).await {
            Ok(receipt) => receipt,
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

    /// Sends a shard, with the records that permit it where the node may not know them.
    async fn send(
        &self,
        node: NodeId,
        place: ShardPlace,
        payload: Bytes,
    ) -> Result<Signed<Receipt>, CallError> {
        let ShardPlace { registration, mandate, run, manifest, index, tag } = place;
        let hash = mandate.mandate_hash();
        if self.shown.has(node, hash) {
            let authority = Authority::Known(hash);
            let put = PutShard { authority, run, manifest: manifest.clone(), index, tag };
            match self.link.call(node, put, payload.clone()).await {
                Err(error) if error.refusal() == Some(Refusal::UnknownMandate) => {
                    self.shown.remove(node, hash);
                }
                answered => return Ok(answered?.0),
            }
        }
        let authority = Authority::Shown { registration, mandate };
        let put = PutShard { authority, run, manifest, index, tag };
        let (receipt, _) = self.link.call(node, put, payload).await?;
        self.shown.add(node, hash);
        Ok(receipt)
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
