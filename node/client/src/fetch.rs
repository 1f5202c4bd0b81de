//! Segments from the swarm: through the mediator while it answers, else straight from the holders.
//!
//! Every shard is checked against the manifest, every manifest against its segment's id and the
//! owner's tag, so it does not matter who brings them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::record::Registration;
use fincrypt_protocol::{Code, Manifest, NodeId, RunId, SegmentId, ShardIndex, Signed, SigningKey};
use fincrypt_shards::erasure::rebuild_into;
use fincrypt_shards::proof::shard_id;
use fincrypt_vault::TagKey;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Mutex, OnceCell, SemaphorePermit};

use super::error::ClientError;
use super::fetch_budget::FetchBudget;
use super::holders::Holders;
use super::mediator_client::MediatorClient;
use super::pace::Pace;
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
    link: Option<MediatorClient>,
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

enum Got {
    Good(ShardIndex, Bytes),
    Bad(ShardIndex),
    Slow,
}

impl Fetcher {
    pub(crate) fn new(
        net: Net,
        link: Option<MediatorClient>,
        account: SigningKey,
        registration: Signed<Registration>,
        tags: TagKey,
    ) -> Self {
        Self {
            net,
            link,
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

    /// Says which segments will be asked for, in what order.
    pub(crate) async fn expect(&self, segments: impl Iterator<Item = SegmentId>) {
        *self.upcoming.lock().await = segments.collect();
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
    ) -> Result<HashMap<SegmentId, Manifest>, ClientError> {
        let mut found = HashMap::new();
        if let Some(link) = &self.link {
            for page in segments.chunks(MAX_LOCATE) {
                let Ok(located) = link.locate(page.to_vec()).await else { break };
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
                let places = places.ok_or(ClientError::Unavailable { segment, found: 0, needed: 1 })?;
                found.insert(segment, places.0.clone());
            }
        }
        Ok(found)
    }

    /// One shard straight from whoever claims it: the fastest first, the next beside one that is slow.
    /// Several may claim a shard; one that brings something else must not hide the others.
    async fn get_direct(&self, manifest: &Manifest, index: ShardIndex) -> Option<Bytes> {
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
                Ok(Some(Some(bytes))) => return Some(bytes),
                Ok(None) => return None,
                Ok(Some(None)) | Err(_) => {}
            }
        }
    }

    async fn ask_claimant(&self, node: NodeId, manifest: &Manifest, index: ShardIndex) -> Option<Bytes> {
        let asked = Asked::now(self, node);
        let bytes = self.holders().await.get(node, manifest.id(), index).await.ok()?;
        if manifest.shard(index) == Some(shard_id(&bytes)) {
            asked.came();
            return Some(bytes);
        }
        self.pace().lied(node);
        None
    }

    /// One shard from wherever, checked.
    async fn get(&self, manifest: &Manifest, index: ShardIndex, _room: SemaphorePermit<'_>) -> Got {
        let asked = Instant::now();
        if let Some(link) = &self.link
            && let Ok(bytes) = link.get(manifest.id(), index).await
            && manifest.shard(index) == Some(shard_id(&bytes))
        {
            self.pace().took(asked.elapsed());
            return Got::Good(index, bytes);
        }
        match self.get_direct(manifest, index).await {
            Some(bytes) => Got::Good(index, bytes),
            None => Got::Bad(index),
        }
    }

    /// One shard from wherever, checked, as soon as there is room for it.
    pub(super) async fn shard(&self, manifest: &Manifest, index: ShardIndex) -> Option<Bytes> {
        let room = self.budget.wait(manifest.shard_len()).await?;
        match self.get(manifest, index, room).await {
            Got::Good(_, bytes) => Some(bytes),
            Got::Bad(_) | Got::Slow => None,
        }
    }

    /// The order in which shards are asked for: through the mediator data first; straight from the
    /// holders the fastest first.
    async fn order(&self, manifest: &Manifest) -> VecDeque<ShardIndex> {
        let mut order: Vec<ShardIndex> = manifest.code().indices().collect();
        if self.link.is_none()
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
        order.into()
    }

    /// A segment's ciphertext: its data shards, rebuilt from any `k` where some are missing.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] if fewer than `k` good shards can be had.
    pub(crate) async fn segment(&self, manifest: &Manifest) -> Result<Vec<u8>, ClientError> {
        let code = manifest.code();
        let needed = usize::from(code.data());
        let length = manifest.shard_len();
        let mut waiting = self.order(manifest).await;
        let mut joined = Joined::new(manifest);
        let mut running = FuturesUnordered::new();
        // Those that are waited for; slow ones may come as well.
        let mut asked = 0;
        let mut slow = false;
        while joined.count() < needed {
            while asked < needed - joined.count() && !waiting.is_empty() {
                let room = match (running.is_empty(), slow) {
                    (true, _) => self.budget.wait(length).await,
                    (false, true) => self.budget.beside(length),
                    (false, false) => self.budget.now(length),
                };
                let Some((room, index)) = next(room, &mut waiting) else { break };
                running.push(self.get(manifest, index, room));
                asked += 1;
            }
            if running.is_empty() && waiting.is_empty() {
                return Err(ClientError::Unavailable {
                    segment: manifest.id(),
                    found: joined.count(),
                    needed: code.data(),
                });
            }
            let patience = self.pace().patience();
            let next = tokio::time::timeout(patience, running.next()).await;
            slow = next.is_err();
            match next.map_or(Some(Got::Slow), |got| got) {
                Some(Got::Good(index, bytes)) => {
                    joined.add(index, bytes);
                    asked = asked.saturating_sub(1);
                }
                Some(Got::Bad(index)) => {
                    tracing::debug!(index = index.get(), "a shard could not be had");
                    asked = asked.saturating_sub(1);
                }
                // One more is asked for beside the slow ones.
                Some(Got::Slow) => asked = asked.saturating_sub(1),
                None => {}
            }
        }
        drop(running);
        tokio::task::spawn_blocking(move || joined.finish()).await.map_err(|_| ClientError::Inner)?
    }
}

/// The next shard to ask for, and room for it. Without room it stays in line.
fn next<R>(room: Option<R>, waiting: &mut VecDeque<ShardIndex>) -> Option<(R, ShardIndex)> {
    let room = room?;
    waiting.pop_front().map(|index| (room, index))
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

/// A segment's ciphertext as its shards come.
struct Joined {
    code: Code,
    length: usize,
    ciphertext: Vec<u8>,
    data: Vec<ShardIndex>,
    parity: Vec<(ShardIndex, Bytes)>,
}

impl Joined {
    fn new(manifest: &Manifest) -> Self {
        let (code, length) = (manifest.code(), manifest.shard_len().get() as usize);
        let ciphertext = vec![0; manifest.data_len()];
        Self { code, length, ciphertext, data: Vec::new(), parity: Vec::new() }
    }

    fn count(&self) -> usize {
        self.data.len() + self.parity.len()
    }

    /// Takes a checked shard. Data is in its place at once.
    fn add(&mut self, index: ShardIndex, bytes: Bytes) {
        let start = index.get() * self.length;
        match self.ciphertext.get_mut(start..start + self.length) {
            Some(place) => {
                place.copy_from_slice(&bytes);
                self.data.push(index);
            }
            None => self.parity.push((index, bytes)),
        }
    }

    /// Computes the data that did not come.
    fn finish(self) -> Result<Vec<u8>, ClientError> {
        let Self { code, length, mut ciphertext, data, parity } = self;
        if !parity.is_empty() {
            let shards = code.indices().zip(ciphertext.chunks_exact_mut(length));
            let (came, mut missing): (Vec<_>, Vec<_>) = shards.partition(|(index, _)| data.contains(index));
            let came = came.into_iter().map(|(index, shard)| (index, &*shard));
            let parity = parity.iter().map(|(index, bytes)| (*index, bytes.as_ref()));
            let present: Vec<(ShardIndex, &[u8])> = came.chain(parity).collect();
            rebuild_into(code, &present, &mut missing)
                .map_err(|error| ClientError::Damaged(error.to_string()))?;
        }
        Ok(ciphertext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_for_which_there_is_no_room_stays_in_line() {
        let mut waiting: VecDeque<ShardIndex> = Code::new(2, 1).expect("valid").indices().collect();
        let all = waiting.clone();
        assert_eq!(next(None::<()>, &mut waiting), None);
        assert_eq!(waiting, all);
        assert_eq!(next(Some(()), &mut waiting), Some(((), all[0])));
        assert_eq!(waiting.len(), 2);
    }
}
