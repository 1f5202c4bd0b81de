//! Repair: shards without a good holder are rebuilt from any `k` others and put on new nodes.
//!
//! A shard lacks a good holder if it never found one, if its node was seen not to have it, if the node
//! has been away for longer than an absence may last, or if the node says that it leaves or fails.
//! All of it is in the records, so that a restart in the middle changes nothing: what was put is
//! there, and the rest is found again. Segments with the fewest shards above `k` come first.

mod rate_limiter;
mod rebuild;
mod work;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;

use super::context::Context;
use super::holder_lists::HolderLists;
use super::missing_shards::MissingShards;
use super::outbox::Outbox;
use super::placement::Placement;
use super::registry::StorageRegistry;
use super::reputations::Reputations;
use super::shard_transfer::ShardTransfer;
use super::stores::Stores;
use super::upload::OpenSegments;
use fincrypt_accounts::Accounts;
use fincrypt_accounts::releases::Releases;
use fincrypt_protocol::NodeId;
use fincrypt_protocol::record::Condition;
use fincrypt_upkeep::NodeState;
use parking_lot::Mutex;
use rate_limiter::RateLimiter;
use rebuild::Rebuilder;
use work::WorkFinder;

/// Segments under repair at once: up to 30 MiB each.
const AT_ONCE: usize = 2;
/// Between rounds, at the longest and at the shortest.
const ROUND: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_millis(500);

/// The health of this mediator's segments, by its own records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// Segments that lack a good holder for some shard.
    pub degraded: u64,
    /// The fewest good shards above `k` among those; none if no segment is degraded. Below 0 a segment
    /// cannot be read.
    pub least_spare: Option<i32>,
}

/// The newest [`Health`], to be shown. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct HealthView(Arc<Mutex<Health>>);

impl HealthView {
    pub(crate) fn get(&self) -> Health {
        *self.0.lock()
    }

    fn set(&self, health: Health) {
        *self.0.lock() = health;
    }
}

/// Which storage nodes are to keep what they have. Cheap to clone.
#[derive(Clone)]
struct Soundness {
    reputations: Arc<Reputations>,
    registry: Arc<StorageRegistry>,
}

impl Soundness {
    fn state(&self, node: &NodeId) -> NodeState {
        self.reputations.state(node)
    }

    /// Whether a node is to keep what it has: it is not gone, and does not leave or fail.
    fn is_good(&self, node: &NodeId) -> bool {
        self.state(node) < NodeState::Absent && self.registry.condition(node) == Condition::Serving
    }
}

/// Repairs segments. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Repair {
    finder: WorkFinder,
    rebuilder: Rebuilder,
    missing: MissingShards,
    health: HealthView,
    /// Between rounds, if nothing is marked as missing.
    round: Duration,
}

/// The services and stores that [`Repair`] works with.
pub(crate) struct RepairParts {
    pub(crate) stores: Stores,
    pub(crate) accounts: Accounts,
    pub(crate) releases: Arc<Releases>,
    pub(crate) reputations: Arc<Reputations>,
    pub(crate) registry: Arc<StorageRegistry>,
    pub(crate) placement: Placement,
    pub(crate) transfer: ShardTransfer,
    pub(crate) outbox: Outbox,
    pub(crate) holder_lists: HolderLists,
    pub(crate) missing: MissingShards,
    pub(crate) open: OpenSegments,
}

impl Repair {
    /// Repairs at `rate` bytes a second at most; 0 for no limit.
    pub(crate) fn new(parts: RepairParts, rate: u64, context: Context) -> Self {
        let round = (parts.reputations.terms().epoch / 2).clamp(SOON, ROUND);
        let soundness = Soundness { reputations: parts.reputations, registry: parts.registry };
        let finder = WorkFinder {
            segments: parts.stores.segments.clone(),
            held: parts.stores.held.clone(),
            releases: Arc::clone(&parts.releases),
            soundness: soundness.clone(),
            open: parts.open,
        };
        let rebuilder = Rebuilder {
            accounts: parts.accounts,
            stores: parts.stores,
            releases: parts.releases,
            soundness,
            placement: parts.placement,
            transfer: parts.transfer,
            outbox: parts.outbox,
            holder_lists: parts.holder_lists,
            missing: parts.missing.clone(),
            rate: Arc::new(RateLimiter::new(rate)),
            context,
        };
        Self { finder, rebuilder, missing: parts.missing, health: HealthView::default(), round }
    }

    /// The health of segments, by the last round.
    pub(crate) fn health(&self) -> HealthView {
        self.health.clone()
    }

    /// Repairs until told to stop.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                () = self.missing.changed() => {}
                () = tokio::time::sleep(self.round) => {}
            }
            // What comes at once is looked at together.
            tokio::select! {
                _ = stop.changed() => return,
                () = tokio::time::sleep(SOON) => {}
            }
            tokio::select! {
                _ = stop.changed() => return,
                () = self.repair_round() => {}
            }
        }
    }

    async fn repair_round(&self) {
        let work = match self.finder.find().await {
            Ok((work, health)) => {
                self.health.set(health);
                work
            }
            Err(error) => return tracing::error!(%error, "repair_work_unreadable"),
        };
        let repairs = work.into_iter().map(|job| async move {
            let (account, segment) = (job.account, job.segment);
            match self.rebuilder.repair(account, segment).await {
                Ok(0) => {}
                Ok(shards) => tracing::info!(%segment, shards, "segment_repaired"),
                Err(error) => tracing::warn!(%segment, %error, "segment_stays_degraded"),
            }
        });
        futures::stream::iter(repairs).buffer_unordered(AT_ONCE).collect::<()>().await;
    }
}
