//! Which transitions are legal, and that each is durable at once or not at all.

use fincrypt_protocol::UnixTime;
use fincrypt_state::kv::Batch;
use proptest::prelude::*;

use super::sim::Sim;
use super::{head, run_id};
use crate::vault_state::medium::Medium;
use crate::vault_state::{Followed, IndexOrigin, RECORD, RunState, VaultState, VaultStateError};

#[derive(Debug, Clone, Copy)]
enum Step {
    Begin(u64),
    Undo(u64),
    Succeed(u64, u64),
    Finish(u64),
    Checked,
    FollowRewriting,
    FollowRelease,
    CatalogRewritten(u64),
    Replaced(u64, bool),
    SawHead(u64),
    Rebuilt(u64),
    Reserve(u64),
    Reset,
}

fn steps() -> impl Strategy<Value = Step> {
    let (run, sequence) = (1..3_u64, 1..6_u64);
    prop_oneof![
        4 => run.clone().prop_map(Step::Begin),
        2 => run.clone().prop_map(Step::Undo),
        2 => (run.clone(), sequence.clone()).prop_map(|(run, head)| Step::Succeed(run, head)),
        2 => run.clone().prop_map(Step::Finish),
        2 => Just(Step::Checked),
        2 => Just(Step::FollowRewriting),
        1 => Just(Step::FollowRelease),
        1 => sequence.clone().prop_map(Step::CatalogRewritten),
        1 => (sequence.clone(), any::<bool>()).prop_map(|(head, new)| Step::Replaced(head, new)),
        2 => sequence.prop_map(Step::SawHead),
        1 => run.prop_map(Step::Rebuilt),
        2 => (0..5_u64).prop_map(Step::Reserve),
        1 => Just(Step::Reset),
    ]
}

/// What a state shows.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    run: RunState,
    head: u64,
    origin: IndexOrigin,
    releases: Vec<[u8; 32]>,
    reserved: u64,
}

impl Model {
    fn of(state: &VaultState<Sim>) -> Self {
        let record = state.record().expect("read");
        Self {
            run: record.run,
            head: record.head.map_or(0, |(sequence, _)| sequence),
            origin: record.index.origin,
            releases: record.index.releases,
            reserved: record.account.release_sequence,
        }
    }

    fn committing(&self, run: u64) -> bool {
        self.run == (RunState::Committing { run: run_id(run) })
    }

    /// The model after a legal step; none if it is not legal.
    fn after(&self, step: Step, name: [u8; 32]) -> Option<Self> {
        let mut next = self.clone();
        let idle = RunState::Idle { recheck: false };
        let see = |next: &mut Self, sequence: u64| {
            let newer = sequence >= next.head;
            next.head = next.head.max(sequence);
            newer.then_some(())
        };
        let release = |next: &mut Self| {
            next.run = match next.run {
                RunState::Committing { run } | RunState::Keeping { run } => RunState::Keeping { run },
                RunState::Idle { .. } => idle,
            };
            next.origin = IndexOrigin::Catalog;
            next.releases = vec![name];
        };
        match step {
            Step::Begin(run) => {
                next.run = RunState::Committing { run: run_id(run) };
                (self.run == idle).then_some(())?;
            }
            Step::Undo(run) => {
                self.committing(run).then_some(())?;
                next.run = idle;
            }
            Step::Succeed(run, sequence) => {
                self.committing(run).then_some(())?;
                see(&mut next, sequence)?;
                (next.run, next.origin) = (idle, IndexOrigin::Catalog);
            }
            Step::Finish(run) => {
                let keeping = self.run == RunState::Keeping { run: run_id(run) };
                (keeping || self.committing(run)).then_some(())?;
                next.run = idle;
            }
            Step::Checked => {
                matches!(self.run, RunState::Idle { .. }).then_some(())?;
                next.run = idle;
            }
            Step::FollowRewriting => {
                next.run = match self.run {
                    RunState::Committing { run } | RunState::Keeping { run } => RunState::Keeping { run },
                    RunState::Idle { .. } => RunState::Idle { recheck: true },
                };
                next.releases = vec![name];
            }
            Step::FollowRelease => release(&mut next),
            Step::CatalogRewritten(sequence) => {
                matches!(self.run, RunState::Idle { .. }).then_some(())?;
                see(&mut next, sequence)?;
                next.run = RunState::Idle { recheck: true };
                (next.origin, next.releases) = (IndexOrigin::Catalog, vec![name]);
            }
            Step::Replaced(sequence, new) => {
                see(&mut next, sequence)?;
                if new {
                    release(&mut next);
                }
            }
            Step::SawHead(sequence) => see(&mut next, sequence)?,
            Step::Rebuilt(_) => next.origin = IndexOrigin::Segments,
            Step::Reserve(now) => next.reserved = now.max(self.reserved + 1),
            Step::Reset => {
                next = Self {
                    run: idle,
                    head: 0,
                    origin: IndexOrigin::Catalog,
                    releases: Vec::new(),
                    reserved: 0,
                };
            }
        }
        Some(next)
    }
}

fn take(state: &VaultState<Sim>, step: Step, name: [u8; 32]) -> Result<(), VaultStateError> {
    match step {
        Step::Begin(run) => state.begin_commit(run_id(run)),
        Step::Undo(run) => state.undo_commit(run_id(run)),
        Step::Succeed(run, sequence) => state.commit_succeeded(run_id(run), &head(sequence)),
        Step::Finish(run) => state.finish_commit(run_id(run)),
        Step::Checked => state.journal_checked(),
        Step::FollowRewriting => {
            state.follow(&[name]).map(|followed| assert_eq!(followed, Followed::Rewritten))
        }
        Step::FollowRelease => state.follow(&[name]).map(|followed| assert_eq!(followed, Followed::Released)),
        Step::CatalogRewritten(sequence) => state.catalog_rewritten(&head(sequence), &[name]),
        Step::Replaced(sequence, true) => state.replaced_head(&head(sequence), &[name]),
        Step::Replaced(sequence, false) => {
            let known = state.record()?.index.releases;
            state.replaced_head(&head(sequence), &known)
        }
        Step::SawHead(sequence) => state.saw_head(&head(sequence)),
        Step::Rebuilt(run) => state.index_rebuilt(&[run_id(run)]),
        Step::Reserve(now) => state.account().reserve_release_sequence(UnixTime::from_secs(now)).map(|_| ()),
        Step::Reset => state.reset(),
    }
}

/// A name of a release, or of a rewritten catalog.
fn name(step: Step, number: usize) -> [u8; 32] {
    let rewriting = matches!(step, Step::FollowRewriting | Step::CatalogRewritten(_));
    let mut name = [if rewriting { 0 } else { 1 }; 32];
    name[24..].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    name
}

proptest! {
    #[test]
    fn a_transition_is_legal_as_the_model_says_and_a_power_cut_leaves_the_state_before_or_after_it(
        steps in prop::collection::vec((steps(), prop::option::of(0..8_usize), 0..=1000_usize), 1..60),
    ) {
        let sim = Sim::default();
        let mut state = sim.open();
        let mut model = Model::of(&state);
        for (number, (step, fuse, kept)) in steps.into_iter().enumerate() {
            let name = name(step, number);
            let next = model.after(step, name);
            sim.fail_after(fuse);
            let result = take(&state, step, name);
            if sim.has_crashed() {
                sim.restart(kept, false);
                state = sim.open();
                let found = Model::of(&state);
                prop_assert!(found == model || Some(&found) == next.as_ref(), "{:?}: {:?}", step, found);
                model = found;
            } else {
                prop_assert_eq!(result.is_ok(), next.is_some(), "{:?} in {:?}: {:?}", step, model, result);
                model = next.unwrap_or(model);
                prop_assert_eq!(Model::of(&state), model.clone(), "{:?}", step);
            }
            sim.fail_after(None);
            // Nothing that was decided is left to be done.
            prop_assert_eq!(state.record().expect("read").void, Default::default());
        }
    }
}

#[test]
fn a_second_commit_before_the_first_is_settled_is_refused_by_its_name() {
    let state = Sim::default().open();
    state.begin_commit(run_id(1)).expect("idle");
    let refused = state.begin_commit(run_id(2));
    assert!(matches!(refused, Err(VaultStateError::Unsettled { run }) if run == run_id(1)), "{refused:?}");
    let refused = state.commit_succeeded(run_id(2), &head(1));
    assert!(matches!(refused, Err(VaultStateError::NotCommitting { run }) if run == run_id(2)));
    let refused = state.catalog_rewritten(&head(1), &[]);
    assert!(matches!(refused, Err(VaultStateError::Unsettled { run }) if run == run_id(1)));
}

#[test]
fn a_run_whose_journal_was_not_checked_since_the_catalog_was_rewritten_is_not_committed() {
    let state = Sim::default().open();
    assert_eq!(state.follow(&[[0; 32]]).expect("followed"), Followed::Rewritten);
    assert!(matches!(state.begin_commit(run_id(1)), Err(VaultStateError::Unchecked)));
    state.journal_checked().expect("idle");
    state.begin_commit(run_id(1)).expect("checked");
}

#[test]
fn an_index_that_was_written_before_the_record_was_lost_counts_for_nothing() {
    let sim = Sim::default();
    let state = sim.open();
    state.follow(&[[1; 32]]).expect("followed");
    let stamped = state.cache.stamp().expect("read").generation;
    let mut lost = Batch::default();
    RECORD.remove(&mut lost, &());
    state.medium.commit(&lost).expect("lost");
    state.reset().expect("reset");
    assert!(state.cache.stamp().expect("read").generation > stamped);
}
