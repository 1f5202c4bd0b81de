//! No two shards of a segment on one node: here the node sees to it itself, whatever a mediator
//! sends.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;

use fincrypt_protocol::{AccountId, SegmentId, ShardIndex};

/// Another position of the segment is being stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another shard of the segment is being stored")]
pub(super) struct OtherPosition;

/// A segment of an account.
type Key = (AccountId, SegmentId);

/// Positions whose shards are being stored now, and by how many requests. What is stored already is
/// in the shard store.
#[derive(Debug, Default)]
pub(super) struct SegmentGuard(Mutex<HashMap<Key, (ShardIndex, usize)>>);

/// The right to store one position of a segment, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    guard: &'a SegmentGuard,
    key: Key,
}

impl SegmentGuard {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (ShardIndex, usize)>> {
        self.0.lock()
    }

    /// Claims a position, unless another of the same segment is being stored.
    pub(super) fn claim(
        &self,
        account: AccountId,
        segment: SegmentId,
        index: ShardIndex,
    ) -> Result<Claim<'_>, OtherPosition> {
        let key = (account, segment);
        let mut positions = self.lock();
        let (claimed, claims) = positions.entry(key).or_insert((index, 0));
        if *claimed != index {
            return Err(OtherPosition);
        }
        *claims += 1;
        Ok(Claim { guard: self, key })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut positions = self.guard.lock();
        if let Some((_, claims)) = positions.get_mut(&self.key) {
            *claims -= 1;
            if *claims == 0 {
                positions.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_position_waits_for_nobody_and_is_refused() {
        let positions = SegmentGuard::default();
        let (account, segment) = (AccountId::from_bytes([1; 32]), SegmentId::from_bytes([2; 32]));
        let index = |at| ShardIndex::new(at).expect("valid");
        let first = positions.claim(account, segment, index(3)).expect("free");
        let again = positions.claim(account, segment, index(3)).expect("the same, repeated");
        assert_eq!(positions.claim(account, segment, index(4)).err(), Some(OtherPosition));
        let other = SegmentId::from_bytes([3; 32]);
        assert!(positions.claim(account, other, index(4)).is_ok());
        drop(first);
        assert_eq!(positions.claim(account, segment, index(4)).err(), Some(OtherPosition));
        drop(again);
        assert!(positions.lock().is_empty());
    }
}
