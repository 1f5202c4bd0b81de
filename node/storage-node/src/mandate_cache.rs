//! Registrations and mandates that were verified and admitted already, so that the thousand shards
//! of a run have their signatures checked once.

use fincrypt_protocol::record::{Mandate, Registration};
use fincrypt_protocol::{MandateHash, Signed, UnixTime, Verified};
use hashlink::LruCache;
use parking_lot::Mutex;

/// Pairs remembered; at about 2 KiB each, 2 MiB.
const MAX_PAIRS: usize = 1024;

/// A registration and a mandate of its account.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) registration: Verified<Registration>,
    pub(crate) mandate: Verified<Mandate>,
}

/// The pairs, by mandate. The one that was not used for longest gives way: were more forgotten, their
/// mediators would send the next shards twice.
pub(crate) struct MandateCache(Mutex<LruCache<MandateHash, Pair>>);

impl Default for MandateCache {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_PAIRS)))
    }
}

impl MandateCache {
    /// The pair of exactly these records, unless the mandate has expired.
    pub(crate) fn get(
        &self,
        registration: &Signed<Registration>,
        mandate: &Signed<Mandate>,
        now: UnixTime,
    ) -> Option<Pair> {
        let mut pairs = self.0.lock();
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
        pairs.insert(pair.mandate.signed().mandate_hash(), pair);
    }
}
