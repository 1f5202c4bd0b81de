//! The 24 words as a person types them, and sizes.

#![no_main]

use fincrypt_protocol::ByteSize;
use fincrypt_vault::words::Words;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Words::parse(text);
    let _ = text.parse::<ByteSize>();
});
