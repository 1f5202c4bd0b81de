//! How fast shards come, so that fetching prefers fast holders and does not wait long for slow ones.
//!
//! Sans-IO: durations go in, expectations come out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fincrypt_protocol::NodeId;

/// Weight of the newest duration in a mean.
const NEWEST: f64 = 0.25;
/// A shard that takes so many times the usual is slow.
const TOO_LONG: f64 = 4.0;
/// Nobody is called slow before this: a pause of a busy machine is shorter.
const LEAST: Duration = Duration::from_millis(300);
/// Nobody is waited for alone longer than this.
const MOST: Duration = Duration::from_secs(3);
/// What computing a missing data shard from parity is worth.
const DECODING: Duration = Duration::from_millis(10);
/// Nodes remembered.
const MAX_NODES: usize = 4096;

/// Means of how long shards took.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    all: Option<f64>,
    nodes: HashMap<NodeId, Node>,
}

#[derive(Debug, Default)]
struct Node {
    mean: Option<f64>,
    /// Shards asked for that did not come yet.
    waiting: usize,
    /// When it was last heard of while shards are waited for.
    silent_since: Option<Instant>,
    /// It brought what it was not asked for.
    lied: bool,
}

fn blend(mean: Option<f64>, newest: f64) -> f64 {
    mean.map_or(newest, |mean| mean + NEWEST * (newest - mean))
}

impl Pace {
    /// Notes how long a shard took, whoever brought it.
    pub(crate) fn took(&mut self, time: Duration) {
        self.all = Some(blend(self.all, time.as_secs_f64()));
    }

    /// Notes that a node was asked for a shard.
    pub(crate) fn asked(&mut self, node: NodeId, now: Instant) {
        if self.nodes.len() < MAX_NODES || self.nodes.contains_key(&node) {
            let node = self.nodes.entry(node).or_default();
            node.waiting += 1;
            node.silent_since.get_or_insert(now);
        }
    }

    /// Notes that a node brought a shard after `took`, or that it is no longer waited for.
    pub(crate) fn answered(&mut self, node: NodeId, now: Instant, took: Option<Duration>) {
        if let Some(took) = took {
            self.took(took);
        }
        let Some(node) = self.nodes.get_mut(&node) else { return };
        let silent = node.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        // Whoever brought nothing counts as slower than the slowest.
        let seconds = took.unwrap_or(silent.max(MOST)).as_secs_f64();
        node.mean = Some(blend(node.mean, seconds));
        node.waiting = node.waiting.saturating_sub(1);
        node.silent_since = match (node.waiting, took) {
            (0, _) => None,
            (_, Some(_)) => Some(now),
            (_, None) => node.silent_since,
        };
    }

    /// Notes that a node brought something else: it is asked last from now on.
    pub(crate) fn lied(&mut self, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.lied = true;
        }
    }

    /// How long to wait for a shard before a spare one is asked for beside it.
    pub(crate) fn patience(&self) -> Duration {
        self.all.map_or(MOST, |mean| Duration::from_secs_f64(mean * TOO_LONG).clamp(LEAST, MOST))
    }

    /// What a shard from `node` costs, by which holders are compared; a node not tried yet counts
    /// as a fast one, a silent one as slow as it has been silent.
    pub(crate) fn cost(&self, node: &NodeId, parity: bool, now: Instant) -> Duration {
        let node = self.nodes.get(node);
        let mean = node.and_then(|node| node.mean).map_or(Duration::ZERO, Duration::from_secs_f64);
        let silent = node.and_then(|node| node.silent_since);
        let silent = silent.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let expected = if silent > LEAST { mean.max(silent) } else { mean };
        if node.is_some_and(|node| node.lied) {
            return Duration::MAX;
        }
        // Data comes first among equals: differences below a decoding are none.
        let coarse = Duration::from_millis(expected.as_millis() as u64 / 20 * 20);
        coarse + if parity { DECODING } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: NodeId = NodeId::from_bytes([1; 32]);
    const SLOW: NodeId = NodeId::from_bytes([2; 32]);

    fn brought(pace: &mut Pace, node: NodeId, now: Instant, millis: u64) {
        pace.asked(node, now);
        let took = Duration::from_millis(millis);
        pace.answered(node, now + took, Some(took));
    }

    #[test]
    fn a_slow_holder_costs_more_than_parity_from_a_fast_one() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for _ in 0..10 {
            brought(&mut pace, FAST, now, 5);
            brought(&mut pace, SLOW, now, 500);
        }
        assert!(pace.cost(&SLOW, false, now) > pace.cost(&FAST, true, now));
        assert!(pace.cost(&FAST, false, now) < pace.cost(&FAST, true, now));
    }

    #[test]
    fn a_silent_holder_costs_more_the_longer_it_is_silent() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        brought(&mut pace, FAST, now, 5);
        brought(&mut pace, SLOW, now, 5);
        (0..3).for_each(|_| pace.asked(SLOW, now));
        let later = now + Duration::from_secs(1);
        assert!(pace.cost(&SLOW, false, later) >= Duration::from_secs(1));
        assert!(pace.cost(&FAST, false, later) < Duration::from_millis(20));
        pace.answered(SLOW, later, Some(Duration::from_secs(1)));
        assert!(pace.cost(&SLOW, false, later) < Duration::from_secs(1), "it was heard of");
        pace.answered(SLOW, later, None);
        pace.answered(SLOW, later, None);
        assert!(pace.cost(&SLOW, false, later) > Duration::from_secs(1), "it brought nothing");
        assert_eq!(pace.nodes[&SLOW].waiting, 0);
    }

    #[test]
    fn whoever_brought_something_else_is_asked_last() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        brought(&mut pace, FAST, now, 5);
        pace.lied(FAST);
        brought(&mut pace, FAST, now, 5);
        assert_eq!(pace.cost(&FAST, false, now), Duration::MAX);
        assert!(pace.cost(&SLOW, true, now) < Duration::MAX);
    }

    #[test]
    fn patience_follows_the_usual_time_within_its_bounds() {
        let mut pace = Pace::default();
        assert_eq!(pace.patience(), MOST);
        (0..50).for_each(|_| pace.took(Duration::from_millis(2)));
        assert_eq!(pace.patience(), LEAST);
        (0..50).for_each(|_| pace.took(Duration::from_millis(200)));
        assert!(pace.patience() > Duration::from_millis(700));
    }
}
