//! Where the chain is read: one choice, for the wallet on the chain and the Lightning node.

use std::path::PathBuf;

use crate::BitcoinNetwork;

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

/// Where a bitcoind is, and how to log in. Its cookie is read anew for every connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitcoind {
    /// Host name or address.
    pub host: String,
    /// Port of its RPC.
    pub port: u16,
    /// File with user and password.
    pub cookie: PathBuf,
}
