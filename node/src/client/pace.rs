//! How fast shards come, so that fetching prefers fast holders and does not wait long for slow ones.
//!
//! Sans-IO: durations go in, expectations come out.

use std::collections::HashMap;
use std::time::Duration;

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
    nodes: HashMap<NodeId, f64>,
}

fn blend(mean: Option<f64>, newest: f64) -> f64 {
    mean.map_or(newest, |mean| mean + NEWEST * (newest - mean))
}

impl Pace {
    /// Notes how long a shard took, from `node` if it came straight from there.
    pub(crate) fn took(&mut self, node: Option<NodeId>, time: Duration) {
        let seconds = time.as_secs_f64();
        self.all = Some(blend(self.all, seconds));
        if let Some(node) = node
            && (self.nodes.len() < MAX_NODES || self.nodes.contains_key(&node))
        {
            let mean = self.nodes.get(&node).copied();
            self.nodes.insert(node, blend(mean, seconds));
        }
    }

    /// How long to wait for a shard before a spare one is asked for beside it.
    pub(crate) fn patience(&self) -> Duration {
        self.all.map_or(MOST, |mean| Duration::from_secs_f64(mean * TOO_LONG).clamp(LEAST, MOST))
    }

    /// What a shard from `node` costs, by which holders are compared; a node not tried yet counts
    /// as a fast one.
    pub(crate) fn cost(&self, node: &NodeId, parity: bool) -> Duration {
        let expected = self.nodes.get(node).copied().map_or(Duration::ZERO, Duration::from_secs_f64);
        // Data comes first among equals: differences below a decoding are none.
        let coarse = Duration::from_millis(expected.as_millis() as u64 / 20 * 20);
        coarse + if parity { DECODING } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_holder_costs_more_than_parity_from_a_fast_one() {
        let mut pace = Pace::default();
        let (fast, slow) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        for _ in 0..10 {
            pace.took(Some(fast), Duration::from_millis(5));
            pace.took(Some(slow), Duration::from_millis(500));
        }
        assert!(pace.cost(&slow, false) > pace.cost(&fast, true));
        assert!(pace.cost(&fast, false) < pace.cost(&fast, true));
    }

    #[test]
    fn patience_follows_the_usual_time_within_its_bounds() {
        let mut pace = Pace::default();
        assert_eq!(pace.patience(), MOST);
        (0..50).for_each(|_| pace.took(None, Duration::from_millis(2)));
        assert_eq!(pace.patience(), LEAST);
        (0..50).for_each(|_| pace.took(None, Duration::from_millis(200)));
        assert!(pace.patience() > Duration::from_millis(700));
    }
}
