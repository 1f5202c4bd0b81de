//! Asking an Esplora server, address by address.
//!
//! What is only in its mempool is left out: unconfirmed transactions count for nothing. The server learns
//! which addresses belong together, and its word is taken for what is in the chain.

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use bdk_esplora::EsploraAsyncExt;
use bdk_esplora::esplora_client::{AsyncClient, Builder, Error, convert_fee_rate};
use bdk_wallet::Update;
use bdk_wallet::chain::{ConfirmationBlockTime, TxUpdate};
use bitcoin::constants::genesis_block;
use bitcoin::{FeeRate, Network, Transaction, Txid};
use tokio::runtime::Runtime;

use super::answer::{Sent, bounded_rate};
use super::error::{TreasuryError, failed};
use super::state::{LOOKAHEAD, State};

/// Questions at once.
const PARALLEL: usize = 4;
/// Seconds for an answer.
const TIMEOUT: u64 = 30;
/// How often a server that is busy or down is asked again at once. The next round asks anew.
const AGAIN: usize = 2;

/// A server, and what asks it.
pub(super) struct Esplora {
    url: String,
    network: Network,
    client: AsyncClient,
    /// Of one thread: whichever asks. There until this is dropped.
    runtime: Option<Runtime>,
    /// Whether it was found to be on our network.
    checked: AtomicBool,
}

impl Drop for Esplora {
    fn drop(&mut self) {
        // A runtime must not be waited for where another one runs.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Leaves out what is in no block.
fn confirmed(mut update: TxUpdate<ConfirmationBlockTime>) -> TxUpdate<ConfirmationBlockTime> {
    let in_blocks: HashSet<Txid> = update.anchors.iter().map(|(_, id)| *id).collect();
    update.txs.retain(|transaction| in_blocks.contains(&transaction.compute_txid()));
    update.seen_ats.clear();
    update.evicted_ats.clear();
    update
}

impl Esplora {
    pub(super) fn new(url: String, network: Network) -> Result<Self, TreasuryError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let client =
            Builder::new(url.trim_end_matches('/')).timeout(TIMEOUT).max_retries(AGAIN).build_async();
        let (runtime, client) =
            (runtime.map_err(|error| failed(&error))?, client.map_err(|error| failed(&error))?);
        Ok(Self { url, network, client, runtime: Some(runtime), checked: AtomicBool::new(false) })
    }

    fn failed(&self, error: &Error) -> TreasuryError {
        let reason = match error {
            Error::HttpResponse { status, message } => format!("status {status}, {}", message.trim()),
            Error::Reqwest(error) => error.to_string(),
            other => format!("its answer cannot be read ({other})"),
        };
        TreasuryError::Esplora { url: self.url.clone(), reason }
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.runtime.as_ref().ok_or(Error::InvalidResponse)?.block_on(answer)
    }

    fn ask<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, TreasuryError> {
        self.wait(answer).map_err(|error| self.failed(&error))
    }

    /// Makes sure that it is on our network.
    fn check(&self) -> Result<(), TreasuryError> {
        if self.checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let theirs = self.ask(self.client.get_block_hash(0))?;
        if theirs != genesis_block(self.network).block_hash() {
            let theirs = format!("another network, with genesis block {theirs}");
            return Err(TreasuryError::Network { theirs, ours: self.network.to_core_arg().to_owned() });
        }
        self.checked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Asks about all addresses if there is another block; whether there was.
    pub(super) fn sync(&self, state: &State) -> Result<bool, TreasuryError> {
        self.check()?;
        let best = self.ask(self.client.get_tip_hash())?;
        let known = state.lock().wallet.latest_checkpoint();
        if known.hash() == best {
            return Ok(false);
        }
        // Nobody waits for the wallet while the server is asked.
        let update = if known.height() == 0 && state.birthday.is_some() {
            // Its words are older than what is known here: addresses that were used before are looked for.
            let request = state.lock().wallet.start_full_scan().build();
            let scan = self.client.full_scan(request, LOOKAHEAD as usize, PARALLEL);
            Update::from(self.ask(async { scan.await.map_err(|error| *error) })?)
        } else {
            let request = state.lock().wallet.start_sync_with_revealed_spks().build();
            let sync = self.client.sync(request, PARALLEL);
            Update::from(self.ask(async { sync.await.map_err(|error| *error) })?)
        };
        let update = Update { tx_update: confirmed(update.tx_update), ..update };
        state.lock().wallet.apply_update(update).map_err(|error| failed(&error))?;
        Ok(true)
    }

    pub(super) fn send(&self, transaction: &Transaction) -> Result<Sent, TreasuryError> {
        match self.wait(self.client.broadcast(transaction)) {
            Ok(()) => Ok(Sent::Known),
            Err(Error::HttpResponse { status: 400, message }) => {
                // bitcoind's words for an output that is in the chain already.
                let known = message.contains("already in");
                Ok(if known { Sent::Known } else { Sent::Refused(message.trim().to_owned()) })
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// What to pay to be in one of the next `blocks` blocks.
    pub(super) fn fee_rate(&self, blocks: u16) -> Result<FeeRate, TreasuryError> {
        let estimates = self.ask(self.client.get_fee_estimates())?;
        let rate = convert_fee_rate(blocks.into(), estimates).unwrap_or(0.0);
        // Whole satoshi; no rate is so high that its digits would be lost.
        Ok(bounded_rate(rate.max(0.0).ceil() as u64))
    }
}
