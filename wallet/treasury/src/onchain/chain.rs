//! Where a wallet learns of the chain, and sends its transactions to.

use bitcoin::{FeeRate, Network, Transaction};

use super::answer::Sent;
use super::error::TreasuryError;
use super::esplora::Esplora;
use super::state::State;
use crate::chain::{Bitcoind, ChainSource};

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
    pub(super) fn sync(&self, state: &State) -> Result<bool, TreasuryError> {
        match self {
            Self::Bitcoind(bitcoind) => bitcoind.sync(state),
            Self::Esplora(esplora) => esplora.sync(state),
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
