//! This node's own counts of what it held when it was audited, which statements are compared with.
//!
//! A mediator's records lag behind what is stored by what is on its way, and it forgets released
//! segments before storage deletes them. So the node leaves out what is released, and tolerates that
//! as much is missing from a statement as was stored shortly before the audits it rests on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_accounts::releases::{Pending, Releases};
use fincrypt_accounts::{Accounts, AccountsError};
use fincrypt_billing::statement::Counted;
use fincrypt_protocol::shard::Audited;
use fincrypt_protocol::{AccountId, AnswerDigest, Clock, Epoch, NodeId, SegmentId, UnixTime};
use fincrypt_shards::{ShardStore, StoreError};
use parking_lot::Mutex;

use crate::earnings::{Earnings, EarningsError};

/// Epochs by which an audit may be late or early by this node's clock.
const MAX_APART: u64 = 2;
/// What was stored so long ago has been heard of by its mediator.
const HEARD: Duration = Duration::from_secs(60);

/// Why an audit could not be counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CountError {
    /// The earnings could not be read or changed.
    #[error(transparent)]
    Earnings(#[from] EarningsError),
    /// Accounts could not be read.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The shards could not be summed up.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Shards that came lately: when, for whom, how long. Entries older than [`HEARD`] are dropped.
#[derive(Default, Clone)]
pub(crate) struct FreshShards(Arc<Mutex<VecDeque<(UnixTime, AccountId, u64)>>>);

impl FreshShards {
    /// Records a shard that was stored.
    pub(crate) fn record(&self, now: UnixTime, account: AccountId, bytes: u64) {
        let mut fresh = self.0.lock();
        fresh.push_back((now, account, bytes));
        while fresh.front().is_some_and(|(stored, ..)| now.since(*stored) > HEARD) {
            fresh.pop_front();
        }
    }

    fn of(&self, account: &AccountId, now: UnixTime, window: Duration) -> u64 {
        let fresh = self.0.lock();
        let counts =
            |(stored, of, _): &&(UnixTime, AccountId, u64)| of == account && now.since(*stored) <= window;
        fresh.iter().filter(counts).map(|(.., bytes)| bytes).sum()
    }
}

/// Whether an audit is of an epoch that may be over or running by this node's clock.
fn is_timely(audited: Audited, now: UnixTime) -> bool {
    let length = Duration::from_secs(audited.seconds.into());
    if length.is_zero() {
        return false;
    }
    let own = Epoch::at(now, length);
    own.since(audited.epoch).max(audited.epoch.since(own)) <= MAX_APART
}

/// What [`AuditCounts`] is made of.
pub(crate) struct CountOptions {
    pub(crate) earnings: Earnings,
    pub(crate) accounts: Accounts,
    pub(crate) releases: Releases,
    pub(crate) store: ShardStore,
    pub(crate) fresh: FreshShards,
    pub(crate) clock: Clock,
    /// Whether nothing is asked for what is held, so that nothing need be counted.
    pub(crate) is_free: bool,
}

/// Counts of what was held at each audit.
pub(crate) struct AuditCounts(CountOptions);

impl AuditCounts {
    pub(crate) fn new(options: CountOptions) -> Self {
        Self(options)
    }

    /// Bytes held for an account that are not to be deleted.
    fn payable(&self, account: &AccountId) -> Result<u64, CountError> {
        let sum = |segments: &[SegmentId]| {
            segments.iter().try_fold(0_u64, |sum, segment| {
                let held = self.0.store.segment(account, segment)?;
                let bytes = held
                    .map_or(0, |held| held.shards.len() as u64 * u64::from(held.manifest.shard_len().get()));
                Ok::<_, CountError>(sum.saturating_add(bytes))
            })
        };
        match self.0.releases.pending(account)? {
            Pending::AllBut(segments) => sum(&segments),
            Pending::Some(segments) => {
                Ok(self.0.store.shard_bytes_of(account).saturating_sub(sum(&segments)?))
            }
        }
    }

    /// Counts, durably, what is held for each account of a mediator whose challenge was answered.
    ///
    /// # Errors
    /// If what is held cannot be read, or the earnings not be written.
    pub(crate) fn count(
        &self,
        mediator: NodeId,
        audited: Audited,
        answer: AnswerDigest,
    ) -> Result<(), CountError> {
        if self.0.is_free {
            return Ok(());
        }
        let now = self.0.clock.now();
        if !is_timely(audited, now) {
            tracing::warn!(%mediator, epoch = audited.epoch.number(), "audit_of_another_time_not_counted");
            return Ok(());
        }
        let window = HEARD.min(Duration::from_secs(audited.seconds.into()));
        for account in self.0.store.accounts() {
            let mandate = self.0.accounts.mandate(&account, &mediator, now)?;
            if mandate.is_none_or(|mandate| !mandate.rights.audit) {
                continue;
            }
            let relation = (mediator, account);
            let mut change = self.0.earnings.change();
            let mut earning = self.0.earnings.earning(&relation)?;
            let held = self.payable(&account)?;
            let fresh = self.0.fresh.of(&account, now, window);
            let counted = Counted { bytes: held.min(earning.held), answer };
            earning.fresh = fresh.max(earning.fresh.min(earning.held));
            earning.held = held;
            earning.count(audited.epoch, audited.seconds, counted, now)?;
            change.put_earning(&relation, &earning)?;
            change.commit(&mediator)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::earnings::tests::NOW;

    #[test]
    fn only_shards_of_the_account_within_the_window_are_fresh() {
        let fresh = FreshShards::default();
        let [one, other] = [1, 2].map(|byte| AccountId::from_bytes([byte; 32]));
        fresh.record(NOW, one, 1);
        fresh.record(NOW.plus(Duration::from_secs(30)), one, 2);
        fresh.record(NOW.plus(Duration::from_secs(30)), other, 4);
        let now = NOW.plus(Duration::from_secs(40));
        assert_eq!(fresh.of(&one, now, HEARD), 3);
        assert_eq!(fresh.of(&one, now, Duration::from_secs(10)), 2);
        fresh.record(NOW.plus(Duration::from_secs(61)), other, 8);
        assert_eq!(fresh.0.lock().len(), 3, "the oldest has been heard of");
    }

    #[test]
    fn an_audit_is_timely_two_epochs_before_and_after_this_nodes_clock() {
        let own = Epoch::at(NOW, Duration::from_secs(60)).number();
        let timely = |epoch| is_timely(Audited { epoch: Epoch::new(epoch), seconds: 60 }, NOW);
        assert!(timely(own) && timely(own - 2) && timely(own + 2));
        assert!(!timely(own - 3) && !timely(own + 3));
        assert!(!is_timely(Audited { epoch: Epoch::new(0), seconds: 0 }, NOW));
    }
}
