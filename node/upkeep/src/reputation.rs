//! A storage node's reputation with a mediator: the outcomes of its audits, and what follows from them.
//!
//! Silence is unpaid, not punished: it lowers no score, and only lasts ([`Rules::hush`],
//! [`Rules::absence`], [`Rules::loss`]). A loss that the node reports itself only reduces what it
//! holds. Epochs with a wrong or missing proof lower the score and are counted until they are
//! forgiven; the first makes the node suspect and the sample full, more of them suspend it, and in
//! the end it is given up.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Epoch, Rules};

/// Newest epochs of which the outcomes are kept to be shown.
const SHOWN: usize = 48;
/// Weight of the newest epoch in the score.
const NEWEST: f64 = 1.0 / 64.0;

/// The outcomes of challenging a node's shards, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProofCounts {
    /// Proved.
    pub passed: u32,
    /// The proof was wrong.
    pub wrong: u32,
    /// The node says that it does not have it.
    pub missing: u32,
    /// The node says that it cannot read it any more.
    pub reported: u32,
}

impl ProofCounts {
    /// Whether all that the node claims to have was proved, and something was.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.wrong == 0 && self.missing == 0 && self.passed > 0
    }
}

/// The outcome of one epoch's audit of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It answered.
    Answered(ProofCounts),
    /// It was reached, and did not answer in time.
    Timeout,
    /// It was not reached.
    Offline,
}

/// One epoch in a node's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// Its outcome.
    pub outcome: AuditOutcome,
}

/// The treatment of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It gets new shards, and counts.
    Sound,
    /// It gets no new shards; those it has count.
    Suspect,
    /// Suspended: not heard of for longer than an absence may last, or repeatedly wrong. Its shards are
    /// rebuilt elsewhere, and count again when it is back or forgiven.
    Absent,
    /// It is given up: its shards count no more.
    Lost,
}

/// A node's reputation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reputation {
    since: Epoch,
    /// Epochs in a row in which it was asked and did not answer. Epochs in which nobody asked, as the
    /// mediator was off, are none.
    silent: u64,
    /// Epochs in which it proved all it was asked for.
    passed: u64,
    /// Decaying mean of the share of shards it proved, 0 to 1.
    score: f64,
    /// Epochs with a wrong or missing proof that are not forgiven yet.
    faults: u32,
    /// The newest of them.
    failed: Option<Epoch>,
    /// Epochs passed in a row since.
    clean: u64,
    /// Whether its faults were ever enough to give it up, which no later answer mends.
    given_up: bool,
    history: VecDeque<AuditedEpoch>,
}

impl Reputation {
    /// The reputation of a node that is new in the epoch `since`.
    #[must_use]
    pub fn new(since: Epoch) -> Self {
        Self {
            since,
            silent: 0,
            passed: 0,
            score: 1.0,
            faults: 0,
            failed: None,
            clean: 0,
            given_up: false,
            history: VecDeque::new(),
        }
    }

    /// Records the outcome of an epoch.
    pub fn record(&mut self, epoch: Epoch, outcome: AuditOutcome, rules: &Rules) {
        if let AuditOutcome::Answered(counts) = outcome {
            self.silent = 0;
            let failed = u64::from(counts.wrong) + u64::from(counts.missing);
            let asked = u64::from(counts.passed) + failed;
            if asked > 0 {
                let share = f64::from(counts.passed) / asked as f64;
                self.score += NEWEST * (share - self.score);
            }
            if failed > 0 {
                self.fail(epoch, rules);
            } else if counts.passed > 0 && counts.reported == 0 {
                self.pass(rules);
            }
        } else {
            self.silent += 1;
        }
        self.history.push_back(AuditedEpoch { epoch, outcome });
        while self.history.len() > SHOWN {
            self.history.pop_front();
        }
    }

    fn fail(&mut self, epoch: Epoch, rules: &Rules) {
        self.clean = 0;
        // However often one epoch is recorded, it is one bad hour.
        if self.failed.is_none_or(|failed| failed < epoch) {
            self.failed = Some(epoch);
            self.faults = self.faults.saturating_add(1);
        }
        self.given_up |= self.faults >= rules.faults;
    }

    fn pass(&mut self, rules: &Rules) {
        self.passed += 1;
        self.clean += 1;
        if self.clean >= rules.forgiven {
            self.faults = 0;
        }
    }

    /// Its treatment.
    #[must_use]
    pub fn state(&self, rules: &Rules) -> NodeState {
        let silent = self.silent;
        if self.given_up || silent > rules.loss {
            NodeState::Lost
        } else if self.faults >= rules.suspended || silent > rules.absence {
            NodeState::Absent
        } else if self.faults > 0 || silent > rules.hush {
            NodeState::Suspect
        } else {
            NodeState::Sound
        }
    }

    /// Whether the full sample is challenged ([`super::sample::size`]): from a wrong or missing proof
    /// until it is forgiven.
    #[must_use]
    pub fn watched(&self) -> bool {
        self.faults > 0
    }

    /// Decaying share of shards that it proved, in permille: each epoch with an answer weighs 1/64.
    #[must_use]
    pub fn score(&self) -> u16 {
        // Between 0 and 1.
        (self.score * 1000.0).round() as u16
    }

    /// Epochs in which it proved all that it was asked for.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Since when it is known.
    #[must_use]
    pub fn since(&self) -> Epoch {
        self.since
    }

    /// When it was last audited.
    #[must_use]
    pub fn last(&self) -> Option<Epoch> {
        self.history.back().map(|audited| audited.epoch)
    }

    /// Its newest epochs, the oldest first.
    pub fn history(&self) -> impl Iterator<Item = &AuditedEpoch> {
        self.history.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(passed: u32, wrong: u32) -> AuditOutcome {
        AuditOutcome::Answered(ProofCounts { passed, wrong, ..ProofCounts::default() })
    }

    fn state(reputation: &Reputation) -> NodeState {
        reputation.state(&Rules::default())
    }

    fn note(reputation: &mut Reputation, epoch: u64, outcome: AuditOutcome) {
        reputation.record(Epoch::new(epoch), outcome, &Rules::default());
    }

    #[test]
    fn silence_lasts_but_lowers_no_score_and_ends_with_an_answer() {
        let mut reputation = Reputation::new(Epoch::new(0));
        for epoch in 1..=200 {
            note(
                &mut reputation,
                epoch,
                if epoch % 2 == 0 { AuditOutcome::Timeout } else { AuditOutcome::Offline },
            );
            let expected = match epoch {
                0..=3 => NodeState::Sound,
                4..=24 => NodeState::Suspect,
                25..=168 => NodeState::Absent,
                _ => NodeState::Lost,
            };
            assert_eq!(state(&reputation), expected, "{epoch}");
        }
        assert_eq!(reputation.score(), 1000);
        note(&mut reputation, 201, answered(1, 0));
        assert_eq!(state(&reputation), NodeState::Sound);
    }

    #[test]
    fn one_bad_hour_makes_suspect_and_is_forgiven_after_two_clean_days() {
        let mut reputation = Reputation::new(Epoch::new(0));
        for _ in 0..100 {
            note(&mut reputation, 1, answered(0, 300));
        }
        assert_eq!(state(&reputation), NodeState::Suspect);
        assert!(reputation.watched());
        for epoch in 2..49 {
            note(&mut reputation, epoch, answered(300, 0));
            assert_eq!(state(&reputation), NodeState::Suspect);
        }
        note(&mut reputation, 49, answered(300, 0));
        assert_eq!(state(&reputation), NodeState::Sound);
        assert!(!reputation.watched() && reputation.score() < 1000);
    }

    #[test]
    fn repeated_wrong_answers_suspend_and_then_give_up_for_good() {
        let mut reputation = Reputation::new(Epoch::new(0));
        for epoch in 1..=48 {
            note(&mut reputation, epoch, answered(299, 1));
            let expected = match epoch {
                0..=5 => NodeState::Suspect,
                6..=47 => NodeState::Absent,
                _ => NodeState::Lost,
            };
            assert_eq!(state(&reputation), expected, "{epoch}");
        }
        for epoch in 49..500 {
            note(&mut reputation, epoch, answered(300, 0));
        }
        assert_eq!(state(&reputation), NodeState::Lost);
    }

    #[test]
    fn reported_loss_is_not_punished_and_not_a_pass() {
        let mut reputation = Reputation::new(Epoch::new(0));
        for epoch in 1..100 {
            let counts = ProofCounts { passed: 9, reported: 1, ..ProofCounts::default() };
            note(&mut reputation, epoch, AuditOutcome::Answered(counts));
        }
        assert_eq!((reputation.score(), reputation.passed()), (1000, 0));
        assert_eq!(state(&reputation), NodeState::Sound);
    }
}
