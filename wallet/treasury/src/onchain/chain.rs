//! Where a wallet learns of the chain, and sends its transactions to.

use bitcoin::{FeeRate, Network, Transaction};

use super::TreasuryError;
use super::esplora::Esplora;
use super::rpc::Bitcoind;
use super::wallet::Treasury;
use crate::chain::ChainSource;

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

/// A source that is ready to be asked.
pub(super) enum Chain {
    Bitcoind(Bitcoind),
    Esplora(Esplora),
}

impl Chain {
    pub(super) fn new(source: ChainSource, network: Network) -> Result<Self, TreasuryError> {
        Ok(match source {
            ChainSource::Bitcoind(bitcoind) => Self::Bitcoind(bitcoind),
            ChainSource::Esplora { url } => Self::Esplora(Esplora::new(url, network)?),
        })
    }

    /// Brings a wallet up to the best chain; whether anything was new.
    pub(super) fn sync(&self, treasury: &Treasury) -> Result<bool, TreasuryError> {
        match self {
            Self::Bitcoind(bitcoind) => bitcoind.sync(treasury),
            Self::Esplora(esplora) => esplora.sync(treasury),
        }
    }

    pub(super) fn send(&self, transaction: &Transaction) -> Result<Sent, TreasuryError> {
        match self {
            Self::Bitcoind(bitcoind) => bitcoind.send(transaction),
            Self::Esplora(esplora) => esplora.send(transaction),
        }
    }

    /// What to pay to be in one of the next `blocks` blocks.
    pub(super) fn fee_rate(&self, blocks: u16) -> Result<FeeRate, TreasuryError> {
        match self {
            Self::Bitcoind(bitcoind) => bitcoind.fee_rate(blocks),
            Self::Esplora(esplora) => esplora.fee_rate(blocks),
        }
    }
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
