//! How a storage node stands with a mediator: what its audits came to, and what follows from that.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Epoch;

/// Epochs whose outcomes are kept to be shown.
const SHOWN: usize = 48;
/// Weight of the newest epoch in the score.
const NEWEST: f64 = 1.0 / 64.0;
/// Epochs without an answer after which a node takes no new shards.
const SUSPECT_AFTER: u64 = 3;
/// Epochs without a wrong or missing proof after which one is forgiven.
const FORGIVEN_AFTER: u64 = 24;
/// A node that proves less than this share is given up.
const TRUSTED: f64 = 0.8;

/// What challenging a node's shards came to, shard by shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Proved.
    pub passed: u32,
    /// The proof was wrong.
    pub wrong: u32,
    /// The node says that it does not have it.
    pub missing: u32,
    /// The node says that it cannot read it any more.
    pub reported: u32,
}

/// What challenging a node in one epoch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Came {
    /// It answered.
    Answered(Tally),
    /// It was reached, and did not answer in time.
    Timeout,
    /// It was not reached.
    Offline,
}

/// One epoch in a node's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// When.
    pub epoch: Epoch,
    /// What.
    pub came: Came,
}

/// What is done with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It gets new shards, and counts.
    Sound,
    /// It gets no new shards; those it has count.
    Suspect,
    /// It was not heard of for longer than an absence may last: its shards are rebuilt elsewhere,
    /// and count again when it is back.
    Absent,
    /// It is given up: its shards count no more.
    Lost,
}

/// How a node stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    since: Epoch,
    /// Epochs in a row in which it was asked and did not answer. Epochs in which nobody asked, as the
    /// mediator was off, are none.
    silent: u64,
    /// Epochs in which it proved all it was asked for.
    passed: u64,
    /// Proofs in a row, up to [`FORGIVEN_AFTER`], since one was wrong or missing.
    clean: u64,
    /// Decaying mean of the share of shards it proved, 0 to 1.
    score: f64,
    history: VecDeque<Noted>,
}

impl Standing {
    /// A node that comes to be known.
    #[must_use]
    pub fn new(since: Epoch) -> Self {
        Self { since, silent: 0, passed: 0, clean: FORGIVEN_AFTER, score: 1.0, history: VecDeque::new() }
    }

    /// Takes in what an epoch came to.
    pub fn note(&mut self, epoch: Epoch, came: Came) {
        match came {
            Came::Answered(tally) => {
                self.silent = 0;
                // What it reports itself costs it the shard, not its name.
                let bad = tally.wrong + tally.missing;
                let share = f64::from(tally.passed) / f64::from((tally.passed + bad).max(1));
                if tally.passed + bad > 0 {
                    self.score += NEWEST * (share - self.score);
                }
                self.passed += u64::from(bad == 0 && tally.passed > 0);
                self.clean = if bad > 0 { 0 } else { (self.clean + 1).min(FORGIVEN_AFTER) };
            }
            Came::Timeout | Came::Offline => self.silent += 1,
        }
        self.history.push_back(Noted { epoch, came });
        while self.history.len() > SHOWN {
            self.history.pop_front();
        }
    }

    /// What is done with it, if an absence may last `absence` epochs and a node is given up after
    /// `loss`.
    #[must_use]
    pub fn state(&self, absence: u64, loss: u64) -> State {
        match self.silent {
            silent if silent > loss => State::Lost,
            silent if silent > absence => State::Absent,
            silent if silent >= SUSPECT_AFTER => State::Suspect,
            _ if self.score < TRUSTED => State::Lost,
            _ if self.clean < FORGIVEN_AFTER => State::Suspect,
            _ => State::Sound,
        }
    }

    /// Decaying share of shards that it proved, in permille.
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
        self.history.back().map(|noted| noted.epoch)
    }

    /// Whether it is to be asked for as many shards as there may be: it lately failed.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.clean < FORGIVEN_AFTER
    }

    /// Its newest epochs, the oldest first.
    pub fn history(&self) -> impl Iterator<Item = &Noted> {
        self.history.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Came = Came::Answered(Tally { passed: 50, wrong: 0, missing: 0, reported: 0 });
    const LIE: Came = Came::Answered(Tally { passed: 25, wrong: 5, missing: 20, reported: 0 });

    fn after(came: &[(Came, u64)]) -> Standing {
        let (mut standing, mut epoch) = (Standing::new(Epoch::new(1)), Epoch::new(1));
        for (came, times) in came {
            for _ in 0..*times {
                standing.note(epoch, *came);
                epoch = epoch.plus(1);
            }
        }
        standing
    }

    #[test]
    fn short_absences_cost_nothing_and_longer_ones_follow_in_steps() {
        let state = |offline| after(&[(GOOD, 10), (Came::Offline, offline)]).state(24, 168);
        assert_eq!(state(2), State::Sound);
        assert_eq!((state(3), state(24)), (State::Suspect, State::Suspect));
        assert_eq!((state(25), state(168)), (State::Absent, State::Absent));
        assert_eq!(state(169), State::Lost);
        let back = after(&[(GOOD, 10), (Came::Offline, 500), (GOOD, 1)]);
        assert_eq!((back.state(24, 168), back.score()), (State::Sound, 1000));
    }

    #[test]
    fn a_lie_makes_a_node_suspect_until_it_has_proved_itself_and_many_lies_end_it() {
        let state = |lies, good| after(&[(GOOD, 10), (LIE, lies), (GOOD, good)]).state(24, 168);
        assert_eq!(state(1, 0), State::Suspect);
        assert_eq!(state(1, FORGIVEN_AFTER - 1), State::Suspect);
        assert_eq!(state(1, FORGIVEN_AFTER), State::Sound);
        assert_eq!(state(200, 0), State::Lost);
    }

    #[test]
    fn what_a_node_reports_itself_does_not_lower_its_score() {
        let reported = Came::Answered(Tally { passed: 10, wrong: 0, missing: 0, reported: 5 });
        let standing = after(&[(reported, 100)]);
        assert_eq!((standing.score(), standing.state(24, 168)), (1000, State::Sound));
    }
}
