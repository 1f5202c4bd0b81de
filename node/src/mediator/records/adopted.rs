//! Records of a vault that is taken over from another mediator, and of one that is given up.

use fincrypt_protocol::record::Mandate;
use fincrypt_protocol::shard::HeldSegment;
use fincrypt_protocol::{AccountId, NodeId, Refusal, RunId, Signed};
use fincrypt_storage::kv::{Batch, KeyValue};

use super::{HEADS, HOLDERS, LACKING, MANDATES, PAGE, Records, SegmentRecord, Slot, Word, at};
use crate::accounts::failed;
use crate::releases::Holdings;

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
