//! Why an Esplora cannot serve.

use bdk_bitcoind_rpc::bitcoincore_rpc;

/// An Esplora cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum EsploraError {
    /// bitcoind does not answer, or not as it should.
    #[error("bitcoind tells Esplora nothing, is it running? {0}")]
    Bitcoind(#[from] bitcoincore_rpc::Error),
    /// The system gave no port or no thread.
    #[error("cannot serve Esplora on 127.0.0.1: {0}")]
    Io(#[from] std::io::Error),
    /// Blocks came faster than they could be read.
    #[error("bitcoind's chain changes during every look at it, mine more slowly")]
    Restless,
}
