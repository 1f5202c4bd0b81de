//! Encoders that are kept between segments.

use std::sync::{Mutex, PoisonError};

use fincrypt_protocol::Code;
use fincrypt_storage::erasure::{Encoder, ErasureError};

/// Encoders kept: as many as work at once on a small machine, at about 2 MiB each.
const KEPT: usize = 8;

/// Idle encoders.
#[derive(Default)]
pub(super) struct Encoders(Mutex<Vec<Encoder>>);

impl Encoders {
    /// All parity shards of `data`.
    pub(super) fn encode(&self, code: Code, data: &[&[u8]]) -> Result<Vec<Vec<u8>>, ErasureError> {
        let idle = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut encoder = idle().pop().unwrap_or_default();
        let parity = encoder.encode(code, data);
        let mut idle = idle();
        if idle.len() < KEPT {
            idle.push(encoder);
        }
        parity
    }
}
