//! Segments, directories and index pieces.

#![no_main]

use fincrypt_vault::Root;
use fincrypt_vault::index::IndexPiece;
use fincrypt_vault::segment::{Directory, OpenSegment};
use zeroize::Zeroizing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Directory::decode(bytes, 1 << 20);
    let _ = IndexPiece::decode(bytes);
    let _ = OpenSegment::open(&Root::from_bytes(&Zeroizing::new([1; 32])), bytes.to_vec());
});
