//! The probability that a segment is lost within a year, computed where losses are too rare to be
//! simulated.
//!
//! A Markov chain over the number of healthy shards, in steps of an hour. Each shard fails on its own
//! at the rate of its node; a group failure takes `g = max(1, ⌊(n − k) / 4⌋)` shards at once, which is
//! the most that placement lets a group hold, so it errs towards loss; and a repair, which restores all
//! shards, ends in an hour with probability `1 / repair`. Failures within an hour follow the binomial
//! distribution. Not in the model: liars, misjudged nodes, failures of more than one group from one
//! cause, and of the software that all nodes run.

/// The risks of a segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure {
    /// `k`.
    pub data: u16,
    /// `n`, at most 255.
    pub total: u16,
    /// Share of nodes that fail for good in a year, below 1.
    pub failures: f64,
    /// Share of groups that fail for good in a year, below 1.
    pub group_failures: f64,
    /// Mean hours from a failure to its repair: the absence that is waited for, and the work.
    pub repair: f64,
}

const YEAR: u32 = 8_760;

/// The probability that a segment is lost within a year.
#[must_use]
pub fn yearly_loss(exposure: Exposure) -> f64 {
    let (data, total) = (usize::from(exposure.data), usize::from(exposure.total));
    let group = (total.saturating_sub(data) / 4).max(1);
    let hourly = |yearly: f64| -((-yearly).ln_1p() / f64::from(YEAR)).exp_m1();
    let (each, groups) = (hourly(exposure.failures), total.div_ceil(group) as f64);
    let whole = (hourly(exposure.group_failures) * groups).min(1.0);
    let repaired = (1.0 / exposure.repair).min(1.0);
    let mut odds = vec![0.0; total + 1];
    odds[total] = 1.0;
    let mut lost = 0.0;
    for _ in 0..YEAR {
        let mut next = vec![0.0; total + 1];
        for (healthy, here) in odds.iter().enumerate().skip(data) {
            // Binomial: the chance of `fail` failures among the healthy.
            let mut chance = (1.0 - each).powi(healthy as i32);
            for fail in 0..=healthy {
                for (taken, share) in [(0, 1.0 - whole), (group, whole)] {
                    let left = healthy.saturating_sub(fail + taken);
                    let mass = here * chance * share;
                    if left < data {
                        lost += mass;
                    } else {
                        next[total] += mass * repaired;
                        next[left] += mass * (1.0 - repaired);
                    }
                }
                chance *= (healthy - fail) as f64 / (fail + 1) as f64 * each / (1.0 - each);
            }
        }
        odds = next;
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Exposure = Exposure { data: 4, total: 8, failures: 0.5, group_failures: 0.0, repair: 30.0 };

    #[test]
    fn without_repair_it_is_the_binomial_distribution() {
        let loss = yearly_loss(Exposure { data: 1, total: 2, repair: f64::INFINITY, ..BASE });
        assert!((loss - 0.25).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn more_failures_slower_repair_and_groups_lose_more() {
        let base = yearly_loss(BASE);
        assert!(base > 0.0 && base < 1e-6, "{base}");
        assert!(yearly_loss(Exposure { failures: 0.2, ..BASE }) < base);
        assert!(yearly_loss(Exposure { repair: 300.0, ..BASE }) > base);
        assert!(yearly_loss(Exposure { group_failures: 0.1, ..BASE }) > base);
        assert!(yearly_loss(Exposure { data: 10, total: 20, ..BASE }) < base);
    }
}
