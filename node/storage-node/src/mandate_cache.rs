//! Registrations and mandates that were verified and admitted already, so that the thousand shards
//! of a run have their signatures checked once.

use parking_lot::Mutex;
use std::collections::HashMap;

use fincrypt_protocol::record::{Mandate, Registration};
use fincrypt_protocol::{MandateHash, Signed, UnixTime, Verified};

/// Pairs remembered; at about 2 KiB each, 2 MiB.
const MAX_PAIRS: usize = 1024;

/// A registration and a mandate of its account.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) registration: Verified<Registration>,
    pub(crate) mandate: Verified<Mandate>,
}

/// The pairs, by mandate.
#[derive(Default)]
pub(crate) struct MandateCache(Mutex<HashMap<MandateHash, Pair>>);

impl MandateCache {
    /// The pair of exactly these records, unless the mandate has expired.
    pub(crate) fn get(
        &self,
        registration: &Signed<Registration>,
        mandate: &Signed<Mandate>,
        now: UnixTime,
    ) -> Option<Pair> {
        let pairs = self.0.lock();
        let known = pairs.get(&mandate.mandate_hash())?;
        let same = known.registration.signed() == registration
            && known.mandate.signed() == mandate
            && known.mandate.expiry > now;
        same.then(|| known.clone())
    }

    /// The pair of this mandate, unless it has expired.
    pub(crate) fn known(&self, mandate: &MandateHash, now: UnixTime) -> Option<Pair> {
        self.0.lock().get(mandate).filter(|known| known.mandate.expiry > now).cloned()
    }

    /// Remembers a pair that was committed, and forgets what it supersedes: older mandates of the
    /// account, to any mediator, and others to this mediator.
    pub(crate) fn remember(&self, pair: Pair) {
        let mut pairs = self.0.lock();
        pairs.retain(|_, Pair { mandate: known, .. }| {
            known.account != pair.mandate.account
                || (known.mediator != pair.mandate.mediator && known.sequence >= pair.mandate.sequence)
        });
        // Any one gives way: were all forgotten, their mediators would send the next shards twice.
        if pairs.len() >= MAX_PAIRS
            && let Some(other) = pairs.keys().next().copied()
        {
            pairs.remove(&other);
        }
        pairs.insert(pair.mandate.signed().mandate_hash(), pair);
    }
}
