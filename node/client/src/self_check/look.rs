//! The check before a head and once a week.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use fincrypt_protocol::limits::{MAX_DOUBTS, MAX_LOCATE};
use fincrypt_protocol::{Manifest, NodeId, SegmentId, ShardIndex};
use fincrypt_state::kv::KvError;
use fincrypt_state::state::State;
use fincrypt_vault::blob::BlobKind;
use fincrypt_vault::index::BlobIndex;

use super::ask::{Asker, Depth};
use super::choose::{self, Reservoir, is_safe, pairs, shuffle, system_random};
use super::findings::{CheckReport, Finding};
use super::{Pair, ask_all};
use crate::backup::error::BackupError;
use crate::error::ClientError;
use crate::mediator_client::{MediatorClient, MediatorError};
use crate::pipeline::PipelineError;
use crate::run_journal::{RunJournal, StoredSegments};
use crate::vault::Vault;
use fincrypt_net::Net;

/// Shards asked for before a head and once a week. If one in ten were lost, 30 show it with a
/// probability of 96 %; at 1.4 KB each they are 42 KB.
const ASKED: usize = 30;
/// Shards of a run's index pieces among them, which are asked for last.
const ASKED_OF_INDEX: usize = 8;
/// Segments of a run that are drawn from, and the most that one request locates.
const DRAWN: usize = MAX_LOCATE;
/// Segments next to a random point of which one is drawn, in a vault that has more. Their ids are
/// hashes, so each is nearly as likely as any other.
const WINDOW: usize = 32;

/// What a run has stored, as far as a check needs it.
#[derive(Debug)]
pub(crate) struct News {
    /// Random ones of its segments.
    segments: Vec<Manifest>,
    /// Whether it stored more than its snapshot: a run over unchanged folders does not.
    more_than_snapshot: bool,
}

impl News {
    /// None at all.
    pub(super) fn none() -> Self {
        Self { segments: Vec::new(), more_than_snapshot: false }
    }

    /// Reads a run's journal.
    fn read(stored: &StoredSegments) -> Result<Self, PipelineError> {
        let mut drawn = Reservoir::new(DRAWN);
        let mut more_than_snapshot = false;
        stored.read(|manifest, directory| {
            more_than_snapshot |= directory.entries().iter().any(|entry| entry.kind != BlobKind::Snapshot);
            drawn.offer(|| manifest.clone(), &mut system_random);
            Ok::<(), PipelineError>(())
        })?;
        Ok(Self { segments: drawn.into_kept(), more_than_snapshot })
    }
}

/// Up to `most` random shards of the segments in an index, each nearly as likely as any other.
fn draw(
    index: &BlobIndex<State>,
    most: usize,
    random: choose::Random<'_>,
) -> Result<Vec<(Manifest, ShardIndex)>, KvError> {
    let few = index.manifests_after(&[0; 32], DRAWN)?;
    if few.len() < DRAWN {
        let mut all: Vec<_> = pairs(&few).into_iter().map(|(of, index)| (of.clone(), index)).collect();
        shuffle(&mut all, random);
        all.truncate(most);
        return Ok(all);
    }
    let (mut drawn, mut seen) = (Vec::new(), HashSet::new());
    for _ in 0..most {
        let mut point = [0; 32];
        for part in point.chunks_exact_mut(4) {
            // Below 2^32, so nothing is cut off.
            part.copy_from_slice(&(random(1 << 32) as u32).to_le_bytes());
        }
        let near = index.manifests_after(&point, WINDOW)?;
        let all = pairs(&near);
        let Some((manifest, index)) = all.get(random(all.len() as u64) as usize) else { break };
        if seen.insert((manifest.id(), *index)) {
            drawn.push(((*manifest).clone(), *index));
        }
    }
    Ok(drawn)
}

/// A check under way.
pub(crate) struct SelfCheck<'v> {
    vault: &'v Vault,
    mediator: MediatorClient,
    asker: Asker,
}

/// What a check found so far.
#[derive(Debug, Default)]
pub(crate) struct Found {
    findings: Vec<Finding>,
    /// Segments of the run that are not safe.
    unsafe_segments: Vec<SegmentId>,
}

impl Found {
    fn report(&self) -> CheckReport {
        CheckReport::new(&self.findings)
    }
}

impl<'v> SelfCheck<'v> {
    /// What a run has stored, and the check that is due before its head: none if it stored no more
    /// than another snapshot of what is there, and one was made not long ago.
    pub(crate) async fn before_head(
        vault: &'v Vault,
        net: &Net,
        mediator: &MediatorClient,
        stored: StoredSegments,
    ) -> Result<(News, Option<Self>), ClientError> {
        let news = tokio::task::spawn_blocking(move || News::read(&stored)).await;
        let news = news.map_err(|_| ClientError::Inner)?.map_err(ClientError::from)?;
        let due = news.more_than_snapshot || vault.check_due_in()?.is_zero();
        let check = due.then(|| Self::new(vault, net, mediator.clone())).transpose()?;
        Ok((news, check))
    }

    /// Ends the check with a run's index pieces. A segment that is not safe is stored anew by the next
    /// run, and no head refers to it.
    ///
    /// # Errors
    /// [`BackupError::Unsafe`] if the run's head must not be written.
    pub(crate) async fn finish(
        &self,
        pieces: &[Manifest],
        mut found: Found,
        journal: &mut RunJournal,
    ) -> Result<CheckReport, ClientError> {
        self.look_at_index(pieces, &mut found).await?;
        let report = self.conclude(&found).await?;
        if found.unsafe_segments.is_empty() {
            return Ok(report);
        }
        journal.forget(&found.unsafe_segments)?;
        Err(BackupError::Unsafe { report: Box::new(report), segments: found.unsafe_segments }.into())
    }

    pub(crate) fn new(vault: &'v Vault, net: &Net, mediator: MediatorClient) -> Result<Self, ClientError> {
        Ok(Self { vault, mediator, asker: vault.asker(net)? })
    }

    /// Whom the mediator says to ask for some segments. It is not believed, only asked.
    async fn claims(
        &self,
        segments: Vec<SegmentId>,
    ) -> Result<HashMap<SegmentId, Vec<(ShardIndex, NodeId)>>, MediatorError> {
        if segments.is_empty() {
            return Ok(HashMap::new());
        }
        let (located, nodes) = self.mediator.locate_with_addresses(segments).await?;
        self.asker.learn(nodes).await;
        Ok(located.into_iter().map(|one| (one.manifest.id(), one.holders)).collect())
    }

    async fn ask(&self, pairs: &[Pair], found: &mut Found) -> Vec<Finding> {
        let findings = ask_all(&self.asker, pairs, Depth::Leaf).await;
        found.findings.extend(&findings);
        findings
    }

    /// Looks at what a run has stored and at what was stored before, before the run's index pieces.
    pub(crate) async fn look(&self, news: &News) -> Result<Found, ClientError> {
        let mut found = Found::default();
        let index = self.vault.index.clone();
        // A few more than are asked for: some may be of segments that lack a keeper.
        let draw = move || draw(&index, DRAWN, &mut system_random);
        let old = tokio::task::spawn_blocking(draw).await.map_err(|_| ClientError::Inner)??;
        // A check without a run has no index pieces to follow.
        let room = if news.segments.is_empty() { ASKED } else { ASKED - ASKED_OF_INDEX };
        let new = self.look_at_new(&news.segments, room / 2, &mut found).await?;
        let ids: BTreeSet<SegmentId> = old.iter().map(|(manifest, _)| manifest.id()).collect();
        let claims = self.claims(ids.into_iter().collect()).await?;
        let claimed = old.into_iter().filter_map(|(manifest, index)| {
            let nodes = match claims.get(&manifest.id()).map(Vec::as_slice) {
                // The mediator knows nobody who has any of it: there is nobody to ask, and that is said.
                None | Some([]) => Vec::new(),
                // A shard that lacks a keeper is waiting for repair, and the status tells.
                Some(holders) => vec![holders.iter().find(|(held, _)| *held == index)?.1],
            };
            Some(Pair { manifest: Arc::new(manifest), index, nodes })
        });
        let pairs: Vec<Pair> = claimed.take(room.saturating_sub(new)).collect();
        self.ask(&pairs, &mut found).await;
        Ok(found)
    }

    /// Looks at the index pieces that a run is about to refer to.
    async fn look_at_index(&self, pieces: &[Manifest], found: &mut Found) -> Result<(), ClientError> {
        let mut drawn = Reservoir::new(DRAWN);
        pieces.iter().for_each(|piece| drawn.offer(|| piece.clone(), &mut system_random));
        self.look_at_new(&drawn.into_kept(), ASKED_OF_INDEX, found).await.map(drop)
    }

    /// Asks for up to `most` random shards of new segments, and for all of those segments of which
    /// one was bad; how many were asked for at first.
    async fn look_at_new(
        &self,
        segments: &[Manifest],
        most: usize,
        found: &mut Found,
    ) -> Result<usize, ClientError> {
        let claims = self.claims(segments.iter().map(Manifest::id).collect()).await?;
        let mut all = Vec::new();
        for manifest in segments.iter().map(|manifest| Arc::new(manifest.clone())) {
            let claimed = claims.get(&manifest.id()).map(Vec::as_slice).unwrap_or_default();
            let holders = distinct(&manifest, claimed);
            // What the mediator itself does not know of is not stored, whatever it signed before.
            if !is_safe(&manifest, holders.len(), 0) {
                found.unsafe_segments.push(manifest.id());
            }
            let pair = |(index, node): (ShardIndex, NodeId)| Pair {
                manifest: Arc::clone(&manifest),
                index,
                nodes: vec![node],
            };
            all.extend(holders.into_iter().map(pair));
        }
        shuffle(&mut all, &mut system_random);
        let others = all.split_off(most.min(all.len()));
        let asked = all;
        let first = self.ask(&asked, found).await;
        let suspect: HashSet<SegmentId> =
            first.iter().filter(|one| one.outcome.is_bad()).map(|one| one.shard.segment).collect();
        let more: Vec<Pair> =
            others.into_iter().filter(|pair| suspect.contains(&pair.manifest.id())).collect();
        let second = self.ask(&more, found).await;
        for manifest in segments.iter().filter(|manifest| suspect.contains(&manifest.id())) {
            let of = |one: &&Finding| one.shard.segment == manifest.id();
            let claimed = first.iter().chain(&second).filter(of).count();
            let bad = first.iter().chain(&second).filter(of).filter(|one| one.outcome.is_bad()).count();
            if !is_safe(manifest, claimed, bad) && !found.unsafe_segments.contains(&manifest.id()) {
                found.unsafe_segments.push(manifest.id());
            }
        }
        Ok(asked.len())
    }

    /// Remembers what was found, and tells the mediator what to look at itself.
    pub(crate) async fn conclude(&self, found: &Found) -> Result<CheckReport, ClientError> {
        self.vault.notes().note(&found.findings, true)?;
        tell(&self.mediator, &found.findings).await;
        Ok(found.report())
    }
}

/// Tells the mediator which shards were bad. It looks itself; if it does not take it, its audits find
/// them in time.
pub(crate) async fn tell(mediator: &MediatorClient, findings: &[Finding]) {
    let bad = findings.iter().filter(|one| one.outcome.is_bad());
    let bad: Vec<_> = bad.map(|one| (one.shard.segment, one.shard.index)).take(MAX_DOUBTS).collect();
    if !bad.is_empty()
        && let Err(error) = mediator.report_missing(bad).await
    {
        tracing::debug!(%error, "missing_shards_not_reported");
    }
}

/// Claims with one node for each shard and one shard for each node: a second one counts for nothing,
/// nor does one of a shard that there is not.
fn distinct(manifest: &Manifest, claimed: &[(ShardIndex, NodeId)]) -> Vec<(ShardIndex, NodeId)> {
    let (mut indices, mut nodes) = (HashSet::new(), HashSet::new());
    let mut new = |(index, node): &(ShardIndex, NodeId)| {
        manifest.shard(*index).is_some() && indices.insert(*index) && nodes.insert(*node)
    };
    claimed.iter().filter(|claim| new(claim)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Code, ShardId, ShardLen};
    use fincrypt_vault::segment::Directory;

    fn fill(index: &BlobIndex<State>, segments: u16) {
        for number in 0..segments {
            let id = |at: u8| {
                let mut id = [at; 32];
                id[..2].copy_from_slice(&number.to_le_bytes());
                ShardId::from_bytes(id)
            };
            let code = Code::new(1, 2).expect("valid");
            let ids = (0..3).map(id).collect();
            let manifest = Manifest::new(code, ShardLen::FULL, ids).expect("valid");
            index.insert(&manifest, &Directory::default()).expect("inserted");
        }
    }

    #[test]
    fn draws_are_distinct_and_reach_every_segment_of_small_and_large_vaults() {
        for segments in [1, 20, 150] {
            let dir = tempfile::tempdir().expect("a folder");
            let (state, _) = State::open(dir.path()).expect("opens");
            let index = BlobIndex::new(state);
            fill(&index, segments);
            let mut reached = HashSet::new();
            let rounds = 40;
            for _ in 0..rounds {
                let drawn = draw(&index, DRAWN, &mut system_random).expect("draws");
                let distinct: HashSet<_> = drawn.iter().map(|(of, index)| (of.id(), *index)).collect();
                assert_eq!(distinct.len(), drawn.len());
                assert!(drawn.len() <= DRAWN.min(3 * usize::from(segments)));
                reached.extend(drawn.iter().map(|(of, _)| of.id()));
            }
            // Of 150 segments with 64 draws 40 times, one is left out once in 10^7 runs.
            assert_eq!(reached.len(), usize::from(segments));
        }
    }

    #[test]
    fn a_node_that_is_named_twice_for_a_segment_counts_once() {
        let (index, node) = (|at| ShardIndex::new(at).expect("valid"), |at| NodeId::from_bytes([at; 32]));
        let ids = (0..3).map(|at| ShardId::from_bytes([at; 32])).collect();
        let manifest = Manifest::new(Code::new(1, 2).expect("valid"), ShardLen::FULL, ids).expect("valid");
        let claims = [(0, 1), (1, 1), (0, 2), (2, 3), (7, 4)].map(|(at, of)| (index(at), node(of)));
        assert_eq!(distinct(&manifest, &claims), [(index(0), node(1)), (index(2), node(3))]);
    }
}
