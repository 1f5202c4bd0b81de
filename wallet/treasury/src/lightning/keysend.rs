//! Preimages of keysend payments, which come from the seed.

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use bitcoin::secp256k1::PublicKey;
use fincrypt_protocol::PayoutId;
use ldk_node::lightning_types::payment::PaymentPreimage;
use zeroize::Zeroizing;

/// Separates the key of keysend preimages from all else that comes from the seed.
const KEYSEND: &[u8] = b"fincrypt/1/keysend";

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    Hmac::from_engine(engine).to_byte_array()
}

/// The key of a node's keysend preimages: HMAC-SHA256 (RFC 2104) of a label under its seed.
pub(super) fn key(seed: &[u8; 64]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(hmac(seed, &[KEYSEND]))
}

/// The preimage of a keysend payment: the same for the same payout and node.
pub(super) fn preimage(key: &[u8; 32], id: PayoutId, to: &PublicKey) -> PaymentPreimage {
    PaymentPreimage(hmac(key, &[id.as_bytes(), &to.serialize()]))
}
