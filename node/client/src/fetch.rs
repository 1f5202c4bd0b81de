//! Segments from the swarm: through the mediator while it answers, else straight from the holders.
//!
//! Every shard is checked against the manifest, every manifest against its segment's id and the
//! owner's tag, so it does not matter who brings them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::record::Registration;
use fincrypt_protocol::{Manifest, NodeId, RunId, SegmentId, ShardIndex, Signed, SigningKey};
use fincrypt_vault::TagKey;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Mutex, OnceCell};

use super::holders::Holders;
use super::mediator_client::MediatorClient;
use super::pace::Pace;
use super::reader::error::ReadError;
use super::segment_reader::{FetchBudget, ShardSource, VerifiedShard, gather};
use fincrypt_net::Net;

/// Segments whose places are remembered; at up to 2 KiB each, 8 MiB.
const MAX_PLACES: usize = 4096;
/// Runs that are remembered: one an hour for seven years.
const MAX_RUNS: usize = 1 << 16;

/// Nodes that claim one shard and are asked for it at once.
const CLAIMANTS: usize = 3;

/// Where one segment's shards are: positions and nodes.
type Places = Vec<(ShardIndex, NodeId)>;

/// Fetches and checks segments.
pub(crate) struct Fetcher {
    net: Net,
    mediator: Option<MediatorClient>,
    account: SigningKey,
    registration: Signed<Registration>,
    tags: TagKey,
    holders: OnceCell<Holders>,
    places: Mutex<HashMap<SegmentId, Arc<(Manifest, Places)>>>,
    /// Segments that will be asked for, in order: they are located many at a time.
    upcoming: Mutex<VecDeque<SegmentId>>,
    /// Runs in which the segments were stored that holders told of.
    runs: parking_lot::Mutex<BTreeSet<RunId>>,
    pace: parking_lot::Mutex<Pace>,
    budget: FetchBudget,
}

impl Fetcher {
    pub(crate) fn new(
        net: Net,
        mediator: Option<MediatorClient>,
        account: SigningKey,
        registration: Signed<Registration>,
        tags: TagKey,
    ) -> Self {
        Self {
            net,
            mediator,
            account,
            registration,
            tags,
            holders: OnceCell::new(),
            places: Mutex::default(),
            upcoming: Mutex::default(),
            runs: parking_lot::Mutex::default(),
            pace: parking_lot::Mutex::default(),
            budget: FetchBudget::default(),
        }
    }

    fn pace(&self) -> parking_lot::MutexGuard<'_, Pace> {
        self.pace.lock()
    }

    pub(crate) async fn holders(&self) -> &Holders {
        self.holders.get_or_init(|| Holders::find(&self.net, &self.account, &self.registration)).await
    }

    /// Whether a segment is of this vault, whoever says so: nobody else can make its tag.
    pub(crate) fn is_ours(&self, manifest: &Manifest, tag: fincrypt_protocol::Tag) -> bool {
        self.tags.tag(&manifest.id()) == tag
    }

    /// Looks up manifests and holders straight at the holders, for many segments at once.
    pub(crate) async fn locate_direct(&self, segments: &[SegmentId]) {
        let located = self.holders().await.locate(segments).await;
        let mut places = self.places.lock().await;
        if places.len() + located.len() > MAX_PLACES {
            places.clear();
        }
        for (segment, found) in located.into_iter().filter(|(segment, _)| segments.contains(segment)) {
            let mut held: BTreeSet<(ShardIndex, NodeId)> = BTreeSet::new();
            let mut manifest = None;
            for (node, entry) in found {
                if entry.manifest.id() == segment && self.is_ours(&entry.manifest, entry.tag) {
                    // No node holds more than there are, however often it says so.
                    let total = entry.manifest.code().total().into();
                    let indices: BTreeSet<_> =
                        entry.held.iter().filter(|index| index.get() < total).collect();
                    held.extend(indices.into_iter().map(|index| (*index, node)));
                    self.note_run(entry.run);
                    manifest = Some(entry.manifest);
                }
            }
            if let Some(manifest) = manifest {
                places.insert(segment, Arc::new((manifest, held.into_iter().collect())));
            }
        }
    }

    fn runs(&self) -> parking_lot::MutexGuard<'_, BTreeSet<RunId>> {
        self.runs.lock()
    }

    fn note_run(&self, run: RunId) {
        let mut runs = self.runs();
        if runs.len() < MAX_RUNS {
            runs.insert(run);
        }
    }

    /// Runs in which the segments were stored that holders told of. They may say what they like: to
    /// keep a run that never was does no harm.
    pub(crate) fn seen_runs(&self) -> Vec<RunId> {
        self.runs().iter().copied().collect()
    }

    /// Where a segment's shards are, straight at the holders.
    pub(crate) async fn places(&self, segment: &SegmentId) -> Option<Arc<(Manifest, Places)>> {
        if let Some(known) = self.places.lock().await.get(segment) {
            return Some(Arc::clone(known));
        }
        // Whoever comes next finds what this one is looking up.
        let mut upcoming = self.upcoming.lock().await;
        if let Some(known) = self.places.lock().await.get(segment) {
            return Some(Arc::clone(known));
        }
        let mut page = vec![*segment];
        let expected = upcoming.len().min(MAX_LOCATE - 1);
        page.extend(upcoming.drain(..expected).filter(|id| id != segment));
        self.locate_direct(&page).await;
        self.places.lock().await.get(segment).cloned()
    }

    /// The manifests of some segments, from whoever answers.
    pub(crate) async fn manifests(
        &self,
        segments: &[SegmentId],
    ) -> Result<HashMap<SegmentId, Manifest>, ReadError> {
        let mut found = HashMap::new();
        if let Some(mediator) = &self.mediator {
            for page in segments.chunks(MAX_LOCATE) {
                let Ok(located) = mediator.locate(page.to_vec()).await else { break };
                let ours = located.into_iter().filter(|entry| self.is_ours(&entry.manifest, entry.tag));
                found.extend(ours.map(|entry| (entry.manifest.id(), entry.manifest)));
            }
        }
        let missing: Vec<SegmentId> =
            segments.iter().filter(|id| !found.contains_key(*id)).copied().collect();
        if !missing.is_empty() {
            self.locate_direct(&missing).await;
            for segment in missing {
                let places = self.places.lock().await.get(&segment).cloned();
                let places = places.ok_or(ReadError::unknown(segment))?;
                found.insert(segment, places.0.clone());
            }
        }
        Ok(found)
    }

    /// One shard straight from whoever claims it: the fastest first, the next beside one that is slow.
    /// Several may claim a shard; one that brings something else must not hide the others.
    async fn get_direct(&self, manifest: &Manifest, index: ShardIndex) -> Option<VerifiedShard> {
        let places = self.places(&manifest.id()).await?;
        let claims = places.1.iter().filter(|(held, _)| *held == index);
        let mut claimants: Vec<NodeId> = claims.map(|(_, node)| *node).collect();
        {
            let (pace, now) = (self.pace(), Instant::now());
            claimants.sort_by_cached_key(|node| pace.cost(node, false, now));
        }
        let mut waiting = claimants.into_iter();
        let mut running = FuturesUnordered::new();
        loop {
            if running.len() < CLAIMANTS
                && let Some(node) = waiting.next()
            {
                running.push(self.ask_claimant(node, manifest, index));
            }
            let patience = self.pace().patience();
            match tokio::time::timeout(patience, running.next()).await {
                Ok(Some(Some(shard))) => return Some(shard),
                Ok(None) => return None,
                Ok(Some(None)) | Err(_) => {}
            }
        }
    }

    async fn ask_claimant(
        &self,
        node: NodeId,
        manifest: &Manifest,
        index: ShardIndex,
    ) -> Option<VerifiedShard> {
        let asked = Asked::now(self, node);
        let bytes = self.holders().await.get(node, manifest.id(), index).await.ok()?;
        let shard = VerifiedShard::check(manifest, index, bytes);
        match shard {
            Some(_) => asked.came(),
            None => self.pace().lied(node),
        }
        shard
    }

    /// One shard, checked, as soon as there is room for it.
    pub(super) async fn shard(&self, manifest: &Manifest, index: ShardIndex) -> Option<Bytes> {
        let _room = self.budget.wait(manifest.shard_len()).await?;
        Some(self.fetch_shard(manifest, index).await?.into_bytes())
    }

    /// A segment's ciphertext.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] if too few good shards can be had.
    pub(crate) async fn segment(&self, manifest: &Manifest) -> Result<Vec<u8>, ReadError> {
        Ok(gather(self, manifest).await?)
    }
}

impl ShardSource for Fetcher {
    /// Segments that are expected are located many at a time.
    async fn expect(&self, segments: Vec<SegmentId>) {
        *self.upcoming.lock().await = segments.into();
    }

    /// The order in which shards are asked for: through the mediator data first; straight from the
    /// holders the fastest first.
    async fn order(&self, manifest: &Manifest) -> Vec<ShardIndex> {
        let mut order: Vec<ShardIndex> = manifest.code().indices().collect();
        if self.mediator.is_none()
            && let Some(places) = self.places(&manifest.id()).await
        {
            let data = usize::from(manifest.code().data());
            let (pace, now) = (self.pace(), Instant::now());
            order.sort_by_cached_key(|index| {
                let nodes = places.1.iter().filter(|(held, _)| held == index);
                let cheapest = nodes.map(|(_, node)| pace.cost(node, index.get() >= data, now)).min();
                // Those that nobody is known to hold come last.
                (cheapest.is_none(), cheapest)
            });
        }
        order
    }

    /// Through the mediator, else straight from a holder.
    async fn fetch_shard(&self, manifest: &Manifest, index: ShardIndex) -> Option<VerifiedShard> {
        let asked = Instant::now();
        if let Some(mediator) = &self.mediator
            && let Ok(bytes) = mediator.get(manifest.id(), index).await
            && let Some(shard) = VerifiedShard::check(manifest, index, bytes)
        {
            self.pace().took(asked.elapsed());
            return Some(shard);
        }
        self.get_direct(manifest, index).await
    }

    fn patience(&self) -> Duration {
        self.pace().patience()
    }

    fn budget(&self) -> &FetchBudget {
        &self.budget
    }
}

/// A shard that a node was asked for: its pace is noted however that ends.
struct Asked<'f> {
    fetcher: &'f Fetcher,
    node: NodeId,
    at: Instant,
    came: bool,
}

impl<'f> Asked<'f> {
    fn now(fetcher: &'f Fetcher, node: NodeId) -> Self {
        let at = Instant::now();
        fetcher.pace().asked(node, at);
        Self { fetcher, node, at, came: false }
    }

    fn came(mut self) {
        self.came = true;
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let (now, mut pace) = (Instant::now(), self.fetcher.pace());
        pace.answered(self.node, now, self.came.then(|| now.duration_since(self.at)));
    }
}
