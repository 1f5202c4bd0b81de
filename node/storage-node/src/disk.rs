//! Whether the disk beneath the shards can be trusted with more of them.
//!
//! The rule: three refusals of the system to read or write, or more than three shards that rotted in
//! one walk and more than one in a thousand of those looked at. A failing disk takes no new shards
//! and serves what it can. The mark outlives a restart, and falls when a whole walk finds nothing.

use parking_lot::{Mutex, MutexGuard};
use std::io;

use fincrypt_shards::StoreError;
use fincrypt_state::kv::Batch;
use fincrypt_state::state::State;
use fincrypt_state::table::Table;
use tokio::sync::Notify;

/// Whether the disk fails, if a verdict was given.
const FAILING: Table<(), bool> = Table::new("disk", 1);
/// Refusals of the system that may be chance.
const REFUSALS: u32 = 3;
/// Rotten shards in one walk that may be chance.
const ROTTEN: u64 = 3;
/// More than one shard in so many must have rotted.
const OF: u64 = 1000;

/// What was noticed. Free of I/O.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Noticed {
    refusals: u32,
    rotten: u64,
    looked_at: u64,
    /// Whether this walk found anything.
    found: bool,
    failing: bool,
}

impl Noticed {
    /// Whether what was noticed changes the verdict.
    fn check(&mut self) -> bool {
        let rots = self.rotten > ROTTEN && self.rotten * OF > self.looked_at;
        let bad = self.refusals >= REFUSALS || rots;
        let changed = bad && !self.failing;
        self.failing |= bad;
        changed
    }

    /// A walk has seen everything; whether this changes the verdict. What was refused counts until a
    /// walk finds nothing: one shard that cannot be read is certain after three.
    fn walked(&mut self) -> bool {
        let clean = !self.found;
        let changed = clean && self.failing;
        (self.rotten, self.looked_at, self.found) = (0, 0, false);
        if clean {
            *self = Self::default();
        }
        changed
    }
}

/// What the node knows of its disk.
pub struct Disk {
    state: State,
    noticed: Mutex<Noticed>,
    rotten: Mutex<u64>,
    /// Told when the verdict changes.
    pub(super) changed: Notify,
}

/// Whether the system refused, rather than that the disk is full or a file is not there.
fn is_refusal(error: &StoreError) -> bool {
    use io::ErrorKind as Kind;
    let StoreError::Io { source, .. } = error else { return false };
    let harmless = [
        Kind::NotFound,
        Kind::UnexpectedEof,
        Kind::StorageFull,
        Kind::QuotaExceeded,
        Kind::Interrupted,
        Kind::OutOfMemory,
    ];
    // Too many open files, here (24) or in the whole system (23), is not the disk's fault.
    !harmless.contains(&source.kind()) && !matches!(source.raw_os_error(), Some(23 | 24))
}

impl Disk {
    /// What is known of the disk beneath this state.
    #[must_use]
    pub fn open(state: State) -> Self {
        let failing = matches!(FAILING.get(&state, &()), Ok(Some(true)));
        let noticed = Mutex::new(Noticed { failing, ..Noticed::default() });
        Self { state, noticed, rotten: Mutex::default(), changed: Notify::new() }
    }

    fn noticed(&self) -> MutexGuard<'_, Noticed> {
        self.noticed.lock()
    }

    fn update(&self, change: impl FnOnce(&mut Noticed) -> bool) {
        let failing = {
            let mut noticed = self.noticed();
            if !change(&mut noticed) {
                return;
            }
            noticed.failing
        };
        if failing {
            tracing::error!("disk_failing");
        } else {
            tracing::info!("disk_sound_again");
        }
        let mut batch = Batch::default();
        let stored = FAILING.put(&mut batch, &(), &failing).and_then(|()| self.state.commit(&batch));
        if let Err(error) = stored {
            tracing::error!(%error, "disk_verdict_not_stored");
        }
        self.changed.notify_one();
    }

    /// Whether it takes no more shards.
    pub fn is_failing(&self) -> bool {
        self.noticed().failing
    }

    /// Shards that were found rotten since the start.
    pub fn rotten(&self) -> u64 {
        *self.rotten.lock()
    }

    /// Notes what the store said.
    pub(super) fn note(&self, error: &StoreError) {
        if is_refusal(error) {
            self.update(|noticed| {
                noticed.refusals += 1;
                noticed.found = true;
                noticed.check()
            });
        }
    }

    /// Notes a shard that was looked at and is good.
    pub(super) fn good(&self) {
        self.noticed().looked_at += 1;
    }

    /// Notes a shard that rotted.
    pub(super) fn rot(&self) {
        *self.rotten.lock() += 1;
        self.update(|noticed| {
            noticed.looked_at += 1;
            noticed.rotten += 1;
            noticed.found = true;
            noticed.check()
        });
    }

    /// Notes that all shards were looked at.
    pub(super) fn walked(&self) {
        self.update(Noticed::walked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_refusals_or_much_rot_make_a_disk_fail_and_a_clean_walk_makes_it_good() {
        let mut noticed = Noticed { refusals: 2, found: true, ..Noticed::default() };
        assert!(!noticed.check() && !noticed.walked());
        noticed.refusals += 1;
        noticed.found = true;
        assert!(noticed.check() && noticed.failing);
        assert!(!noticed.check(), "it is said once");
        assert!(!noticed.walked() && noticed.failing, "that walk was not clean");
        assert!(noticed.walked() && !noticed.failing);
        let mut few = Noticed { rotten: 4, looked_at: 4000, ..Noticed::default() };
        assert!(!few.check());
        few.looked_at = 3999;
        assert!(few.check());
    }

    #[test]
    fn a_full_disk_and_a_missing_file_are_no_refusals() {
        let error = |kind: io::ErrorKind| StoreError::Io { path: "x".into(), source: kind.into() };
        assert!(!is_refusal(&error(io::ErrorKind::StorageFull)));
        assert!(!is_refusal(&error(io::ErrorKind::NotFound)));
        let broken = StoreError::Io { path: "x".into(), source: io::Error::from_raw_os_error(5) };
        assert!(is_refusal(&broken));
        assert!(!is_refusal(&StoreError::Conflict));
    }
}
