//! A transaction's id as it is printed, and how deep it is in the chain.

use bdk_wallet::chain::{ChainPosition, ConfirmationBlockTime};
use bitcoin::Txid;
use bitcoin::hashes::Hash;
use fincrypt_protocol::TxId;

pub(super) fn txid(id: Txid) -> TxId {
    let mut bytes = id.to_byte_array();
    // As it is printed.
    bytes.reverse();
    TxId::from_bytes(bytes)
}

pub(super) fn confirmations(position: &ChainPosition<ConfirmationBlockTime>, tip: u32) -> u32 {
    match position {
        ChainPosition::Confirmed { anchor, .. } => (tip + 1).saturating_sub(anchor.block_id.height),
        ChainPosition::Unconfirmed { .. } => 0,
    }
}
