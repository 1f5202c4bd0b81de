//! Epoch audits: every epoch each node that holds something proves a random sample of it.
//!
//! Nodes are asked at times spread over the epoch. What was not answered is asked again in the next
//! epoch, the very same shards, before anything else: whoever lost some cannot wait for easier
//! questions. Shards that are not proved lose their keeper in the records, and repair finds new ones.

mod ask;
mod sample;

use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::limits::MAX_CHALLENGE;
use fincrypt_protocol::shard::Challenged;
use fincrypt_protocol::{NodeId, Nonce, Refusal, cbor};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::MediatorRole;
use super::records::Load;
use ask::Asked;
use fincrypt_accounts::failed;
use fincrypt_net::blocking;
use fincrypt_upkeep::placement::system_random;
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
pub(super) struct Challenges(State);

impl Challenges {
    pub(super) fn new(state: State) -> Self {
        Self(state)
    }

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

/// A random nonce; none if the system has no randomness.
fn nonce() -> Option<Nonce> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(Nonce::from_bytes(bytes))
}

impl MediatorRole {
    /// Audits until told to stop.
    pub(super) async fn audit(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let length = self.standings.terms().epoch;
        loop {
            let begun = tokio::time::Instant::now();
            let epoch = self.standings.now();
            tokio::select! {
                _ = stop.changed() => return,
                () = Arc::clone(&self).audit_all(epoch, begun) => {}
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
    async fn audit_all(self: Arc<Self>, epoch: Epoch, begun: tokio::time::Instant) {
        let loads = self.records.loads();
        let mut due: Vec<(u64, NodeId, Load)> = loads
            .into_iter()
            .filter(|(node, _)| !self.standings.is_audited(node, epoch))
            .map(|(node, load)| (system_random(1 << 20), node, load))
            .collect();
        due.sort_unstable_by_key(|(chance, node, _)| (*chance, *node));
        let count = u32::try_from(due.len().max(1)).unwrap_or(u32::MAX);
        let step = self.standings.terms().epoch / 2 / count;
        let audits = (0_u32..).zip(due).map(|(at, (_, node, load))| {
            let role = Arc::clone(&self);
            async move {
                tokio::time::sleep_until(begun + step * at).await;
                if let Err(refusal) = role.audit_node(node, load, epoch).await {
                    tracing::warn!(%node, %refusal, "an audit could not be carried out");
                }
            }
        });
        futures::stream::iter(audits).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    async fn audit_node(self: &Arc<Self>, node: NodeId, load: Load, epoch: Epoch) -> Result<(), Refusal> {
        let role = Arc::clone(self);
        let open = blocking(move || match role.challenges.open(&node)? {
            Some(open) => Ok(open),
            None => {
                let watched = role.standings.of(&node).is_some_and(|standing| standing.watched());
                let size = odds::size(load.shards, load.bytes, role.standings.terms().epoch, watched);
                let size = usize::try_from(size).unwrap_or(MAX_CHALLENGE).min(MAX_CHALLENGE);
                let open = Open { since: epoch, shards: role.draw_sample(&node, size, load.shards)? };
                // Before it is asked: after a crash, too, the same is asked again.
                role.challenges.set(&node, Some(&open))?;
                Ok(open)
            }
        })
        .await?;
        let (mut asked, shards) = self.ask_for_proofs(node, open.shards, epoch).await?;
        let chance = odds::whole_fetch(load.shards, self.standings.terms().epoch);
        let whole = (system_random(1 << 32) as f64) < chance * (1_u64 << 32) as f64;
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
        let role = Arc::clone(self);
        blocking(move || role.settle_audit(node, epoch, open.since, asked)).await?;
        // After what it lost is noted: it is paid for what it has.
        match passed {
            Some(answer) => self.billing.bill(node, epoch, answer).await,
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
                    self.lose(node, shard)?;
                }
                tracing::debug!(%node, epoch = epoch.number(), ?tally, "an audit was answered");
                Came::Answered(tally)
            }
        };
        let (before, after) = self.standings.note(&node, epoch, came)?;
        if before != after {
            tracing::info!(?before, ?after, ?came, "a storage node stands otherwise");
        }
        match came {
            Came::Answered(_) => self.challenges.set(&node, None),
            Came::Timeout | Came::Offline => {
                tracing::debug!(%node, late = epoch.since(since), "a challenge stays open");
                Ok(())
            }
        }
    }

    /// Notes that a node does not hold a shard, whatever it signed.
    pub(super) fn lose(&self, node: NodeId, shard: &Challenged) -> Result<(), Refusal> {
        let changed = self.records.change(&shard.account, &shard.segment, |record| {
            let slot = record.slots.get_mut(shard.index.get()).filter(|slot| slot.node == Some(node));
            slot.is_some_and(|slot| slot.receipt.take().is_some())
        })?;
        if changed.is_some() {
            tracing::warn!(%node, segment = %shard.segment, index = shard.index.get(), "a shard is lost");
            self.lacking.notify_one();
        }
        Ok(())
    }
}

/// Looks at the clock no more often than this.
const MOMENT: Duration = Duration::from_millis(100);
/// And no less often.
const PAUSE: Duration = Duration::from_secs(10);
