//! Keeps, which pin the segments of a run at its holders. Those of runs that have segments here protect shards; of others there are few.
//!
//! For a node that is away a few keeps are queued one by one; one more stands for all that it needs, so
//! that no account's keeps crowd out the notices of others.

use std::collections::BTreeSet;

use fincrypt_protocol::record::Keep;
use fincrypt_protocol::shard::KeepRun;
use fincrypt_protocol::{AccountId, NodeId, Refusal, RunId, Signed};
use fincrypt_state::kv::{Batch, KeyValue, Tree};

use super::{KEEP, Notices, Outbox, PENDING, key};
use crate::holder_link::Delivery;
use fincrypt_accounts::failed;
use fincrypt_net::blocking;

/// `account ‖ run` → the owner's keep, for nodes that get a shard of the run later.
const KEEPS: Tree = Tree("mediated_keeps");

/// Keeps of one account remembered here, beyond those of runs of which there are segments: more than
/// there may be runs on their way. Each is about 250 bytes.
const MAX_KEEPS: usize = 1024;
/// Keeps that are queued for one node, of one account; and one that stands for all others.
const KEEPS_WAITING: usize = 16;

impl Notices {
    fn keep(&self, account: &AccountId, run: &RunId) -> Result<Option<Signed<Keep>>, Refusal> {
        let key = [account.as_bytes().as_slice(), run.as_bytes()].concat();
        let bytes = self.0.get(KEEPS, &key).map_err(|error| failed(&error))?;
        bytes.map(|bytes| Signed::from_bytes(&bytes).map_err(|error| failed(&error))).transpose()
    }

    /// Remembers a keep. Of runs without a segment there are so many at most; the others make room.
    fn put_keep(
        &self,
        account: &AccountId,
        run: &RunId,
        keep: &Signed<Keep>,
        held: impl FnOnce() -> Result<BTreeSet<RunId>, Refusal>,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let failed = |error| failed(&error);
        let at = [account.as_bytes().as_slice(), run.as_bytes()].concat();
        let known = self.0.get(KEEPS, &at).map_err(failed)?.is_some();
        let full =
            self.0.scan(KEEPS, account.as_bytes(), None, MAX_KEEPS).map_err(failed)?.len() >= MAX_KEEPS;
        if !known && full {
            let (mut left, held) = (0, held()?);
            for (key, _) in self.0.scan(KEEPS, account.as_bytes(), None, usize::MAX).map_err(failed)? {
                let run = key.get(32..).and_then(|run| run.try_into().ok()).map(RunId::from_bytes);
                if run.is_some_and(|run| held.contains(&run)) {
                    left += 1;
                } else {
                    batch.remove(KEEPS, key);
                }
            }
            if left >= MAX_KEEPS && !held.contains(run) {
                return Ok(());
            }
        }
        let bytes = keep.to_bytes().map_err(|error| fincrypt_accounts::failed(&error))?;
        batch.put(KEEPS, at, bytes);
        Ok(())
    }

    /// Queues a keep for all these nodes. Where too many are queued, one stands for all: when it is
    /// delivered, the others are looked for.
    fn put_keeps(
        &self,
        account: &AccountId,
        nodes: &[NodeId],
        run: &RunId,
        keep: &Signed<Keep>,
        mut batch: Batch,
    ) -> Result<(), Refusal> {
        let bytes = keep.to_bytes().map_err(|error| failed(&error))?;
        for node in nodes {
            let waiting = self.0.scan(PENDING, &key(account, node, KEEP, &[]), None, KEEPS_WAITING);
            let many = waiting.map_err(|error| failed(&error))?.len() >= KEEPS_WAITING;
            let number = if many { &[][..] } else { run.as_bytes() };
            batch.put(PENDING, key(account, node, KEEP, number), bytes.clone());
        }
        self.commit(&batch)
    }
}

impl Outbox {
    /// Takes an owner's keep.
    pub(crate) async fn keep(&self, account: AccountId, keep: &Signed<Keep>) -> Result<(), Refusal> {
        let statement =
            keep.verify(self.context.network, self.context.now()).map_err(|_| Refusal::Invalid)?;
        if statement.account != account {
            return Err(Refusal::Invalid);
        }
        tokio::task::block_in_place(|| {
            // Whoever never announced a segment has nothing that could be kept.
            if self.accounts.registration(&account)?.is_none() {
                return Ok(());
            }
            let mut batch = Batch::default();
            self.notices.put_keep(
                &account,
                &statement.run,
                keep,
                || self.records.runs(&account),
                &mut batch,
            )?;
            let holders = self.pinnable(&account)?;
            self.notices.put_keeps(&account, &holders, &statement.run, keep, batch)
        })?;
        self.deliver_soon(account);
        Ok(())
    }

    /// Nodes that got a shard of a run must know that it is kept, if it is.
    pub(crate) fn pin(&self, account: &AccountId, run: &RunId, nodes: &[NodeId]) -> Result<(), Refusal> {
        let Some(keep) = self.notices.keep(account, run)? else { return Ok(()) };
        self.notices.put_keeps(account, nodes, run, &keep, Batch::default())
    }

    /// The account's holders that hold anything at all: whoever was lost and replaced, or has deleted
    /// everything, has nothing to keep.
    fn pinnable(&self, account: &AccountId) -> Result<Vec<NodeId>, Refusal> {
        let mut holders = self.records.holders(account, usize::MAX)?;
        let loads = self.records.loads();
        holders.retain(|node| loads.contains_key(node));
        Ok(holders)
    }

    /// Sends a node every keep of the runs of which it holds something for the account.
    pub(super) async fn send_keeps(&self, account: AccountId, node: NodeId) -> Delivery<()> {
        let (records, notices) = (self.records.clone(), self.notices.clone());
        let keeps = blocking(move || {
            let runs = records.runs_at(&account, &node)?;
            let keeps = runs.iter().map(|run| notices.keep(&account, run));
            keeps.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
        });
        let Ok(keeps) = keeps.await else { return Delivery::TimedOut };
        for keep in keeps {
            match self.link.send(node, KeepRun { keep }).await {
                Delivery::Acknowledged(_) => {}
                Delivery::Rejected(refusal) => return Delivery::Rejected(refusal),
                Delivery::TimedOut => return Delivery::TimedOut,
            }
        }
        Delivery::Acknowledged(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Network, SigningKey};
    use fincrypt_state::state::State;
    use zeroize::Zeroizing;

    fn notices() -> (tempfile::TempDir, Notices) {
        let dir = tempfile::tempdir().expect("a folder");
        let state = State::open(dir.path()).expect("opens").0;
        (dir, Notices(state))
    }

    fn keep(number: u16) -> (AccountId, RunId, Signed<Keep>) {
        let owner = SigningKey::from_seed(&Zeroizing::new([1; 32]));
        let mut run = [0; 16];
        run[..2].copy_from_slice(&number.to_le_bytes());
        let (account, run) = (owner.account(), RunId::from_bytes(run));
        let keep = Signed::seal(&Keep { network: Network::Local, account, run }, &owner).expect("seals");
        (account, run, keep)
    }

    #[test]
    fn a_node_that_hears_nothing_has_few_keeps_waiting_of_which_one_stands_for_the_rest() {
        let (_dir, notices) = notices();
        let (away, other) = (NodeId::from_bytes([2; 32]), NodeId::from_bytes([3; 32]));
        for number in 0..100 {
            let (account, run, keep) = keep(number);
            notices.put_keeps(&account, &[away], &run, &keep, Batch::default()).expect("no failure");
        }
        let (account, run, last) = keep(100);
        notices.put_keeps(&account, &[other], &run, &last, Batch::default()).expect("no failure");
        let waiting = notices.pending(account.as_bytes(), None, usize::MAX).expect("no failure");
        let of = |node| waiting.iter().filter(|pending| pending.node == node).count();
        assert_eq!((of(away), of(other)), (KEEPS_WAITING + 1, 1));
        let all = waiting.iter().filter(|pending| pending.key == key(&account, &away, KEEP, &[])).count();
        assert_eq!(all, 1);
    }

    #[test]
    fn keeps_of_runs_without_segments_make_room_and_others_stay() {
        let (_dir, notices) = notices();
        let protects = keep(7);
        for number in 0..MAX_KEEPS as u16 + 10 {
            let (account, run, keep) = keep(number);
            let mut batch = Batch::default();
            let held = || Ok(BTreeSet::from([protects.1]));
            notices.put_keep(&account, &run, &keep, held, &mut batch).expect("no failure");
            notices.commit(&batch).expect("no failure");
        }
        let left = notices.0.scan(KEEPS, protects.0.as_bytes(), None, usize::MAX).expect("reads").len();
        assert!(left <= MAX_KEEPS, "{left}");
        assert_eq!(notices.keep(&protects.0, &protects.1), Ok(Some(protects.2)));
    }
}
