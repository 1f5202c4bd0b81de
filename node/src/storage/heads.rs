//! The heads kept for an account: the newest always, others spread by arrival over 30 days, so
//! that a thief who writes many heads cannot push the good ones out at once.

use std::time::Duration;

use fincrypt_protocol::limits::{MAX_HEADS_KEPT, MAX_SEQUENCE_STEP};
use fincrypt_protocol::record::{Head, Registration};
use fincrypt_protocol::{AccountId, Refusal, Signed, UnixTime, Verified};
use fincrypt_storage::kv::{Batch, KeyValue, Tree};

use crate::accounts::{Accounts, failed};

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
/// neighbours in time are closest to each other. `arrivals` is in order, the newest last, which
/// always stays.
fn dispensable(arrivals: &[UnixTime], now: UnixTime) -> Option<usize> {
    if arrivals.len() <= MAX_HEADS_KEPT {
        return None;
    }
    let inner = &arrivals[..arrivals.len() - 1];
    if let Some(old) = inner.iter().position(|arrived| now.since(*arrived) > SPREAD) {
        return Some(old);
    }
    let gap = |at: usize| arrivals[at + 1].since(arrivals[at - 1]);
    (1..inner.len()).min_by_key(|at| gap(*at)).or(Some(0))
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
    pub(crate) fn heads(&self, account: &AccountId) -> Result<Vec<Signed<Head>>, Refusal> {
        Ok(self.kept_heads(account)?.into_iter().map(|kept| kept.head).collect())
    }

    /// Keeps a head that its account's registered key signed.
    pub(crate) fn put_head(
        &self,
        registration: &Registration,
        head: &Verified<Head>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        if head.account != registration.account || head.head_key != registration.head_key {
            return Err(Refusal::Invalid);
        }
        let hash = head.signed().head_hash();
        let mut kept = self.kept_heads(&head.account)?;
        if kept.iter().any(|known| known.head == *head.signed()) {
            return Ok(());
        }
        if let Some(newest) = kept.last()
            && head.sequence > newest.sequence.saturating_add(MAX_SEQUENCE_STEP)
        {
            return Err(Refusal::Invalid);
        }
        let key = [head.account.as_bytes(), &head.sequence.to_be_bytes()[..], hash.as_bytes()].concat();
        let mut value = now.secs().to_le_bytes().to_vec();
        value.extend(head.signed().to_bytes().map_err(|error| failed(&error))?);
        let mut batch = Batch::default();
        batch.put(HEADS, key.clone(), value);
        kept.push(Kept { key, sequence: head.sequence, arrived: now, head: head.signed().clone() });
        kept.sort_by(|a, b| a.key.cmp(&b.key));
        let arrivals: Vec<_> = kept.iter().map(|kept| kept.arrived).collect();
        if let Some(at) = dispensable(&arrivals, now) {
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

    #[test]
    fn a_burst_of_heads_leaves_the_older_ones_in_place() {
        let mut arrivals: Vec<_> = (0..4).map(|day| at(day * 24)).collect();
        for minute in 0..100_u64 {
            arrivals.push(UnixTime::from_secs(at(96).secs() + minute * 60));
            if let Some(out) = dispensable(&arrivals, at(98)) {
                arrivals.remove(out);
            }
        }
        assert_eq!(arrivals.len(), MAX_HEADS_KEPT);
        for day in 0..4 {
            assert!(arrivals.contains(&at(day * 24)), "day {day}");
        }
    }

    #[test]
    fn the_newest_head_always_stays() {
        let arrivals: Vec<_> = (0..9).map(at).collect();
        assert!(dispensable(&arrivals, at(9)).is_some_and(|out| out < 8));
        assert_eq!(dispensable(&arrivals[..8], at(9)), None);
    }
}
