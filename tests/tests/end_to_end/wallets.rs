//! Other people's Bitcoin wallets: real Lightning nodes in the test's own process.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use fincrypt_examples::Bitcoind;
use fincrypt_protocol::amount::Msat;
use fincrypt_wallet::BitcoinNetwork;
use fincrypt_wallet::lightning::{ChainSource, Lightning, Setup};
use fincrypt_wallet::treasury::{Bitcoind as Source, Treasury, TreasurySetup};
use zeroize::Zeroizing;

/// A node and how it is reached.
pub(crate) struct Party {
    pub(crate) node: Arc<Lightning>,
    pub(crate) peer: String,
}

pub(crate) fn sat(sat: u64) -> Msat {
    Msat::new(sat * 1000)
}

impl Party {
    pub(crate) fn open(
        bitcoind: &Bitcoind,
        folder: &Path,
        name: &str,
        seed: u8,
        trusted: Vec<String>,
    ) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let (user, password) = bitcoind.credentials().expect("a cookie");
        let (host, password) = ("127.0.0.1".to_owned(), Zeroizing::new(password));
        let setup = Setup {
            network: "regtest".parse().expect("a network"),
            folder: folder.join(name),
            seed: Zeroizing::new([seed; 64]),
            listen: vec![format!("127.0.0.1:{port}")],
            alias: Some(name.to_owned()),
            chain: ChainSource::Bitcoind { host, port: bitcoind.port(), user, password },
            trusted,
        };
        let node = Lightning::open(setup).expect("opens");
        let peer = format!("{}@127.0.0.1:{port}", node.id());
        let node = Arc::new(node);
        let events = Arc::clone(&node);
        tokio::spawn(async move {
            loop {
                events.next().await;
                events.noted().expect("noted");
            }
        });
        Self { node, peer }
    }

    /// Satoshi that came in.
    pub(crate) fn received(&self) -> u64 {
        self.node.deposits().iter().map(|deposit| deposit.amount.get()).sum::<u64>() / 1000
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        // Also where a test fails: a node that runs on would keep the process.
        let _ = self.node.close();
    }
}

/// Somebody's wallet on the chain.
pub(crate) struct Vault {
    pub(crate) treasury: Treasury,
}

impl Vault {
    pub(crate) fn open(bitcoind: &Bitcoind, folder: &Path, seed: u8) -> Self {
        let source =
            Source { host: "127.0.0.1".to_owned(), port: bitcoind.port(), cookie: bitcoind.cookie() };
        let setup = TreasurySetup {
            network: BitcoinNetwork::Regtest,
            folder: folder.join(format!("wallet-{seed}")),
            seed: Zeroizing::new([seed; 64]),
            bitcoind: source,
            birthday: None,
        };
        let treasury = Treasury::open(setup).expect("opens");
        treasury.sync().expect("syncs");
        Self { treasury }
    }
}

/// Runs a test beside the Lightning nodes' own threads.
pub(crate) fn with_runtime(test: impl FnOnce() + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let test = runtime.spawn_blocking(test);
    runtime.block_on(test).unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
}
