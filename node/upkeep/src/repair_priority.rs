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

/// How many of a segment's shards can be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Health {
    data: u16,
    total: u16,
    healthy: u16,
}

/// Whether a segment wants repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repair {
    /// All shards are healthy.
    None,
    /// Some are missing: repaired within the limit of traffic.
    Routine,
    /// Two more failed groups could end it: repaired before all others.
    Urgent,
    /// Fewer than `k` are healthy: cannot be rebuilt unless an absent holder returns.
    Stuck,
}

impl Health {
    /// `healthy` of `total` shards (more count as `total`), of which any `data` rebuild the segment.
    #[must_use]
    pub fn new(data: u16, total: u16, healthy: u16) -> Self {
        Self { data, total, healthy: healthy.min(total) }
    }

    /// How many more shards may fail; below zero, how many are lacking.
    #[must_use]
    pub fn margin(self) -> i32 {
        i32::from(self.healthy) - i32::from(self.data)
    }

    /// Shards to rebuild.
    #[must_use]
    pub fn lacking(self) -> u16 {
        self.total - self.healthy
    }

    /// Whether it wants repair.
    #[must_use]
    pub fn repair(self) -> Repair {
        if self.healthy >= self.total {
            Repair::None
        } else if self.healthy < self.data {
            Repair::Stuck
        } else if self.healthy <= threshold(self.data, self.total) {
            Repair::Urgent
        } else {
            Repair::Routine
        }
    }
}

/// So many healthy shards or fewer make a repair urgent.
#[must_use]
pub fn threshold(data: u16, total: u16) -> u16 {
    data + total.saturating_sub(data).div_ceil(2)
}

/// The most endangered first: the smaller margin; of equal ones, that which lacks the larger share of
/// its parity. Segments that cannot be rebuilt come last.
#[must_use]
pub fn first(one: Health, other: Health) -> Ordering {
    let key = |health: Health| (health.repair() == Repair::Stuck, health.margin());
    let spare = |health: Health| i64::from(health.total) - i64::from(health.data);
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
            .map(|(data, total, healthy)| Health::new(data, total, healthy));
        for turns in 0..sorted.len() {
            let mut all = sorted;
            all.rotate_left(turns);
            all.sort_by(|one, other| first(*one, *other));
            assert_eq!(all, sorted);
        }
    }

    #[test]
    fn an_urgent_segment_still_survives_two_groups() {
        for (data, total) in [(4, 8), (10, 20), (15, 30)] {
            let group = ((total - data) / 4).max(1);
            assert!(threshold(data, total) - 2 * group >= data);
            assert_eq!(Health::new(data, total, threshold(data, total)).repair(), Repair::Urgent);
            assert_eq!(Health::new(data, total, total - 1).repair(), Repair::Routine);
            assert_eq!(Health::new(data, total, total).repair(), Repair::None);
            assert_eq!(Health::new(data, total, data - 1).repair(), Repair::Stuck);
        }
    }
}
