//! Keyfiles and journals, as they lie on a damaged disk.

#![no_main]

use fincrypt_state::journal::Journal;
use fincrypt_vault::keyfile;
use zeroize::Zeroizing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = keyfile::open(bytes, &Zeroizing::new("password".to_owned()));
    let path = std::env::temp_dir().join(format!("fincrypt-fuzz-{}", std::process::id()));
    std::fs::write(&path, bytes).expect("writes");
    let _ = Journal::open(&path, 1 << 16, |_| {});
});
