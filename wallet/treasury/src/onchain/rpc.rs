//! Reading blocks from a bitcoind.

use bdk_bitcoind_rpc::bitcoincore_rpc::{Auth, Client, Error, RpcApi, jsonrpc};
use bdk_bitcoind_rpc::{Emitter, NO_EXPECTED_MEMPOOL_TXS};
use bitcoin::{FeeRate, Network, Transaction};

use super::answer::{Sent, bounded_rate};
use super::error::{TreasuryError, failed};
use super::state::State;
use crate::chain::Bitcoind;

/// Blocks after which what was learned is made durable.
const BLOCKS: u32 = 500;
/// bitcoind's code of a transaction that is in the chain already.
const IN_CHAIN: i32 = -27;

impl Bitcoind {
    fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> TreasuryError {
        TreasuryError::Bitcoind { url: self.url(), reason: error.to_string() }
    }

    fn client(&self) -> Result<Client, TreasuryError> {
        Client::new(&self.url(), Auth::CookieFile(self.cookie.clone())).map_err(|error| self.failed(&error))
    }

    /// Makes sure that it is on our network.
    fn check(&self, client: &Client, ours: Network) -> Result<(), TreasuryError> {
        let info: serde_json::Value =
            client.call("getblockchaininfo", &[]).map_err(|error| self.failed(&error))?;
        let theirs = info["chain"].as_str().unwrap_or_default().to_owned();
        let ours = ours.to_core_arg();
        if theirs == ours { Ok(()) } else { Err(TreasuryError::Network { theirs, ours: ours.to_owned() }) }
    }

    /// Reads all blocks that are new; whether there were any.
    pub(super) fn sync(&self, state: &State) -> Result<bool, TreasuryError> {
        let client = self.client()?;
        let failed_rpc = |error| self.failed(&error);
        let mut inner = state.lock();
        let tip = inner.wallet.latest_checkpoint();
        let best = client.get_best_block_hash().map_err(failed_rpc)?;
        if tip.hash() == best {
            return Ok(false);
        }
        self.check(&client, state.network)?;
        let height = client.get_block_count().map_err(failed_rpc)?;
        let start = match state.birthday {
            _ if tip.height() > 0 => tip.height(),
            Some(birthday) => birthday,
            // Nothing of a new wallet is in any block before.
            None => u32::try_from(height).unwrap_or(u32::MAX),
        };
        let mut emitter = Emitter::new(&client, tip, start, NO_EXPECTED_MEMPOOL_TXS);
        let mut unsaved = 0;
        while let Some(event) = emitter.next_block().map_err(failed_rpc)? {
            let connected = event.connected_to();
            inner
                .wallet
                .apply_block_connected_to(&event.block, event.block_height(), connected)
                .map_err(|error| failed(&error))?;
            unsaved += 1;
            if unsaved >= BLOCKS {
                inner.save()?;
                unsaved = 0;
            }
        }
        Ok(true)
    }

    pub(super) fn send(&self, transaction: &Transaction) -> Result<Sent, TreasuryError> {
        match self.client()?.send_raw_transaction(transaction) {
            Ok(_) => Ok(Sent::Known),
            Err(Error::JsonRpc(jsonrpc::Error::Rpc(error))) if error.code == IN_CHAIN => Ok(Sent::Known),
            Err(Error::JsonRpc(jsonrpc::Error::Rpc(error))) => Ok(Sent::Refused(error.message)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// What to pay to be in one of the next `blocks` blocks.
    pub(super) fn fee_rate(&self, blocks: u16) -> Result<FeeRate, TreasuryError> {
        let estimate =
            self.client()?.estimate_smart_fee(blocks, None).map_err(|error| self.failed(&error))?;
        Ok(bounded_rate(estimate.fee_rate.map_or(0, |rate| rate.to_sat().div_ceil(1000))))
    }
}
