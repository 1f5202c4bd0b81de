//! Buffers for payloads, used again: a shard's megabyte would else be asked of the system, cleared
//! and given back for every shard.

use parking_lot::Mutex;
use std::sync::Arc;

use bytes::Bytes;

use fincrypt_protocol::limits::MAX_PAYLOAD;

/// Spare buffers kept: 16 MiB.
const SPARE: usize = 16;
/// Shorter payloads get memory of their own.
const LEAST: usize = MAX_PAYLOAD as usize / 4;

/// Spare buffers; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct PayloadBuffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer for one payload, which goes back when the payload is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    home: PayloadBuffers,
}

impl PayloadBuffers {
    /// A buffer of `length` bytes, whose contents are to be overwritten.
    pub(super) fn take(&self, length: usize) -> Buffer {
        let spare = || self.0.lock().pop();
        let bytes = match length {
            LEAST.. => spare().unwrap_or_else(|| vec![0; (MAX_PAYLOAD as usize).max(length)]),
            _ => vec![0; length],
        };
        Buffer { bytes, length, home: self.clone() }
    }
}

impl Buffer {
    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    /// The payload, once it is there.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.len() == MAX_PAYLOAD as usize {
            let mut spare = self.home.0.lock();
            if spare.len() < SPARE {
                spare.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_last_part_of_its_payload_is_dropped() {
        let buffers = PayloadBuffers::default();
        let mut first = buffers.take(LEAST + 5);
        first.as_mut().fill(7);
        let address = first.as_ref().as_ptr();
        let payload = first.freeze();
        let part = payload.slice(3..9);
        assert_eq!((payload.len(), &part[..]), (LEAST + 5, &[7; 6][..]));
        drop(payload);
        assert_ne!(buffers.take(LEAST).as_ref().as_ptr(), address, "still in use");
        drop(part);
        let held: Vec<_> = (0..2).map(|_| buffers.take(LEAST)).collect();
        assert!(held.iter().any(|buffer| buffer.as_ref().as_ptr() == address));
    }

    #[test]
    fn few_buffers_are_kept_and_short_ones_not_at_all() {
        let buffers = PayloadBuffers::default();
        drop((0..2 * SPARE).map(|_| buffers.take(LEAST)).collect::<Vec<_>>());
        drop(buffers.take(10));
        assert_eq!(buffers.0.lock().len(), SPARE);
    }
}
