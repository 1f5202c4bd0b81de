//! What a mediator's 24 words derive.

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha512};
use zeroize::Zeroizing;

/// Separates the Lightning node's seed from the wallet's.
const LIGHTNING: &[u8] = b"fincrypt/1/lightning-seed";

/// The seed of the Lightning node beside the wallet of `seed`: HMAC-SHA512 (RFC 2104) of a label
/// under it. Two wallets on the same seed would spend each other's coins.
#[must_use]
pub fn lightning_seed(seed: &[u8; 64]) -> Zeroizing<[u8; 64]> {
    let mut engine = HmacEngine::<sha512::Hash>::new(seed);
    engine.input(LIGHTNING);
    Zeroizing::new(Hmac::from_engine(engine).to_byte_array())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lightning_nodes_seed_follows_from_the_wallets_and_is_another() {
        let seed = lightning_seed(&[1; 64]);
        assert_eq!(hex::encode(&seed[..8]), "9d421b52d35fb5ee");
        assert_ne!(*seed, *lightning_seed(&[2; 64]));
        assert_ne!(*seed, [1; 64]);
    }
}
