//! Blobs that begin in one segment and end in another.

use std::collections::{BTreeMap, HashMap, HashSet};

use fincrypt_protocol::SegmentId;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::index::Location;
use fincrypt_vault::segment::{Entry, Parts, SegmentError, SplitId};

use super::wanted::{Wanted, WantedBlobs};

/// Stored bytes of deferred blobs that are read together in the end: less than [`Parts`] holds.
const ROUND: usize = 16 << 20;

/// A split blob of which a part has come, and others have not.
struct Open {
    /// The parts that came.
    places: BTreeMap<u16, Location>,
    /// Whether it is to be read again, as there was no room for its parts.
    deferred: bool,
    /// Whether it was asked for, rather than found in a segment of which everything was.
    wanted: bool,
}

impl Open {
    fn first(&self) -> Option<&Location> {
        self.places.values().next()
    }

    fn is_complete(&self) -> bool {
        self.first().is_some_and(|first| usize::from(first.entry.parts) == self.places.len())
    }
}

/// The parts of split blobs, and those that are read again when everything else was.
#[derive(Default)]
pub(super) struct Splits {
    parts: Parts,
    open: HashMap<(BlobId, SplitId), Open>,
    /// Blobs of which a part is lost: the others are of no use.
    lost: HashSet<(BlobId, SplitId)>,
}

impl Splits {
    /// Takes a part of a blob; all its stored bytes once the last part is there.
    ///
    /// # Errors
    /// [`SegmentError::Parts`] if parts contradict each other.
    pub(super) fn add(
        &mut self,
        segment: SegmentId,
        entry: &Entry,
        extent: &[u8],
        wanted: bool,
    ) -> Result<Option<Vec<u8>>, SegmentError> {
        let key = (entry.blob, entry.split);
        if self.lost.contains(&key) {
            return Ok(None);
        }
        let new = || Open { places: BTreeMap::new(), deferred: false, wanted: false };
        let open = self.open.entry(key).or_insert_with(new);
        open.wanted |= wanted;
        open.places.insert(entry.part, Location { segment, entry: entry.clone() });
        if open.deferred {
            return Ok(None);
        }
        match self.parts.add(entry, extent) {
            Ok(Some(stored)) => {
                self.open.remove(&key);
                Ok(Some(stored))
            }
            Err(SegmentError::Crowded) => {
                open.deferred = true;
                Ok(None)
            }
            other => other,
        }
    }

    /// Notes that the blob of which `entry` is a part will not come; false if that was known.
    pub(super) fn lose(&mut self, entry: &Entry) -> bool {
        let key = (entry.blob, entry.split);
        self.open.remove(&key);
        self.lost.insert(key)
    }

    /// Blobs that were asked for without all their parts, each with the segment of one it has. Called
    /// when all segments were read.
    pub(super) fn take_incomplete(&mut self) -> Vec<(SegmentId, BlobId)> {
        let incomplete = self.open.extract_if(|_, open| !(open.deferred && open.is_complete()));
        let asked_for = incomplete.filter(|(_, open)| open.wanted);
        asked_for.filter_map(|((blob, _), open)| Some((open.first()?.segment, blob))).collect()
    }

    /// Some of the deferred blobs, to be read by themselves; none if no more are left.
    pub(super) fn next_round(&mut self) -> Vec<Wanted> {
        self.parts = Parts::default();
        let mut deferred: Vec<_> = std::mem::take(&mut self.open).into_iter().collect();
        // Those of one segment after each other.
        deferred.sort_by_cached_key(|(_, open)| open.first().map(|first| first.segment));
        let (mut wanted, mut bytes) = (WantedBlobs::default(), 0);
        for (key, open) in deferred {
            let stored: usize = open.places.values().map(|place| place.entry.length as usize).sum();
            // A blob is shorter than a round, so each round has one at least.
            if bytes + stored <= ROUND && wanted.is_new(&key.0) {
                bytes += stored;
                wanted.add(open.places.into_values().collect());
            } else {
                self.open.insert(key, open);
            }
        }
        wanted.into_segments()
    }
}
