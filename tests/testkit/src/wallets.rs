//! Other people's Bitcoin wallets: operators who are paid, clients who pay in. A real Lightning node and
//! a real wallet on the chain, in this process.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fincrypt_protocol::amount::{Msat, Sat};
use fincrypt_protocol::{PayoutId, TxId};
use fincrypt_treasury::lightning::{ChainAccess, Lightning, LightningError, Payment, Setup, Stands};
use fincrypt_treasury::onchain::{Bitcoind as Rpc, Output, Treasury, TreasuryError, TreasurySetup};
use fincrypt_treasury::{BitcoinNetwork, ChainSource};
use futures::FutureExt;
use zeroize::Zeroizing;

use crate::bitcoind::{Bitcoind, BitcoindError};
use crate::process::wait_until;

/// How long a payment may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between looks for something that happened to a node.
const LOOK: Duration = Duration::from_millis(50);

/// Somebody's wallet did not do what it had to.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The Lightning node failed.
    #[error(transparent)]
    Lightning(#[from] LightningError),
    /// The wallet on the chain failed.
    #[error(transparent)]
    Treasury(#[from] TreasuryError),
    /// bitcoind failed.
    #[error(transparent)]
    Bitcoind(#[from] BitcoindError),
    /// No port was free.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
    /// It was not paid.
    #[error("the payment did not arrive: {0}")]
    NotPaid(String),
}

fn draw() -> Result<PayoutId, WalletError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| WalletError::Randomness)?;
    Ok(PayoutId::from_bytes(id))
}

/// A port that is chosen once: whoever comes back is found where it was.
fn port(path: &Path) -> Result<u16, std::io::Error> {
    if let Some(known) = std::fs::read_to_string(path).ok().and_then(|text| text.parse().ok()) {
        return Ok(known);
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    std::fs::write(path, port.to_string())?;
    Ok(port)
}

/// Somebody's Lightning node, and how it is reached.
pub struct LightningWallet {
    /// The node.
    pub node: Arc<Lightning>,
    /// `key@host:port`.
    pub peer: String,
    ended: Arc<AtomicBool>,
    events: Option<JoinHandle<()>>,
}

impl LightningWallet {
    /// Opens one in `folder`, that trusts `trusted` with channels of no confirmation.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn open(
        bitcoind: &Bitcoind,
        folder: &Path,
        name: &str,
        seed: u8,
        trusted: Vec<String>,
    ) -> Result<Self, WalletError> {
        let port = port(&folder.join(format!("{name}.port")))?;
        let (user, password) = bitcoind.credentials()?;
        let (host, password) = ("127.0.0.1".to_owned(), Zeroizing::new(password));
        let setup = Setup {
            network: BitcoinNetwork::Regtest,
            folder: folder.join(name),
            seed: Zeroizing::new([seed; 64]),
            listen: vec![format!("127.0.0.1:{port}")],
            alias: Some(name.to_owned()),
            chain: ChainAccess::Bitcoind { host, port: bitcoind.port(), user, password },
            trusted,
        };
        let node = Arc::new(Lightning::open(setup)?);
        let peer = format!("{}@127.0.0.1:{port}", node.id());
        let ended = Arc::new(AtomicBool::new(false));
        let (taken, over) = (Arc::clone(&node), Arc::clone(&ended));
        let events = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                match taken.next().now_or_never() {
                    Some(_) => drop(taken.noted()),
                    None => std::thread::sleep(LOOK),
                }
            }
        });
        Ok(Self { node, peer, ended, events: Some(events) })
    }

    /// Satoshi that came in.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.node.deposits().iter().map(|deposit| deposit.amount.get()).sum::<u64>() / 1000
    }

    /// Pays, and waits until it has arrived.
    ///
    /// # Errors
    /// [`WalletError::NotPaid`], [`WalletError::Lightning`] if the destination is none.
    pub fn pay(&self, to: &str, amount: Msat) -> Result<(), WalletError> {
        let destination = to.parse().map_err(|_| WalletError::NotPaid(format!("{to} is no destination")))?;
        let fee_cap = Msat::new(amount.get() / 10 + 10_000);
        let payment = Payment { id: draw()?, to: destination, amount, fee_cap };
        let mut last = String::new();
        let paid = wait_until(PATIENCE, || {
            if let Err(error) = self.node.pay(&payment) {
                last = error.to_string();
            }
            matches!(self.node.stands(&payment), Stands::Paid { .. })
        });
        if paid { Ok(()) } else { Err(WalletError::NotPaid(last)) }
    }
}

impl Drop for LightningWallet {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(events) = self.events.take() {
            let _ = events.join();
        }
        // A node that runs on would keep the process.
        let _ = self.node.close();
    }
}

/// Somebody's wallet on the chain.
pub struct ChainWallet {
    /// It.
    pub treasury: Treasury,
}

impl ChainWallet {
    /// Opens one in `folder`.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn open(bitcoind: &Bitcoind, folder: &Path, seed: u8) -> Result<Self, WalletError> {
        let rpc = Rpc { host: "127.0.0.1".to_owned(), port: bitcoind.port(), cookie: bitcoind.cookie() };
        Self::open_at(ChainSource::Bitcoind(rpc), folder, seed)
    }

    /// The same, which learns of the chain from `source`.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn open_at(source: ChainSource, folder: &Path, seed: u8) -> Result<Self, WalletError> {
        let setup = TreasurySetup {
            network: BitcoinNetwork::Regtest,
            folder: folder.join(format!("wallet-{seed}")),
            seed: Zeroizing::new([seed; 64]),
            chain: source,
            birthday: None,
        };
        let treasury = Treasury::open(setup)?;
        treasury.sync()?;
        Ok(Self { treasury })
    }

    /// Gives it coins out of nothing.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn endow(&self, bitcoind: &Bitcoind) -> Result<(), WalletError> {
        bitcoind.fund(&self.treasury.address(0)?)?;
        Ok(self.treasury.sync()?)
    }

    /// Sends satoshi somewhere; they are in the chain once a block is mined.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn pay(&self, address: &str, sat: u64) -> Result<TxId, WalletError> {
        self.treasury.sync()?;
        let outputs = [Output { address: address.to_owned(), amount: Sat::new(sat) }];
        let payout = draw()?;
        let fee = self.treasury.quote(&outputs, 6)?;
        self.treasury.prepare(payout, &outputs, fee)?;
        Ok(self.treasury.send(payout)?)
    }

    /// Satoshi that came with at least so many confirmations.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn received(&self, confirmations: u32) -> Result<u64, WalletError> {
        self.treasury.sync()?;
        let came = self.treasury.arrivals().into_iter().filter(|came| came.confirmations >= confirmations);
        Ok(came.map(|came| came.amount.get()).sum())
    }
}
