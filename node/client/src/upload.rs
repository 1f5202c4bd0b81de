//! Segments to the mediator: announced, put, committed, and their receipts checked.

use std::collections::HashSet;

use fincrypt_protocol::record::{Mandate, Receipt};
use fincrypt_protocol::{MandateHash, Manifest, Network, RunId, ShardIndex, Signed, UnixTime};
use fincrypt_vault::segment::SealedSegment;
use futures::{StreamExt, TryStreamExt};

use super::backup::error::BackupError;
use super::error::ClientError;
use super::mediator_client::{MediatorClient, Refused};

/// Shards of one segment on the way at once.
const SHARDS_AT_ONCE: usize = 6;

/// Times a segment is announced: a mediator that started again does not know it any more.
const OPENINGS: usize = 3;

/// What a run uploads under.
#[derive(Clone)]
pub(crate) struct Upload {
    pub(crate) mediator: MediatorClient,
    pub(crate) network: Network,
    pub(crate) run: RunId,
    pub(crate) mandate: Signed<Mandate>,
}

impl Upload {
    /// Brings one segment to its keepers; the payload bytes sent.
    ///
    /// # Errors
    /// [`ClientError`] if the mediator refuses or the receipts do not show enough keepers.
    pub(crate) async fn store(&self, sealed: &SealedSegment) -> Result<u64, ClientError> {
        let mut sent = 0;
        for _ in 1..OPENINGS {
            match self.store_once(sealed, &mut sent).await {
                // It was forgotten, or a keeper lost what it had signed for.
                Err(error)
                    if matches!(error.refused(), Some(Refused::UnknownSegment | Refused::Incomplete)) => {}
                other => return other.map(|()| sent),
            }
        }
        self.store_once(sealed, &mut sent).await.map(|()| sent)
    }

    async fn store_once(&self, sealed: &SealedSegment, sent: &mut u64) -> Result<(), ClientError> {
        let manifest = &sealed.manifest;
        let segment = manifest.id();
        let missing =
            self.mediator.open_segment(self.run, self.mandate.clone(), manifest.clone(), sealed.tag).await?;
        let wanted: Vec<ShardIndex> =
            manifest.code().indices().filter(|index| missing >> index.get() & 1 == 1).collect();
        *sent += wanted.len() as u64 * u64::from(manifest.shard_len().get());
        futures::stream::iter(wanted)
            .map(|index| self.mediator.put(segment, index, sealed.data_shard(index)))
            .buffer_unordered(SHARDS_AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        let receipts = self.mediator.commit(segment).await?;
        Ok(self.check(manifest, &receipts)?)
    }

    /// A segment counts as stored when enough distinct nodes signed for distinct shards of it.
    fn check(&self, manifest: &Manifest, receipts: &[Signed<Receipt>]) -> Result<(), BackupError> {
        check_receipts(self.network, manifest, self.mandate.mandate_hash(), receipts, UnixTime::now())
            .map_err(|reason| BackupError::NotStored { segment: manifest.id(), reason })
    }
}

/// Counts the receipts that are good, each of another node and shard; a bad one counts as none. If they are
/// too few: what is wrong with the first bad one.
fn check_receipts(
    network: Network,
    manifest: &Manifest,
    mandate: MandateHash,
    receipts: &[Signed<Receipt>],
    now: UnixTime,
) -> Result<(), &'static str> {
    let (mut nodes, mut indices, mut bad) = (HashSet::new(), HashSet::new(), None);
    for receipt in receipts {
        let fault = match receipt.verify(network, now) {
            Err(_) => "a receipt's signature is forged",
            Ok(receipt)
                if receipt.segment != manifest.id()
                    || manifest.shard(receipt.index) != Some(receipt.shard)
                    || receipt.length != manifest.shard_len().get()
                    || receipt.mandate != mandate
                    || receipt.paid_until <= now =>
            {
                "a receipt is for something else"
            }
            Ok(receipt) if nodes.contains(&receipt.node) || indices.contains(&receipt.index) => {
                "two receipts name one node or one shard"
            }
            Ok(receipt) => {
                nodes.insert(receipt.node);
                indices.insert(receipt.index);
                continue;
            }
        };
        bad.get_or_insert(fault);
    }
    if nodes.len() < usize::from(manifest.code().stored_threshold()) {
        return Err(bad.unwrap_or("too few receipts"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fincrypt_protocol::amount::Price;
    use fincrypt_protocol::{AccountId, Code, ShardId, ShardLen, SigningKey};
    use zeroize::Zeroizing;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
    const MANDATE: MandateHash = MandateHash::from_bytes([3; 32]);

    fn receipt(manifest: &Manifest, index: ShardIndex, mandate: MandateHash) -> Signed<Receipt> {
        let node = SigningKey::from_seed(&Zeroizing::new([index.get() as u8; 32]));
        let receipt = Receipt {
            network: Network::Local,
            node: node.node(),
            account: AccountId::from_bytes([1; 32]),
            mandate,
            segment: manifest.id(),
            index,
            shard: manifest.shard(index).expect("in it"),
            length: manifest.shard_len().get(),
            price: Price::FREE,
            time: NOW,
            paid_until: NOW.plus(Duration::from_secs(1)),
        };
        Signed::seal(&receipt, &node).expect("seals")
    }

    #[test]
    fn a_bad_receipt_counts_as_none_and_the_good_ones_decide() {
        let code = Code::new(4, 4).expect("valid");
        let ids = (0..8).map(|number| ShardId::from_bytes([number; 32])).collect();
        let manifest = Manifest::new(code, ShardLen::FULL, ids).expect("valid");
        let needed = usize::from(code.stored_threshold());
        let check = |receipts: &[_]| check_receipts(Network::Local, &manifest, MANDATE, receipts, NOW);
        let good: Vec<_> = code.indices().map(|index| receipt(&manifest, index, MANDATE)).collect();
        let bad = receipt(&manifest, ShardIndex::new(7).expect("valid"), MandateHash::from_bytes([4; 32]));
        assert!(needed < good.len(), "one may be missing");
        let with_bad = |good: &[_]| [std::slice::from_ref(&bad), good].concat();
        assert_eq!(check(&with_bad(&good[..needed])), Ok(()));
        assert_eq!(check(&with_bad(&good[..needed - 1])), Err("a receipt is for something else"));
        let twice = [&good[..needed - 1], &good[..1]].concat();
        assert_eq!(check(&twice), Err("two receipts name one node or one shard"));
        assert_eq!(check(&good[..needed - 1]), Err("too few receipts"));
    }
}
