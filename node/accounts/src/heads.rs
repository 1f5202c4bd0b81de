//! The heads kept for an account: the newest always, others spread by arrival over 30 days, so
//! that a thief who writes many heads cannot push the good ones out at once.

use std::time::Duration;

use fincrypt_protocol::limits::{MAX_HEADS_KEPT, MAX_SEQUENCE_STEP};
use fincrypt_protocol::record::{Head, Registration};
use fincrypt_protocol::{AccountId, HeadHash, Signed, UnixTime, Verified};
use fincrypt_state::kv::Batch;
use fincrypt_state::table::Table;

use crate::accounts::Accounts;
use crate::error::AccountsError;
use crate::rewinds::HeadAuthority;
use crate::stored::{Stored, stored_limit};

/// `(account, sequence, hash)`.
type HeadPlace = (AccountId, u64, HeadHash);

/// Each head and when it arrived.
const HEADS: Table<HeadPlace, (UnixTime, Stored<Head>)> = Table::new("heads", stored_limit::<Head>() + 16);

/// How long an older head is worth a place.
const SPREAD: Duration = Duration::from_secs(30 * 24 * 3600);

struct KeptHead {
    key: HeadPlace,
    /// Its sequence; 0 if it counts no more.
    sequence: u64,
    arrived: UnixTime,
    head: Verified<Head>,
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
    fn kept_heads(&self, account: &AccountId) -> Result<Vec<KeptHead>, AccountsError> {
        let entries = HEADS.scan(&self.state, account, None, 4 * MAX_HEADS_KEPT)?;
        let read = |(key, (arrived, Stored(head))): (HeadPlace, (UnixTime, Stored<Head>))| KeptHead {
            key,
            sequence: key.1,
            arrived,
            head,
        };
        Ok(entries.into_iter().map(read).collect())
    }

    /// The heads kept for an account, oldest sequence first.
    ///
    /// # Errors
    /// [`AccountsError::State`].
    pub fn heads(&self, account: &AccountId) -> Result<Vec<Signed<Head>>, AccountsError> {
        Ok(self.kept_heads(account)?.into_iter().map(|kept| kept.head.signed().clone()).collect())
    }

    /// Records a head that its account's present head key signed.
    ///
    /// # Errors
    /// Those of [`Self::check_head_key`], [`AccountsError::OtherAccount`], or [`AccountsError::TooFarAhead`]
    /// if its sequence skips too many.
    pub fn put_head(
        &self,
        registration: &Registration,
        head: &Verified<Head>,
        now: UnixTime,
    ) -> Result<(), AccountsError> {
        if head.account != registration.account {
            return Err(AccountsError::OtherAccount);
        }
        self.check_head_key(registration, head.head_key)?;
        let rewound = self.rewind(&registration.account)?;
        let authority = HeadAuthority::of(registration, rewound.as_ref());
        let mut kept = self.kept_heads(&head.account)?;
        if kept.iter().any(|known| known.head.signed() == head.signed()) {
            return Ok(());
        }
        // Sequences of before a rewind, which a thief may have driven up, count no more.
        for kept in &mut kept {
            kept.sequence = if authority.accepts(&kept.head) { kept.sequence } else { 0 };
        }
        let base = rewound.map(|rewound| rewound.base.sequence);
        let newest = kept.iter().map(|kept| kept.sequence).chain(base).max();
        if newest.is_some_and(|newest| head.sequence > newest.saturating_add(MAX_SEQUENCE_STEP)) {
            return Err(AccountsError::TooFarAhead);
        }
        let key = (head.account, head.sequence, head.signed().head_hash());
        let mut batch = Batch::default();
        HEADS.put(&mut batch, &key, &(now, Stored(head.clone())))?;
        kept.push(KeptHead { key, sequence: head.sequence, arrived: now, head: head.clone() });
        kept.sort_by_key(|kept| (kept.arrived, kept.sequence));
        let heads: Vec<_> = kept.iter().map(|kept| (kept.arrived, kept.sequence)).collect();
        if let Some(at) = dispensable(&heads, now) {
            HEADS.remove(&mut batch, &kept.swap_remove(at).key);
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
