//! Which shards of a node are challenged.

use std::collections::BTreeSet;

use fincrypt_protocol::shard::Challenged;
use fincrypt_protocol::{NodeId, SegmentId};

use super::Auditor;
use crate::error::StoreError;
use crate::stores::HeldShard;

/// Shards read from a random key on, of which one is taken. A shard after a wide gap between keys would
/// else be taken more often than its neighbours.
const RUN: usize = 64;

impl Auditor {
    /// Draws `size` of the node's `held` shards at random; all if there are no more.
    pub(super) fn draw_sample(
        &self,
        node: &NodeId,
        size: usize,
        held: u64,
    ) -> Result<Vec<Challenged>, StoreError> {
        if held <= size as u64 {
            let all = self.stores.held.of(node, None, size)?;
            return Ok(all.into_iter().map(Challenged::from).collect());
        }
        let mut drawn: BTreeSet<HeldShard> = BTreeSet::new();
        // Where few are left to be drawn, most tries hit what is drawn already.
        for _ in 0..4 * size {
            if drawn.len() == size {
                break;
            }
            drawn.extend(self.draw_one(node)?);
        }
        Ok(drawn.into_iter().map(Challenged::from).collect())
    }

    fn draw_one(&self, node: &NodeId) -> Result<Option<HeldShard>, StoreError> {
        let from = HeldShard::before(SegmentId::from_bytes(self.context.sources.random.bytes()));
        let mut run = self.stores.held.of(node, from.as_ref(), RUN)?;
        if run.len() < RUN {
            run.extend(self.stores.held.of(node, None, RUN - run.len())?);
        }
        let at = self.context.below(run.len().max(1) as u64) as usize;
        Ok(run.get(at).copied())
    }
}
