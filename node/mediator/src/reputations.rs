//! The reputation of each storage node with this mediator, durably.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::Duration;

use fincrypt_protocol::{Clock, NodeId};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::{Everything, Table};
use fincrypt_upkeep::{AuditOutcome, Epoch, NodeState, Reputation, Rules};

/// `node` → its reputation with its history.
const REPUTATIONS: Table<NodeId, Reputation> = Table::new("reputations", 16 << 10);

/// Epochs by which what is recorded may lie ahead of the clock. What lies further ahead is of a clock that was
/// wrong, and stops nothing.
const MAX_AHEAD: u64 = 2;

/// An operator's terms of audits and absences.
#[derive(Debug, Clone, Copy)]
pub struct UpkeepTerms {
    /// Length of an epoch.
    pub epoch: Duration,
    /// Epochs without an answer after which a node's shards are rebuilt elsewhere.
    pub absence: u64,
    /// Epochs without an answer after which a node is given up.
    pub loss: u64,
}

/// All reputations; in memory, and on disk before anything follows from them.
pub(crate) struct Reputations {
    state: State,
    terms: UpkeepTerms,
    rules: Rules,
    clock: Clock,
    known: Mutex<HashMap<NodeId, Reputation>>,
}

impl Reputations {
    /// Reads all reputations.
    ///
    /// # Errors
    /// [`KvError`] if one cannot be read: a node that was given up would get shards again.
    pub(crate) fn open(state: State, terms: UpkeepTerms, clock: Clock) -> Result<Self, KvError> {
        let known = REPUTATIONS.scan(&state, &Everything, None, usize::MAX)?;
        let known = Mutex::new(known.into_iter().collect());
        let rules = Rules { absence: terms.absence, loss: terms.loss, ..Rules::default() };
        Ok(Self { state, terms, rules, clock, known })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<NodeId, Reputation>> {
        self.known.lock()
    }

    /// The epoch it is now.
    pub(crate) fn now(&self) -> Epoch {
        Epoch::at(self.clock.now(), self.terms.epoch)
    }

    pub(crate) fn terms(&self) -> UpkeepTerms {
        self.terms
    }

    /// How a node is treated. One that was never audited is sound.
    pub(crate) fn state(&self, node: &NodeId) -> NodeState {
        self.known().get(node).map_or(NodeState::Sound, |known| known.state(&self.rules))
    }

    /// A node's reputation, if it was ever audited.
    pub(crate) fn of(&self, node: &NodeId) -> Option<Reputation> {
        self.known().get(node).cloned()
    }

    /// Nodes that were audited at some time.
    pub(crate) fn known_nodes(&self) -> Vec<NodeId> {
        self.known().keys().copied().collect()
    }

    /// Whether a node was audited in this epoch, or in one that is at most two ahead of it.
    pub(crate) fn is_audited(&self, node: &NodeId, epoch: Epoch) -> bool {
        let Some(last) = self.known().get(node).and_then(Reputation::last) else { return false };
        let ahead = last.since(epoch);
        if ahead > MAX_AHEAD {
            tracing::error!(%node, ahead, "audit_recorded_ahead_of_clock");
            return false;
        }
        last >= epoch
    }

    /// Whether an epoch is over: a later one has begun, or the clock was set back by more than two.
    pub(crate) fn is_over(&self, epoch: Epoch) -> bool {
        let now = self.now();
        let ahead = epoch.since(now);
        if ahead > MAX_AHEAD {
            tracing::error!(ahead, "clock_set_back");
        }
        now > epoch || ahead > MAX_AHEAD
    }

    /// Records the outcome of an epoch; how the node was treated before, and is after.
    ///
    /// # Errors
    /// [`KvError`] if it cannot be stored: it has no effect then.
    pub(crate) fn record(
        &self,
        node: &NodeId,
        epoch: Epoch,
        outcome: AuditOutcome,
    ) -> Result<(NodeState, NodeState), KvError> {
        let mut reputation = self.of(node).unwrap_or_else(|| Reputation::new(epoch));
        let before = reputation.state(&self.rules);
        reputation.record(epoch, outcome, &self.rules);
        let after = reputation.state(&self.rules);
        let mut batch = Batch::default();
        REPUTATIONS.put(&mut batch, node, &reputation)?;
        self.state.commit(&batch)?;
        self.known().insert(*node, reputation);
        Ok((before, after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::UnixTime;
    use fincrypt_upkeep::ProofCounts;

    #[test]
    fn audits_go_on_after_a_clock_that_was_far_ahead_is_right_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = State::open(dir.path()).expect("opens").0;
        let terms = UpkeepTerms { epoch: Duration::from_secs(3600), absence: 24, loss: 168 };
        let at = |epoch: u64| {
            let clock = Clock::manual(UnixTime::from_secs(epoch * 3600));
            Reputations::open(state.clone(), terms, clock).expect("reads")
        };
        let node = NodeId::from_bytes([4; 32]);
        let counts = ProofCounts { passed: 1, wrong: 0, missing: 0, reported: 0 };
        let record = |epoch| {
            let recorded = at(epoch).record(&node, Epoch::new(epoch), AuditOutcome::Answered(counts));
            recorded.expect("written");
        };
        record(1000);
        let now = at(990);
        assert!(now.is_over(Epoch::new(1000)) && !now.is_audited(&node, now.now()));
        assert!(at(998).is_audited(&node, Epoch::new(998)), "as by a small correction of the clock");
        assert!(!at(998).is_over(Epoch::new(1000)) && at(1001).is_over(Epoch::new(1000)));
        record(990);
        assert!(at(990).is_audited(&node, Epoch::new(990)));
        assert!(!at(991).is_audited(&node, Epoch::new(991)));
    }

    #[test]
    fn a_reputation_survives_a_restart_with_the_longest_history() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = State::open(dir.path()).expect("opens").0;
        let terms = UpkeepTerms { epoch: Duration::from_secs(3600), absence: 24, loss: 168 };
        let open = || Reputations::open(state.clone(), terms, Clock::system()).expect("reads");
        let (reputations, node) = (open(), NodeId::from_bytes([4; 32]));
        let counts = ProofCounts { passed: u32::MAX, wrong: 1, missing: u32::MAX, reported: u32::MAX };
        for epoch in 0..100 {
            let epoch = Epoch::new(u64::MAX - 100 + epoch);
            reputations.record(&node, epoch, AuditOutcome::Answered(counts)).expect("it fits");
        }
        let known = reputations.of(&node).expect("audited");
        assert_eq!(open().of(&node), Some(known));
        assert_eq!(open().state(&node), NodeState::Lost);
    }
}
