//! Encoders, and the memory of parity shards, kept between segments.

use parking_lot::Mutex;
use std::sync::Arc;

use bytes::Bytes;
use fincrypt_protocol::Code;
use fincrypt_shards::erasure::{Encoder, ErasureError};

/// Encoders kept: as many as work at once on a small machine, at about 2 MiB each.
const KEPT: usize = 8;
/// Shards kept, of up to 1 MiB.
const KEPT_SHARDS: usize = 16;

/// Idle encoders and shards; clones share them.
#[derive(Clone, Default)]
pub(super) struct Encoders(Arc<Mutex<Idle>>);

#[derive(Default)]
struct Idle {
    encoders: Vec<Encoder>,
    shards: Vec<Vec<u8>>,
}

/// A shard whose memory goes back when it is dropped.
struct Shard(Vec<u8>, Encoders);

impl AsRef<[u8]> for Shard {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        bytes.clear();
        self.1.with(|idle| {
            if idle.shards.len() < KEPT_SHARDS {
                idle.shards.push(bytes);
            }
        });
    }
}

impl Encoders {
    fn with<T>(&self, work: impl FnOnce(&mut Idle) -> T) -> T {
        work(&mut self.0.lock())
    }

    /// All parity shards of `data`.
    pub(super) fn encode(&self, code: Code, data: &[&[u8]]) -> Result<Vec<Bytes>, ErasureError> {
        let mut encoder = self.with(|idle| idle.encoders.pop()).unwrap_or_default();
        let new = |_| Shard(self.with(|idle| idle.shards.pop()).unwrap_or_default(), self.clone());
        let mut parity: Vec<Shard> = (0..code.parity()).map(new).collect();
        encoder.encode_stripes(code, data, |at, stripe| parity[at].0.extend_from_slice(stripe))?;
        self.with(|idle| {
            if idle.encoders.len() < KEPT {
                idle.encoders.push(encoder);
            }
        });
        Ok(parity.into_iter().map(Bytes::from_owner).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_used_again_gives_the_same_parity() {
        let (encoders, code) = (Encoders::default(), Code::new(2, 3).expect("valid"));
        for seed in [1_u8, 2, 1] {
            let data: Vec<Vec<u8>> = (0..2).map(|at| vec![seed ^ at; 128 * usize::from(seed)]).collect();
            let views: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            let expected = Encoder::new().encode(code, &views).expect("encodes");
            assert_eq!(encoders.encode(code, &views).expect("encodes"), expected);
        }
        assert_eq!(encoders.with(|idle| (idle.encoders.len(), idle.shards.len())), (1, 3));
    }
}
