//! Epoch audits: every epoch each node that holds something proves a random sample of it.
//!
//! Nodes are asked at times spread over the epoch. What was not answered is asked again in the next
//! epoch, the very same shards, before anything else: a node that lost some cannot wait for easier
//! questions. Shards that are not proved are marked as missing, and repair finds new holders.

mod ask;
mod challenges;
mod sample;

use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::limits::MAX_CHALLENGE;
use fincrypt_protocol::{AnswerDigest, NodeId};
use fincrypt_state::state::State;
use futures::StreamExt;
use tokio::sync::watch;

use super::billing::BillingError;
use super::context::Context;
use super::error::{Interrupted, NoRandomness, StoreError, blocking};
use super::holder_link::HolderLink;
use super::migration_out::MigrationOut;
use super::missing_shards::MissingShards;
use super::outbox::Outbox;
use super::reputations::Reputations;
use super::stores::{Load, Stores};
use ask::ChallengeOutcome;
use challenges::{Challenges, OpenChallenge};
use fincrypt_accounts::releases::Releases;
use fincrypt_upkeep::{AuditOutcome, Epoch, sample as odds};

/// Nodes challenged at once.
const AT_ONCE: usize = 8;

/// Why a storage node could not be audited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No challenge could be drawn.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The node's earnings were not billed.
    #[error(transparent)]
    Billing(#[from] BillingError),
}

impl From<Interrupted> for AuditError {
    fn from(error: Interrupted) -> Self {
        Self::Store(error.into())
    }
}

/// Bills what a storage node has earned with an audit that it passed.
pub(crate) trait Bill: Clone + Send + Sync + 'static {
    /// Bills the epoch; `answer` is the digest of the node's proofs.
    fn bill(
        &self,
        node: NodeId,
        epoch: Epoch,
        answer: AnswerDigest,
    ) -> impl Future<Output = Result<(), BillingError>> + Send;
}

/// Audits all storage nodes with shards. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Auditor {
    challenges: Challenges,
    reputations: Arc<Reputations>,
    stores: Stores,
    releases: Arc<Releases>,
    missing: MissingShards,
    outbox: Outbox,
    migration_out: MigrationOut,
    link: HolderLink,
    context: Context,
}

impl Auditor {
    pub(crate) fn new(
        state: State,
        reputations: Arc<Reputations>,
        releases: Arc<Releases>,
        (stores, missing): (Stores, MissingShards),
        (outbox, migration_out): (Outbox, MigrationOut),
        context: Context,
    ) -> Self {
        let (challenges, link) = (Challenges::new(state), migration_out.link().clone());
        Self { challenges, reputations, stores, releases, missing, outbox, migration_out, link, context }
    }

    /// Audits until told to stop.
    pub(crate) async fn run(self, biller: impl Bill, mut stop: watch::Receiver<bool>) {
        let length = self.reputations.terms().epoch;
        loop {
            let begun = tokio::time::Instant::now();
            let epoch = self.reputations.now();
            tokio::select! {
                _ = stop.changed() => return,
                () = self.audit_all(&biller, epoch, begun) => {}
            }
            // What is left of the epoch, by the clock on the wall.
            while !self.reputations.is_over(epoch) {
                tokio::select! {
                    _ = stop.changed() => return,
                    () = tokio::time::sleep((length / 16).clamp(MOMENT, PAUSE)) => {}
                }
            }
        }
    }

    /// Audits every node that was not audited in this epoch yet, in random order, spread over half
    /// of the epoch: the other half is for those that are slow.
    async fn audit_all(&self, biller: &impl Bill, epoch: Epoch, begun: tokio::time::Instant) {
        let loads = self.stores.held.loads();
        let mut due: Vec<(u64, NodeId, Load)> = loads
            .into_iter()
            .filter(|(node, _)| !self.reputations.is_audited(node, epoch))
            .map(|(node, load)| (self.context.below(1 << 20), node, load))
            .collect();
        due.sort_unstable_by_key(|(chance, node, _)| (*chance, *node));
        let count = u32::try_from(due.len().max(1)).unwrap_or(u32::MAX);
        let step = self.reputations.terms().epoch / 2 / count;
        let audits = (0_u32..).zip(due).map(|(at, (_, node, load))| async move {
            tokio::time::sleep_until(begun + step * at).await;
            if let Err(error) = self.audit_node(biller, node, load, epoch).await {
                tracing::error!(%node, %error, "audit_failed");
            }
        });
        futures::stream::iter(audits).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    async fn audit_node(
        &self,
        biller: &impl Bill,
        node: NodeId,
        load: Load,
        epoch: Epoch,
    ) -> Result<(), AuditError> {
        let this = self.clone();
        let open = blocking(move || match this.challenges.open(&node)? {
            Some(open) => Ok(open),
            None => {
                let watched = this.reputations.of(&node).is_some_and(|reputation| reputation.watched());
                let size = odds::size(load.shards, load.bytes, this.reputations.terms().epoch, watched);
                let size = usize::try_from(size).unwrap_or(MAX_CHALLENGE).min(MAX_CHALLENGE);
                let open =
                    OpenChallenge { since: epoch, shards: this.draw_sample(&node, size, load.shards)? };
                this.challenges.put(&node, &open)?;
                Ok::<_, StoreError>(open)
            }
        })
        .await?;
        let (mut outcome, shards) = self.ask_for_proofs(node, open.shards, epoch).await?;
        let chance = odds::whole_fetch(load.shards, self.reputations.terms().epoch);
        let whole = (self.context.below(1 << 32) as f64) < chance * (1_u64 << 32) as f64;
        if whole
            && let ChallengeOutcome::Answered { counts, missing, .. } = &mut outcome
            && let Some(altered) = self.fetch_whole(node, &shards).await?
        {
            counts.wrong += 1;
            missing.push(altered);
        }
        let passed = match &outcome {
            ChallengeOutcome::Answered { counts, answer, .. } if counts.is_passed() => Some(*answer),
            _ => None,
        };
        let this = self.clone();
        blocking(move || this.record_audit(node, epoch, open.since, outcome)).await?;
        // After the missing shards are marked: it is paid for what it has.
        if let Some(answer) = passed {
            biller.bill(node, epoch, answer).await?;
        }
        Ok(())
    }

    /// Draws the conclusions of an audit, durably. Its challenge was drawn in the epoch `since`.
    fn record_audit(
        &self,
        node: NodeId,
        epoch: Epoch,
        since: Epoch,
        outcome: ChallengeOutcome,
    ) -> Result<(), StoreError> {
        let outcome = match outcome {
            ChallengeOutcome::Nothing => {
                // Nothing of what it holds may be asked for.
                return self.challenges.remove(&node);
            }
            ChallengeOutcome::Unanswered(outcome) => outcome,
            ChallengeOutcome::Answered { counts, missing, .. } => {
                for shard in &missing {
                    self.missing.mark_missing(node, shard)?;
                }
                tracing::debug!(%node, epoch = epoch.number(), ?counts, "audit_answered");
                AuditOutcome::Answered(counts)
            }
        };
        let (before, after) = self.reputations.record(&node, epoch, outcome)?;
        if before != after {
            tracing::info!(%node, from = ?before, to = ?after, ?outcome, "storage_node_changed");
        }
        match outcome {
            AuditOutcome::Answered(_) => self.challenges.remove(&node),
            AuditOutcome::Timeout | AuditOutcome::Offline => {
                tracing::debug!(%node, late = epoch.since(since), "challenge_stays_open");
                Ok(())
            }
        }
    }
}

/// Looks at the clock no more often than this.
const MOMENT: Duration = Duration::from_millis(100);
/// And no less often.
const PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
