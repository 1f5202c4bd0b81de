//! A source of shards in memory, for tests.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::{Code, Manifest, Redundancy, SegmentId, ShardIndex};
use fincrypt_shards::erasure::Encoder;
use fincrypt_vault::Root;
use fincrypt_vault::blob::{BlobId, BlobKind};
use fincrypt_vault::compress::BlobMaker;
use fincrypt_vault::index::Location;
use fincrypt_vault::segment::{RunPacker, SealedSegment, Sealer, SegmentError};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::budget::FetchBudget;
use super::gather::{ShardSource, VerifiedShard};
use super::wanted::{Wanted, WantedBlobs};

/// The vault of the tests.
pub(crate) fn root() -> Root {
    Root::from_bytes(&Zeroizing::new([1; 32]))
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Plaintexts as data in segments of `code`.
pub(crate) fn seal(code: Code, plains: &[Vec<u8>]) -> Vec<SealedSegment> {
    let (mut packer, mut sealer) = (RunPacker::new(code, Redundancy::MIN, 1000), Sealer::new(&root()));
    let mut maker = BlobMaker::new(&root()).expect("a maker");
    let mut full = Vec::new();
    for plain in plains {
        let id = maker.id(plain);
        let blob = maker.make(id, BlobKind::Data, plain).expect("a blob");
        let keep = |segment| {
            full.push(segment);
            Ok::<(), SegmentError>(())
        };
        packer.push(&blob, keep).expect("packs");
    }
    full.extend(packer.finish());
    full.into_iter().map(|segment| sealer.seal(segment).expect("seals")).collect()
}

/// A plaintext's id.
pub(crate) fn id(plain: &[u8]) -> BlobId {
    root().blob_id_key().id(plain)
}

/// What is wrong with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing,
    Wrong,
    Late,
    /// Its holder does not answer, until it is given up.
    Silent,
    /// Its holder is never given up.
    Never,
}

impl Fault {
    pub(crate) fn is_fatal(self) -> bool {
        self != Self::Late
    }
}

/// Shards in memory.
pub(crate) struct Memory {
    shards: HashMap<SegmentId, Vec<Bytes>>,
    pub(crate) faults: HashMap<(SegmentId, ShardIndex), Fault>,
    budget: FetchBudget,
    pub(crate) patience: Duration,
    /// Segments whose shards were asked for, as often as they were.
    pub(crate) begun: Mutex<Vec<SegmentId>>,
    pub(crate) asked: AtomicUsize,
}

/// Longer than memory takes; where it is not, on a busy machine, another shard is asked for.
const PATIENCE: Duration = Duration::from_millis(5);

impl Memory {
    pub(crate) fn new(segments: &[SealedSegment]) -> Self {
        let mut encoder = Encoder::new();
        let shards = segments.iter().map(|sealed| (sealed.manifest.id(), all_shards(&mut encoder, sealed)));
        let shards = shards.collect();
        let (faults, budget, patience) = (HashMap::new(), FetchBudget::default(), PATIENCE);
        Self { shards, faults, budget, patience, begun: Mutex::default(), asked: AtomicUsize::new(0) }
    }
}

fn all_shards(encoder: &mut Encoder, sealed: &SealedSegment) -> Vec<Bytes> {
    let code = sealed.manifest.code();
    let data: Vec<Bytes> =
        code.indices().take(code.data().into()).map(|index| sealed.data_shard(index)).collect();
    let views: Vec<&[u8]> = data.iter().map(|shard| shard.as_ref()).collect();
    let mut parity = vec![Vec::new(); code.parity().into()];
    let encoded = encoder.encode_stripes(code, &views, |at, stripe| parity[at].extend_from_slice(stripe));
    encoded.expect("encodes");
    data.into_iter().chain(parity.into_iter().map(Bytes::from)).collect()
}

impl ShardSource for Memory {
    async fn expect(&self, _: Vec<SegmentId>) {}

    async fn order(&self, manifest: &Manifest) -> Vec<ShardIndex> {
        self.begun.lock().push(manifest.id());
        manifest.code().indices().collect()
    }

    async fn fetch_shard(&self, manifest: &Manifest, index: ShardIndex) -> Option<VerifiedShard> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let segment = manifest.id();
        let mut bytes = self.shards.get(&segment)?.get(index.get())?.clone();
        match self.faults.get(&(segment, index)) {
            Some(Fault::Missing) => return None,
            Some(Fault::Wrong) => bytes = bytes.iter().map(|byte| byte ^ 1).collect(),
            Some(Fault::Late) => tokio::time::sleep(2 * PATIENCE).await,
            Some(Fault::Silent) => {
                tokio::time::sleep(10 * PATIENCE).await;
                return None;
            }
            Some(Fault::Never) => std::future::pending().await,
            None => tokio::task::yield_now().await,
        }
        VerifiedShard::check(manifest, index, bytes)
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn budget(&self) -> &FetchBudget {
        &self.budget
    }
}

/// The manifests of segments, by their ids.
pub(crate) fn manifests(segments: &[SealedSegment]) -> HashMap<SegmentId, Manifest> {
    segments.iter().map(|sealed| (sealed.manifest.id(), sealed.manifest.clone())).collect()
}

/// All places of each blob, as an index has them.
pub(crate) fn places(segments: &[SealedSegment]) -> BTreeMap<BlobId, Vec<Location>> {
    let mut places: BTreeMap<BlobId, Vec<Location>> = BTreeMap::new();
    for sealed in segments {
        for entry in sealed.directory.entries() {
            let location = Location { segment: sealed.manifest.id(), entry: entry.clone() };
            places.entry(entry.blob).or_default().push(location);
        }
    }
    places
}

/// Blobs in the order in which they are wanted.
pub(crate) fn wanted(segments: &[SealedSegment], blobs: impl Iterator<Item = BlobId>) -> Vec<Wanted> {
    let places = places(segments);
    let mut wanted = WantedBlobs::default();
    for blob in blobs {
        if wanted.is_new(&blob) {
            wanted.add(places[&blob].clone());
        }
    }
    wanted.into_segments()
}
