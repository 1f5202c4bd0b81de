//! Decompression, whose output must never exceed what was stated.

#![no_main]

use fincrypt_vault::compress::Unpacker;

libfuzzer_sys::fuzz_target!(|input: (u32, Vec<u8>)| {
    let (raw_len, stored) = input;
    let mut unpacker = Unpacker::new().expect("an unpacker");
    if let Ok(plain) = unpacker.unpack(&stored, raw_len) {
        assert_eq!(plain.len(), raw_len as usize);
    }
});
