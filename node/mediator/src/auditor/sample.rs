//! Which shards of a node are challenged.

use std::collections::BTreeSet;

use fincrypt_protocol::shard::Challenged;
use fincrypt_protocol::{NodeId, Refusal};

use super::Auditor;
use crate::records::Held;

/// From a random key on so many shards are looked at, of which one is taken. What stands after a wide
/// gap between keys would else be taken more often than its neighbours.
const RUN: usize = 64;

impl Auditor {
    /// Draws `size` of the node's `held` shards at random; all if there are no more.
    pub(super) fn draw_sample(
        &self,
        node: &NodeId,
        size: usize,
        held: u64,
    ) -> Result<Vec<Challenged>, Refusal> {
        if held <= size as u64 {
            return Ok(self.records.held_by(node, &[], size)?.into_iter().map(challenged).collect());
        }
        let mut drawn: BTreeSet<Held> = BTreeSet::new();
        // Where few are left to be drawn, most tries hit what is drawn already.
        for _ in 0..4 * size {
            if drawn.len() == size {
                break;
            }
            drawn.extend(self.draw_one(node)?);
        }
        Ok(drawn.into_iter().map(challenged).collect())
    }

    fn draw_one(&self, node: &NodeId) -> Result<Option<Held>, Refusal> {
        let from: [u8; 32] = self.context.sources.random.bytes();
        let mut run = self.records.held_by(node, &from, RUN)?;
        if run.len() < RUN {
            run.extend(self.records.held_by(node, &[], RUN - run.len())?);
        }
        let at = self.context.below(run.len().max(1) as u64) as usize;
        Ok(run.get(at).copied())
    }
}

fn challenged(held: Held) -> Challenged {
    Challenged { account: held.account, segment: held.segment, index: held.index }
}
