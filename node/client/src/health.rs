//! How many of each segment's shards are there: those that the mediator says have a keeper, less those
//! that this machine itself found bad at that keeper and has not seen proved since.

use std::collections::{BTreeMap, HashSet};

use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::{Manifest, NodeId, SegmentId, ShardIndex};
use futures::StreamExt;
use serde::Serialize;

use super::error::ClientError;
use super::mediator_client::MediatorClient;
use super::self_check::{Notes, Seen};

/// Requests to locate segments on the way at once.
const PAGES_AT_ONCE: usize = 4;

/// One segment's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    /// Shards that are there.
    pub(crate) healthy: u8,
    /// Shards there should be.
    pub(crate) total: u8,
    /// Shards that suffice.
    pub(crate) needed: u8,
}

impl Health {
    fn of(manifest: &Manifest, holders: &[(ShardIndex, NodeId)], seen: &Seen) -> Self {
        let code = manifest.code();
        let good = holders.iter().filter(|(index, node)| !seen.is_bad(*index, *node));
        let good: HashSet<ShardIndex> =
            good.map(|(index, _)| *index).filter(|index| index.get() < usize::from(code.total())).collect();
        // At most all 30.
        Self { healthy: good.len() as u8, total: code.total(), needed: code.data() }
    }

    /// Shards more than suffice; negative if some are missing for good.
    fn spare(self) -> i16 {
        i16::from(self.healthy) - i16::from(self.needed)
    }
}

/// The health of some segments together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Shards that are there of the segment with the fewest to spare,
    pub min: u8,
    /// of so many,
    pub min_of: u8,
    /// of which so many suffice.
    pub min_needed: u8,
    /// The same of the segment in the middle.
    pub median: u8,
    /// All its shards.
    pub median_of: u8,
    /// Segments that lack a shard.
    pub degraded: usize,
    /// Segments that lack more than can be made up for.
    pub lost: usize,
}

impl Standing {
    /// None of none.
    pub(crate) fn of(mut all: Vec<Health>) -> Option<Self> {
        all.sort_by_key(|health| (health.spare(), health.healthy));
        let (worst, middle) = (all.first()?, all.get(all.len() / 2)?);
        Some(Self {
            min: worst.healthy,
            min_of: worst.total,
            min_needed: worst.needed,
            median: middle.healthy,
            median_of: middle.total,
            degraded: all.iter().filter(|health| health.healthy < health.total).count(),
            lost: all.iter().filter(|health| health.spare() < 0).count(),
        })
    }
}

/// The health of some segments, as the mediator and this machine's notes say. A segment that the
/// mediator does not know has no shard.
pub(crate) async fn health(
    link: &MediatorClient,
    notes: &Notes,
    manifests: &[Manifest],
) -> Result<BTreeMap<SegmentId, Health>, ClientError> {
    let ask = |page: &[Manifest]| {
        let ids = page.iter().map(Manifest::id).collect();
        async move { link.locate(ids).await }
    };
    let pages = manifests.chunks(MAX_LOCATE).map(ask);
    let mut pages = futures::stream::iter(pages).buffer_unordered(PAGES_AT_ONCE);
    let mut holders: BTreeMap<SegmentId, Vec<(ShardIndex, NodeId)>> = BTreeMap::new();
    while let Some(located) = pages.next().await {
        holders.extend(located?.into_iter().map(|one| (one.manifest.id(), one.holders)));
    }
    drop(pages);
    let mut found = BTreeMap::new();
    for manifest in manifests {
        let id = manifest.id();
        let held = holders.get(&id).map(Vec::as_slice).unwrap_or_default();
        found.insert(id, Health::of(manifest, held, &notes.seen(&id)?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Code, ShardId, ShardLen};

    fn health(healthy: u8, data: u8, total: u8) -> Health {
        Health { healthy, total, needed: data }
    }

    #[test]
    fn the_worst_segment_is_the_one_with_the_fewest_shards_to_spare() {
        // Four of five with one that suffices stand better than six of eight with four.
        let standing = Standing::of(vec![health(4, 1, 5), health(6, 4, 8), health(8, 4, 8)]).expect("some");
        assert_eq!((standing.min, standing.min_of, standing.min_needed), (6, 8, 4));
        assert_eq!((standing.median, standing.median_of), (4, 5));
        assert_eq!((standing.degraded, standing.lost), (2, 0));
        assert_eq!(Standing::of(vec![health(3, 4, 8)]).map(|standing| standing.lost), Some(1));
        assert_eq!(Standing::of(Vec::new()), None);
    }

    #[test]
    fn what_was_found_bad_at_its_keeper_does_not_count_until_another_keeps_it() {
        let code = Code::new(1, 2).expect("valid");
        let ids = (0..3).map(|at| ShardId::from_bytes([at; 32])).collect();
        let manifest = Manifest::new(code, ShardLen::FULL, ids).expect("valid");
        let (index, node) = (|at| ShardIndex::new(at).expect("valid"), |at| NodeId::from_bytes([at; 32]));
        let seen = Seen { proved: 0, bad: vec![(index(1), Some(node(1)))] };
        let holders = [(index(0), node(0)), (index(1), node(1)), (index(2), node(2)), (index(2), node(3))];
        assert_eq!(Health::of(&manifest, &holders, &seen), health(2, 1, 3));
        let moved = [(index(0), node(0)), (index(1), node(7)), (index(2), node(2)), (index(9), node(3))];
        assert_eq!(Health::of(&manifest, &moved, &seen), health(3, 1, 3));
    }
}
