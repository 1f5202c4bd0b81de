//! Repair: shards without a good keeper are rebuilt from any `k` others and put on new nodes.
//!
//! A shard lacks a good keeper if it never found one, if its node was seen not to have it, if the node
//! has been away for longer than an absence may last, or if the node says that it leaves or fails.
//! All of it is in the records, so that a restart in the middle changes nothing: what was put is
//! there, and the rest is found again. Segments with the fewest shards above `k` come first.

mod pace;
mod rebuild;
mod work;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;

use super::MediatorRole;
pub(crate) use pace::Pace;

/// Segments under repair at once: up to 30 MiB each.
const AT_ONCE: usize = 2;
/// Between rounds, at the longest and at the shortest.
const ROUND: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_millis(500);

/// How the segments of this mediator are, by its own records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// Segments that lack a good keeper for some shard.
    pub degraded: u64,
    /// The fewest good shards above `k` among those; none if no segment is degraded. Below 0 a segment
    /// cannot be read.
    pub least_spare: Option<i32>,
}

impl MediatorRole {
    /// Repairs until told to stop.
    pub(super) async fn repair(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let round = (self.standings.terms().epoch / 2).clamp(SOON, ROUND);
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                () = self.lacking.notified() => {}
                () = tokio::time::sleep(round) => {}
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

    async fn repair_round(self: &Arc<Self>) {
        let work = match self.find_work().await {
            Ok(work) => work,
            Err(refusal) => return tracing::warn!(%refusal, "what is to be repaired cannot be read"),
        };
        let repairs = work.into_iter().map(|job| {
            let role = Arc::clone(self);
            async move {
                let (account, segment) = (job.account, job.segment);
                match role.repair_segment(account, segment).await {
                    Ok(0) => {}
                    Ok(shards) => tracing::info!(%segment, shards, "a segment is repaired"),
                    Err(refusal) => tracing::warn!(%segment, %refusal, "a segment stays degraded"),
                }
            }
        });
        futures::stream::iter(repairs).buffer_unordered(AT_ONCE).collect::<()>().await;
    }
}
