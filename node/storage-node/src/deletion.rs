//! What is deleted: runs that were never kept, shards that were released long enough ago, and those
//! whose grace is over.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_accounts::releases::Releases;
use fincrypt_accounts::{Accounts, AccountsError};
use fincrypt_protocol::limits::LAPSE_SECONDS;
use fincrypt_protocol::record::{Release, Undo};
use fincrypt_protocol::{AccountId, NodeId, RunId, Signed, UnixTime};
use fincrypt_shards::ShardStore;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::access::{Access, AccessError, Right};
use crate::credit::CreditControl;
use crate::earnings::EarningsError;
use crate::holdings::{HoldingsError, ShardHoldings};

/// The longest time between sweeps. One comes earlier when a release is due earlier.
const SWEEP: Duration = Duration::from_secs(3600);
/// The shortest: a sweep that failed is not repeated at once.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a release or an undo is not taken in, or a sweep stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeletionError {
    /// The peer may not bring it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The account is not known.
    #[error("the account is not known")]
    UnknownAccount,
    /// What is held could not be read or removed, or its accounts refuse it.
    #[error(transparent)]
    Holdings(#[from] HoldingsError),
    /// The earnings could not be read.
    #[error(transparent)]
    Earnings(#[from] EarningsError),
}

impl From<AccountsError> for DeletionError {
    fn from(error: AccountsError) -> Self {
        Self::Holdings(error.into())
    }
}

/// What [`Deletions`] is made of.
pub(crate) struct DeletionOptions {
    pub(crate) access: Access,
    pub(crate) accounts: Accounts,
    pub(crate) releases: Releases,
    pub(crate) store: ShardStore,
    pub(crate) holdings: ShardHoldings,
    pub(crate) credit: CreditControl,
    /// How long a release waits before it is carried out.
    pub(crate) delay: Duration,
}

/// Deletes what is not to be held any longer.
pub(crate) struct Deletions {
    options: DeletionOptions,
    /// Notified of every release, so that the sweep comes in time for it.
    released: Notify,
}

impl Deletions {
    pub(crate) fn new(options: DeletionOptions) -> Self {
        Self { options, released: Notify::new() }
    }

    /// Records a release; when it is due. The owner's signature alone does not suffice: the peer that
    /// brings it must be the owner, or a mediator that has the account's mandate.
    ///
    /// # Errors
    /// [`DeletionError`].
    pub(crate) fn release(&self, from: NodeId, release: &Signed<Release>) -> Result<UnixTime, DeletionError> {
        let DeletionOptions { access, accounts, releases, holdings, .. } = &self.options;
        let release = access.verify(release)?;
        access.authorize(from, &release.account, Right::Write)?;
        let known = accounts.registration(&release.account)?.ok_or(DeletionError::UnknownAccount)?;
        accounts.check_head_key(&known, release.head_key)?;
        let due = releases.release(&release, access.now(), holdings)?;
        self.released.notify_one();
        Ok(due)
    }

    /// Records an undo; whether releases were pending. The guard's signature suffices, whichever peer
    /// brings it.
    ///
    /// # Errors
    /// [`DeletionError`].
    pub(crate) fn undo(&self, undo: &Signed<Undo>) -> Result<bool, DeletionError> {
        let DeletionOptions { access, accounts, releases, .. } = &self.options;
        let undo = access.verify(undo)?;
        let known = accounts.registration(&undo.account)?.ok_or(DeletionError::UnknownAccount)?;
        Ok(releases.undo(&undo, &known.guard_key, access.now())?)
    }

    /// Deletes what was never kept. Not of accounts that are not known: their registration was there
    /// before their first shard, so it was lost, and what is kept was lost with it.
    fn delete_unkept(&self) -> Result<(), HoldingsError> {
        let DeletionOptions { access, accounts, store, holdings, .. } = &self.options;
        let kept = |account: &AccountId, run: &RunId| {
            !matches!(accounts.registration(account), Ok(Some(_))) || accounts.is_kept(account, run)
        };
        let freed = store.lapse(access.now(), Duration::from_secs(LAPSE_SECONDS), &kept)?;
        if freed > 0 {
            tracing::info!(freed, "unkept_shards_deleted");
        }
        accounts.forget_keeps(access.now(), |account| holdings.runs(account))
    }

    /// Deletes what was unpaid for longer than the promised grace: of accounts whose mediator of now
    /// has a contract that lapsed. That the mandate has expired since makes nothing paid.
    fn delete_unpaid(&self) -> Result<(), DeletionError> {
        let DeletionOptions { accounts, store, holdings, credit, .. } = &self.options;
        for account in store.accounts() {
            let Some(mandate) = accounts.newest_mandate(&account)? else { continue };
            let holds = store.shard_bytes_of(&account) > 0;
            if let Some(since) = credit.lapsed(&(mandate.mediator, account), holds)? {
                tracing::warn!(%account, since = since.secs(), "unpaid_shards_deleted");
                holdings.remove_all(&account)?;
            }
        }
        Ok(())
    }

    /// Sweeps once; how long until the next release is due, if one is pending. `settled` says whether
    /// mediators had the time to say what was kept while the node was away.
    fn sweep(&self, settled: bool) -> Option<Duration> {
        if settled {
            let unkept = self.delete_unkept().map_err(DeletionError::from);
            for failure in [unkept, self.delete_unpaid()].into_iter().filter_map(Result::err) {
                tracing::error!(error = %failure, "sweep_incomplete");
            }
        }
        let DeletionOptions { access, releases, holdings, .. } = &self.options;
        let done = match releases.carry_out(access.now(), holdings) {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "releases_not_carried_out");
                return Some(PAUSE);
            }
        };
        if done.freed > 0 {
            tracing::info!(freed = done.freed, "released_shards_deleted");
        }
        done.next.map(|next| next.since(access.now()))
    }

    /// Sweeps until `stop` changes.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let begun = Instant::now();
        let mut next = begun;
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                // A release that has just come is due this long from now, or later.
                () = self.released.notified() => next = next.min(Instant::now() + self.options.delay),
                () = tokio::time::sleep_until(next) => {
                    let (deletions, settled) = (Arc::clone(&self), begun.elapsed() >= SWEEP);
                    let pending = tokio::task::spawn_blocking(move || deletions.sweep(settled)).await;
                    let pending = pending.ok().flatten();
                    next = Instant::now() + pending.unwrap_or(SWEEP).clamp(PAUSE, SWEEP);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
