//! Keeps, which pin the segments of a run at its holders. Those of runs that have segments here protect
//! shards; of others there are few.
//!
//! For a node that is away a few keeps are queued one by one; one more stands for all that it needs, so
//! that no account's keeps crowd out the statements of others.

use std::collections::BTreeSet;

use fincrypt_accounts::{Stored, stored_limit};
use fincrypt_protocol::record::Keep;
use fincrypt_protocol::{AccountId, NodeId, RunId, Signed, Verified};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::table::Table;

use super::queue::{Item, OutboxQueue, Statement};
use super::{Outbox, OutboxError};
use crate::error::StoreError;

/// `(account, run)` → the owner's keep, for nodes that get a shard of the run later.
const KEEPS: Table<(AccountId, RunId), Stored<Keep>> = Table::new("mediated_keeps", stored_limit::<Keep>());

/// Keeps of one account kept here, beyond those of runs of which there are segments: more than there may
/// be runs on their way. Each is about 250 bytes.
const MAX_KEEPS: usize = 1024;
/// Keeps that are queued for one node, of one account; and one that stands for all others.
const KEEPS_WAITING: usize = 16;

impl OutboxQueue {
    /// The keep of a run.
    pub(super) fn keep(&self, account: &AccountId, run: &RunId) -> Result<Option<Verified<Keep>>, KvError> {
        Ok(KEEPS.get(&self.0, &(*account, *run))?.map(|Stored(keep)| keep))
    }

    /// Adds a keep to the batch. Of runs without a segment there are 1,024 at most; these are evicted when
    /// there is no room.
    fn stage_keep(
        &self,
        keep: &Verified<Keep>,
        held: impl FnOnce() -> Result<BTreeSet<RunId>, StoreError>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let key = (keep.account, keep.run);
        let runs = |most| KEEPS.keys(&self.0, &keep.account, None, most);
        if !KEEPS.contains(&self.0, &key)? && runs(MAX_KEEPS)?.len() >= MAX_KEEPS {
            let (mut left, held) = (0, held()?);
            for known in runs(usize::MAX)? {
                if held.contains(&known.1) {
                    left += 1;
                } else {
                    KEEPS.remove(batch, &known);
                }
            }
            if left >= MAX_KEEPS && !held.contains(&keep.run) {
                return Ok(());
            }
        }
        Ok(KEEPS.put(batch, &key, &Stored(keep.clone()))?)
    }

    /// Queues a keep for all these nodes. Where too many are queued, one stands for all: when it is
    /// delivered, the others are looked for.
    fn put_keeps(&self, nodes: &[NodeId], keep: &Verified<Keep>, mut batch: Batch) -> Result<(), KvError> {
        let statement = Statement::Keep(Stored(keep.clone()));
        for node in nodes {
            // Keeps are the first of what waits.
            let waiting = self.waiting(&keep.account, node, KEEPS_WAITING)?;
            let is_full = waiting.into_iter().filter(|item| item.is_keep()).count() >= KEEPS_WAITING;
            let item = if is_full { Item::AllKeeps } else { Item::Keep(keep.run) };
            self.stage((keep.account, *node, item), &statement, &mut batch)?;
        }
        self.commit(&batch)
    }
}

impl Outbox {
    /// Takes an owner's keep.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) async fn keep(&self, account: AccountId, keep: &Signed<Keep>) -> Result<(), OutboxError> {
        let keep = self.verify(keep)?;
        if keep.account != account {
            return Err(OutboxError::Invalid);
        }
        tokio::task::block_in_place(|| {
            // An account that never announced a segment has nothing to pin.
            if self.accounts.registration(&account)?.is_none() {
                return Ok(());
            }
            let mut batch = Batch::default();
            self.queue.stage_keep(&keep, || self.stores.segments.runs(&account), &mut batch)?;
            self.queue.put_keeps(&self.pinnable(&account)?, &keep, batch)?;
            Ok::<_, OutboxError>(())
        })?;
        self.deliver_soon(account);
        Ok(())
    }

    /// Queues the keep of a run, if there is one, for nodes that got a shard of it.
    ///
    /// # Errors
    /// If this cannot be stored.
    pub(crate) fn pin(&self, account: &AccountId, run: &RunId, nodes: &[NodeId]) -> Result<(), StoreError> {
        let Some(keep) = self.queue.keep(account, run)? else { return Ok(()) };
        Ok(self.queue.put_keeps(nodes, &keep, Batch::default())?)
    }

    /// The account's holders that hold anything at all: a node that was lost and replaced, or has deleted
    /// everything, has nothing to pin.
    fn pinnable(&self, account: &AccountId) -> Result<Vec<NodeId>, StoreError> {
        let mut holders = self.stores.holders.of(account, usize::MAX)?;
        let loads = self.stores.held.loads();
        holders.retain(|node| loads.contains_key(node));
        Ok(holders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Network, SigningKey, UnixTime};
    use fincrypt_state::state::State;
    use zeroize::Zeroizing;

    fn queue() -> (tempfile::TempDir, OutboxQueue) {
        let dir = tempfile::tempdir().expect("a folder");
        let state = State::open(dir.path()).expect("opens").0;
        (dir, OutboxQueue(state))
    }

    fn keep(number: u16) -> Verified<Keep> {
        let owner = SigningKey::from_seed(&Zeroizing::new([1; 32]));
        let mut run = [0; 16];
        run[..2].copy_from_slice(&number.to_le_bytes());
        let (account, run) = (owner.account(), RunId::from_bytes(run));
        let keep = Signed::seal(&Keep { network: Network::Local, account, run }, &owner).expect("seals");
        keep.verify(Network::Local, UnixTime::from_secs(1)).expect("verifies")
    }

    #[test]
    fn a_node_that_hears_nothing_has_few_keeps_waiting_of_which_one_stands_for_the_rest() {
        let (_dir, queue) = queue();
        let (away, other) = (NodeId::from_bytes([2; 32]), NodeId::from_bytes([3; 32]));
        for number in 0..100 {
            queue.put_keeps(&[away], &keep(number), Batch::default()).expect("no failure");
        }
        let last = keep(100);
        queue.put_keeps(&[other], &last, Batch::default()).expect("no failure");
        let waiting = queue.pending(&last.account, None, usize::MAX).expect("no failure");
        let of = |node| waiting.iter().filter(|pending| pending.key.1 == node).count();
        assert_eq!((of(away), of(other)), (KEEPS_WAITING + 1, 1));
        let for_all = (last.account, away, Item::AllKeeps);
        assert_eq!(waiting.iter().filter(|pending| pending.key == for_all).count(), 1);
    }

    #[test]
    fn keeps_of_runs_without_segments_make_room_and_others_stay() {
        let (_dir, queue) = queue();
        let protects = keep(7);
        for number in 0..MAX_KEEPS as u16 + 10 {
            let mut batch = Batch::default();
            let held = || Ok(BTreeSet::from([protects.run]));
            queue.stage_keep(&keep(number), held, &mut batch).expect("no failure");
            queue.commit(&batch).expect("no failure");
        }
        let left = KEEPS.keys(&queue.0, &protects.account, None, usize::MAX).expect("reads").len();
        assert!(left <= MAX_KEEPS, "{left}");
        let kept = queue.keep(&protects.account, &protects.run).expect("reads");
        assert_eq!(kept.map(|keep| keep.signed().clone()), Some(protects.signed().clone()));
    }
}
