//! Trees, lists and snapshots.

#![no_main]

use fincrypt_vault::snapshot::Snapshot;
use fincrypt_vault::tree::{decode_list, decode_tree};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = decode_tree(bytes);
    let _ = decode_list(bytes);
    let _ = Snapshot::decode(bytes);
});
