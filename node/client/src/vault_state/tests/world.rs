//! A vault's life against a model of its storage: backups, prunes and releases of this machine and of
//! another one, recoveries, and power cuts between any two writes.

use std::collections::{BTreeMap, BTreeSet};

use fincrypt_protocol::{Manifest, RunId, SegmentId, UnixTime};
use fincrypt_vault::index::BlobIndex;
use proptest::prelude::*;
use proptest::sample::Index;

use super::remote::{Other, Piece, Remote, mark, plain};
use super::sim::{Sim, SimJournal};
use super::{head, run_id};
use crate::vault_state::{Followed, FoundAccount, IndexOrigin, RunState, VaultState, VaultStateError};

/// What becomes of a head that this machine sends.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Taken,
    /// It is taken, and the answer does not come through.
    AnswerLost,
    /// It does not arrive.
    Lost,
    /// Another device's comes first.
    After(Other),
}

#[derive(Debug, Clone)]
enum Act {
    Read,
    Backup(u64, Fate),
    Prune(Index, Fate),
    Release(Fate),
    Other(Other),
    Reserve(u64),
    /// The vault is recovered from its words, without its catalog perhaps.
    Recover {
        catalog: bool,
    },
    Restart {
        database_lost: bool,
    },
}

fn acts() -> impl Strategy<Value = Act> {
    let other = prop_oneof![
        4 => Just(Other::BacksUp),
        3 => any::<bool>().prop_map(|orphans| Other::Prunes { orphans }),
        1 => Just(Other::ReleasesEverything),
    ];
    let fate = prop_oneof![
        4 => Just(Fate::Taken),
        2 => Just(Fate::AnswerLost),
        2 => Just(Fate::Lost),
        2 => other.clone().prop_map(Fate::After),
    ];
    prop_oneof![
        2 => Just(Act::Read),
        8 => (0..3_u64, fate.clone()).prop_map(|(new, fate)| Act::Backup(new, fate)),
        3 => (any::<Index>(), fate.clone()).prop_map(|(which, fate)| Act::Prune(which, fate)),
        1 => fate.prop_map(Act::Release),
        4 => other.prop_map(Act::Other),
        1 => (0..9_u64).prop_map(Act::Reserve),
        1 => any::<bool>().prop_map(|catalog| Act::Recover { catalog }),
        2 => any::<bool>().prop_map(|database_lost| Act::Restart { database_lost }),
    ]
}

type Outcome = Result<(), VaultStateError>;

/// The machine under test, and what it owes.
struct World {
    sim: Sim,
    state: VaultState<Sim>,
    remote: Remote,
    /// Sequence of the newest head it has surely seen.
    seen: u64,
    /// Whether the journal's segments must still be there.
    journal_counts: bool,
    /// Its runs whose heads came to be.
    committed: BTreeSet<RunId>,
    /// Runs that it has found at the holders.
    found: BTreeSet<RunId>,
    /// Segments that it has read into the index of this generation.
    read: BTreeSet<SegmentId>,
    reserved: u64,
}

impl World {
    fn new() -> Self {
        let sim = Sim::default();
        let state = sim.open();
        Self {
            sim,
            state,
            remote: Remote::default(),
            seen: 0,
            journal_counts: false,
            committed: BTreeSet::new(),
            found: BTreeSet::new(),
            read: BTreeSet::new(),
            reserved: 0,
        }
    }

    fn index(&self) -> BlobIndex<Sim> {
        BlobIndex::new(self.sim.clone())
    }

    fn indexed(&self) -> BTreeMap<SegmentId, Manifest> {
        let manifests = self.index().manifests().expect("read");
        manifests.into_iter().map(|manifest| (manifest.id(), manifest)).collect()
    }

    fn rebuild(&mut self) -> Outcome {
        let stored: Vec<_> = self.remote.stored.values().cloned().collect();
        for (manifest, _) in
            stored.iter().filter(|(manifest, _)| !self.remote.pieces.contains_key(&manifest.id()))
        {
            self.state.cache().take_in(&plain(std::slice::from_ref(manifest)), &[], &[])?;
        }
        let runs: BTreeSet<RunId> = stored.iter().map(|(_, run)| *run).collect();
        self.state.index_rebuilt(&runs.iter().copied().collect::<Vec<_>>())?;
        self.found.extend(runs);
        self.read = self.indexed().into_keys().collect();
        Ok(())
    }

    fn load(&mut self) -> Outcome {
        for reference in &self.remote.refs {
            if !self.state.cache().is_loaded(reference)? {
                let piece = &self.remote.pieces[reference];
                self.state.cache().take_in(&plain(&piece.segments), &piece.marks, &[*reference])?;
            }
        }
        Ok(())
    }

    fn follow(&mut self) -> Result<Followed, VaultStateError> {
        let releases = &self.remote.releases;
        let record = self.state.record()?;
        let new: Vec<_> = releases.iter().filter(|name| !record.index.releases.contains(name)).collect();
        if !new.is_empty() {
            self.read.clear();
            let unsettled = matches!(record.run, RunState::Committing { .. });
            self.journal_counts &= !unsettled && new.iter().all(|name| name[0] == 0);
        }
        let followed = self.state.follow(releases)?;
        if self.state.is_rebuild_due()? {
            self.rebuild()?;
        }
        self.load()?;
        Ok(followed)
    }

    fn settle(&mut self) -> Outcome {
        let (run, committed) = match self.state.run()? {
            RunState::Idle { .. } => return Ok(()),
            RunState::Keeping { run } => (run, true),
            RunState::Committing { run } => {
                let (journal, index) = (self.sim.journal(), self.indexed());
                let listed = |journal: SimJournal| {
                    journal.segments.iter().any(|segment| index.contains_key(&segment.id()))
                };
                (run, journal.is_none_or(listed))
            }
        };
        if !committed {
            return self.state.undo_commit(run);
        }
        self.remote.kept.insert(run);
        self.journal_counts = false;
        self.state.finish_commit(run)
    }

    fn keep(&mut self, run: RunId) -> Outcome {
        self.remote.kept.insert(run);
        loop {
            let runs = self.state.found_runs()?;
            if runs.is_empty() {
                return Ok(());
            }
            self.remote.kept.extend(&runs);
            self.state.found_runs_kept(&runs)?;
        }
    }

    fn backup(&mut self, new: u64, fate: Fate) -> Outcome {
        let mut base = self.remote.clone();
        self.follow()?;
        self.settle()?;
        let fresh = run_id(self.remote.id());
        let mut journal = self.sim.journal().unwrap_or(SimJournal { run: fresh, segments: Vec::new() });
        let recheck = self.state.run()? == (RunState::Idle { recheck: true });
        let doomed: BTreeSet<_> = self
            .state
            .cache()
            .tombstones()?
            .iter()
            .filter(|mark| mark.is_doomed())
            .map(|mark| mark.segment)
            .collect();
        let before = journal.segments.len();
        journal.segments.retain(|segment| {
            let gone = recheck && !self.remote.stored.contains_key(&segment.id());
            !gone && !doomed.contains(&segment.id())
        });
        if journal.segments.len() != before {
            self.sim.write_journal(journal.clone())?;
        }
        self.state.journal_checked()?;
        for _ in 0..=new {
            let segment = self.remote.store(journal.run);
            journal.segments.push(segment);
            self.journal_counts = false;
            self.sim.write_journal(journal.clone())?;
            self.journal_counts = true;
        }
        let rebuilt = self.state.index_origin()? == IndexOrigin::Segments;
        let mut piece = Piece { segments: journal.segments.clone(), marks: Vec::new() };
        if rebuilt {
            let own: BTreeSet<_> = journal.segments.iter().map(Manifest::id).collect();
            piece
                .segments
                .extend(self.indexed().into_iter().filter(|(id, _)| !own.contains(id)).map(|(_, of)| of));
            piece.marks = self.state.cache().tombstones()?;
        }
        let listed = piece.segments.clone();
        let piece = self.remote.store_piece(journal.run, piece);
        for attempt in 0..3 {
            let mut refs = base.refs.clone();
            if rebuilt && attempt == 0 {
                let mut unread = Vec::new();
                for reference in refs {
                    if !self.state.cache().is_loaded(&reference)? {
                        unread.push(reference);
                    }
                }
                refs = unread;
            }
            let mut marks = Vec::new();
            if refs.len() > 3 {
                let merged: Vec<SegmentId> = refs.drain(..2).collect();
                marks = merged.iter().map(|id| mark(*id)).collect();
                let pieces = merged.iter().map(|id| self.remote.pieces[id].clone());
                let mut whole = pieces.fold(Piece::default(), |mut whole, piece| {
                    whole.segments.extend(piece.segments);
                    whole.marks.extend(piece.marks);
                    whole
                });
                whole.marks.extend(&marks);
                refs.push(self.remote.store_piece(journal.run, whole));
            }
            refs.push(piece);
            self.keep(journal.run)?;
            self.state.begin_commit(journal.run)?;
            match fate {
                Fate::Lost => return Ok(()),
                Fate::After(other) if attempt == 0 => self.remote.other(other),
                _ => {}
            }
            if !self.remote.swap(base.sequence, refs.clone(), base.releases.clone()) {
                self.state.undo_commit(journal.run)?;
                base = self.remote.clone();
                match self.follow()? {
                    Followed::Grew => continue,
                    Followed::Rewritten | Followed::Released => return Ok(()),
                }
            }
            // The new piece lists them, so a head that came to be counts, heard of or not.
            self.committed.insert(journal.run);
            self.remote.needed.extend(journal.segments.iter().map(Manifest::id));
            self.journal_counts = false;
            if matches!(fate, Fate::AnswerLost) {
                return Ok(());
            }
            self.state.cache().take_in(&plain(&listed[..journal.segments.len()]), &[], &[])?;
            self.state.cache().take_in(&[], &marks, &refs)?;
            self.state.commit_succeeded(journal.run, &head(self.remote.sequence))?;
            self.seen = self.remote.sequence;
            return Ok(());
        }
        Ok(())
    }

    fn prune(&mut self, which: Index, fate: Fate) -> Outcome {
        self.follow()?;
        self.settle()?;
        let (base, run) = (self.remote.clone(), run_id(self.remote.id()));
        let mut listed = self.indexed();
        let old: Vec<_> = self
            .state
            .cache()
            .tombstones()?
            .into_iter()
            .filter(|mark| !listed.contains_key(&mark.segment))
            .collect();
        let mut marked = base.refs.clone();
        if !listed.is_empty() {
            let unused = *which.get(&listed.keys().copied().collect::<Vec<_>>());
            listed.remove(&unused);
            marked.push(unused);
        }
        // Runs whose segments are listed must be kept; the product keeps them with the next backup.
        self.keep(run)?;
        match fate {
            Fate::Lost => return Ok(()),
            Fate::After(other) => {
                self.remote.other(other);
                return Ok(());
            }
            Fate::Taken | Fate::AnswerLost => {}
        }
        self.remote.rewrite(run, listed, old, &marked);
        let name = self.remote.name(true);
        self.remote.releases.push(name);
        if matches!(fate, Fate::AnswerLost) {
            return Ok(());
        }
        self.read.clear();
        let releases = self.remote.releases.clone();
        self.state.catalog_rewritten(&head(self.remote.sequence), &releases)?;
        self.seen = self.remote.sequence;
        self.load()
    }

    fn release(&mut self, fate: Fate) -> Outcome {
        match fate {
            Fate::Lost => return Ok(()),
            Fate::After(other) => self.remote.other(other),
            Fate::Taken | Fate::AnswerLost => {}
        }
        self.remote.other(Other::ReleasesEverything);
        if matches!(fate, Fate::AnswerLost) {
            return Ok(());
        }
        (self.journal_counts, _) = (false, self.read.clear());
        let releases = self.remote.releases.clone();
        self.state.replaced_head(&head(self.remote.sequence), &releases)?;
        self.seen = self.remote.sequence;
        Ok(())
    }

    /// Repeated by the person until it comes to its end.
    fn recover(&mut self, catalog: bool) -> Outcome {
        self.journal_counts = false;
        (self.seen, self.reserved) = (0, 0);
        self.found.clear();
        self.read.clear();
        self.state.reset()?;
        if catalog {
            self.load()?
        } else {
            self.rebuild()?
        }
        let (head, releases) = (head(self.remote.sequence.max(1)), self.remote.releases.clone());
        let head = (self.remote.sequence > 0).then_some((&head, releases.as_slice()));
        self.state.account().recover(FoundAccount { index: 0, mandate: None, head, rewound: None })?;
        self.seen = self.remote.sequence;
        Ok(())
    }

    fn act(&mut self, act: &Act) -> Outcome {
        match act {
            Act::Read => {
                self.follow()?;
                if self.remote.sequence > 0 {
                    self.state.saw_head(&head(self.remote.sequence))?;
                }
                self.seen = self.remote.sequence;
                Ok(())
            }
            Act::Backup(new, fate) => self.backup(*new, *fate),
            Act::Prune(which, fate) => self.prune(*which, *fate),
            Act::Release(fate) => self.release(*fate),
            Act::Other(other) => {
                self.remote.other(*other);
                Ok(())
            }
            Act::Reserve(now) => {
                let next = self.state.account().reserve_release_sequence(UnixTime::from_secs(*now))?;
                assert!(next > self.reserved, "a sequence twice");
                self.reserved = next;
                Ok(())
            }
            Act::Recover { catalog } => self.recover(*catalog),
            Act::Restart { database_lost } => {
                self.restart(1000, *database_lost);
                Ok(())
            }
        }
    }

    fn restart(&mut self, kept: usize, database_lost: bool) {
        self.sim.restart(kept, database_lost);
        self.state = self.sim.open();
    }

    /// What holds at any time.
    fn check(&self) {
        let remote = &self.remote;
        let listed = remote.listed();
        assert!(
            remote.needed.iter().all(|id| listed.contains_key(id)),
            "an acknowledged backup is forgotten"
        );
        for id in listed.keys().chain(&remote.refs) {
            let Some((_, run)) = remote.stored.get(id) else { panic!("{id} is listed and deleted") };
            assert!(remote.kept.contains(run), "a head refers to a run that is not kept");
        }
        let known = self.state.record().expect("read").head.map_or(0, |(sequence, _)| sequence);
        assert!(known >= self.seen, "a head that was seen is forgotten");
        if let RunState::Committing { run } = self.state.run().expect("read") {
            let journal = self.sim.journal().expect("an unsettled commit has its journal");
            assert_eq!(journal.run, run);
        }
        assert!(!self.journal_counts || self.sim.journal().is_some(), "what a run has stored is forgotten");
        let waiting: BTreeSet<_> = self.state.found_runs().expect("read").into_iter().collect();
        let found = self.found.iter().all(|run| waiting.contains(run) || remote.kept.contains(run));
        assert!(found, "a found run is forgotten");
    }

    /// What holds once the machine has followed the newest head.
    fn check_settled(&mut self) {
        self.follow().expect("no power cut");
        self.settle().expect("no power cut");
        assert!(matches!(self.state.run().expect("read"), RunState::Idle { .. }), "a commit is left open");
        let resumed = self.sim.journal().is_some_and(|journal| self.committed.contains(&journal.run));
        assert!(!resumed, "a run that was committed is resumed");
        let (indexed, listed) = (self.indexed(), self.remote.listed());
        assert!(listed.keys().all(|id| indexed.contains_key(id)), "the index lacks a listed segment");
        let tombstones: BTreeSet<_> =
            self.state.cache().tombstones().expect("read").iter().map(|mark| mark.segment).collect();
        let marked = self.remote.marks();
        assert!(marked.keys().all(|id| tombstones.contains(id)), "a tombstone is lost");
        if self.state.index_origin().expect("read") == IndexOrigin::Catalog {
            assert!(indexed.keys().eq(listed.keys()), "the index has what nothing lists");
        } else {
            assert!(self.read.iter().all(|id| indexed.contains_key(id)), "a rebuilt index is lost");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_vault_survives_a_power_cut_between_any_two_writes(
        acts in prop::collection::vec((acts(), prop::option::of(0..30_usize), 0..=1000_usize, any::<bool>()), 1..40),
    ) {
        let mut world = World::new();
        for (act, fuse, kept, database_lost) in acts {
            // Marks of the head that counts before, by which nothing may be lost.
            let marked = world.remote.marks();
            world.sim.fail_after(fuse);
            let result = world.act(&act);
            if world.sim.has_crashed() {
                world.restart(kept, database_lost && kept < 100);
                while matches!(act, Act::Recover { .. }) && world.act(&act).is_err() {}
            } else {
                prop_assert!(result.is_ok(), "{:?}: {:?}", act, result);
            }
            world.sim.fail_after(None);
            world.check();
            let everything = world.remote.refs.is_empty();
            let (marks, listed) = (world.remote.marks(), world.remote.listed());
            for id in marked.keys().filter(|id| world.remote.stored.contains_key(id)) {
                prop_assert!(everything || marks.contains_key(id) || listed.contains_key(id), "a tombstone is lost");
            }
        }
        world.check_settled();
        world.check();
    }
}
