//! Checks that storage holds what it must: shards fetched straight from storage and compared with
//! the client's own manifests.

use std::sync::Arc;

use fincrypt_protocol::{Manifest, ShardIndex};
use futures::StreamExt;
use serde::Serialize;

use super::error::ClientError;
use super::fetch::Fetcher;
use super::vault::{Swarm, Vault};

/// A shard that is not where it should be, or not what it should be.
#[derive(Debug, Serialize)]
pub struct BadShard {
    /// The segment.
    pub segment: String,
    /// The shard's position.
    pub index: u8,
    /// The node that should have it; none if no holder lists it.
    pub node: Option<String>,
}

/// What a check found.
#[derive(Debug, Default, Serialize)]
pub struct VerifyReport {
    /// Segments looked at.
    pub segments: usize,
    /// Shards looked at.
    pub shards: usize,
    /// Shards that are right.
    pub good: usize,
    /// Shards that nobody has or that do not come.
    pub missing: Vec<BadShard>,
    /// Shards that are altered.
    pub wrong: Vec<BadShard>,
}

/// Shards fetched at once.
const AT_ONCE: usize = 16;

enum Verdict {
    Good,
    Missing(BadShard),
    Wrong(BadShard),
}

/// Checks `sample` random shards, or all.
///
/// # Errors
/// [`ClientError`] if the swarm cannot be joined or the index is damaged.
pub async fn verify(vault: &Vault, sample: Option<usize>) -> Result<VerifyReport, ClientError> {
    let swarm = Swarm::join(&vault.config).await?;
    let result = verify_in(&swarm, vault, sample).await;
    swarm.leave().await;
    result
}

async fn verify_in(swarm: &Swarm, vault: &Vault, sample: Option<usize>) -> Result<VerifyReport, ClientError> {
    let fetcher = vault.fetcher(&swarm.net, None)?;
    let mut manifests: Vec<Manifest> = vault.index.manifests()?;
    // The catalog's own segments are not in the index.
    if let Some(head) = vault.head()? {
        let head = vault.open_head(vault.slot()?, &head)?;
        let refs: Vec<_> = head.body.refs.iter().map(|reference| reference.segment).collect();
        manifests.extend(fetcher.manifests(&refs).await?.into_values());
    }
    let mut pairs: Vec<(usize, ShardIndex)> = Vec::new();
    for (at, manifest) in manifests.iter().enumerate() {
        pairs.extend(manifest.code().indices().map(|index| (at, index)));
    }
    if let Some(sample) = sample {
        shuffle(&mut pairs);
        pairs.truncate(sample);
    }
    let ids: std::collections::BTreeSet<_> = pairs.iter().map(|(at, _)| manifests[*at].id()).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    fetcher.locate_direct(&ids).await;
    let mut report = VerifyReport { segments: ids.len(), shards: pairs.len(), ..VerifyReport::default() };
    let checks = pairs.into_iter().map(|(at, index)| check(Arc::clone(&fetcher), &manifests[at], index));
    let mut verdicts = futures::stream::iter(checks).buffer_unordered(AT_ONCE);
    while let Some(verdict) = verdicts.next().await {
        match verdict {
            Verdict::Good => report.good += 1,
            Verdict::Missing(shard) => report.missing.push(shard),
            Verdict::Wrong(shard) => report.wrong.push(shard),
        }
    }
    Ok(report)
}

async fn check(fetcher: Arc<Fetcher>, manifest: &Manifest, index: ShardIndex) -> Verdict {
    let segment = manifest.id();
    let bad = |node: Option<fincrypt_protocol::NodeId>| BadShard {
        segment: segment.to_string(),
        index: index.into(),
        node: node.map(|node| node.to_string()),
    };
    let places = fetcher.places(&segment).await;
    let node =
        places.and_then(|places| places.1.iter().find(|(held, _)| *held == index).map(|(_, node)| *node));
    let Some(node) = node else { return Verdict::Missing(bad(None)) };
    match fetcher.check_at(manifest, index, node).await {
        Some(true) => Verdict::Good,
        Some(false) => Verdict::Wrong(bad(Some(node))),
        None => Verdict::Missing(bad(Some(node))),
    }
}

/// Fisher–Yates with the system's randomness, so that a storage node cannot foresee the sample.
fn shuffle<T>(items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let mut bytes = [0; 8];
        if getrandom::fill(&mut bytes).is_err() {
            return;
        }
        let bound = last as u64 + 1;
        items.swap(last, (u64::from_le_bytes(bytes) % bound) as usize);
    }
}
