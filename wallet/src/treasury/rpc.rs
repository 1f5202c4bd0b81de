//! Asking a bitcoind.

use std::path::PathBuf;

use bdk_bitcoind_rpc::bitcoincore_rpc::{Auth, Client, Error, RpcApi, jsonrpc};
use bdk_wallet::bitcoin::{FeeRate, Network, Transaction};

use super::TreasuryError;

/// The least that nodes relay, and the most that is ever paid.
const LEAST_RATE: FeeRate = FeeRate::BROADCAST_MIN;
const MOST_RATE: u64 = 500;
/// bitcoind's code of a transaction that is in the chain already.
const IN_CHAIN: i32 = -27;

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

/// What became of a transaction that was sent.
pub(super) enum Sent {
    /// It is known, or in the chain.
    Known,
    Refused(String),
}

impl Bitcoind {
    fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    pub(super) fn failed(&self, error: &dyn std::fmt::Display) -> TreasuryError {
        TreasuryError::Bitcoind { url: self.url(), reason: error.to_string() }
    }

    pub(super) fn client(&self) -> Result<Client, TreasuryError> {
        Client::new(&self.url(), Auth::CookieFile(self.cookie.clone())).map_err(|error| self.failed(&error))
    }

    /// Makes sure that it is on our network.
    pub(super) fn check(&self, client: &Client, ours: Network) -> Result<(), TreasuryError> {
        let info: serde_json::Value =
            client.call("getblockchaininfo", &[]).map_err(|error| self.failed(&error))?;
        let theirs = info["chain"].as_str().unwrap_or_default().to_owned();
        let ours = ours.to_core_arg();
        if theirs == ours { Ok(()) } else { Err(TreasuryError::Network { theirs, ours: ours.to_owned() }) }
    }

    pub(super) fn send(&self, client: &Client, transaction: &Transaction) -> Result<Sent, TreasuryError> {
        match client.send_raw_transaction(transaction) {
            Ok(_) => Ok(Sent::Known),
            Err(Error::JsonRpc(jsonrpc::Error::Rpc(error))) if error.code == IN_CHAIN => Ok(Sent::Known),
            Err(Error::JsonRpc(jsonrpc::Error::Rpc(error))) => Ok(Sent::Refused(error.message)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// What to pay to be in one of the next `blocks` blocks; the least that nodes relay if nothing is
    /// known, as on regtest.
    pub(super) fn fee_rate(&self, client: &Client, blocks: u16) -> Result<FeeRate, TreasuryError> {
        let estimate = client.estimate_smart_fee(blocks, None).map_err(|error| self.failed(&error))?;
        let per_kvb = estimate.fee_rate.map_or(0, |rate| rate.to_sat());
        let per_vb = per_kvb.div_ceil(1000).min(MOST_RATE);
        Ok(FeeRate::from_sat_per_vb(per_vb).map_or(LEAST_RATE, |rate| rate.max(LEAST_RATE)))
    }
}
