//! Draining: a storage node that is to be switched off takes no new shards, and serves those it has
//! until mediators have found other holders for all of them.
//!
//! The operator's wish is a file in the home, `leaving`, so that it outlives restarts and can be
//! said while the node is off. What is left is written into `leaving.left`, a decimal number. A shard
//! is elsewhere once a mediator that has the account's mandate has signed a holder list of its
//! segment that names another node for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fincrypt_accounts::Accounts;
use fincrypt_protocol::limits::MAX_LIST;
use fincrypt_protocol::{AccountId, Clock, NodeId, SegmentId, ShardIndex, UnixTime};
use fincrypt_shards::ShardStore;
use fincrypt_state::durable::{sync_dir, write_file};
use tokio::sync::watch;

use crate::health::Health;
use crate::holdings::HoldingsError;

/// Between looks for the operator's wish, and at what is left.
const LOOK: Duration = Duration::from_secs(1);
/// Nothing was counted yet.
const UNKNOWN: u64 = u64::MAX;

/// The operator's wish, and how far it is fulfilled.
pub struct Drain {
    mark: PathBuf,
    left: PathBuf,
    wished: AtomicBool,
    count: AtomicU64,
}

impl Drain {
    /// The wish in a home.
    #[must_use]
    pub fn open(home: &Path) -> Self {
        let (mark, left) = (home.join("leaving"), home.join("leaving.left"));
        let wished = AtomicBool::new(mark.exists());
        Self { mark, left, wished, count: AtomicU64::new(UNKNOWN) }
    }

    /// Says that the node of this home is to leave.
    ///
    /// # Errors
    /// If the home cannot be written.
    pub fn wish(&self) -> io::Result<()> {
        if !self.mark.exists() {
            remove(&self.left)?;
            write_file(&self.mark, b"", 0o600)?;
        }
        Ok(())
    }

    /// Takes the wish back.
    ///
    /// # Errors
    /// If the home cannot be written.
    pub fn cancel(&self) -> io::Result<()> {
        remove(&self.mark)?;
        remove(&self.left)?;
        self.mark.parent().map_or(Ok(()), sync_dir)
    }

    /// Shards that the node last said are left; none if it said nothing yet.
    #[must_use]
    pub fn said(&self) -> Option<u64> {
        std::fs::read_to_string(&self.left).ok()?.trim().parse().ok()
    }

    /// Whether its operator wants to switch it off.
    #[must_use]
    pub fn is_wished(&self) -> bool {
        self.wished.load(Ordering::Acquire)
    }

    /// Shards that have no other holder yet, while the node is leaving.
    pub fn left(&self) -> Option<u64> {
        let count = self.count.load(Ordering::Acquire);
        (self.is_wished() && count != UNKNOWN).then_some(count)
    }

    /// Looks at the wish; whether it changed.
    fn look(&self) -> bool {
        let wished = self.mark.exists();
        let changed = self.wished.swap(wished, Ordering::AcqRel) != wished;
        if changed {
            self.count.store(UNKNOWN, Ordering::Release);
        }
        changed
    }

    fn say(&self, left: u64) {
        if self.count.swap(left, Ordering::AcqRel) != left
            && let Err(error) = write_file(&self.left, format!("{left}\n").as_bytes(), 0o600)
        {
            tracing::warn!(%error, "shards_left_not_written");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What [`DrainWatch`] is made of.
pub(crate) struct DrainOptions {
    pub(crate) health: Health,
    pub(crate) store: ShardStore,
    pub(crate) accounts: Accounts,
    /// This node.
    pub(crate) own: NodeId,
    pub(crate) clock: Clock,
}

/// Watches the operator's wish and counts what is left.
pub(crate) struct DrainWatch(DrainOptions);

impl DrainWatch {
    pub(crate) fn new(options: DrainOptions) -> Self {
        Self(options)
    }

    /// Shards here that no mediator has found another holder for.
    fn shards_left(&self) -> Result<u64, HoldingsError> {
        let (mut left, now) = (0, self.0.clock.now());
        for account in self.0.store.accounts() {
            let mut after = None;
            loop {
                let page = self.0.store.list(&account, after, MAX_LIST)?;
                let Some((segment, index, _)) = page.last() else { break };
                after = Some((*segment, *index));
                for (segment, index, _) in page {
                    left += u64::from(!self.is_elsewhere(&account, &segment, index, now)?);
                }
            }
        }
        Ok(left)
    }

    /// Whether a mediator with a mandate has signed that another node holds the shard.
    fn is_elsewhere(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
        now: UnixTime,
    ) -> Result<bool, HoldingsError> {
        let Some(list) = self.0.accounts.holders(account, segment)? else { return Ok(false) };
        let mandated = matches!(self.0.accounts.mandate(account, &list.mediator, now), Ok(Some(_)));
        let other = |(held, node): &(_, _)| *held == index && *node != self.0.own;
        Ok(mandated && list.holders.iter().any(other))
    }

    /// Watches and counts until `stop` changes.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let drain = &self.0.health.drain;
        loop {
            if drain.look() {
                tracing::info!(wished = drain.is_wished(), "drain_wish_changed");
                self.0.health.disk.changed.notify_one();
            }
            let mut pause = LOOK;
            if drain.is_wished() {
                let (watch, begun) = (Arc::clone(&self), tokio::time::Instant::now());
                match tokio::task::spawn_blocking(move || watch.shards_left()).await {
                    Ok(Ok(left)) => drain.say(left),
                    Ok(Err(error)) => tracing::error!(%error, "shards_left_not_counted"),
                    Err(_) => {}
                }
                // A tenth of the time at the most.
                pause = LOOK.max(begun.elapsed() * 10);
            }
            tokio::select! {
                _ = stop.changed() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
