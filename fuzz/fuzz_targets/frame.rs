//! Frames of every request protocol, as they come from strangers.

#![no_main]

use fincrypt_protocol::{Frame, Response, mediate, pay, shard};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Frame::<mediate::Request>::from_slice(bytes);
    let _ = Frame::<pay::Request>::from_slice(bytes);
    let _ = Frame::<shard::Request>::from_slice(bytes);
    if let Ok(frame) = Frame::<Response>::from_slice(bytes) {
        let _ = frame.header.read::<mediate::LocateSegments>();
        let _ = frame.header.read::<mediate::GetHistory>();
        let _ = frame.header.read::<pay::Countersign>();
        let _ = frame.header.read::<shard::GetHeads>();
    }
});
