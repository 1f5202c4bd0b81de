//! Orphans: segments at the holders that neither the catalog nor a mark names, as of a client that
//! died for good between storing and its head.
//!
//! They may as well be those of a run under way on another device. So they are marked like all else
//! that is to go: a run that commits lists its segments, and what is listed is no longer marked. What
//! was marked long enough ago is *doomed* by a head before it is released: a run that comes after
//! that head stores doomed segments anew, see `backup.rs`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fincrypt_protocol::limits::MAX_LOCATE;
use fincrypt_protocol::{NodeId, SegmentId, UnixTime};
use fincrypt_vault::marks::Mark;
use futures::StreamExt;

use crate::fetch::Fetcher;

/// Holders asked at once.
const AT_ONCE: usize = 16;
/// Unlisted segments that one holder is asked about, as it may make ids up. The others are found
/// another time.
const ASKED: usize = 1 << 14;
/// Pages of a holder's list that are followed: 20 million shards.
const PAGES: usize = 10_000;

/// What holders say of a segment of ours that the catalog does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unlisted {
    /// Bytes of the shards held.
    bytes: u64,
    /// Whether all of them are about to be deleted.
    pending: bool,
}

/// Unlisted segments at the holders that answered.
#[derive(Debug, Default)]
pub(super) struct Found {
    segments: BTreeMap<SegmentId, Unlisted>,
    answered: bool,
}

impl Found {
    /// Asks all holders for what they have beside `listed`.
    pub(super) async fn at_holders(fetcher: &Fetcher, listed: &HashSet<SegmentId>) -> Self {
        let nodes = fetcher.holders().await.nodes();
        let asking = nodes.iter().map(|node| ask(fetcher, *node, listed));
        let mut answers = futures::stream::iter(asking).buffer_unordered(AT_ONCE);
        let mut found = Self { segments: BTreeMap::new(), answered: !nodes.is_empty() };
        while let Some(answer) = answers.next().await {
            for (segment, held) in answer {
                found.add(segment, held);
            }
        }
        found
    }

    fn add(&mut self, segment: SegmentId, held: Unlisted) {
        let known = self.segments.entry(segment).or_insert(Unlisted { bytes: 0, pending: true });
        known.bytes = known.bytes.saturating_add(held.bytes);
        known.pending &= held.pending;
    }

    /// Those that nobody has marked or released.
    pub(super) fn orphans(&self, marks: &[Mark], now: UnixTime) -> Vec<Mark> {
        let marked: HashSet<_> = marks.iter().map(|mark| mark.segment).collect();
        let orphans = self.segments.iter().filter(|(id, held)| !held.pending && !marked.contains(id));
        orphans.map(|(segment, held)| Mark { segment: *segment, time: now, bytes: held.bytes }).collect()
    }

    /// What became of a doomed segment.
    pub(super) fn fate(&self, segment: &SegmentId) -> Fate {
        match self.segments.get(segment) {
            Some(held) if !held.pending => Fate::Unreleased,
            None if self.answered => Fate::Gone,
            _ => Fate::Pending,
        }
    }
}

/// What became of a doomed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// A holder knows of no release.
    Unreleased,
    /// All that have it are about to delete it, or nobody answered.
    Pending,
    /// No holder has it any more.
    Gone,
}

/// What one node holds of ours beside `listed`.
async fn ask(fetcher: &Fetcher, node: NodeId, listed: &HashSet<SegmentId>) -> Vec<(SegmentId, Unlisted)> {
    let holders = fetcher.holders().await;
    let mut unlisted = BTreeSet::new();
    let (mut after, mut pages) = (None, 0);
    while let Some((page, more)) = holders.list(node, after).await {
        unlisted.extend(page.iter().map(|(id, _)| *id).filter(|id| !listed.contains(id)));
        pages += 1;
        let last = page.last().copied();
        // A list that does not go on is over, whatever the node says.
        if !more || last <= after || unlisted.len() >= ASKED || pages >= PAGES {
            break;
        }
        after = last;
    }
    let unlisted: Vec<SegmentId> = unlisted.into_iter().take(ASKED).collect();
    let mut found = Vec::new();
    for page in unlisted.chunks(MAX_LOCATE) {
        let mut seen = HashSet::new();
        for held in holders.locate_at(node, page).await.unwrap_or_default() {
            let (segment, code) = (held.manifest.id(), held.manifest.code());
            if page.contains(&segment) && fetcher.is_ours(&held.manifest, held.tag) && seen.insert(segment) {
                let shards: BTreeSet<_> =
                    held.held.iter().filter(|index| index.get() < code.total().into()).collect();
                let bytes = shards.len() as u64 * u64::from(held.manifest.shard_len().get());
                found.push((segment, Unlisted { bytes, pending: held.due.is_some() }));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn id(seed: u8) -> SegmentId {
        SegmentId::from_bytes([seed; 32])
    }

    fn found(held: &[(u8, u64, bool)]) -> Found {
        let mut found = Found { answered: true, ..Found::default() };
        held.iter().for_each(|(at, bytes, pending)| {
            found.add(id(*at), Unlisted { bytes: *bytes, pending: *pending });
        });
        found
    }

    #[test]
    fn an_orphan_is_what_nobody_marked_and_not_every_holder_is_about_to_delete() {
        let found = found(&[(1, 10, false), (1, 20, true), (2, 5, true), (2, 5, true), (3, 7, false)]);
        let marks = [Mark { segment: id(3), time: NOW, bytes: 7 }];
        assert_eq!(found.orphans(&marks, NOW), [Mark { segment: id(1), time: NOW, bytes: 30 }]);
    }

    #[test]
    fn a_doomed_segment_is_released_again_only_where_a_holder_has_not_heard() {
        let found = found(&[(1, 10, false), (1, 20, true), (2, 5, true)]);
        assert_eq!([1, 2, 3].map(|at| found.fate(&id(at))), [Fate::Unreleased, Fate::Pending, Fate::Gone]);
        assert_eq!(Found::default().fate(&id(3)), Fate::Pending, "nobody answered");
    }
}
