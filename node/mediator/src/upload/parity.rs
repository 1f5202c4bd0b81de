//! The parity of an open segment: computed once from its data shards, and placed.

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_accounts::failed;
use fincrypt_net::blocking;
use fincrypt_protocol::{Refusal, ShardIndex};
use fincrypt_shards::proof::shard_id;
use futures::StreamExt;
use tokio::sync::Semaphore;

use super::encoders::Encoders;
use super::open_segments::OpenSegment;
use super::shard_placer::ShardPlacer;
use crate::records::SegmentRecord;

/// Segments whose parity is in memory at once, 15 MiB at most each; four clients have no more open.
const AT_ONCE: usize = 8;

/// Computes and places parity. Cheap to clone.
#[derive(Clone)]
pub(super) struct Parity {
    placer: ShardPlacer,
    encoders: Encoders,
    /// Segments whose parity is made or on its way.
    turns: Arc<Semaphore>,
}

impl Parity {
    pub(super) fn new(placer: ShardPlacer) -> Self {
        Self { placer, encoders: Encoders::default(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Makes sure that all data came and that the parity is placed.
    pub(super) async fn finish(&self, segment: &OpenSegment) -> Result<(), Refusal> {
        if !segment.has_data() {
            return Err(Refusal::Incomplete);
        }
        self.place(segment).await
    }

    /// Computes and places the parity, once. Data shards that are not in memory (after a restart)
    /// are fetched from their holders.
    pub(super) async fn place(&self, segment: &OpenSegment) -> Result<(), Refusal> {
        let run = || async {
            let record = segment.record();
            let code = record.manifest.code();
            let first = usize::from(code.data());
            let unplaced = || {
                let receipted =
                    |index: &ShardIndex| segment.slot(*index).is_some_and(|slot| slot.receipt.is_some());
                code.indices().skip(first).any(|index| !receipted(&index))
            };
            if !unplaced() {
                return Ok(());
            }
            let _turn = self.turns.acquire().await.map_err(|_| Refusal::Failed)?;
            let data = self.all_data(segment, &record).await?;
            let encoders = self.encoders.clone();
            let parity = blocking(move || {
                let shards: Vec<&[u8]> = data.iter().map(AsRef::as_ref).collect();
                encoders.encode(code, &shards).map_err(|error| failed(&error))
            })
            .await?;
            let placing =
                parity.into_iter().zip(code.indices().skip(first)).map(|(shard, index)| async move {
                    if let Err(refusal) = self.placer.place(segment, index, shard).await {
                        tracing::warn!(%refusal, "parity_shard_not_placed");
                    }
                });
            futures::stream::iter(placing).buffer_unordered(usize::from(code.parity())).collect::<()>().await;
            if unplaced() {
                let have = u8::try_from(segment.record().receipts().count()).unwrap_or(u8::MAX);
                return Err(Refusal::NotStored { have, need: code.stored_threshold() });
            }
            Ok(())
        };
        segment.parity.get_or_try_init(run).await?;
        segment.forget_data();
        Ok(())
    }

    async fn all_data(&self, segment: &OpenSegment, record: &SegmentRecord) -> Result<Vec<Bytes>, Refusal> {
        let mut all = Vec::new();
        for (index, known) in record.manifest.code().indices().zip(segment.data()) {
            all.push(match known {
                Some(bytes) => bytes,
                None => match self.placer.transfer().fetch(segment.account, record, index).await {
                    Ok(bytes) if record.manifest.shard(index) == Some(shard_id(&bytes)) => bytes,
                    // Its holder does not have it, whatever it signed: the client has to send it again.
                    Ok(_) | Err(Refusal::NotHeld) => {
                        tracing::warn!(index = index.get(), "signed_shard_not_returned");
                        segment.lost(index);
                        return Err(Refusal::Incomplete);
                    }
                    Err(refusal) => return Err(refusal),
                },
            });
        }
        Ok(all)
    }
}
