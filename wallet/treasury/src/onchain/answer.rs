//! What a source of the chain answers, and the bounds of fee rates.

use bitcoin::FeeRate;

/// The least that nodes relay, and the most that is ever paid.
const LEAST_RATE: FeeRate = FeeRate::BROADCAST_MIN;
const MOST_RATE: u64 = 500;

/// What became of a transaction that was sent.
pub(super) enum Sent {
    /// It is known, or in the chain.
    Known,
    Refused(String),
}

/// Satoshi for each virtual byte within what nodes relay and what is ever paid: the least if nothing is
/// known, as on regtest.
pub(super) fn bounded_rate(per_vb: u64) -> FeeRate {
    FeeRate::from_sat_per_vb(per_vb.min(MOST_RATE)).map_or(LEAST_RATE, |rate| rate.max(LEAST_RATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rate_is_below_what_nodes_relay_or_above_what_is_ever_paid() {
        assert_eq!(bounded_rate(0), FeeRate::BROADCAST_MIN);
        assert_eq!(bounded_rate(7), FeeRate::from_sat_per_vb_u32(7));
        assert_eq!(bounded_rate(u64::MAX), FeeRate::from_sat_per_vb_u32(500));
    }
}
