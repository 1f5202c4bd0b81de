//! What to keep, what to pack anew and what to let go. Sans-IO: segments and what is used of them in,
//! a decision out.
//!
//! The catalog that follows lists exactly the extents that the plan keeps and those packed anew, so
//! a segment that is let go has nothing in it that counts as stored.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fincrypt_protocol::limits::FULL_SHARD_LEN;
use fincrypt_protocol::{Code, Manifest, Redundancy};
use fincrypt_vault::blob::{BlobId, BlobKind};
use fincrypt_vault::segment::{Directory, ENTRY_LEN, Entry, SplitId};

/// So many small segments are merged.
pub(crate) const SMALL_SEGMENTS: usize = 64;
/// Bytes of small segments that one merge packs anew: it must not take longer than a small backup.
const MERGE_AT_MOST: u64 = 64 << 20;
/// What a segment needs besides extents and entries: nonce, tag and a length.
const FRAME: u64 = 44;

/// How much is packed anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Unused bytes that may stay, in permille of the used ones; none to pack nothing anew for it.
    pub(crate) max_unused: Option<u64>,
    /// Used bytes that are packed anew at most.
    pub(crate) max_repack: u64,
    /// The code of full segments, and the redundancy of smaller ones.
    pub(crate) code: Code,
    pub(crate) redundancy: Redundancy,
}

/// A segment, as the planner sees it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) manifest: Manifest,
    pub(crate) directory: Directory,
    /// Stored by this prune before it was interrupted: not packed anew again.
    pub(crate) fresh: bool,
}

/// What to do.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Segments that stay, each with what is used of it.
    pub(crate) keep: Vec<(Manifest, Directory)>,
    /// Blobs to be packed anew, in the order of their places.
    pub(crate) repack: Vec<(BlobId, BlobKind)>,
    /// Segments of which nothing is needed once that is done.
    pub(crate) release: Vec<Manifest>,
    /// Stored bytes of the blobs that are packed anew.
    pub(crate) moved: u64,
    /// Whether the catalog lists more than is kept of these segments.
    pub(crate) listed_more: bool,
}

impl Plan {
    /// Whether nothing would change.
    pub(crate) fn is_empty(&self) -> bool {
        self.repack.is_empty() && self.release.is_empty() && !self.listed_more
    }
}

/// A blob that a snapshot needs is not in the index as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("blob {0}, which a snapshot needs, is not in the index; nothing is pruned")]
pub(crate) struct Incomplete(pub(crate) BlobId);

/// One blob's places in one split: segment and entry.
type Places = Vec<(usize, usize)>;

/// Whether a segment is so small that many of its kind are merged.
fn is_small(manifest: &Manifest) -> bool {
    manifest.shard_len().get() <= FULL_SHARD_LEN / 2
}

/// Bytes of all shards of a segment.
pub(crate) fn stored_bytes(manifest: &Manifest) -> u64 {
    u64::from(manifest.code().total()) * u64::from(manifest.shard_len().get())
}

fn cost(entry: &Entry) -> u64 {
    u64::from(entry.length) + ENTRY_LEN as u64
}

/// Chooses for every used blob the places it is read from: a complete split, a fresh one rather than
/// another.
fn choose(segments: &[Segment], used: &HashSet<BlobId>) -> Result<Vec<Places>, Incomplete> {
    let mut splits: BTreeMap<(BlobId, SplitId), Places> = BTreeMap::new();
    for (at, segment) in segments.iter().enumerate() {
        for (number, entry) in segment.directory.entries().iter().enumerate() {
            if used.contains(&entry.blob) {
                splits.entry((entry.blob, entry.split)).or_default().push((at, number));
            }
        }
    }
    let entry = |place: &(usize, usize)| &segments[place.0].directory.entries()[place.1];
    let mut chosen: BTreeMap<BlobId, (bool, Places)> = BTreeMap::new();
    for ((blob, _), mut places) in splits {
        places.sort_by_key(|place| entry(place).part);
        places.dedup_by_key(|place| entry(place).part);
        let complete = places.first().is_some_and(|first| places.len() == usize::from(entry(first).parts));
        let fresh = places.iter().all(|place| segments[place.0].fresh);
        if complete && chosen.get(&blob).is_none_or(|(known, _)| fresh && !known) {
            chosen.insert(blob, (fresh, places));
        }
    }
    if let Some(missing) = used.iter().find(|blob| !chosen.contains_key(blob)) {
        return Err(Incomplete(*missing));
    }
    Ok(chosen.into_values().map(|(_, places)| places).collect())
}

/// Segments to be packed anew, as positions.
fn candidates(segments: &[Segment], need: &[u64], limits: &Limits) -> BTreeSet<usize> {
    let mut taken = BTreeSet::new();
    let mut moved = 0;
    let old = |at: &usize| !segments[*at].fresh && need[*at] > 0;
    // What packing a segment's used part alone would save.
    let waste = |at: usize| {
        let (code, shard_len) = limits.code.for_small_run(need[at] + FRAME, limits.redundancy);
        let packed = u64::from(code.data()) * u64::from(shard_len.get());
        (segments[at].manifest.data_len() as u64).saturating_sub(packed)
    };
    if let Some(max_unused) = limits.max_unused {
        let mut wasteful: Vec<(u64, usize)> = (0..segments.len())
            .filter(old)
            .map(|at| (waste(at), at))
            .filter(|(waste, _)| *waste > 0)
            .collect();
        // Least used first, in proportion.
        wasteful
            .sort_by_key(|(_, at)| (need[*at] * 1000 / segments[*at].manifest.data_len().max(1) as u64, *at));
        let mut unused: u64 = wasteful.iter().map(|(waste, _)| waste).sum();
        let allowed = need.iter().sum::<u64>() / 1000 * max_unused;
        for (waste, at) in wasteful {
            if unused > allowed && moved + need[at] <= limits.max_repack {
                unused -= waste;
                moved += need[at];
                taken.insert(at);
            }
        }
    }
    let small: Vec<usize> = (0..segments.len())
        .filter(old)
        .filter(|at| !taken.contains(at) && is_small(&segments[*at].manifest))
        .collect();
    if small.len() >= SMALL_SEGMENTS {
        let mut merged = 0;
        for at in small {
            if merged + need[at] <= MERGE_AT_MOST {
                merged += need[at];
                taken.insert(at);
            }
        }
    }
    taken
}

/// Whether so many of these segments are small that they are to be merged.
pub(crate) fn merge_is_due<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> bool {
    manifests.filter(|manifest| is_small(manifest)).count() >= SMALL_SEGMENTS
}

/// Decides what becomes of each segment when exactly `used` is to stay.
///
/// # Errors
/// [`Incomplete`] if a used blob is not there as a whole.
pub(crate) fn plan(
    segments: &[Segment],
    used: &HashSet<BlobId>,
    limits: &Limits,
) -> Result<Plan, Incomplete> {
    let chosen = choose(segments, used)?;
    let entry = |place: &(usize, usize)| &segments[place.0].directory.entries()[place.1];
    let mut need = vec![0; segments.len()];
    for place in chosen.iter().flatten() {
        need[place.0] += cost(entry(place));
    }
    let repacked = candidates(segments, &need, limits);
    let mut plan = Plan::default();
    let mut kept: Vec<Vec<Entry>> = vec![Vec::new(); segments.len()];
    let mut moving: Vec<(usize, u32, BlobId, BlobKind)> = Vec::new();
    for places in &chosen {
        // A blob moves as a whole if any part of it does.
        if places.iter().any(|place| repacked.contains(&place.0)) {
            plan.moved += places.iter().map(|place| u64::from(entry(place).length)).sum::<u64>();
            moving.extend(places.first().map(|first| {
                let entry = entry(first);
                (first.0, entry.offset, entry.blob, entry.kind)
            }));
        } else {
            places.iter().for_each(|place| kept[place.0].push(entry(place).clone()));
        }
    }
    moving.sort_unstable_by_key(|(at, offset, ..)| (*at, *offset));
    plan.repack = moving.into_iter().map(|(_, _, blob, kind)| (blob, kind)).collect();
    for (segment, mut entries) in segments.iter().zip(kept) {
        plan.listed_more |= entries.len() != segment.directory.entries().len();
        if entries.is_empty() {
            plan.release.push(segment.manifest.clone());
        } else {
            entries.sort_by_key(|entry| entry.offset);
            plan.keep.push((segment.manifest.clone(), Directory::new(entries)));
        }
    }
    Ok(plan)
}

/// The blobs in these segments that are part of any snapshot or may be: all but the catalog's own.
pub(crate) fn everything(segments: &[Segment], without: &HashSet<BlobId>) -> HashSet<BlobId> {
    let entries = segments.iter().flat_map(|segment| segment.directory.entries());
    let stored = |entry: &&Entry| !entry.kind.is_catalog() && !without.contains(&entry.blob);
    entries.filter(stored).map(|entry| entry.blob).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
