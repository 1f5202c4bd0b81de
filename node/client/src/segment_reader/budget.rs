//! How many bytes of shards a client asks for at once.
//!
//! What is asked for may arrive all at once and lie in the buffers of as many connections as there
//! are holders, before anything has room to take it: what is asked for is what bounds memory.

use fincrypt_protocol::ShardLen;
use fincrypt_protocol::limits::MIN_SHARD_LEN;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes asked for at once.
const WHOLE: u32 = 20 << 20;
/// Bytes asked for beside those, in place of what is slow.
const SPARE: u32 = 6 << 20;

/// Room for shards that were asked for; it is given back when one has come or is given up.
pub(crate) struct FetchBudget {
    whole: Semaphore,
    spare: Semaphore,
}

const fn pages(bytes: u32) -> u32 {
    bytes.div_ceil(MIN_SHARD_LEN)
}

impl Default for FetchBudget {
    fn default() -> Self {
        let room = |bytes| Semaphore::new(pages(bytes) as usize);
        Self { whole: room(WHOLE), spare: room(SPARE) }
    }
}

impl FetchBudget {
    /// Room for a shard as soon as there is some.
    pub(crate) async fn wait(&self, length: ShardLen) -> Option<SemaphorePermit<'_>> {
        self.whole.acquire_many(pages(length.get())).await.ok()
    }

    /// Room for a shard, if there is some now.
    pub(crate) fn now(&self, length: ShardLen) -> Option<SemaphorePermit<'_>> {
        self.whole.try_acquire_many(pages(length.get())).ok()
    }

    /// Room for a shard that is asked for beside a slow one, if there is some now.
    pub(crate) fn beside(&self, length: ShardLen) -> Option<SemaphorePermit<'_>> {
        self.now(length).or_else(|| self.spare.try_acquire_many(pages(length.get())).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_shards_fill_the_budget_and_some_are_asked_for_beside_them() {
        let (budget, full) = (FetchBudget::default(), ShardLen::FULL);
        let slow: Vec<_> = std::iter::from_fn(|| budget.now(full)).collect();
        assert_eq!(slow.len(), (WHOLE / full.get()) as usize);
        let beside: Vec<_> = std::iter::from_fn(|| budget.beside(full)).collect();
        assert_eq!(beside.len(), (SPARE / full.get()) as usize);
        drop(slow);
        assert!(budget.now(full).is_some());
    }
}
