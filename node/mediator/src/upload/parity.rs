//! The parity of an open segment: computed once from its data shards, and placed.

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_protocol::Refusal;
use fincrypt_shards::proof::shard_id;
use futures::StreamExt;
use tokio::sync::Semaphore;

use super::encoders::Encoders;
use super::error::UploadError;
use super::open_segments::OpenSegment;
use super::shard_placer::ShardPlacer;
use crate::error::{Interrupted, blocking};
use crate::shard_transfer::FetchError;
use crate::stores::SegmentRecord;

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
    pub(super) async fn finish(&self, segment: &OpenSegment) -> Result<(), UploadError> {
        if !segment.has_data() {
            return Err(UploadError::Incomplete);
        }
        self.place(segment).await
    }

    /// Computes and places the parity, once. Data shards that are not in memory (after a restart)
    /// are fetched from their holders.
    pub(super) async fn place(&self, segment: &OpenSegment) -> Result<(), UploadError> {
        let run = || async {
            let record = segment.record();
            let code = record.manifest.code();
            let first = usize::from(code.data());
            let unplaced = || {
                let is_held = |index| segment.placement(index).is_some_and(|placed| placed.is_held());
                code.indices().skip(first).any(|index| !is_held(index))
            };
            if !unplaced() {
                return Ok(());
            }
            let _turn = self.turns.acquire().await.map_err(|_| Interrupted)?;
            let data = self.all_data(segment, &record).await?;
            let encoders = self.encoders.clone();
            let parity = blocking(move || {
                let shards: Vec<&[u8]> = data.iter().map(AsRef::as_ref).collect();
                Ok::<_, UploadError>(encoders.encode(code, &shards)?)
            })
            .await?;
            let placing =
                parity.into_iter().zip(code.indices().skip(first)).map(|(shard, index)| async move {
                    if let Err(error) = self.placer.place(segment, index, shard).await {
                        tracing::warn!(%error, "parity_shard_not_placed");
                    }
                });
            futures::stream::iter(placing).buffer_unordered(usize::from(code.parity())).collect::<()>().await;
            if unplaced() {
                let (have, need) = (segment.record().receipts().count(), code.stored_threshold().into());
                return Err(UploadError::TooFewReceipts { have, need });
            }
            Ok(())
        };
        segment.parity.get_or_try_init(run).await?;
        segment.drop_buffers();
        Ok(())
    }

    async fn all_data(
        &self,
        segment: &OpenSegment,
        record: &SegmentRecord,
    ) -> Result<Vec<Bytes>, UploadError> {
        let mut all = Vec::new();
        for (index, known) in record.manifest.code().indices().zip(segment.data()) {
            all.push(match known {
                Some(bytes) => bytes,
                None => match self.placer.transfer().fetch(segment.account, record, index).await {
                    Ok(bytes) if record.manifest.shard(index) == Some(shard_id(&bytes)) => bytes,
                    // Its holder does not have it, whatever it signed: the client has to send it again.
                    Ok(_) | Err(FetchError::NotHeld | FetchError::Refused(Refusal::NotHeld)) => {
                        tracing::warn!(index = index.get(), "signed_shard_not_returned");
                        segment.mark_missing(index);
                        return Err(UploadError::Incomplete);
                    }
                    Err(error) => return Err(error.into()),
                },
            });
        }
        Ok(all)
    }
}
