//! The heads kept for an account: the newest always, others spread by arrival over 30 days, so
//! that a thief who writes many heads cannot push the good ones out at once.

use std::time::Duration;

use fincrypt_protocol::limits::{MAX_HEADS_KEPT, MAX_SEQUENCE_STEP};
use fincrypt_protocol::record::{Head, Registration};
use fincrypt_protocol::{AccountId, Refusal, Signed, UnixTime, Verified};
use fincrypt_state::kv::{Batch, KeyValue, Tree};

use crate::accounts::{Accounts, failed};
use crate::rewinds::Lineage;

/// `account ‖ u64be sequence ‖ head hash` → `u64le arrival ‖ head`.
const HEADS: Tree = Tree("heads");

/// How long an older head is worth a place.
const SPREAD: Duration = Duration::from_secs(30 * 24 * 3600);

struct Kept {
    key: Vec<u8>,
    sequence: u64,
    arrived: UnixTime,
    head: Signed<Head>,
}

/// Which head to give up when there are too many: one older than 30 days, else the one whose
/// neighbours in time are closest to each other. `heads` are arrivals and sequences, in the order of
/// arrival, whatever the sequences: else heads of low sequences, written late, would push out good
/// ones. The last to arrive and the one of the highest sequence always stay.
fn dispensable(heads: &[(UnixTime, u64)], now: UnixTime) -> Option<usize> {
    if heads.len() <= MAX_HEADS_KEPT {
        return None;
    }
    let highest = heads.iter().map(|(_, sequence)| *sequence).max();
    let spare = |at: &usize| Some(heads[*at].1) != highest;
    let inner = 0..heads.len() - 1;
    if let Some(old) = inner.clone().filter(spare).find(|at| now.since(heads[*at].0) > SPREAD) {
        return Some(old);
    }
    let gap = |at: usize| heads[at + 1].0.since(heads[at - 1].0);
    inner.clone().skip(1).filter(spare).min_by_key(|at| gap(*at)).or_else(|| inner.clone().find(spare))
}

impl Accounts {
    fn kept_heads(&self, account: &AccountId) -> Result<Vec<Kept>, Refusal> {
        let entries = self
            .state
            .scan(HEADS, account.as_bytes(), None, 4 * MAX_HEADS_KEPT)
            .map_err(|error| failed(&error))?;
        let mut kept = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let sequence = key.get(32..40).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
            let (Some(sequence), Some((arrived, head))) = (sequence, value.split_first_chunk::<8>()) else {
                return Err(failed(&"a head in the state cannot be read"));
            };
            let head = Signed::from_bytes(head).map_err(|error| failed(&error))?;
            kept.push(Kept {
                key,
                sequence,
                arrived: UnixTime::from_secs(u64::from_le_bytes(*arrived)),
                head,
            });
        }
        Ok(kept)
    }

    /// The heads kept for an account, oldest sequence first.
    pub fn heads(&self, account: &AccountId) -> Result<Vec<Signed<Head>>, Refusal> {
        Ok(self.kept_heads(account)?.into_iter().map(|kept| kept.head).collect())
    }

    /// Keeps a head that its account's registered key signed.
    pub fn put_head(
        &self,
        registration: &Registration,
        head: &Verified<Head>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        if head.account != registration.account {
            return Err(Refusal::Invalid);
        }
        self.check_head_key(registration, head.head_key)?;
        let rewound = self.rewind(registration)?;
        let history = Lineage::of(registration, rewound.as_ref());
        let hash = head.signed().head_hash();
        let mut kept = self.kept_heads(&head.account)?;
        if kept.iter().any(|known| known.head == *head.signed()) {
            return Ok(());
        }
        // Sequences of before a rewind, which a thief may have driven up, count no more.
        for kept in &mut kept {
            let counts = kept.head.verify(self.network, now).is_ok_and(|head| history.has(&head));
            kept.sequence = if counts { kept.sequence } else { 0 };
        }
        let base = rewound.map(|rewound| rewound.base.sequence);
        let newest = kept.iter().map(|kept| kept.sequence).chain(base).max();
        if newest.is_some_and(|newest| head.sequence > newest.saturating_add(MAX_SEQUENCE_STEP)) {
            return Err(Refusal::Invalid);
        }
        let key = [head.account.as_bytes(), &head.sequence.to_be_bytes()[..], hash.as_bytes()].concat();
        let mut value = now.secs().to_le_bytes().to_vec();
        value.extend(head.signed().to_bytes().map_err(|error| failed(&error))?);
        let mut batch = Batch::default();
        batch.put(HEADS, key.clone(), value);
        kept.push(Kept { key, sequence: head.sequence, arrived: now, head: head.signed().clone() });
        kept.sort_by_key(|kept| (kept.arrived, kept.sequence));
        let heads: Vec<_> = kept.iter().map(|kept| (kept.arrived, kept.sequence)).collect();
        if let Some(at) = dispensable(&heads, now) {
            batch.remove(HEADS, kept.swap_remove(at).key);
        }
        self.commit(&batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> UnixTime {
        UnixTime::from_secs(1_000_000 + hours * 3600)
    }

    /// Heads of four days, each the next in sequence.
    fn good() -> Vec<(UnixTime, u64)> {
        (0..4).map(|day| (at(day * 24), 10 + day)).collect()
    }

    /// Adds a burst of heads after these, and gives up what is too many.
    fn burst(heads: &mut Vec<(UnixTime, u64)>, sequence: impl Fn(u64) -> u64) {
        for minute in 0..100 {
            heads.push((UnixTime::from_secs(at(96).secs() + minute * 60), sequence(minute)));
            heads.sort();
            if let Some(out) = dispensable(heads, at(98)) {
                heads.remove(out);
            }
        }
    }

    #[test]
    fn a_burst_of_heads_leaves_the_older_ones_in_place() {
        let mut heads = good();
        burst(&mut heads, |minute| 14 + minute);
        assert_eq!(heads.len(), MAX_HEADS_KEPT);
        assert!(good().iter().all(|head| heads.contains(head)), "{heads:?}");
        assert!(heads.contains(&(UnixTime::from_secs(at(96).secs() + 99 * 60), 113)), "the newest stays");
    }

    #[test]
    fn a_burst_of_low_sequences_leaves_the_good_heads_in_place() {
        let mut heads = good();
        burst(&mut heads, |minute| minute % 12);
        assert!(good().iter().all(|head| heads.contains(head)), "{heads:?}");
    }

    #[test]
    fn the_newest_head_always_stays() {
        let heads: Vec<_> = (0..9).map(|hour| (at(hour), hour)).collect();
        assert!(dispensable(&heads, at(9)).is_some_and(|out| out < 8));
        assert_eq!(dispensable(&heads[..8], at(9)), None);
        // Even if it arrived first, and long ago.
        let heads: Vec<_> = (0..9).map(|hour| (at(hour), 100 - hour)).collect();
        assert!(dispensable(&heads, at(9 + 31 * 24)).is_some_and(|out| out > 0));
    }
}
