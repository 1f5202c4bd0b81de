//! What a catalog segment holds besides index pieces: marks, and lists of references.

#![no_main]

use fincrypt_vault::lists::{decode_list, encode_lists};
use fincrypt_vault::marks::{decode_marks, encode_marks};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(refs) = decode_list(bytes) {
        assert_eq!(encode_lists(&refs).concat(), bytes);
    }
    if let Some(marks) = decode_marks(bytes) {
        assert_eq!(encode_marks(&marks).concat(), bytes);
    }
});
