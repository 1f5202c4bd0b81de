//! Segments to the mediator: announced, put, committed, and their receipts checked.

use std::collections::HashSet;

use fincrypt_protocol::record::{Mandate, Receipt};
use fincrypt_protocol::{Manifest, Network, RunId, ShardIndex, Signed, UnixTime};
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
        let segment = manifest.id();
        let not_stored = |reason| BackupError::NotStored { segment, reason };
        let (mandate, now) = (self.mandate.mandate_hash(), UnixTime::now());
        let (mut nodes, mut indices) = (HashSet::new(), HashSet::new());
        for receipt in receipts {
            let receipt = receipt
                .verify(self.network, now)
                .map_err(|_| not_stored("a receipt's signature is forged"))?;
            let fits = receipt.segment == segment
                && manifest.shard(receipt.index) == Some(receipt.shard)
                && receipt.length == manifest.shard_len().get()
                && receipt.mandate == mandate
                && receipt.paid_until > now;
            if !fits {
                return Err(not_stored("a receipt is for something else"));
            }
            if !nodes.insert(receipt.node) || !indices.insert(receipt.index) {
                return Err(not_stored("two receipts name one node or one shard"));
            }
        }
        if nodes.len() < usize::from(manifest.code().stored_threshold()) {
            return Err(not_stored("too few receipts"));
        }
        Ok(())
    }
}
