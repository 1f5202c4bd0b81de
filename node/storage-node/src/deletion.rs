//! Background work: deleting what was never kept, and what was released long enough ago.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::limits::{LAPSE_SECONDS, MAX_LIST, MAX_SHARDS};
use fincrypt_protocol::{AccountId, Refusal, RunId, SegmentId, ShardIndex, UnixTime};
use fincrypt_state::kv::Batch;
use tokio::sync::watch;
use tokio::time::Instant;

use super::StorageRole;
use super::handle::refuse_store;
use fincrypt_accounts::failed;
use fincrypt_accounts::releases::Holdings;

/// The longest time between sweeps. One comes earlier when a release is due earlier.
const SWEEP: Duration = Duration::from_secs(3600);
/// The shortest: a sweep that failed is not repeated at once.
const PAUSE: Duration = Duration::from_secs(1);

impl Holdings for StorageRole {
    type Error = Refusal;

    fn holds(&self, account: &AccountId, segment: &SegmentId) -> Result<bool, Refusal> {
        self.store.holds(account, segment).map_err(|error| refuse_store(&error))
    }

    fn segments(&self, account: &AccountId, after: Option<&SegmentId>) -> Result<Vec<SegmentId>, Refusal> {
        let last = u8::try_from(MAX_SHARDS - 1).ok().and_then(|last| ShardIndex::new(last).ok());
        let after = after.copied().zip(last);
        let page = self.store.list(account, after, MAX_LIST).map_err(|error| refuse_store(&error))?;
        let mut segments: Vec<SegmentId> = page.into_iter().map(|(segment, ..)| segment).collect();
        segments.dedup();
        Ok(segments)
    }

    fn remove(&self, account: &AccountId, segment: &SegmentId) -> Result<u64, Refusal> {
        let freed = self.store.remove_segment(account, segment).map_err(|error| refuse_store(&error))?;
        let mut batch = Batch::default();
        self.accounts.forget_holders(account, segment, &mut batch)?;
        self.accounts.commit(&batch)?;
        Ok(freed)
    }

    fn settle(&self) -> Result<(), Refusal> {
        self.store.sync_folders().map_err(|error| refuse_store(&error))
    }
}

impl StorageRole {
    /// The runs of the shards held for an account.
    pub(super) fn runs(&self, account: &AccountId) -> Result<BTreeSet<RunId>, Refusal> {
        self.store.runs(account).map_err(|error| refuse_store(&error))
    }

    /// Deletes what was never kept. Not of accounts that are not known: their registration was there
    /// before their first shard, so it was lost, and what is kept was lost with it. Nor soon after a
    /// start: after an absence, mediators still have to say what was kept meanwhile.
    fn lapse(&self) {
        let kept = |account: &AccountId, run: &RunId| {
            !matches!(self.accounts.registration(account), Ok(Some(_))) || self.accounts.is_kept(account, run)
        };
        match self.store.lapse(UnixTime::now(), Duration::from_secs(LAPSE_SECONDS), &kept) {
            Ok(0) => {}
            Ok(freed) => tracing::info!(freed, "shards of runs that were never kept have lapsed"),
            Err(error) => drop(failed(&error)),
        }
        // What it says was logged; the next sweep tries again.
        let _ = self.accounts.forget_keeps(UnixTime::now(), |account| self.runs(account));
    }

    /// Sweeps once; how long until the next release is due, if one is pending.
    fn sweep_once(&self) -> Option<Duration> {
        if self.begun.elapsed() >= SWEEP {
            self.lapse();
            if let Err(refusal) = self.end_unpaid(UnixTime::now()) {
                tracing::error!(%refusal, "unpaid shards could not be looked after; tried again");
            }
        }
        let done = match self.releases.carry_out(UnixTime::now(), self) {
            Ok(done) => done,
            Err(refusal) => {
                tracing::error!(%refusal, "releases that are due could not be carried out; tried again");
                return Some(PAUSE);
            }
        };
        if done.freed > 0 {
            tracing::info!(freed = done.freed, "released shards are deleted");
        }
        done.next.map(|next| next.since(UnixTime::now()))
    }

    pub(super) async fn sweep(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                // A release that has just come is due this long from now, or later.
                () = self.released.notified() => next = next.min(Instant::now() + self.terms.release_delay),
                () = tokio::time::sleep_until(next) => {
                    let role = Arc::clone(&self);
                    let pending = tokio::task::spawn_blocking(move || role.sweep_once()).await.ok().flatten();
                    next = Instant::now() + pending.unwrap_or(SWEEP).clamp(PAUSE, SWEEP);
                }
            }
        }
    }
}
