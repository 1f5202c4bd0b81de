//! What is to be read, in which order.

use std::collections::{HashMap, HashSet};

use fincrypt_protocol::SegmentId;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::index::Location;
use fincrypt_vault::segment::Entry;

/// Which extents of a segment are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Extents {
    /// All that its directory lists.
    All,
    /// These, each once.
    Some(Vec<Entry>),
}

/// A segment and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) segment: SegmentId,
    pub(crate) extents: Extents,
}

/// Makes a list of wanted segments from blobs in the order in which they are needed.
#[derive(Debug, Default)]
pub(crate) struct WantedBlobs {
    segments: Vec<(SegmentId, Vec<Entry>)>,
    places: HashMap<SegmentId, usize>,
    seen: HashSet<BlobId>,
}

impl WantedBlobs {
    /// Whether a blob is new: it is to be added then.
    pub(crate) fn is_new(&mut self, blob: &BlobId) -> bool {
        self.seen.insert(*blob)
    }

    /// Adds all places of a new blob: each segment comes when the first blob of it is needed.
    pub(crate) fn add(&mut self, locations: Vec<Location>) {
        for Location { segment, entry } in locations {
            let place = *self.places.entry(segment).or_insert_with(|| {
                self.segments.push((segment, Vec::new()));
                self.segments.len() - 1
            });
            self.segments[place].1.push(entry);
        }
    }

    /// The segments in order.
    pub(crate) fn into_segments(self) -> Vec<Wanted> {
        let wanted = |(segment, entries)| Wanted { segment, extents: Extents::Some(entries) };
        self.segments.into_iter().map(wanted).collect()
    }
}
