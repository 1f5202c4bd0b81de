//! Trees, lists and snapshots.

#![no_main]

use fincrypt_storage::snapshot::Snapshot;
use fincrypt_storage::tree::{decode_list, decode_tree};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = decode_tree(bytes);
    let _ = decode_list(bytes);
    let _ = Snapshot::decode(bytes);
});
