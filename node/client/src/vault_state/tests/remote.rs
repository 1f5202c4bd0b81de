//! A model of the storage and the mediator of one vault, and of another device that writes to it.

use std::collections::{BTreeMap, BTreeSet};

use fincrypt_protocol::{Manifest, RunId, SegmentId, UnixTime};
use fincrypt_vault::marks::Mark;
use fincrypt_vault::segment::Directory;

use super::{manifest, run_id};

/// What another device does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Other {
    BacksUp,
    /// It marks one segment, and perhaps what no head refers to; what was marked before is deleted.
    Prunes {
        orphans: bool,
    },
    ReleasesEverything,
}

/// The contents of a catalog segment.
#[derive(Debug, Clone, Default)]
pub(super) struct Piece {
    pub(super) segments: Vec<Manifest>,
    pub(super) marks: Vec<Mark>,
}

/// What storage and the mediator have.
#[derive(Debug, Clone, Default)]
pub(super) struct Remote {
    pub(super) sequence: u64,
    pub(super) releases: Vec<[u8; 32]>,
    pub(super) refs: Vec<SegmentId>,
    pub(super) pieces: BTreeMap<SegmentId, Piece>,
    /// Segments that are not deleted, and the runs that stored them.
    pub(super) stored: BTreeMap<SegmentId, (Manifest, RunId)>,
    pub(super) kept: BTreeSet<RunId>,
    /// Segments whose backup was acknowledged and that nobody has pruned or released.
    pub(super) needed: BTreeSet<SegmentId>,
    pub(super) ids: u64,
}

impl Remote {
    pub(super) fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(super) fn store(&mut self, run: RunId) -> Manifest {
        let manifest = manifest(self.id());
        self.stored.insert(manifest.id(), (manifest.clone(), run));
        manifest
    }

    pub(super) fn store_piece(&mut self, run: RunId, piece: Piece) -> SegmentId {
        let id = self.store(run).id();
        self.pieces.insert(id, piece);
        id
    }

    pub(super) fn listed(&self) -> BTreeMap<SegmentId, Manifest> {
        let pieces = self.refs.iter().flat_map(|piece| &self.pieces[piece].segments);
        pieces.map(|manifest| (manifest.id(), manifest.clone())).collect()
    }

    /// What the catalog marks and does not list.
    pub(super) fn marks(&self) -> BTreeMap<SegmentId, Mark> {
        let listed = self.listed();
        let pieces = self.refs.iter().flat_map(|piece| &self.pieces[piece].marks);
        let marks = pieces.filter(|mark| !listed.contains_key(&mark.segment));
        marks.map(|mark| (mark.segment, *mark)).collect()
    }

    pub(super) fn name(&mut self, rewriting: bool) -> [u8; 32] {
        let mut name = [if rewriting { 0 } else { 1 }; 32];
        name[24..].copy_from_slice(&self.id().to_be_bytes());
        name
    }

    /// Puts a head in the place of the one of this sequence.
    pub(super) fn swap(&mut self, base: u64, refs: Vec<SegmentId>, releases: Vec<[u8; 32]>) -> bool {
        if base != self.sequence {
            return false;
        }
        self.sequence += 1;
        (self.refs, self.releases) = (refs, releases);
        true
    }

    pub(super) fn other(&mut self, other: Other) {
        let run = run_id(self.id());
        let (sequence, mut releases) = (self.sequence, self.releases.clone());
        match other {
            Other::BacksUp => {
                let new = self.store(run);
                self.needed.insert(new.id());
                let piece = self.store_piece(run, Piece { segments: vec![new], marks: Vec::new() });
                self.kept.insert(run);
                let refs = self.refs.iter().copied().chain([piece]).collect();
                self.swap(sequence, refs, releases);
            }
            Other::Prunes { orphans } => {
                let mut listed = self.listed();
                let (marks, refs) = (self.marks(), self.refs.clone());
                let known: BTreeSet<_> = listed.keys().chain(marks.keys()).chain(&refs).copied().collect();
                let unnamed = self.stored.keys().filter(|id| orphans && !known.contains(id));
                let marked: Vec<_> =
                    unnamed.copied().chain(refs).chain(listed.pop_first().map(|(id, _)| id)).collect();
                self.rewrite(run, listed, marks.into_values().collect(), &marked);
                releases.push(self.name(true));
                self.releases = releases;
            }
            Other::ReleasesEverything => {
                releases.push(self.name(false));
                self.swap(sequence, Vec::new(), releases);
                self.delete_everything();
            }
        }
    }

    /// A catalog that lists these segments and marks those, by the device that names a rewriting. What
    /// was marked before is doomed and deleted.
    pub(super) fn rewrite(
        &mut self,
        run: RunId,
        listed: BTreeMap<SegmentId, Manifest>,
        old: Vec<Mark>,
        new: &[SegmentId],
    ) {
        let mut marks: Vec<Mark> = old
            .iter()
            .filter(|mark| self.stored.contains_key(&mark.segment))
            .map(|mark| mark.doomed())
            .collect();
        let doomed = marks.clone();
        marks.extend(new.iter().map(|id| mark(*id)));
        let piece = Piece { segments: listed.into_values().collect(), marks };
        let piece = self.store_piece(run, piece);
        self.kept.insert(run);
        self.swap(self.sequence, vec![piece], self.releases.clone());
        for id in doomed.iter().map(|mark| mark.segment) {
            self.stored.remove(&id);
        }
        new.iter().chain(doomed.iter().map(|mark| &mark.segment)).for_each(|id| {
            self.needed.remove(id);
        });
    }

    pub(super) fn delete_everything(&mut self) {
        self.stored.clear();
        self.needed.clear();
    }
}

pub(super) fn mark(segment: SegmentId) -> Mark {
    Mark { segment, time: UnixTime::from_secs(1), bytes: 1 }
}

pub(super) fn plain(segments: &[Manifest]) -> Vec<(Manifest, Directory)> {
    segments.iter().map(|manifest| (manifest.clone(), Directory::default())).collect()
}
