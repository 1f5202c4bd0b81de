//! Probation: how much is given to nodes that have proved little yet.
//!
//! A new node is tried with a small share, which doubles with every audited day. Until it has 30
//! audited days, it and others like it together hold few enough shards of a segment that all of them
//! may vanish at once and repair is still not urgent.

use std::time::Duration;

use super::Reputation;

/// Audited days after which a node is proven.
pub const PROVEN_DAYS: u64 = 30;
/// Shards that a node may get before its first audited day.
const FIRST: u64 = 64;

/// Whole days of epochs of this length in which the node proved all that it was asked for.
#[must_use]
pub fn audited_days(reputation: &Reputation, epoch: Duration) -> u64 {
    reputation.passed().saturating_mul(epoch.as_secs()) / 86_400
}

/// Whether a node counts as proven.
#[must_use]
pub fn proven(reputation: &Reputation, epoch: Duration) -> bool {
    audited_days(reputation, epoch) >= PROVEN_DAYS
}

/// The most shards that a node may hold: 64, twice as many for each audited day, and no limit once it
/// is proven.
#[must_use]
pub fn most_shards(reputation: &Reputation, epoch: Duration) -> u64 {
    match audited_days(reputation, epoch) {
        days if days >= PROVEN_DAYS => u64::MAX,
        days => FIRST << days,
    }
}

/// The most shards of one segment that unproven nodes may hold together, if so many `proven` nodes
/// could take one each: `⌊(n − k) / 3⌋` once those suffice for the rest, else what they leave over.
#[must_use]
pub fn most_of_segment(data: u16, total: u16, proven: usize) -> u16 {
    let cap = total.saturating_sub(data) / 3;
    cap.max(total.saturating_sub(u16::try_from(proven).unwrap_or(u16::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AuditOutcome, Epoch, ProofCounts, Rules};

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_new_node_starts_small_and_doubles_daily_until_it_is_proven() {
        let mut reputation = Reputation::new(Epoch::new(0));
        assert_eq!(most_shards(&reputation, HOUR), 64);
        for epoch in 1..=720 {
            assert!(!proven(&reputation, HOUR));
            let outcome = AuditOutcome::Answered(ProofCounts { passed: 1, ..ProofCounts::default() });
            reputation.record(Epoch::new(epoch), outcome, &Rules::default());
            if epoch == 24 {
                assert_eq!(most_shards(&reputation, HOUR), 128);
            }
        }
        assert!(proven(&reputation, HOUR));
        assert_eq!(most_shards(&reputation, HOUR), u64::MAX);
    }

    #[test]
    fn unproven_nodes_together_get_a_third_of_the_parity_once_proven_ones_suffice() {
        assert_eq!(most_of_segment(4, 8, 0), 8);
        assert_eq!(most_of_segment(4, 8, 5), 3);
        assert_eq!(most_of_segment(4, 8, 100), 1);
        assert_eq!(most_of_segment(15, 30, 100), 5);
    }
}
