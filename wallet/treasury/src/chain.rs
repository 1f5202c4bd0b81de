//! Where the chain is read: one choice, for the wallet on the chain and the Lightning node.

use crate::BitcoinNetwork;
use crate::onchain::Bitcoind;

/// A chain, and where it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Bitcoin's network.
    pub network: BitcoinNetwork,
    /// Where its blocks come from.
    pub source: ChainSource,
}

/// Where blocks come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainSource {
    /// From a bitcoind of one's own, block by block: nobody learns which addresses are ours.
    Bitcoind(Bitcoind),
    /// From an Esplora server, which is asked about each address.
    Esplora {
        /// Its base address.
        url: String,
    },
}
