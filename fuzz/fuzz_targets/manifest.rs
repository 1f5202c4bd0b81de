//! Manifests and leaf proofs.

#![no_main]

use fincrypt_protocol::{Manifest, ShardId, ShardLen, cbor};
use fincrypt_shards::proof::LeafProof;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = cbor::decode::<Manifest>(bytes, 2048) {
        let again = cbor::encode(&manifest).expect("encodes");
        assert_eq!(cbor::decode::<Manifest>(&again, 2048).expect("decodes"), manifest);
    }
    if let Ok(proof) = cbor::decode::<LeafProof>(bytes, 4096) {
        assert!(!proof.verify(&ShardId::from_bytes([0; 32]), ShardLen::FULL, 3));
    }
});
