//! One shard to or from one storage node.

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_net::CallError;
use fincrypt_protocol::record::{Mandate, Receipt, Registration};
use fincrypt_protocol::shard::{Authority, GetShard, PutShard};
use fincrypt_protocol::{
    AccountId, MandateHash, Manifest, NodeId, Refusal, RunId, SegmentId, ShardIndex, Signed, Tag, Verified,
};
use hashlink::LruCache;
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

/// Nodes and mandates remembered as shown to them; at about 100 bytes each, 7 MiB.
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
#[derive(Clone)]
struct ShownMandates(Arc<Mutex<LruCache<(NodeId, MandateHash), ()>>>);

impl Default for ShownMandates {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(MAX_SHOWN))))
    }
}

impl ShownMandates {
    fn has(&self, node: NodeId, mandate: MandateHash) -> bool {
        self.0.lock().get(&(node, mandate)).is_some()
    }

    fn add(&self, node: NodeId, mandate: MandateHash) {
        self.0.lock().insert((node, mandate), ());
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

    /// Puts a shard on a node; the node's receipt for it, checked. A receipt for anything else is none.
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
        let (shard, length) = (place.manifest.shard(index), place.manifest.shard_len().get());
        let mandate = place.mandate.mandate_hash();
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
        let now = self.context.now();
        let checked = receipt.verify(self.context.network, now).map_err(|_| PutError::NoReceipt)?;
        // All that the client checks: one bad receipt would be this node's, and not its mediator's fault.
        let fits = checked.node == node
            && checked.mandate == mandate
            && checked.length == length
            && checked.paid_until > now
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

#[cfg(test)]
mod tests {
    use fincrypt_protocol::amount::Price;
    use fincrypt_protocol::shard::Request;
    use fincrypt_protocol::{Code, Network, Response, ShardId, ShardLen, SigningKey, UnixTime};

    use super::*;
    use crate::holder_link::testing::answering;
    use crate::testing::{Bench, mandate, owner, registration};

    fn receipt(
        put: &PutShard,
        account: AccountId,
        mandate: MandateHash,
        key: &SigningKey,
    ) -> Signed<Receipt> {
        let receipt = Receipt {
            network: Network::Local,
            node: key.node(),
            account,
            mandate,
            segment: put.manifest.id(),
            index: put.index,
            shard: put.manifest.shard(put.index).expect("in it"),
            length: put.manifest.shard_len().get(),
            price: Price::FREE,
            time: fincrypt_protocol::UnixTime::from_secs(1),
            paid_until: fincrypt_protocol::UnixTime::from_secs(2),
        };
        Signed::seal(&receipt, key).expect("seals")
    }

    /// As the clock of the bench.
    const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);

    fn place(bench: &Bench, owner: &SigningKey) -> ShardPlace {
        let ids = vec![ShardId::from_bytes([1; 32]), ShardId::from_bytes([2; 32])];
        ShardPlace {
            registration: registration(owner).signed().clone(),
            mandate: mandate(owner, bench.context.own, 1, bench.context.now()),
            run: RunId::from_bytes([1; 16]),
            manifest: Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::FULL, ids).expect("valid"),
            index: ShardIndex::new(0).expect("valid"),
            tag: Tag::from_bytes([3; 32]),
        }
    }

    #[tokio::test]
    async fn a_mandate_is_shown_once_and_again_to_a_node_that_has_forgotten_it() {
        let (owner, node) = (owner(7), owner(8));
        let account = owner.account();
        // Whether the node knows the mandate, and whether each put showed it.
        let (known, puts) = (Arc::new(Mutex::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (knows, seen, key) = (Arc::clone(&known), Arc::clone(&puts), node.clone());
        let bench = Bench::new(answering(move |_, request| {
            let Request::PutShard(put) = request else { return Err(Refusal::Unsupported) };
            let hash = match &put.authority {
                Authority::Shown { mandate, .. } => mandate.mandate_hash(),
                Authority::Known(hash) => *hash,
            };
            let shown = matches!(put.authority, Authority::Shown { .. });
            seen.lock().push(shown);
            if !shown && !*knows.lock() {
                return Err(Refusal::UnknownMandate);
            }
            *knows.lock() = true;
            let receipt = receipt(&put, account, hash, &key);
            Ok(Response::ok::<PutShard>(&receipt).expect("encodes"))
        }));
        let transfer =
            ShardTransfer::new(bench.outbox.clone(), bench.migration_out.clone(), bench.context.clone());
        let place = place(&bench, &owner);
        let put = || transfer.send(node.node(), place.clone(), Bytes::new());
        for _ in 0..2 {
            put().await.expect("taken");
        }
        *known.lock() = false;
        for _ in 0..2 {
            put().await.expect("taken");
        }
        assert_eq!(*puts.lock(), [true, false, false, true, false]);
    }

    /// What `put_shard` makes of a receipt that `bend` has changed before the node signed it.
    async fn put_with(bend: fn(&mut Receipt)) -> Result<(), PutError> {
        let (owner, node) = (owner(7), owner(8));
        let (account, key) = (owner.account(), node.clone());
        let bench = Bench::new(answering(move |_, request| {
            let Request::PutShard(put) = request else { return Err(Refusal::Unsupported) };
            let Authority::Shown { mandate, .. } = &put.authority else {
                return Err(Refusal::UnknownMandate);
            };
            let receipt = receipt(&put, account, mandate.mandate_hash(), &key);
            let mut body = (*receipt.verify(Network::Local, NOW).expect("its own")).clone();
            body.paid_until = NOW.plus(std::time::Duration::from_secs(1));
            bend(&mut body);
            Ok(Response::ok::<PutShard>(&Signed::seal(&body, &key).expect("seals")).expect("encodes"))
        }));
        assert_eq!(bench.context.now(), NOW);
        let transfer =
            ShardTransfer::new(bench.outbox.clone(), bench.migration_out.clone(), bench.context.clone());
        let place = place(&bench, &owner);
        transfer.put_shard(account, node.node(), place, Bytes::new()).await.map(drop)
    }

    #[tokio::test]
    async fn a_receipt_that_the_client_would_not_count_is_none() {
        assert_eq!(put_with(|_| ()).await, Ok(()));
        let bent: [fn(&mut Receipt); 5] = [
            |receipt| receipt.mandate = MandateHash::from_bytes([7; 32]),
            |receipt| receipt.length += 1,
            |receipt| receipt.paid_until = NOW,
            |receipt| receipt.segment = SegmentId::from_bytes([7; 32]),
            |receipt| receipt.account = AccountId::from_bytes([7; 32]),
        ];
        for bend in bent {
            assert_eq!(put_with(bend).await, Err(PutError::NoReceipt));
        }
    }
}
