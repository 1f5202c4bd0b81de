//! Challenges that a node did not answer: they are asked again, so that a timeout hides nothing.
//!
//! An open challenge is in every later epoch's sample, before any fresh one, until it is answered. A
//! node that answers nothing at all is silent, and silence has its own end ([`super::Rules`]). A node
//! that answers others and leaves this one open three times has failed it.

use std::collections::BTreeMap;

/// So many answers without it make an open challenge a failed one.
pub const LATE: u8 = 3;

/// The open challenges of one node; `K` names a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open<K> {
    late: BTreeMap<K, u8>,
}

impl<K> Default for Open<K> {
    fn default() -> Self {
        Self { late: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Open<K> {
    /// What to ask: the open ones, then of `fresh` as many others as fit into `size`. No more is ever
    /// open than was asked at once, so this bounds the memory too.
    pub fn ask(&self, size: usize, fresh: impl IntoIterator<Item = K>) -> Vec<K> {
        let mut asked: Vec<K> = self.late.keys().take(size).cloned().collect();
        for key in fresh {
            if asked.len() >= size {
                break;
            }
            if !self.late.contains_key(&key) && !asked.contains(&key) {
                asked.push(key);
            }
        }
        asked
    }

    /// Takes in what came of `asked`; `answered` says which were, well or badly. Yields those that
    /// have now failed: they count as missing.
    pub fn settle(&mut self, asked: &[K], answered: impl Fn(&K) -> bool) -> Vec<K> {
        let heard = asked.iter().any(&answered);
        let mut failed = Vec::new();
        for key in asked {
            if answered(key) {
                self.late.remove(key);
                continue;
            }
            let late = self.late.entry(key.clone()).or_default();
            *late += u8::from(heard);
            if *late >= LATE {
                self.late.remove(key);
                failed.push(key.clone());
            }
        }
        failed
    }

    /// Forgets a shard that the node no longer holds.
    pub fn drop_shard(&mut self, key: &K) {
        self.late.remove(key);
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.late.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.late.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_left_out_of_three_answers_has_failed() {
        let mut open = Open::default();
        for round in 1..=3 {
            let asked = open.ask(4, [7, 1, 2, 3]);
            assert_eq!(asked.len(), 4);
            let failed = open.settle(&asked, |key| *key != 7);
            assert_eq!(failed, if round == 3 { vec![7] } else { vec![] });
        }
        assert!(open.is_empty());
    }

    #[test]
    fn silence_fails_no_challenge_but_keeps_it_open() {
        let mut open = Open::default();
        for _ in 0..100 {
            let asked = open.ask(2, [5, 6, 8]);
            assert_eq!(asked, [5, 6]);
            assert!(open.settle(&asked, |_| false).is_empty());
        }
        assert_eq!(open.len(), 2);
        assert!(open.settle(&[5, 6], |_| true).is_empty());
        assert!(open.is_empty());
    }

    #[test]
    fn a_node_that_answers_only_without_its_hard_challenge_is_given_up() {
        use crate::upkeep::{Came, Epoch, Standing, State, Tally};
        let (mut open, mut standing) = (Open::default(), Standing::new(Epoch::new(0)));
        for epoch in 1..=200u64 {
            // The hard one is drawn in the tenth epoch.
            let asked = open.ask(2, [if epoch == 10 { 0 } else { epoch }, epoch + 1]);
            let answers = !asked.contains(&0);
            assert!(open.settle(&asked, |_| answers).is_empty());
            let tally = Tally { passed: 2, ..Tally::default() };
            standing.note(Epoch::new(epoch), if answers { Came::Answered(tally) } else { Came::Timeout });
        }
        assert_eq!(standing.state(Epoch::new(200), 24, 168), State::Lost);
    }
}
