//! The client's own look at its storage: shards challenged straight at the nodes that should have
//! them, and compared with the manifests that the client computed itself. Neither the mediator nor
//! storage can lie about the outcome; the mediator only says whom to ask.
//!
//! Before a new head [`SelfCheck`] asks for up to 30 random shards: about half of what this run
//! stored, as a small run in a large vault would hardly ever be asked otherwise, the rest of all that
//! the vault has. Where a shard of the run is bad, all shards of its segment are asked for; one that
//! is not safe then keeps the head from being written. Segments of merged index pieces, which are
//! made while the head is written, are left for the next time.

mod ask;
mod choose;
pub(crate) mod findings;
mod look;
mod notes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::{Manifest, NodeId, ShardIndex};
use futures::StreamExt;

use super::error::ClientError;
use super::session::with_vault;
use super::vault::Vault;
use fincrypt_net::Net;

pub(crate) use ask::{Asker, Depth};
pub(crate) use choose::{pairs, shuffle, system_random};
pub use findings::{BadShard, CheckReport};
pub(crate) use findings::{Finding, Outcome, Shard};
use look::News;
pub(crate) use look::{SelfCheck, tell};
pub(crate) use notes::{Notes, Seen};

/// Nodes asked at once.
const NODES_AT_ONCE: usize = 16;

/// A shard, its manifest, and the nodes that are said to have it, the most credible first.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) index: ShardIndex,
    pub(crate) nodes: Vec<NodeId>,
}

impl Pair {
    fn shard(&self) -> Shard {
        Shard { segment: self.manifest.id(), index: self.index }
    }
}

/// Asks for each of some shards; if one is not proved by a node, the next that is said to have it.
/// What the last node showed that is not a mere silence counts.
pub(crate) async fn ask_all(asker: &Asker, pairs: &[Pair], depth: Depth) -> Vec<Finding> {
    let none = |pair: &Pair| Finding { shard: pair.shard(), node: None, outcome: Outcome::Missing };
    let mut findings: Vec<Finding> = pairs.iter().map(none).collect();
    let longest = pairs.iter().map(|pair| pair.nodes.len()).max().unwrap_or(0);
    for turn in 0..longest {
        let mut by_node: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (at, pair) in pairs.iter().enumerate() {
            if let Some(node) = pair.nodes.get(turn)
                && findings[at].outcome != Outcome::Proved
            {
                by_node.entry(*node).or_default().push(at);
            }
        }
        let asking = by_node.into_iter().map(|(node, at)| async move {
            let shards: Vec<_> = at.iter().map(|at| (&*pairs[*at].manifest, pairs[*at].index)).collect();
            (node, asker.ask(node, &shards, depth).await, at)
        });
        let mut answers = futures::stream::iter(asking).buffer_unordered(NODES_AT_ONCE);
        while let Some((node, outcomes, at)) = answers.next().await {
            for (at, outcome) in at.into_iter().zip(outcomes) {
                let known = &mut findings[at];
                if known.node.is_none() || outcome != Outcome::Unreachable {
                    (known.node, known.outcome) = (Some(node), outcome);
                }
            }
        }
    }
    findings
}

/// Looks at what the vault has stored, without a backup.
///
/// # Errors
/// [`ClientError`] if the mediator does not answer, or local state fails.
pub async fn self_check(vault: &Vault) -> Result<CheckReport, ClientError> {
    with_vault(vault, async |session| {
        let mediator = session.mediator(vault).await?;
        let check = SelfCheck::new(vault, &session.net, mediator)?;
        let found = check.look(&News::none()).await?;
        check.conclude(&found).await
    })
    .await
}

impl Vault {
    /// How long until the regular check is due.
    ///
    /// # Errors
    /// If local state fails.
    pub fn check_due_in(&self) -> Result<Duration, ClientError> {
        Ok(self.notes().due_in(self.options.self_check_interval)?)
    }

    /// What asks storage nodes for this vault's shards.
    pub(crate) fn asker(&self, net: &Net) -> Result<Asker, ClientError> {
        let account = self.keys.root.account(self.slot()?);
        Ok(Asker::new(net.clone(), account, self.registration()?))
    }

    /// What this machine found out about the vault's shards.
    pub(crate) fn notes(&self) -> Notes {
        Notes::new(self.state.clone())
    }
}
