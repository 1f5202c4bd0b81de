//! Nodes that could not be paid, why, and when it is tried again.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use fincrypt_protocol::NodeId;
use serde::Serialize;

/// After the first failure, and twice as long after each further one.
const FIRST: Duration = Duration::from_secs(2);
/// At most.
const LAST: Duration = Duration::from_secs(6 * 3600);

/// What stands in the way of paying a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The node.
    pub node: String,
    /// Failures in a row.
    pub tries: u32,
    /// Seconds until it is tried again.
    pub again_in: u64,
    /// What went wrong last.
    pub reason: String,
}

struct Failures {
    tries: u32,
    until: Instant,
    reason: String,
}

/// All of them, in memory: after a start everything is tried at once.
#[derive(Default)]
pub(super) struct Troubles(Mutex<HashMap<NodeId, Failures>>);

impl Troubles {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Failures>> {
        self.0.lock()
    }

    /// Notes a failure.
    pub(super) fn note(&self, node: &NodeId, reason: &str) {
        let mut troubles = self.lock();
        let tries = troubles.get(node).map_or(1, |known| known.tries.saturating_add(1));
        let pause = FIRST.saturating_mul(1 << tries.min(20).saturating_sub(1)).min(LAST);
        let until = Instant::now() + pause;
        troubles.insert(*node, Failures { tries, until, reason: reason.to_owned() });
    }

    /// Notes that it was paid.
    pub(super) fn end(&self, node: &NodeId) {
        self.lock().remove(node);
    }

    /// Whether it is not tried yet.
    pub(super) fn waits(&self, node: &NodeId) -> bool {
        self.lock().get(node).is_some_and(|known| known.until > Instant::now())
    }

    /// Failures in a row.
    pub(super) fn tries(&self, node: &NodeId) -> u32 {
        self.lock().get(node).map_or(0, |known| known.tries)
    }

    /// For the operator.
    pub(super) fn all(&self) -> Vec<Trouble> {
        let now = Instant::now();
        let trouble = |(node, known): (&NodeId, &Failures)| Trouble {
            node: fincrypt_net::shown(node),
            tries: known.tries,
            again_in: known.until.saturating_duration_since(now).as_secs(),
            reason: known.reason.clone(),
        };
        let mut all: Vec<Trouble> = self.lock().iter().map(trouble).collect();
        all.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_could_not_be_paid_is_left_alone_longer_each_time() {
        let (troubles, node) = (Troubles::default(), NodeId::from_bytes([1; 32]));
        assert!(!troubles.waits(&node));
        let mut last = 0;
        for tries in 1..40 {
            troubles.note(&node, "offline");
            let trouble = troubles.all().pop().expect("one");
            assert_eq!((trouble.tries, trouble.reason.as_str()), (tries, "offline"));
            assert!(trouble.again_in >= last && trouble.again_in <= LAST.as_secs());
            last = trouble.again_in;
        }
        assert!(troubles.waits(&node) && last + 1 >= LAST.as_secs());
        troubles.end(&node);
        assert!(!troubles.waits(&node));
    }
}
