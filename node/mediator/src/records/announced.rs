//! Records of segments that were announced and of which no keeper has signed for anything yet: they
//! cost nothing to make, so they are few and do not last.

use std::time::Duration;

use fincrypt_protocol::{AccountId, Refusal, SegmentId, UnixTime};
use fincrypt_state::kv::{Batch, KeyValue, Tree};

use super::{LACKING, Records, SEGMENTS, at};
use fincrypt_accounts::failed;

/// `account ‖ segment` → when it was announced, `u64le`; until a shard of it has a keeper.
pub(super) const ANNOUNCED: Tree = Tree("announced");

/// Announced records of one account. Sixteen devices with two open segments each; what a mediator's
/// end interrupts is among them until its client comes again.
pub(crate) const MAX_ANNOUNCED: usize = 32;
/// How long one that is not open any more is remembered: its client comes again within a day, and
/// finds the keepers that may have its shards already.
const ANNOUNCED_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Announced records looked through at once.
const PAGE: usize = 1024;

/// An announced record and when it was announced.
type Announced = (AccountId, SegmentId, UnixTime);

fn parse((key, value): &(Vec<u8>, Vec<u8>)) -> Option<Announced> {
    let (account, segment) = key.split_first_chunk::<32>()?;
    let since = value.as_slice().try_into().map_or(0, u64::from_le_bytes);
    let segment = SegmentId::from_bytes(segment.try_into().ok()?);
    Some((AccountId::from_bytes(*account), segment, UnixTime::from_secs(since)))
}

impl Records {
    /// Removes a record unless a shard of it has found a keeper meanwhile.
    pub(crate) fn remove_announced(&self, account: &AccountId, segment: &SegmentId) -> Result<(), Refusal> {
        let _turn = self.turn(segment);
        let key = at(account, segment.as_bytes());
        if self.state.get(ANNOUNCED, &key).map_err(|error| failed(&error))?.is_none() {
            return Ok(());
        }
        let mut batch = Batch::default();
        [SEGMENTS, LACKING, ANNOUNCED].into_iter().for_each(|tree| batch.remove(tree, key.clone()));
        self.state.commit(&batch).map_err(|error| failed(&error))?;
        self.forget(*account, *segment);
        Ok(())
    }

    /// Makes room for one more announced record of an account: the oldest that is not open gives way.
    ///
    /// # Errors
    /// [`Refusal::TooManyOpen`] if all are open.
    pub(crate) fn make_room(
        &self,
        account: &AccountId,
        is_open: impl Fn(AccountId, SegmentId) -> bool,
    ) -> Result<(), Refusal> {
        let entries = self.state.scan(ANNOUNCED, account.as_bytes(), None, MAX_ANNOUNCED);
        let entries = entries.map_err(|error| failed(&error))?;
        if entries.len() < MAX_ANNOUNCED {
            return Ok(());
        }
        let idle =
            entries.iter().filter_map(parse).filter(|(account, segment, _)| !is_open(*account, *segment));
        let (account, segment, _) = idle.min_by_key(|(.., since)| *since).ok_or(Refusal::TooManyOpen)?;
        self.remove_announced(&account, &segment)
    }

    /// Removes announced records that are neither open nor young.
    pub(crate) fn sweep_announced(
        &self,
        now: UnixTime,
        is_open: impl Fn(AccountId, SegmentId) -> bool,
    ) -> Result<(), Refusal> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.state.scan(ANNOUNCED, &[], after.as_deref(), PAGE);
            let page = page.map_err(|error| failed(&error))?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (account, segment, since) in page.iter().filter_map(parse) {
                if now.since(since) >= ANNOUNCED_LIFE && !is_open(account, segment) {
                    self.remove_announced(&account, &segment)?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{SegmentRecord, Slot};
    use fincrypt_accounts::releases::Holdings;
    use fincrypt_protocol::{Clock, Code, Manifest, RunId, ShardId, ShardLen, Tag};
    use fincrypt_state::state::State;

    const ACCOUNT: AccountId = AccountId::from_bytes([5; 32]);

    fn record(seed: u8) -> SegmentRecord {
        let ids = vec![ShardId::from_bytes([seed; 32]), ShardId::from_bytes([255; 32])];
        let manifest = Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::FULL, ids).expect("valid");
        let slots = vec![Slot { node: None, receipt: None }; 2];
        let (tag, run) = (Tag::from_bytes([3; 32]), RunId::from_bytes([4; 16]));
        SegmentRecord { manifest, tag, run, slots, sequence: 1 }
    }

    #[test]
    fn an_account_has_a_bounded_number_of_announced_records_of_which_open_ones_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        let records = Records::new(State::open(dir.path()).expect("opens").0, Clock::system());
        let all: Vec<_> = (0..MAX_ANNOUNCED as u8 + 8).map(record).collect();
        let first = all[0].manifest.id();
        for record in &all {
            records.make_room(&ACCOUNT, |_, segment| segment == first).expect("the oldest gives way");
            records.put_segment(&ACCOUNT, record).expect("written");
        }
        assert_eq!(records.segments(&ACCOUNT, None).expect("no failure").len(), MAX_ANNOUNCED);
        assert!(records.known(&ACCOUNT, &first).expect("no failure").is_some(), "it is open");
        assert_eq!(records.make_room(&ACCOUNT, |_, _| true), Err(Refusal::TooManyOpen));
        assert_eq!(
            records.make_room(&AccountId::from_bytes([6; 32]), |_, _| true),
            Ok(()),
            "another account"
        );
    }

    #[test]
    fn what_was_announced_lasts_a_day_also_over_a_restart_and_what_is_kept_lasts() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = State::open(dir.path()).expect("opens").0;
        let records = Records::new(state.clone(), Clock::system());
        let (idle, open, mut kept) = (record(1), record(2), record(3));
        for record in [&idle, &open, &kept] {
            records.put_segment(&ACCOUNT, record).expect("written");
        }
        let node = fincrypt_protocol::SigningKey::from_seed(&zeroize::Zeroizing::new([7; 32])).node();
        kept.slots[0] = Slot { node: Some(node), receipt: Some(crate::records::Word::Listed) };
        records.put_segment(&ACCOUNT, &kept).expect("written");
        let records = Records::new(state, Clock::system());
        let is_open = |_, segment| segment == open.manifest.id();
        let now = UnixTime::now();
        records.sweep_announced(now.plus(ANNOUNCED_LIFE / 2), is_open).expect("no failure");
        assert_eq!(records.segments(&ACCOUNT, None).expect("no failure").len(), 3, "it is young");
        records.sweep_announced(now.plus(ANNOUNCED_LIFE * 2), is_open).expect("no failure");
        let known = |record: &SegmentRecord| {
            records.known(&ACCOUNT, &record.manifest.id()).expect("no failure").is_some()
        };
        assert_eq!([known(&idle), known(&open), known(&kept)], [false, true, true]);
        records.remove_announced(&ACCOUNT, &kept.manifest.id()).expect("no failure");
        assert!(known(&kept), "it found a keeper");
    }
}
