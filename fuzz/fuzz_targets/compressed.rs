//! Decompression, whose output must never exceed what was stated.

#![no_main]

use fincrypt_storage::compress::decompress;

libfuzzer_sys::fuzz_target!(|input: (u32, Vec<u8>)| {
    let (raw_len, stored) = input;
    if let Ok(plain) = decompress(stored, raw_len) {
        assert_eq!(plain.len(), raw_len as usize);
    }
});
