//! Blocks and transactions in Esplora's JSON. Amounts are satoshi, times seconds since 1970.

use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::hashes::{Hash, HashEngine, sha256d};
use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::hex::DisplayHex;
use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::{
    Address, Amount, BlockHash, Network, OutPoint, Script, TxIn, TxOut, Txid,
};
use serde_json::{Value, json};

use super::index::{Index, Place, Tx};

/// Whether and where a transaction is in the chain.
pub(super) fn status(index: &Index, place: Option<Place>) -> Value {
    let height = match place {
        Some(Place::Chain { height, .. }) => Some(height),
        Some(Place::Mempool { .. }) | None => None,
    };
    match height.and_then(|height| index.block_at(height)) {
        None => json!({"confirmed": false}),
        Some(block) => json!({
            "confirmed": true,
            "block_height": block.header.height,
            "block_hash": block.header.hash,
            "block_time": block.header.time,
        }),
    }
}

/// Whether a block is in the best chain.
pub(super) fn block_status(index: &Index, hash: &BlockHash) -> Value {
    let height = index.block(hash).map(|block| block.header.height);
    let next = height.and_then(|height| usize::try_from(height).ok());
    let next = next.and_then(|height| index.block_at(height + 1)).map(|block| block.header.hash);
    json!({"in_best_chain": height.is_some(), "height": height, "next_best": next})
}

/// Who spends an output.
pub(super) fn outspend(index: &Index, output: &OutPoint) -> Value {
    match index.spender(output) {
        None => json!({"spent": false}),
        Some((spender, input)) => json!({
            "spent": true,
            "txid": spender.txid,
            "vin": input,
            "status": status(index, Some(spender.place)),
        }),
    }
}

/// A transaction.
pub(super) fn transaction(index: &Index, tx: &Tx) -> Value {
    let of = &tx.transaction;
    let given: Amount = of.output.iter().map(|output| output.value).sum();
    let taken: Amount = tx.spent.iter().flatten().map(|output| output.value).sum();
    // A coinbase takes nothing and gives what it likes.
    let fee = taken.checked_sub(given).unwrap_or_default();
    let inputs = of.input.iter().zip(&tx.spent).map(|(given, spent)| input(given, spent.as_ref()));
    json!({
        "txid": tx.txid,
        "version": of.version.0,
        "locktime": of.lock_time.to_consensus_u32(),
        "vin": inputs.collect::<Vec<_>>(),
        "vout": of.output.iter().map(output).collect::<Vec<_>>(),
        "size": of.total_size(),
        "weight": of.weight().to_wu(),
        "fee": fee.to_sat(),
        "status": status(index, Some(tx.place)),
    })
}

fn input(input: &TxIn, spent: Option<&TxOut>) -> Value {
    let mut form = json!({
        "txid": input.previous_output.txid,
        "vout": input.previous_output.vout,
        "prevout": spent.map(output),
        "scriptsig": input.script_sig,
        "scriptsig_asm": input.script_sig.to_asm_string(),
        "is_coinbase": input.previous_output.is_null(),
        "sequence": input.sequence.to_consensus_u32(),
    });
    if !input.witness.is_empty() {
        form["witness"] = input.witness.iter().map(DisplayHex::to_lower_hex_string).collect();
    }
    form
}

fn output(output: &TxOut) -> Value {
    let script = &output.script_pubkey;
    let mut form = json!({
        "scriptpubkey": script,
        "scriptpubkey_asm": script.to_asm_string(),
        "scriptpubkey_type": kind(script),
        "value": output.value.to_sat(),
    });
    if let Ok(address) = Address::from_script(script, Network::Regtest) {
        form["scriptpubkey_address"] = address.to_string().into();
    }
    form
}

fn kind(script: &Script) -> &'static str {
    match script {
        _ if script.is_empty() => "empty",
        _ if script.is_op_return() => "op_return",
        _ if script.is_p2pk() => "p2pk",
        _ if script.is_p2pkh() => "p2pkh",
        _ if script.is_p2sh() => "p2sh",
        _ if script.is_p2wpkh() => "v0_p2wpkh",
        _ if script.is_p2wsh() => "v0_p2wsh",
        _ if script.is_p2tr() => "v1_p2tr",
        _ => "unknown",
    }
}

/// The hashes beside the way from a transaction to the Merkle root of its block, the lowest first.
pub(super) fn merkle_branch(txids: &[Txid], mut position: usize) -> Vec<Txid> {
    let mut level: Vec<sha256d::Hash> = txids.iter().map(|txid| txid.to_raw_hash()).collect();
    let mut branch = Vec::new();
    while level.len() > 1 {
        // The last one of an odd number is its own neighbour.
        if level.len() % 2 == 1 {
            level.extend(level.last().copied());
        }
        branch.extend(level.get(position ^ 1).map(|hash| Txid::from_raw_hash(*hash)));
        position /= 2;
        level = level.as_chunks::<2>().0.iter().map(|[left, right]| joined(left, right)).collect();
    }
    branch
}

/// The hash above two.
fn joined(left: &sha256d::Hash, right: &sha256d::Hash) -> sha256d::Hash {
    let mut engine = sha256d::Hash::engine();
    engine.input(left.as_byte_array());
    engine.input(right.as_byte_array());
    sha256d::Hash::from_engine(engine)
}
