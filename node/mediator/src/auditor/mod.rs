//! Epoch audits: every epoch each node that holds something proves a random sample of it.
//!
//! Nodes are asked at times spread over the epoch. What was not answered is asked again in the next
//! epoch, the very same shards, before anything else: whoever lost some cannot wait for easier
//! questions. Shards that are not proved are marked as missing, and repair finds new holders.

mod ask;
mod sample;

use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::limits::MAX_CHALLENGE;
use fincrypt_protocol::shard::Challenged;
use fincrypt_protocol::{AnswerDigest, NodeId, Refusal, cbor};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::context::Context;
use super::holder_link::HolderLink;
use super::migration_out::MigrationOut;
use super::missing_shards::MissingShards;
use super::outbox::Outbox;
use super::records::{Load, Records};
use super::standings::Standings;
use ask::Asked;
use fincrypt_accounts::failed;
use fincrypt_accounts::releases::Releases;
use fincrypt_net::blocking;
use fincrypt_upkeep::{Came, Epoch, sample as odds};

/// `node` → [`Open`]: a challenge that was not answered.
const OPEN: Tree = Tree("open_challenges");
/// The most bytes of an open challenge: 300 shards of three ids each.
const MAX_OPEN: usize = 64 << 10;
/// Nodes challenged at once.
const AT_ONCE: usize = 8;

/// A challenge that was not answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Open {
    since: Epoch,
    shards: Vec<Challenged>,
}

/// Open challenges, durably.
#[derive(Clone)]
struct Challenges(State);

impl Challenges {
    fn open(&self, node: &NodeId) -> Result<Option<Open>, Refusal> {
        let bytes = self.0.get(OPEN, node.as_bytes()).map_err(|error| failed(&error))?;
        // What cannot be read is asked anew.
        Ok(bytes.and_then(|bytes| cbor::decode(&bytes, MAX_OPEN).ok()))
    }

    fn set(&self, node: &NodeId, open: Option<&Open>) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        match open {
            Some(open) => {
                batch.put(OPEN, *node.as_bytes(), cbor::encode(open).map_err(|error| failed(&error))?);
            }
            None => batch.remove(OPEN, *node.as_bytes()),
        }
        self.0.commit(&batch).map_err(|error| failed(&error))
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
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Audits all storage nodes with shards. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Auditor {
    challenges: Challenges,
    standings: Arc<Standings>,
    records: Records,
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
        standings: Arc<Standings>,
        releases: Arc<Releases>,
        (records, missing): (Records, MissingShards),
        (outbox, migration_out): (Outbox, MigrationOut),
        context: Context,
    ) -> Self {
        let (challenges, link) = (Challenges(state), migration_out.link().clone());
        Self { challenges, standings, records, releases, missing, outbox, migration_out, link, context }
    }

    /// Audits until told to stop.
    pub(crate) async fn run(self, biller: impl Bill, mut stop: watch::Receiver<bool>) {
        let length = self.standings.terms().epoch;
        loop {
            let begun = tokio::time::Instant::now();
            let epoch = self.standings.now();
            tokio::select! {
                _ = stop.changed() => return,
                () = self.audit_all(&biller, epoch, begun) => {}
            }
            // What is left of the epoch, by the clock on the wall.
            while self.standings.now() <= epoch {
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
        let loads = self.records.loads();
        let mut due: Vec<(u64, NodeId, Load)> = loads
            .into_iter()
            .filter(|(node, _)| !self.standings.is_audited(node, epoch))
            .map(|(node, load)| (self.context.below(1 << 20), node, load))
            .collect();
        due.sort_unstable_by_key(|(chance, node, _)| (*chance, *node));
        let count = u32::try_from(due.len().max(1)).unwrap_or(u32::MAX);
        let step = self.standings.terms().epoch / 2 / count;
        let audits = (0_u32..).zip(due).map(|(at, (_, node, load))| async move {
            tokio::time::sleep_until(begun + step * at).await;
            if let Err(refusal) = self.audit_node(biller, node, load, epoch).await {
                tracing::warn!(%node, %refusal, "audit_failed");
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
    ) -> Result<(), Refusal> {
        let this = self.clone();
        let open = blocking(move || match this.challenges.open(&node)? {
            Some(open) => Ok(open),
            None => {
                let watched = this.standings.of(&node).is_some_and(|standing| standing.watched());
                let size = odds::size(load.shards, load.bytes, this.standings.terms().epoch, watched);
                let size = usize::try_from(size).unwrap_or(MAX_CHALLENGE).min(MAX_CHALLENGE);
                let open = Open { since: epoch, shards: this.draw_sample(&node, size, load.shards)? };
                // Before it is asked: after a crash, too, the same is asked again.
                this.challenges.set(&node, Some(&open))?;
                Ok(open)
            }
        })
        .await?;
        let (mut asked, shards) = self.ask_for_proofs(node, open.shards, epoch).await?;
        let chance = odds::whole_fetch(load.shards, self.standings.terms().epoch);
        let whole = (self.context.below(1 << 32) as f64) < chance * (1_u64 << 32) as f64;
        if whole
            && let Asked::Answered { tally, lost, .. } = &mut asked
            && let Some(altered) = self.fetch_whole(node, &shards).await?
        {
            tally.wrong += 1;
            lost.push(altered);
        }
        let passed = match &asked {
            Asked::Answered { tally, answer, .. } if tally.is_passed() => Some(*answer),
            _ => None,
        };
        let this = self.clone();
        blocking(move || this.settle_audit(node, epoch, open.since, asked)).await?;
        // After what it lost is noted: it is paid for what it has.
        match passed {
            Some(answer) => biller.bill(node, epoch, answer).await,
            None => Ok(()),
        }
    }

    /// Draws what follows from an audit, durably.
    fn settle_audit(&self, node: NodeId, epoch: Epoch, since: Epoch, asked: Asked) -> Result<(), Refusal> {
        let came = match asked {
            Asked::Nothing => {
                // Nothing of what it holds may be asked for.
                return self.challenges.set(&node, None);
            }
            Asked::Unanswered(came) => came,
            Asked::Answered { tally, lost, .. } => {
                for shard in &lost {
                    self.missing.mark_missing(node, shard)?;
                }
                tracing::debug!(%node, epoch = epoch.number(), ?tally, "audit_answered");
                Came::Answered(tally)
            }
        };
        let (before, after) = self.standings.note(&node, epoch, came)?;
        if before != after {
            tracing::info!(%node, from = ?before, to = ?after, ?came, "storage_node_changed");
        }
        match came {
            Came::Answered(_) => self.challenges.set(&node, None),
            Came::Timeout | Came::Offline => {
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
