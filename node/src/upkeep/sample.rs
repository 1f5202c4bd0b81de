//! How many of a node's shards are challenged in an epoch, and what that can see.
//!
//! A challenge costs about 1.4 KiB on the wire for each shard: the leaf, at most ten siblings, and
//! the question. Audits are to take at most 1 % of the bytes stored a day. So a node with 961 full
//! shards or more is asked for 300 of them every hour, which see a loss of 1 % with a probability of
//! 1 − 0.99³⁰⁰ = 95 %; a smaller one for a share of that, at least one, which sees it later: see
//! [`epochs_to_see`].

use std::time::Duration;

use fincrypt_protocol::limits::MAX_CHALLENGE;

/// Bytes on the wire for one challenged shard: leaf, siblings, and the question with its ids.
pub const PROOF_BYTES: u64 = 1024 + 10 * 32 + 110;
/// Audits take at most one in so many bytes stored, each day.
const TRAFFIC_SHARE: u64 = 100;
/// Seconds of a day.
const DAY: u64 = 24 * 3600;

/// Shards to challenge of a node that holds `shards` shards of `bytes` bytes together. One that
/// lately failed is `watched`: it is asked for as many as there may be.
#[must_use]
pub fn size(shards: u64, bytes: u64, epoch: Duration, watched: bool) -> usize {
    let most = usize::try_from(shards).unwrap_or(usize::MAX).min(MAX_CHALLENGE);
    if watched {
        return most;
    }
    let budget = u128::from(bytes) * u128::from(epoch.as_secs().max(1))
        / u128::from(TRAFFIC_SHARE * DAY * PROOF_BYTES);
    usize::try_from(budget).unwrap_or(usize::MAX).clamp(1, most.max(1)).min(most)
}

/// The probability that `sample` of very many shards see it when a share `lost` of them is gone.
#[must_use]
pub fn odds(sample: usize, lost: f64) -> f64 {
    1.0 - (1.0 - lost).powf(sample as f64)
}

/// Epochs until a loss of a share `lost` is seen with a probability of `confidence`, if each asks for
/// `sample` shards.
#[must_use]
pub fn epochs_to_see(sample: usize, lost: f64, confidence: f64) -> u64 {
    let epochs = (1.0 - confidence).ln() / ((1.0 - lost).ln() * sample as f64);
    // A number of epochs is small, and never negative.
    epochs.ceil().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn three_hundred_see_a_loss_of_one_percent_with_95_percent() {
        assert!((0.950..0.952).contains(&odds(300, 0.01)));
        assert_eq!(epochs_to_see(300, 0.01, 0.95), 1);
        assert_eq!(epochs_to_see(30, 0.01, 0.95), 10);
        assert_eq!(epochs_to_see(1, 0.01, 0.95), 299);
    }

    #[test]
    fn large_nodes_are_asked_for_300_an_hour_and_small_ones_for_less() {
        assert_eq!(size(1_000_000, 1_000_000 << 20, HOUR, false), 300);
        assert_eq!(size(1000, 1000 << 20, HOUR, false), 300);
        assert_eq!(size(100, 100 << 20, HOUR, false), 30);
        assert_eq!(size(2, 2 << 20, HOUR, false), 1);
        assert_eq!(size(100, 100 << 20, HOUR, true), 100, "one that is watched");
        assert_eq!(size(0, 0, HOUR, false), 0);
    }

    proptest! {
        #[test]
        fn a_sample_is_no_more_than_there_is_nor_than_the_traffic_allows(
            shards in 1u64..10_000_000, length in 4096u64..=1 << 20, epoch in 1u64..=86_400,
        ) {
            let (bytes, epoch) = (shards * length, Duration::from_secs(epoch));
            let size = size(shards, bytes, epoch, false) as u64;
            prop_assert!(size >= 1 && size <= shards.min(300));
            let daily = u128::from(size * PROOF_BYTES) * u128::from(DAY) / u128::from(epoch.as_secs());
            prop_assert!(size == 1 || daily <= u128::from(bytes / TRAFFIC_SHARE));
        }

        #[test]
        fn the_epochs_and_the_odds_agree(sample in 1usize..=300, percent in 1u32..50) {
            let lost = f64::from(percent) / 100.0;
            let epochs = epochs_to_see(sample, lost, 0.95);
            prop_assert!(odds(sample * epochs as usize, lost) >= 0.949_999);
        }
    }
}
