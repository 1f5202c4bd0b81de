//! Frames of every request protocol, as they come from strangers.

#![no_main]

use fincrypt_protocol::{Frame, mediate, shard};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Frame::<mediate::Request>::from_slice(bytes);
    let _ = Frame::<mediate::Response>::from_slice(bytes);
    let _ = Frame::<shard::Request>::from_slice(bytes);
    let _ = Frame::<shard::Response>::from_slice(bytes);
});
