//! Records of a vault that is taken over from another mediator, and of one that is given up.

use fincrypt_protocol::record::Mandate;
use fincrypt_protocol::shard::HeldSegment;
use fincrypt_protocol::{AccountId, NodeId, Refusal, RunId, Signed};
use fincrypt_state::kv::{Batch, KeyValue};

use super::{HEADS, HOLDERS, LACKING, MANDATES, PAGE, Records, SegmentRecord, Slot, Word, at};
use fincrypt_accounts::failed;
use fincrypt_accounts::releases::Holdings;

impl Records {
    /// Remembers what a node says it holds of a segment: the shards that nobody signed for. A segment
    /// that is new belongs to `run` from now on; whether it was.
    pub(crate) fn put_listed(
        &self,
        account: &AccountId,
        node: NodeId,
        run: RunId,
        held: &HeldSegment,
    ) -> Result<bool, Refusal> {
        let id = held.manifest.id();
        let _turn = self.turn(&id);
        let old = self.segment(account, &id)?;
        let mut record = old.clone().unwrap_or_else(|| {
            let slots = vec![Slot { node: None, receipt: None }; held.manifest.code().total().into()];
            SegmentRecord { manifest: held.manifest.clone(), tag: held.tag, run, slots, sequence: 1 }
        });
        // No two shards of a segment count at one node: it could not lose just one of them.
        let known = record.holders().any(|(_, keeper)| keeper == node);
        let place = held
            .held
            .iter()
            .find(|index| record.slots.get(index.get()).is_some_and(|slot| slot.receipt.is_none()));
        let Some(slot) = place.and_then(|index| record.slots.get_mut(index.get())).filter(|_| !known) else {
            return Ok(false);
        };
        *slot = Slot { node: Some(node), receipt: Some(Word::Listed) };
        record.sequence += u64::from(old.is_some());
        self.write(account, old.as_ref(), &record)?;
        Ok(old.is_none())
    }

    /// Forgets all that is known of an account but its registration.
    pub(crate) fn forget_account(&self, account: &AccountId) -> Result<(), Refusal> {
        loop {
            let page = self.segments(account, None)?;
            if page.is_empty() {
                break;
            }
            for segment in page {
                Holdings::remove(self, account, &segment)?;
            }
        }
        let mut batch = Batch::default();
        for tree in [HOLDERS, LACKING] {
            let entries = self.state.scan(tree, account.as_bytes(), None, usize::MAX);
            for (key, _) in entries.map_err(|error| failed(&error))? {
                batch.remove(tree, key);
            }
        }
        batch.remove(HEADS, *account.as_bytes());
        batch.remove(MANDATES, *account.as_bytes());
        self.state.commit(&batch).map_err(|error| failed(&error))
    }

    /// Accounts that gave this mediator a mandate, after `after`: a page of them.
    pub(crate) fn mandates(&self, after: Option<&AccountId>) -> Result<Vec<Signed<Mandate>>, Refusal> {
        let after = after.map(|account| at(account, &[]));
        let entries = self.state.scan(MANDATES, &[], after.as_deref(), PAGE);
        let entries = entries.map_err(|error| failed(&error))?;
        Ok(entries.iter().filter_map(|(_, bytes)| Signed::from_bytes(bytes).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Clock, Code, Manifest, SegmentId, ShardId, ShardIndex, ShardLen, Tag};
    use fincrypt_state::state::State;

    #[test]
    fn what_holders_list_counts_as_kept_but_not_as_signed_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let records = Records::new(State::open(dir.path()).expect("opens").0, Clock::system());
        let (account, run) = (AccountId::from_bytes([5; 32]), RunId::from_bytes([4; 16]));
        let ids = vec![ShardId::from_bytes([1; 32]), ShardId::from_bytes([2; 32])];
        let manifest = Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::FULL, ids).expect("valid");
        let id: SegmentId = manifest.id();
        let says = |held: &[u8]| HeldSegment {
            manifest: manifest.clone(),
            tag: Tag::from_bytes([3; 32]),
            run,
            held: held.iter().map(|at| ShardIndex::new(*at).expect("valid")).collect(),
            holders: None,
            due: None,
        };
        let [one, other] = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
        let put =
            |node, held: &[u8]| records.put_listed(&account, node, run, &says(held)).expect("no failure");
        // It claims both; one node counts for one shard.
        assert!(put(one, &[0, 1]));
        assert!(!put(one, &[0, 1]));
        assert_eq!(records.lacking(None, 10).expect("no failure"), [(account, id)]);
        assert!(!put(other, &[0, 1, 29]));
        assert_eq!(records.lacking(None, 10).expect("no failure"), []);
        let record = records.segment(&account, &id).expect("no failure").expect("known");
        assert_eq!((record.holders().count(), record.receipts().count()), (2, 0));
        assert_eq!(record.signed_for().holders().count(), 0);
        records.forget_account(&account).expect("forgotten");
        assert_eq!(records.segment(&account, &id).expect("no failure"), None);
        assert_eq!(records.held_by(&one, &[], 10).expect("no failure"), []);
        assert_eq!(records.holders(&account, 10).expect("no failure"), []);
    }
}
