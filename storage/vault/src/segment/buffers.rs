//! Segment buffers: a fixed number, used again and again. Whoever needs one while all are in use
//! waits, which is what bounds the memory of a run.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;

/// Buffers of one capacity; clones share them.
#[derive(Clone, Debug)]
pub struct Buffers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    capacity: usize,
    free: Mutex<Free>,
    returned: Condvar,
}

#[derive(Debug)]
struct Free {
    spare: Vec<Vec<u8>>,
    /// How many may still be made.
    unmade: usize,
}

impl Buffers {
    /// `count` buffers of `capacity` bytes, each made when it is first needed.
    #[must_use]
    pub fn new(count: usize, capacity: usize) -> Self {
        let free = Mutex::new(Free { spare: Vec::new(), unmade: count });
        Self(Arc::new(Shared { capacity, free, returned: Condvar::new() }))
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.0.free.lock()
    }

    /// Bytes that a buffer holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// An empty buffer, waiting for one to come back if all are in use.
    #[must_use]
    pub fn take(&self) -> Buffer {
        let mut free = self.free();
        loop {
            let bytes = match free.spare.pop() {
                Some(bytes) => bytes,
                None if free.unmade > 0 => {
                    free.unmade -= 1;
                    Vec::with_capacity(self.0.capacity)
                }
                None => {
                    self.0.returned.wait(&mut free);
                    continue;
                }
            };
            return Buffer { bytes, home: self.clone() };
        }
    }
}

/// A buffer that goes back when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    pub(super) bytes: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.home.free().spare.push(bytes);
        self.home.0.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_all_use_is_waited_for_and_used_again() {
        let buffers = Buffers::new(1, 100);
        let mut first = buffers.take();
        first.bytes.extend_from_slice(b"used");
        let address = first.bytes.as_ptr();
        let (asked, asking) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn({
            let buffers = buffers.clone();
            move || {
                asked.send(()).expect("heard");
                let second = buffers.take();
                (second.bytes.as_ptr() as usize, second.bytes.len())
            }
        });
        asking.recv().expect("asked");
        assert!(!waiter.is_finished());
        drop(first);
        assert_eq!(waiter.join().expect("ends"), (address as usize, 0));
    }
}
