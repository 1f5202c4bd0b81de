//! Checks on demand that storage holds what it must: every shard, or a sample, asked for straight at
//! the nodes that should have it and compared with the client's own manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::{Manifest, NodeId, SegmentId, ShardIndex};

use super::catalog_reader::whole_catalog;
use super::error::ClientError;
use super::fetch::Fetcher;
use super::mediator_client::MediatorClient;
use super::segment_reader::{Limits, prefetch};
use super::self_check::{
    Asker, CheckReport, Depth, Finding, Outcome, Pair, ask_all, pairs, shuffle, system_random, tell,
};
use super::session::Session;
use super::vault::Vault;

/// What to check.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// Fetch whole shards rather than single leaves.
    pub data: bool,
    /// Check so many random shards; all if none.
    pub sample: Option<usize>,
}

/// Shards asked for at once; what was found of them is noted while the next are.
const AT_ONCE: usize = 4096;

/// Checks the vault's shards. Whom to ask, the mediator says; where it does not answer or knows
/// nobody, the nodes that announce that they hold something are asked what they have.
///
/// # Errors
/// [`ClientError`] if the swarm cannot be joined or the index is damaged.
pub async fn verify(vault: &Vault, options: VerifyOptions) -> Result<CheckReport, ClientError> {
    let session = Session::open(&vault.options).await?;
    let result = verify_in(&session, vault, options).await;
    session.close().await;
    result
}

async fn verify_in(
    session: &Session,
    vault: &Vault,
    options: VerifyOptions,
) -> Result<CheckReport, ClientError> {
    let mediator = match vault.lifecycle.account().mediator()? {
        Some(_) => session.mediator(vault).await.ok(),
        None => None,
    };
    let fetcher = vault.fetcher(&session.net, mediator.clone())?;
    let manifests: Vec<Manifest> = vault.all_manifests(&fetcher).await?;
    let mut asked = pairs(&manifests);
    if let Some(sample) = options.sample {
        shuffle(&mut asked, &mut system_random);
        asked.truncate(sample);
    }
    let depth = if options.data { Depth::Data } else { Depth::Leaf };
    let asker = vault.asker(&session.net)?;
    let survey = Survey { mediator: mediator.as_ref(), fetcher: &fetcher, asker: &asker, depth };
    let notes = vault.notes();
    let mut findings = Vec::with_capacity(asked.len());
    let note = |found: Vec<Finding>| {
        let noted = notes.note(&found, false);
        findings.extend(found);
        std::future::ready(noted.map_or_else(ControlFlow::Break, ControlFlow::Continue))
    };
    // No shard is kept, so a page counts as no bytes.
    let pages = asked.chunks(AT_ONCE).map(|page| (0, page));
    let limits = Limits { bytes: 0, ahead: 1, takers: 1, in_order: true };
    if let ControlFlow::Break(error) = prefetch(pages, limits, |page| survey.ask(page), note).await {
        return Err(error.into());
    }
    if let Some(mediator) = &mediator {
        tell(mediator, &findings).await;
    }
    Ok(CheckReport::new(&findings))
}

/// Asks for shards at the nodes that are said to have them.
struct Survey<'a> {
    mediator: Option<&'a MediatorClient>,
    fetcher: &'a Fetcher,
    asker: &'a Asker,
    depth: Depth,
}

impl Survey<'_> {
    /// What the nodes show of these shards.
    async fn ask(&self, shards: &[(&Manifest, ShardIndex)]) -> Vec<Finding> {
        let ids: BTreeSet<SegmentId> = shards.iter().map(|(manifest, _)| manifest.id()).collect();
        let claims = Claims::gather(ids, self.mediator, self.fetcher, self.asker).await;
        let mut shared: BTreeMap<SegmentId, Arc<Manifest>> = BTreeMap::new();
        let pair = |(manifest, index): &(&Manifest, ShardIndex)| {
            let segment = manifest.id();
            let manifest = shared.entry(segment).or_insert_with(|| Arc::new((*manifest).clone()));
            Pair { manifest: Arc::clone(manifest), index: *index, nodes: claims.nodes(segment, *index) }
        };
        let pairs: Vec<Pair> = shards.iter().map(pair).collect();
        let mut findings = ask_all(self.asker, &pairs, self.depth).await;
        // Only the mediator knows that nobody has a shard: without it, the node may just not answer.
        if self.mediator.is_none() {
            unknown_without_mediator(&mut findings);
        }
        findings
    }
}

fn unknown_without_mediator(findings: &mut [Finding]) {
    for finding in findings.iter_mut().filter(|finding| finding.node.is_none()) {
        finding.outcome = Outcome::Unreachable;
    }
}

/// Which node is said to have which shard.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<SegmentId, Vec<(ShardIndex, NodeId)>>);

impl Claims {
    /// What the mediator says, and what holders say of segments of which it knows too little.
    async fn gather(
        segments: BTreeSet<SegmentId>,
        mediator: Option<&MediatorClient>,
        fetcher: &Fetcher,
        asker: &Asker,
    ) -> Self {
        let mut claims = Self::default();
        let segments: Vec<SegmentId> = segments.into_iter().collect();
        let mut unknown = Vec::new();
        for page in segments.chunks(MAX_LOCATE) {
            let located = match mediator {
                Some(mediator) => mediator.locate_with_addresses(page.to_vec()).await.ok(),
                None => None,
            };
            let (located, nodes) = located.unwrap_or_default();
            asker.learn(nodes).await;
            let mut complete = BTreeSet::new();
            for one in located {
                let held = |index: ShardIndex| one.holders.iter().any(|(held, _)| *held == index);
                if one.manifest.code().indices().all(held) {
                    complete.insert(one.manifest.id());
                }
                claims.0.insert(one.manifest.id(), one.holders);
            }
            unknown.extend(page.iter().filter(|segment| !complete.contains(segment)));
        }
        if !unknown.is_empty() {
            asker.let_in_by(fetcher.holders().await).await;
            fetcher.locate_direct(&unknown).await;
            for segment in unknown {
                if let Some(places) = fetcher.places(&segment).await {
                    claims.0.entry(segment).or_default().extend(&places.1);
                }
            }
        }
        claims
    }

    fn nodes(&self, segment: SegmentId, index: ShardIndex) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        for (held, node) in self.0.get(&segment).into_iter().flatten() {
            if *held == index && !nodes.contains(node) {
                nodes.push(*node);
            }
        }
        nodes
    }
}

impl Vault {
    /// The manifests of all segments, those of the catalog included, which are not in the index.
    pub(crate) async fn all_manifests(&self, fetcher: &Fetcher) -> Result<Vec<Manifest>, ClientError> {
        let mut manifests = self.index.manifests()?;
        if let Some(head) = self.known_head()? {
            let refs = whole_catalog(self, fetcher, &head.body.refs).await?;
            let refs: Vec<_> = refs.iter().map(|reference| reference.segment).collect();
            manifests.extend(fetcher.manifests(&refs).await?.into_values());
        }
        Ok(manifests)
    }
}
