//! Which path is answered with what.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::consensus::encode::{serialize, serialize_hex};
use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::hashes::sha256;
use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::hex::DisplayHex;
use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::{BlockHash, OutPoint, Txid};
use bdk_bitcoind_rpc::bitcoincore_rpc::{self, Client, RpcApi};
use serde_json::{Map, Value, json};

use super::error::EsploraError;
use super::forms::{block_status, merkle_branch, outspend, status, transaction};
use super::index::{Index, Place, Tx};
use super::source::{Source, send};

/// Blocks in one answer.
const BLOCKS: usize = 10;
/// Transactions of the chain in one answer. Clients take fewer for the end.
const CONFIRMED: usize = 25;
/// Transactions of the mempool in one answer.
const UNCONFIRMED: usize = 50;
/// Blocks within which a transaction that pays an estimate is confirmed.
const TARGETS: [u16; 28] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 144, 504, 1008,
];

const NO_BLOCK: Refusal = Refusal::Unknown("Block not found");
const NO_TX: Refusal = Refusal::Unknown("Transaction not found");
const NOT_CONFIRMED: Refusal = Refusal::Unknown("Transaction not found or is unconfirmed");
const NO_ENDPOINT: Refusal = Refusal::Unknown("endpoint does not exist");

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such thing.
    Unknown(&'static str),
    /// The question is none, or bitcoind does not want the transaction.
    Bad(String),
    /// bitcoind does not answer.
    Down(EsploraError),
}

impl From<EsploraError> for Refusal {
    fn from(error: EsploraError) -> Self {
        Self::Down(error)
    }
}

impl From<bitcoincore_rpc::Error> for Refusal {
    fn from(error: bitcoincore_rpc::Error) -> Self {
        Self::Down(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown(what) => (StatusCode::NOT_FOUND, what).into_response(),
            Self::Bad(why) => (StatusCode::BAD_REQUEST, why).into_response(),
            Self::Down(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        }
    }
}

/// Answers out of what bitcoind has now.
pub(super) fn answer(
    source: &Source,
    index: &mut Index,
    fee: u64,
    method: &Method,
    path: &str,
    body: &[u8],
) -> Result<Response, Refusal> {
    let client = source.client()?;
    index.update(&client)?;
    let steps: Vec<&str> = path.split('/').skip(1).collect();
    match (method.as_str(), steps.as_slice()) {
        ("GET", ["blocks", rest @ ..]) => blocks(index, rest),
        ("GET", ["block-height", height]) => {
            let block = index.block_at(parsed(height, "number")?).ok_or(NO_BLOCK)?;
            Ok(block.header.hash.to_string().into_response())
        }
        ("GET", ["block", hash, rest @ ..]) => block(&client, index, &parsed(hash, "hash string")?, rest),
        ("GET", ["tx", txid, rest @ ..]) => tx(&client, index, parsed(txid, "hash string")?, rest),
        ("GET", ["scripthash", hash, "txs", rest @ ..]) => {
            history(index, &parsed(hash, "hash string")?, rest)
        }
        ("GET", ["fee-estimates"]) if fee > 0 => {
            Ok(Json(TARGETS.map(|blocks| (blocks.to_string(), fee)).into_iter().collect::<BTreeMap<_, _>>())
                .into_response())
        }
        ("GET", ["fee-estimates"]) => fees(&client),
        ("POST", ["tx"]) => match send(&client, &String::from_utf8_lossy(body))? {
            Ok(txid) => Ok(txid.to_string().into_response()),
            Err((code, message)) => {
                let error = json!({"code": code, "message": message});
                Err(Refusal::Bad(format!("sendrawtransaction RPC error: {error}")))
            }
        },
        _ => Err(NO_ENDPOINT),
    }
}

fn parsed<T: FromStr>(text: &str, what: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| Refusal::Bad(format!("Invalid {what}")))
}

fn blocks(index: &Index, path: &[&str]) -> Result<Response, Refusal> {
    let tip = &index.tip().ok_or(NO_BLOCK)?.header;
    let from = match path {
        ["tip", "hash"] => return Ok(tip.hash.to_string().into_response()),
        ["tip", "height"] => return Ok(tip.height.to_string().into_response()),
        [] => usize::MAX,
        [height] => {
            let height = parsed(height, "number")?;
            index.block_at(height).map(|_| height).ok_or(NO_BLOCK)?
        }
        _ => return Err(NO_ENDPOINT),
    };
    let blocks: Vec<_> = index.blocks_to(from, BLOCKS).map(|block| &block.header).collect();
    Ok(Json(blocks).into_response())
}

fn block(client: &Client, index: &Index, hash: &BlockHash, path: &[&str]) -> Result<Response, Refusal> {
    if let ["status"] = path {
        // Of blocks that are unknown too: they may have been in the chain once.
        return Ok(Json(block_status(index, hash)).into_response());
    }
    let block = index.block(hash).ok_or(NO_BLOCK)?;
    match path {
        [] => Ok(Json(&block.header).into_response()),
        ["txids"] => Ok(Json(&block.txids).into_response()),
        ["header"] => Ok(serialize_hex(&client.get_block_header(hash)?).into_response()),
        ["raw"] => Ok(serialize(&client.get_block(hash)?).into_response()),
        _ => Err(NO_ENDPOINT),
    }
}

fn tx(client: &Client, index: &Index, txid: Txid, path: &[&str]) -> Result<Response, Refusal> {
    let known = index.tx(&txid);
    let tx = || known.ok_or(NO_TX);
    match path {
        [] => Ok(Json(transaction(index, tx()?)).into_response()),
        // These two are answered of transactions that are unknown too.
        ["status"] => Ok(Json(status(index, known.map(|tx| tx.place))).into_response()),
        ["outspend", output] => {
            let output = OutPoint { txid, vout: parsed(output, "number")? };
            Ok(Json(outspend(index, &output)).into_response())
        }
        ["outspends"] => {
            let outputs = (0..).zip(&tx()?.transaction.output);
            let spends = outputs.map(|(vout, _)| outspend(index, &OutPoint { txid, vout }));
            Ok(Json(spends.collect::<Vec<_>>()).into_response())
        }
        ["hex"] => Ok(serialize_hex(&tx()?.transaction).into_response()),
        ["raw"] => Ok(serialize(&tx()?.transaction).into_response()),
        [proof @ ("merkle-proof" | "merkleblock-proof")] => {
            let place = known.map(|tx| tx.place);
            let Some(Place::Chain { height, position }) = place else { return Err(NOT_CONFIRMED) };
            let block = index.block_at(height).ok_or(NOT_CONFIRMED)?;
            if *proof == "merkleblock-proof" {
                let proof = client.get_tx_out_proof(&[txid], Some(&block.header.hash))?;
                return Ok(proof.to_lower_hex_string().into_response());
            }
            let merkle = merkle_branch(&block.txids, position);
            Ok(Json(json!({"block_height": height, "merkle": merkle, "pos": position})).into_response())
        }
        _ => Err(NO_ENDPOINT),
    }
}

fn history(index: &Index, script: &sha256::Hash, path: &[&str]) -> Result<Response, Refusal> {
    let (unconfirmed, confirmed): (Vec<&Tx>, Vec<&Tx>) =
        index.history(script).partition(|tx| matches!(tx.place, Place::Mempool { .. }));
    let (unconfirmed, confirmed) = (unconfirmed.into_iter().take(UNCONFIRMED), confirmed.into_iter());
    let txs: Vec<&Tx> = match path {
        [] => unconfirmed.chain(confirmed.take(CONFIRMED)).collect(),
        ["mempool"] => unconfirmed.collect(),
        ["chain"] => confirmed.take(CONFIRMED).collect(),
        ["chain", last] => {
            let last: Txid = parsed(last, "hash string")?;
            confirmed.skip_while(|tx| tx.txid != last).skip(1).take(CONFIRMED).collect()
        }
        _ => return Err(NO_ENDPOINT),
    };
    Ok(Json(txs.into_iter().map(|tx| transaction(index, tx)).collect::<Vec<_>>()).into_response())
}

/// By blocks, in satoshi per vbyte. Without enough of a past bitcoind estimates nothing.
fn fees(client: &Client) -> Result<Response, Refusal> {
    let mut fees = Map::new();
    for target in TARGETS {
        if let Some(rate) = client.estimate_smart_fee(target, None)?.fee_rate {
            fees.insert(target.to_string(), Value::from(rate.to_sat() as f64 / 1000.0));
        }
    }
    Ok(Json(fees).into_response())
}
