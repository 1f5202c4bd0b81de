//! Reading segments: located, fetched from enough of their shards, decrypted, checked, and handed blob
//! by blob to a [`Sink`].
//!
//! A use case says which extents it wants in which order ([`Wanted`]) and what becomes of the blobs.
//! Segments are fetched ahead and decoded on several threads, within [`Limits`]. Every wanted blob
//! reaches the sink exactly once, or its error does: of a blob that lies in several segments the
//! first part that is lost counts. What a segment lists beside the wanted extents is not looked at.
//!
//! Split blobs whose parts lie so far apart that too many would have to be held are read again when
//! everything else was, some at a time.

mod budget;
mod decode;
mod gather;
mod prefetch;
mod sink;
mod splits;
mod wanted;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use fincrypt_protocol::{Manifest, SegmentId};
use fincrypt_state::kv::{KeyValue, KvError};
use fincrypt_vault::Root;
use fincrypt_vault::index::BlobIndex;

pub(crate) use budget::FetchBudget;
pub(crate) use gather::{ShardSource, VerifiedShard, gather};
pub(crate) use prefetch::{Limits, prefetch};
pub(crate) use sink::{Failure, SegmentReadError, Sink};
pub(crate) use wanted::{Extents, Wanted, WantedBlobs};

use decode::Decoder;

/// Bytes of segments in memory at once: four of 15 MiB, two of the longest.
const BYTES: usize = 64 << 20;
/// Segments fetched at once, or waiting to be decoded, however short they are.
const AHEAD: usize = 6;
/// Segments decoded at once.
const DECODERS: usize = 3;
/// Bytes of segments in memory at once that are decoded one after the other.
const BYTES_IN_ORDER: usize = 32 << 20;
/// Of those, segments fetched at once or waiting.
const AHEAD_IN_ORDER: usize = 2;

impl Limits {
    /// As fast as the machine can: segments are decoded as they come, by up to `threads` threads.
    pub(crate) fn parallel(threads: usize) -> Self {
        Self { bytes: BYTES, ahead: AHEAD, takers: threads.min(DECODERS), in_order: false }
    }

    /// One segment after the other, in the order in which they are wanted.
    pub(crate) const fn in_order() -> Self {
        Self { bytes: BYTES_IN_ORDER, ahead: AHEAD_IN_ORDER, takers: 1, in_order: true }
    }
}

/// Where manifests come from.
pub(crate) trait Manifests {
    /// A segment's manifest, if it is known.
    ///
    /// # Errors
    /// If local state fails.
    fn manifest(&self, segment: &SegmentId) -> Result<Option<Manifest>, KvError>;
}

impl<K: KeyValue> Manifests for BlobIndex<K> {
    fn manifest(&self, segment: &SegmentId) -> Result<Option<Manifest>, KvError> {
        BlobIndex::manifest(self, segment)
    }
}

impl Manifests for HashMap<SegmentId, Manifest> {
    fn manifest(&self, segment: &SegmentId) -> Result<Option<Manifest>, KvError> {
        Ok(self.get(segment).cloned())
    }
}

/// How a reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything that was wanted reached the sink, or its error did.
    Complete,
    /// The sink said stop.
    Stopped,
}

/// Reads segments of one vault.
pub(crate) struct SegmentReader<'a, S, M> {
    root: Root,
    source: &'a S,
    manifests: M,
}

impl<'a, S: ShardSource, M: Manifests> SegmentReader<'a, S, M> {
    /// A reader of the segments of `root` that `manifests` knows.
    pub(crate) fn new(root: Root, source: &'a S, manifests: M) -> Self {
        Self { root, source, manifests }
    }

    /// Reads what is wanted into `sink`.
    ///
    /// # Errors
    /// [`SegmentReadError::Inner`] if a thread stopped unexpectedly. What cannot be read reaches the sink.
    pub(crate) async fn read<K: Sink>(
        &self,
        mut wanted: Vec<Wanted>,
        limits: Limits,
        sink: &Arc<K>,
    ) -> Result<End, SegmentReadError> {
        let decoder = Arc::new(Decoder::new(self.root.clone(), Arc::clone(sink)));
        while !wanted.is_empty() {
            self.source.expect(wanted.iter().map(|wanted| wanted.segment).collect()).await;
            if let ControlFlow::Break(stopped) = self.pass(wanted, limits, &decoder).await {
                return stopped.map(|()| End::Stopped);
            }
            let decoder = Arc::clone(&decoder);
            let round = tokio::task::spawn_blocking(move || decoder.next_round());
            wanted = round.await.map_err(|_| SegmentReadError::Inner)?;
        }
        Ok(if decoder.has_stopped() { End::Stopped } else { End::Complete })
    }

    /// Reads these segments once.
    async fn pass<K: Sink>(
        &self,
        wanted: Vec<Wanted>,
        limits: Limits,
        decoder: &Arc<Decoder<K>>,
    ) -> ControlFlow<Result<(), SegmentReadError>> {
        let items = wanted.into_iter().map(|wanted| {
            let manifest = self.manifests.manifest(&wanted.segment).map_err(SegmentReadError::from);
            let manifest = manifest.and_then(|known| known.ok_or(SegmentReadError::Unknown(wanted.segment)));
            (manifest.as_ref().map_or(0, Manifest::data_len), (wanted, manifest))
        });
        let fetch = async |(wanted, manifest): (Wanted, Result<Manifest, SegmentReadError>)| {
            let ciphertext = match manifest {
                Ok(manifest) => gather(self.source, &manifest).await,
                Err(error) => Err(error),
            };
            (wanted, ciphertext)
        };
        let decode = |(wanted, ciphertext)| {
            let decoder = Arc::clone(decoder);
            let decoded = tokio::task::spawn_blocking(move || decoder.take(wanted, ciphertext));
            async move {
                match decoded.await {
                    Ok(flow) => flow.map_break(Ok),
                    Err(_) => ControlFlow::Break(Err(SegmentReadError::Inner)),
                }
            }
        };
        prefetch(items, limits, fetch, decode).await
    }
}

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod tests;
