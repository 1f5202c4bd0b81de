//! The client's own look at its storage: shards challenged straight at the nodes that should have
//! them, and compared with the manifests that the client computed itself. Neither the mediator nor
//! storage can lie about the outcome; the mediator only says whom to ask.
//!
//! Before a new head [`SelfCheck`] asks for up to [`ASKED`] random shards: about half of what this run
//! stored, as a small run in a large vault would hardly ever be asked otherwise, the rest of all that
//! the vault has. Where a shard of the run is bad, all shards of its segment are asked for; one that
//! is not safe then keeps the head from being written. Segments of merged index pieces, which are
//! made while the head is written, are left for the next time.

mod ask;
mod choose;
mod findings;
mod notes;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::limits::{MAX_DOUBTS, MAX_LOCATE};
use fincrypt_protocol::{Manifest, NodeId, SegmentId, ShardIndex};
use fincrypt_storage::blob::BlobKind;
use fincrypt_storage::index::BlobIndex;
use fincrypt_storage::state::State;
use futures::StreamExt;

use super::error::ClientError;
use super::link::Link;
use super::pipeline::PipelineError;
use super::run_journal::StoredSegments;
use super::vault::{Swarm, Vault};
use crate::engine::Net;

pub(crate) use ask::{Asker, Depth, Shard};
pub(crate) use choose::{pairs, shuffle, system_random};
pub use findings::{BadShard, CheckReport};
pub(crate) use findings::{Finding, Outcome};
pub(crate) use notes::{Notes, Seen};

use choose::{Reservoir, is_safe};

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
/// Nodes asked at once.
const NODES_AT_ONCE: usize = 16;

/// A shard, its manifest, and the nodes that are said to have it, the most credible first.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) index: ShardIndex,
    pub(crate) nodes: Vec<NodeId>,
}

impl Pair {
    fn shard(&self) -> Shard {
        Shard { segment: self.manifest.id(), index: self.index }
    }
}

/// Asks for each of some shards; if one is not proved by a node, the next that is said to have it.
/// What the last node showed that is not a mere silence counts.
pub(crate) async fn ask_all(asker: &Asker, pairs: &[Pair], depth: Depth) -> Vec<Finding> {
    let none = |pair: &Pair| Finding { shard: pair.shard(), node: None, outcome: Outcome::Missing };
    let mut findings: Vec<Finding> = pairs.iter().map(none).collect();
    let longest = pairs.iter().map(|pair| pair.nodes.len()).max().unwrap_or(0);
    for turn in 0..longest {
        let mut by_node: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (at, pair) in pairs.iter().enumerate() {
            if let Some(node) = pair.nodes.get(turn)
                && findings[at].outcome != Outcome::Proved
            {
                by_node.entry(*node).or_default().push(at);
            }
        }
        let asking = by_node.into_iter().map(|(node, at)| async move {
            let shards: Vec<_> = at.iter().map(|at| (&*pairs[*at].manifest, pairs[*at].index)).collect();
            (node, asker.ask(node, &shards, depth).await, at)
        });
        let mut answers = futures::stream::iter(asking).buffer_unordered(NODES_AT_ONCE);
        while let Some((node, outcomes, at)) = answers.next().await {
            for (at, outcome) in at.into_iter().zip(outcomes) {
                let known = &mut findings[at];
                if known.node.is_none() || outcome != Outcome::Unreachable {
                    (known.node, known.outcome) = (Some(node), outcome);
                }
            }
        }
    }
    findings
}

/// What a run has stored, as far as a check needs it.
#[derive(Debug)]
pub(crate) struct News {
    /// Random ones of its segments.
    segments: Vec<Manifest>,
    /// Whether it stored more than its snapshot: a run over unchanged folders does not.
    pub(crate) more_than_snapshot: bool,
}

impl News {
    /// Reads a run's journal.
    pub(crate) fn read(stored: &StoredSegments) -> Result<Self, PipelineError> {
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
) -> Result<Vec<(Manifest, ShardIndex)>, ClientError> {
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
    link: Link,
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
    pub(crate) fn report(&self) -> CheckReport {
        CheckReport::new(&self.findings)
    }

    /// Segments of the run that no head may refer to.
    pub(crate) fn unsafe_segments(&self) -> &[SegmentId] {
        &self.unsafe_segments
    }
}

impl<'v> SelfCheck<'v> {
    pub(crate) fn new(vault: &'v Vault, net: &Net, link: Link) -> Result<Self, ClientError> {
        Ok(Self { vault, link, asker: vault.asker(net)? })
    }

    /// Whom the mediator says to ask for some segments. It is not believed, only asked.
    async fn claims(
        &self,
        segments: Vec<SegmentId>,
    ) -> Result<HashMap<SegmentId, Vec<(ShardIndex, NodeId)>>, ClientError> {
        if segments.is_empty() {
            return Ok(HashMap::new());
        }
        let (located, nodes) = self.link.locate_with_addresses(segments).await?;
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
        let room = ASKED - ASKED_OF_INDEX;
        let new = self.look_at_new(&news.segments, room / 2, &mut found).await?;
        let ids: BTreeSet<SegmentId> = old.iter().map(|(manifest, _)| manifest.id()).collect();
        let claims = self.claims(ids.into_iter().collect()).await?;
        let claimed = old.into_iter().filter_map(|(manifest, index)| {
            let holders = claims.get(&manifest.id())?;
            let node = holders.iter().find(|(held, _)| *held == index)?.1;
            Some(Pair { manifest: Arc::new(manifest), index, nodes: vec![node] })
        });
        let pairs: Vec<Pair> = claimed.take(room.saturating_sub(new)).collect();
        self.ask(&pairs, &mut found).await;
        Ok(found)
    }

    /// Looks at the index pieces that a run is about to refer to.
    pub(crate) async fn look_at_index(
        &self,
        pieces: &[Manifest],
        found: &mut Found,
    ) -> Result<(), ClientError> {
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
            let holders = distinct(claims.get(&manifest.id()).map(Vec::as_slice).unwrap_or_default());
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
        tell(&self.link, &found.findings).await;
        Ok(found.report())
    }
}

/// Tells the mediator which shards were bad. It looks itself; if it does not take it, its audits find
/// them in time.
pub(crate) async fn tell(link: &Link, findings: &[Finding]) {
    let bad = findings.iter().filter(|one| one.outcome.is_bad());
    let bad: Vec<_> = bad.map(|one| (one.shard.segment, one.shard.index)).take(MAX_DOUBTS).collect();
    if !bad.is_empty()
        && let Err(error) = link.doubt(bad).await
    {
        tracing::debug!(%error, "the mediator does not look at doubtful shards");
    }
}

/// Claims with one node for each shard and one shard for each node: a second one counts for nothing.
fn distinct(holders: &[(ShardIndex, NodeId)]) -> Vec<(ShardIndex, NodeId)> {
    let (mut indices, mut nodes) = (HashSet::new(), HashSet::new());
    let new = |(index, node): &&(ShardIndex, NodeId)| indices.insert(*index) && nodes.insert(*node);
    holders.iter().filter(new).copied().collect()
}

/// Looks at what the vault has stored, without a backup.
///
/// # Errors
/// [`ClientError`] if the mediator does not answer, or local state fails.
pub async fn self_check(vault: &Vault) -> Result<CheckReport, ClientError> {
    let swarm = Swarm::join(&vault.config).await?;
    let result = async {
        let link = vault.link(&swarm.net).await?;
        let check = SelfCheck::new(vault, &swarm.net, link)?;
        let nothing = News { segments: Vec::new(), more_than_snapshot: false };
        let found = check.look(&nothing).await?;
        check.conclude(&found).await
    };
    let result = result.await;
    swarm.leave().await;
    result
}

impl Vault {
    /// How long until the regular check is due.
    ///
    /// # Errors
    /// If local state fails.
    pub fn check_due_in(&self) -> Result<Duration, ClientError> {
        Ok(self.notes().due_in(self.config.self_check_interval)?)
    }

    /// What asks storage nodes for this vault's shards.
    pub(crate) fn asker(&self, net: &Net) -> Result<Asker, ClientError> {
        let account = self.keys.root.account(self.slot()?);
        Ok(Asker::new(net.clone(), account, self.registration()?))
    }

    /// What this machine found out about the vault's shards.
    pub(crate) fn notes(&self) -> Notes {
        Notes::new(self.state.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Code, ShardId, ShardLen};
    use fincrypt_storage::segment::Directory;

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
        let claims = [(index(0), node(1)), (index(1), node(1)), (index(0), node(2)), (index(2), node(3))];
        assert_eq!(distinct(&claims), [(index(0), node(1)), (index(2), node(3))]);
    }
}
