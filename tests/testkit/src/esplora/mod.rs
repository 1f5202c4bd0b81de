//! An Esplora over a real bitcoind, for tests of wallets that learn of the chain from one.
//!
//! It answers like Blockstream's electrs ([API](https://github.com/Blockstream/esplora/blob/master/API.md)),
//! in its forms and with its status codes: 400 for what is none of its questions, 404 for what it does not
//! know. Nothing is cached and nothing invented, unless a test asks for dear blocks ([`Esplora::ask_fee`]):
//! before each answer it looks at bitcoind's chain and mempool, and while bitcoind is down the answer is 503.
//!
//! | `GET`                                                    | Answer                             |
//! |----------------------------------------------------------|------------------------------------|
//! | `/blocks/tip/hash`, `/blocks/tip/height`                 | text                               |
//! | `/block-height/HEIGHT`                                   | hash                               |
//! | `/blocks`, `/blocks/HEIGHT`                              | 10 blocks, the newest first        |
//! | `/block/HASH`, `/block/HASH/status`, `/block/HASH/txids` | JSON                               |
//! | `/block/HASH/header`, `/block/HASH/raw`                  | hexadecimal, bytes                 |
//! | `/tx/TXID`, `/tx/TXID/status`                            | JSON                               |
//! | `/tx/TXID/hex`, `/tx/TXID/raw`                           | hexadecimal, bytes                 |
//! | `/tx/TXID/merkle-proof`, `/tx/TXID/merkleblock-proof`    | JSON, hexadecimal                  |
//! | `/tx/TXID/outspend/OUTPUT`, `/tx/TXID/outspends`         | JSON                               |
//! | `/scripthash/HASH/txs`                                   | 50 of the mempool, 25 of the chain |
//! | `/scripthash/HASH/txs/mempool`                           | 50 of the mempool                  |
//! | `/scripthash/HASH/txs/chain`                             | 25 of the chain                    |
//! | `/scripthash/HASH/txs/chain/TXID`                        | the 25 after that one              |
//! | `/fee-estimates`                                         | satoshi per vbyte, by blocks       |
//!
//! `POST /tx` takes a transaction in hexadecimal and answers with its id, or with 400 and bitcoind's reason.

mod answers;
mod error;
mod forms;
mod index;
mod source;
#[cfg(test)]
mod tests;

use parking_lot::Mutex;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use crate::bitcoind::Bitcoind;
use answers::answer;
pub use error::EsploraError;
use index::Index;
use source::Source;

/// A running Esplora of one bitcoind, on a port of its own. It outlives restarts of the bitcoind. Dropped, it
/// stops.
#[derive(Debug)]
pub struct Esplora {
    address: SocketAddr,
    fee: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Server {
    source: Source,
    index: Index,
    /// Satoshi for each virtual byte that all estimates say, unless none.
    fee: Arc<AtomicU64>,
}

impl Esplora {
    /// Starts one at a free port of 127.0.0.1, after reading the whole chain of `bitcoind`.
    ///
    /// # Errors
    /// [`EsploraError`], also if `bitcoind` is down.
    pub fn start(bitcoind: &Bitcoind) -> Result<Self, EsploraError> {
        let source = Source::new(bitcoind);
        let mut index = Index::default();
        index.update(&source.client()?)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _within = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let fee = Arc::new(AtomicU64::new(0));
        let server = Server { source, index, fee: Arc::clone(&fee) };
        let router = Router::new().fallback(serve).with_state(Arc::new(Mutex::new(server)));
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = axum::serve(listener, router).into_future() => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("esplora".to_owned()).spawn(run)?;
        Ok(Self { address, fee, stop: Some(stop), thread: Some(thread) })
    }

    /// From now on all estimates say so many satoshi for each virtual byte; those of bitcoind again if 0,
    /// which has none on a chain as short as a test's.
    pub fn ask_fee(&self, per_vb: u64) {
        self.fee.store(per_vb, Ordering::Relaxed);
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Esplora {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers while it holds the only thread: questions are answered one by one, and nothing else runs on it.
async fn serve(State(server): State<Arc<Mutex<Server>>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut server = server.lock();
    let Server { source, index, fee } = &mut *server;
    answer(source, index, fee.load(Ordering::Relaxed), &method, uri.path(), &body)
        .unwrap_or_else(IntoResponse::into_response)
}
