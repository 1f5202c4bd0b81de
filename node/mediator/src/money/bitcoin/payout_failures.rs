//! Nodes that could not be paid, why, and when it is tried again.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::Duration;

use fincrypt_protocol::{Clock, NodeId, UnixTime};
use serde::Serialize;

/// After the first failure, and twice as long after each further one.
const FIRST: Duration = Duration::from_secs(2);
/// At most.
const LAST: Duration = Duration::from_secs(6 * 3600);

/// Why a storage node could not be paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PayoutFailure {
    /// The node.
    pub node: String,
    /// Failures in a row.
    pub tries: u32,
    /// Seconds until it is tried again.
    pub again_in: u64,
    /// The newest failure.
    pub reason: String,
}

struct Failures {
    tries: u32,
    until: UnixTime,
    reason: String,
}

/// All of them, in memory: after a start everything is tried at once.
pub(super) struct PayoutFailures {
    clock: Clock,
    nodes: Mutex<HashMap<NodeId, Failures>>,
}

impl PayoutFailures {
    /// No node has failed yet.
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, nodes: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Failures>> {
        self.nodes.lock()
    }

    /// Notes a failure.
    pub(super) fn record(&self, node: &NodeId, reason: &str) {
        let mut nodes = self.lock();
        let tries = nodes.get(node).map_or(1, |known| known.tries.saturating_add(1));
        let pause = FIRST.saturating_mul(1 << tries.min(20).saturating_sub(1)).min(LAST);
        let until = self.clock.now().plus(pause);
        nodes.insert(*node, Failures { tries, until, reason: reason.to_owned() });
    }

    /// Notes that it was paid.
    pub(super) fn clear(&self, node: &NodeId) {
        self.lock().remove(node);
    }

    /// Whether it is not tried yet.
    pub(super) fn waits(&self, node: &NodeId) -> bool {
        self.lock().get(node).is_some_and(|known| known.until > self.clock.now())
    }

    /// Failures in a row.
    pub(super) fn tries(&self, node: &NodeId) -> u32 {
        self.lock().get(node).map_or(0, |known| known.tries)
    }

    /// For the operator.
    pub(super) fn all(&self) -> Vec<PayoutFailure> {
        let now = self.clock.now();
        let failure = |(node, known): (&NodeId, &Failures)| PayoutFailure {
            node: fincrypt_net::shown(node),
            tries: known.tries,
            again_in: known.until.since(now).as_secs(),
            reason: known.reason.clone(),
        };
        let mut all: Vec<PayoutFailure> = self.lock().iter().map(failure).collect();
        all.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_could_not_be_paid_is_left_alone_longer_each_time() {
        let clock = Clock::manual(UnixTime::from_secs(1000));
        let (failures, node) = (PayoutFailures::new(clock.clone()), NodeId::from_bytes([1; 32]));
        assert!(!failures.waits(&node));
        let mut last = 0;
        for tries in 1..40 {
            failures.record(&node, "offline");
            let failure = failures.all().pop().expect("one");
            assert_eq!((failure.tries, failure.reason.as_str()), (tries, "offline"));
            assert!(failure.again_in >= last && failure.again_in <= LAST.as_secs());
            last = failure.again_in;
        }
        assert!(failures.waits(&node) && last + 1 >= LAST.as_secs());
        clock.advance(Duration::from_secs(last - 1));
        assert!(failures.waits(&node));
        clock.advance(Duration::from_secs(1));
        assert!(!failures.waits(&node), "it is tried again");
        failures.record(&node, "offline");
        failures.clear(&node);
        assert!(!failures.waits(&node));
    }
}
