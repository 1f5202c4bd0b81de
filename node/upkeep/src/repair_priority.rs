//! Which segments are repaired first, and when a repair can wait.
//!
//! A segment of `k`/`n` is gone when fewer than `k` of its shards are healthy. Placement lets one
//! address group hold at most `g = max(1, ⌊(n − k) / 4⌋)` of its shards, so a whole group that fails at
//! once takes `g`. Repair is *urgent* at `k + ⌈(n − k) / 2⌉` healthy shards or fewer: there (for
//! `n − k ≥ 4`) the segment still survives two groups lost at once, one while the repair runs and
//! one more. Above that, what is missing is repaired too, but within the limit of traffic; what is
//! urgent comes first. Waiting for more losses would save reads (`k` shards are read however many are
//! rebuilt), but would spend the margin that correlated loss needs.

use std::cmp::Ordering;

/// How many of a segment's shards can be counted on: from this follows when it is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RepairPriority {
    data: u16,
    total: u16,
    healthy: u16,
}

/// Whether a segment is repaired, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// All shards are healthy.
    None,
    /// Some are missing: repaired within the limit of traffic.
    Routine,
    /// Two more failed groups could end it: repaired before all others.
    Urgent,
    /// Fewer than `k` are healthy: cannot be rebuilt unless an absent holder returns.
    Stuck,
}

impl RepairPriority {
    /// `healthy` of `total` shards (more count as `total`), of which any `data` rebuild the segment.
    #[must_use]
    pub fn new(data: u16, total: u16, healthy: u16) -> Self {
        Self { data, total, healthy: healthy.min(total) }
    }

    /// The number of shards that may still fail; below zero, that are lacking.
    #[must_use]
    pub fn margin(self) -> i32 {
        i32::from(self.healthy) - i32::from(self.data)
    }

    /// Shards to rebuild.
    #[must_use]
    pub fn lacking(self) -> u16 {
        self.total - self.healthy
    }

    /// Whether it is repaired, and when.
    #[must_use]
    pub fn urgency(self) -> Urgency {
        if self.healthy >= self.total {
            Urgency::None
        } else if self.healthy < self.data {
            Urgency::Stuck
        } else if self.healthy <= threshold(self.data, self.total) {
            Urgency::Urgent
        } else {
            Urgency::Routine
        }
    }
}

/// The number of healthy shards from which downwards a repair is urgent.
#[must_use]
pub fn threshold(data: u16, total: u16) -> u16 {
    data + total.saturating_sub(data).div_ceil(2)
}

/// The most endangered first: the smaller margin; of equal ones, that which lacks the larger share of
/// its parity. Segments that cannot be rebuilt come last.
#[must_use]
pub fn compare(one: RepairPriority, other: RepairPriority) -> Ordering {
    let key = |health: RepairPriority| (health.urgency() == Urgency::Stuck, health.margin());
    let spare = |health: RepairPriority| i64::from(health.total) - i64::from(health.data);
    // lacking/spare of the other against ours, without division.
    let larger = || (i64::from(other.lacking()) * spare(one)).cmp(&(i64::from(one.lacking()) * spare(other)));
    key(one).cmp(&key(other)).then_with(larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_endangered_come_first_and_the_hopeless_last() {
        let sorted = [(15, 30, 16), (4, 8, 5), (10, 20, 15), (4, 8, 3)]
            .map(|(data, total, healthy)| RepairPriority::new(data, total, healthy));
        for turns in 0..sorted.len() {
            let mut all = sorted;
            all.rotate_left(turns);
            all.sort_by(|one, other| compare(*one, *other));
            assert_eq!(all, sorted);
        }
    }

    #[test]
    fn an_urgent_segment_still_survives_two_groups() {
        for (data, total) in [(4, 8), (10, 20), (15, 30)] {
            let group = ((total - data) / 4).max(1);
            assert!(threshold(data, total) - 2 * group >= data);
            assert_eq!(RepairPriority::new(data, total, threshold(data, total)).urgency(), Urgency::Urgent);
            assert_eq!(RepairPriority::new(data, total, total - 1).urgency(), Urgency::Routine);
            assert_eq!(RepairPriority::new(data, total, total).urgency(), Urgency::None);
            assert_eq!(RepairPriority::new(data, total, data - 1).urgency(), Urgency::Stuck);
        }
    }
}
