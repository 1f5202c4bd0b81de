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
    /// When it last answered, or came to be known.
    heard: Epoch,
    /// Epochs in which it proved all it was asked for.
    passed: u64,
    /// Decaying mean of the share of shards it proved, 0 to 1.
    score: f64,
    history: VecDeque<Noted>,
}

impl Standing {
    /// Whether the full sample is challenged, because an answer was wrong or missing lately.
    #[must_use]
    pub fn watched(&self, _now: Epoch) -> bool {
        false
    }

    /// A node that comes to be known.
    #[must_use]
    pub fn new(since: Epoch) -> Self {
        Self { since, heard: since, passed: 0, score: 1.0, history: VecDeque::new() }
    }

    /// Takes in what an epoch came to.
    pub fn note(&mut self, epoch: Epoch, came: Came) {
        if let Came::Answered(tally) = came {
            self.heard = self.heard.max(epoch);
            let bad = tally.wrong + tally.missing + tally.reported;
            let share = f64::from(tally.passed) / f64::from((tally.passed + bad).max(1));
            self.score += NEWEST * (share - self.score);
            self.passed += u64::from(bad == 0);
        }
        self.history.push_back(Noted { epoch, came });
        while self.history.len() > SHOWN {
            self.history.pop_front();
        }
    }

    /// What is done with it as of `now`, if an absence may last `absence` epochs and a node is given
    /// up after `loss`.
    #[must_use]
    pub fn state(&self, now: Epoch, absence: u64, loss: u64) -> State {
        match now.since(self.heard) {
            silent if silent > loss => State::Lost,
            silent if silent > absence => State::Absent,
            silent if silent > SUSPECT_AFTER => State::Suspect,
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

    /// Its newest epochs, the oldest first.
    pub fn history(&self) -> impl Iterator<Item = &Noted> {
        self.history.iter()
    }
}
