//! The size of a node's sample in an epoch's audit, and the losses that such a sample sees.
//!
//! A sample of `s` shards misses a loss of the share `p` with probability `(1 − p)^s`: 300 see 1 %
//! with 95 %. Audits may cost 1 % of a node's stored bytes a day; half of that is for challenges of
//! leaves, half for fetches of whole shards. A node with little gets a smaller sample, which sees the
//! same loss some epochs later ([`epochs_until_seen`]). One shard is challenged in every epoch however
//! little a node has: only there the bound may be exceeded, by less than 2 KiB an epoch.

use std::time::Duration;

/// The full sample: sees a loss of 1 % with 95 %.
pub const FULL: u64 = 300;
/// Bytes of a challenged shard beside its path: the leaf of 1,024 bytes, and some 110 bytes that
/// name it in the request.
const LEAF_AND_NAME: u64 = 1_024 + 110;
/// One hash of a path.
const HASH: u64 = 32;
/// Challenges may cost one part in this many of the stored bytes a day; whole fetches as much again.
const DAILY_PART: u128 = 200;
const DAY: u128 = 86_400;

/// Bytes on the wire for one challenged shard of `shard_len` bytes.
#[must_use]
pub fn cost(shard_len: u64) -> u64 {
    let leaves = shard_len.div_ceil(1_024).max(1);
    // ⌈log2⌉ of the leaves.
    let depth = u64::from(leaves.next_power_of_two().trailing_zeros());
    LEAF_AND_NAME + HASH * depth
}

/// The number of the `shards` of a node, `bytes` altogether, that are challenged in an epoch of this length.
/// A `watched` node (see [`super::Reputation::watched`]) gets the full sample whatever it costs.
#[must_use]
pub fn size(shards: u64, bytes: u64, epoch: Duration, watched: bool) -> u64 {
    let most = shards.min(FULL);
    if watched || most == 0 {
        return most;
    }
    let allowed = u128::from(bytes) * u128::from(epoch.as_secs()) / (DAILY_PART * DAY);
    let affordable = allowed / u128::from(cost(bytes / shards));
    u64::try_from(affordable).unwrap_or(FULL).clamp(1, most)
}

/// The probability that a whole shard is fetched from a node of `shards` shards in an epoch of this
/// length: one a day from 200 shards on, fewer from a smaller node, so that it stays within its half
/// of the traffic.
#[must_use]
pub fn whole_fetch(shards: u64, epoch: Duration) -> f64 {
    let daily = (shards as f64 / DAILY_PART as f64).min(1.0);
    (daily * epoch.as_secs_f64() / DAY as f64).min(1.0)
}

/// The probability that a sample of `sample` shards sees a loss of the share `lost` (0 to 1).
#[must_use]
pub fn odds(sample: u64, lost: f64) -> f64 {
    1.0 - (1.0 - lost.clamp(0.0, 1.0)).powf(sample as f64)
}

/// Epochs until a loss of the share `lost` was seen with probability `confidence` (below 1). None if
/// it never is.
#[must_use]
pub fn epochs_until_seen(sample: u64, lost: f64, confidence: f64) -> Option<u64> {
    let each = odds(sample, lost);
    if each <= 0.0 || !(0.0..1.0).contains(&confidence) {
        return None;
    }
    // At least one, and finite, because `each` is above zero.
    Some(((1.0 - confidence).ln() / (1.0 - each).ln()).ceil().max(1.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn three_hundred_see_one_percent_with_ninety_five() {
        assert!(odds(FULL, 0.01) >= 0.95 && odds(FULL - 2, 0.01) < 0.95);
        assert_eq!(epochs_until_seen(FULL, 0.01, 0.95), Some(1));
        assert_eq!(epochs_until_seen(30, 0.01, 0.95), Some(10));
        assert_eq!(epochs_until_seen(30, 0.0, 0.95), None);
    }

    #[test]
    fn challenges_and_whole_fetches_stay_within_a_hundredth_of_the_bytes_a_day() {
        for shard_len in [1_024, 65_536, 1 << 20, 26 << 20] {
            for shards in [1, 3, 10, 200, 5_000, 1_000_000] {
                for epoch in [60, 600, 3_600, 86_400].map(Duration::from_secs) {
                    let sample = size(shards, shards * shard_len, epoch, false);
                    assert!((1..=FULL.min(shards)).contains(&sample));
                    let per_epoch =
                        (sample * cost(shard_len)) as f64 + whole_fetch(shards, epoch) * shard_len as f64;
                    let daily = per_epoch * 86_400.0 / epoch.as_secs_f64();
                    assert!(sample == 1 || daily <= 0.01 * (shards * shard_len) as f64 + 1.0);
                }
            }
        }
    }

    #[test]
    fn few_are_all_challenged_and_many_get_the_full_sample() {
        assert_eq!(size(0, 0, HOUR, false), 0);
        assert_eq!(size(5, 5 * (26 << 20), HOUR, false), 5);
        assert_eq!(size(100_000, 100_000 << 20, HOUR, false), FULL);
        assert!(size(250, 250 << 16, HOUR, false) < 250);
        assert_eq!(size(250, 250 << 16, HOUR, true), 250);
    }
}
