//! What bitcoind says of its chain, as it says it.

use std::path::PathBuf;

use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::amount::serde::as_btc;
use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::consensus::serde::{Hex, With};
use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::{
    Amount, BlockHash, CompactTarget, ScriptBuf, Transaction, TxMerkleNode, TxOut, Txid,
};
use bdk_bitcoind_rpc::bitcoincore_rpc::{Auth, Client, Error, RpcApi, jsonrpc};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bitcoind::Bitcoind;

/// `getblock` with the outputs that its transactions spend.
const WITH_SPENT: u8 = 3;
/// bitcoind's code of a transaction that it does not have.
const UNKNOWN: i32 = -5;
/// bitcoind's code while it starts.
const WARMING_UP: i32 = -28;

/// Where a bitcoind is, and how to log in.
pub(super) struct Source {
    port: u16,
    cookie: PathBuf,
}

/// A block without its transactions. Its names here are bitcoind's, its names in answers Esplora's.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Header {
    #[serde(rename(serialize = "id"))]
    pub(super) hash: BlockHash,
    pub(super) height: u32,
    version: i32,
    #[serde(rename(serialize = "timestamp"))]
    pub(super) time: u64,
    #[serde(rename(serialize = "tx_count", deserialize = "nTx"))]
    transactions: u32,
    size: u64,
    weight: u64,
    #[serde(rename(serialize = "merkle_root", deserialize = "merkleroot"))]
    merkle_root: TxMerkleNode,
    #[serde(rename = "previousblockhash")]
    pub(super) previous: Option<BlockHash>,
    #[serde(rename = "mediantime")]
    median_time: u64,
    nonce: u32,
    #[serde(deserialize_with = "target")]
    bits: CompactTarget,
    difficulty: f64,
}

/// A block.
#[derive(Debug, Deserialize)]
pub(super) struct Block {
    #[serde(flatten)]
    pub(super) header: Header,
    #[serde(rename = "tx")]
    pub(super) transactions: Vec<Confirmed>,
}

/// A transaction in a block.
#[derive(Debug, Deserialize)]
pub(super) struct Confirmed {
    #[serde(rename = "hex", with = "With::<Hex>")]
    pub(super) transaction: Transaction,
    vin: Vec<Input>,
}

#[derive(Debug, Deserialize)]
struct Input {
    prevout: Option<Spent>,
}

#[derive(Debug, Deserialize)]
struct Spent {
    #[serde(with = "as_btc")]
    value: Amount,
    #[serde(rename = "scriptPubKey")]
    script: Script,
}

#[derive(Debug, Deserialize)]
struct Script {
    hex: ScriptBuf,
}

/// Esplora has it as a number, bitcoind as hexadecimal.
fn target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CompactTarget, D::Error> {
    let text = String::deserialize(deserializer)?;
    CompactTarget::from_unprefixed_hex(&text).map_err(D::Error::custom)
}

impl Confirmed {
    /// For each input, the output that it spends; a coinbase spends none.
    pub(super) fn spent(&self) -> Vec<Option<TxOut>> {
        let output = |spent: &Spent| TxOut { value: spent.value, script_pubkey: spent.script.hex.clone() };
        self.vin.iter().map(|input| input.prevout.as_ref().map(output)).collect()
    }
}

impl Source {
    pub(super) fn new(bitcoind: &Bitcoind) -> Self {
        Self { port: bitcoind.port(), cookie: bitcoind.cookie() }
    }

    /// A client for one answer: the cookie is another after each start of bitcoind.
    pub(super) fn client(&self) -> Result<Client, Error> {
        Client::new(&format!("http://127.0.0.1:{}", self.port), Auth::CookieFile(self.cookie.clone()))
    }
}

/// A block with its transactions and the outputs that they spend.
pub(super) fn block(client: &Client, hash: &BlockHash) -> Result<Block, Error> {
    client.call("getblock", &[json!(hash), json!(WITH_SPENT)])
}

/// A transaction of the mempool; none if it has left it.
pub(super) fn unconfirmed(client: &Client, txid: &Txid) -> Result<Option<Transaction>, Error> {
    match client.get_raw_transaction(txid, None) {
        Ok(transaction) => Ok(Some(transaction)),
        Err(Error::JsonRpc(jsonrpc::Error::Rpc(error))) if error.code == UNKNOWN => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends a transaction in hexadecimal; bitcoind's code and reason if it does not want it.
pub(super) fn send(client: &Client, transaction: &str) -> Result<Result<Txid, (i32, String)>, Error> {
    match client.call("sendrawtransaction", &[json!(transaction)]) {
        Ok(txid) => Ok(Ok(txid)),
        Err(Error::JsonRpc(jsonrpc::Error::Rpc(error))) if error.code != WARMING_UP => {
            Ok(Err((error.code, error.message)))
        }
        Err(error) => Err(error),
    }
}
