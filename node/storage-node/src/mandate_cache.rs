//! Registrations and mandates that were verified and admitted already, so that the thousand shards
//! of a run have their signatures checked once.

use parking_lot::Mutex;
use std::collections::HashMap;

use fincrypt_protocol::record::{Mandate, Registration};
use fincrypt_protocol::{MandateHash, Signed, UnixTime, Verified};

/// Pairs remembered; at about 2 KiB each, 2 MiB.
const MAX_PAIRS: usize = 1024;

type Pair = (Verified<Registration>, Verified<Mandate>);

/// The pairs, by mandate.
#[derive(Default)]
pub(super) struct Admitted(Mutex<HashMap<MandateHash, Pair>>);

impl Admitted {
    /// The pair of exactly these records, unless the mandate has expired.
    pub(super) fn get(
        &self,
        registration: &Signed<Registration>,
        mandate: &Signed<Mandate>,
        now: UnixTime,
    ) -> Option<Pair> {
        let pairs = self.0.lock();
        let (known, given) = pairs.get(&mandate.mandate_hash())?;
        let same = known.signed() == registration && given.signed() == mandate && given.expiry > now;
        same.then(|| (known.clone(), given.clone()))
    }

    /// Remembers a pair that was committed, and forgets what it supersedes: older mandates of the
    /// account, to whomever, and others to this mediator.
    pub(super) fn remember(&self, registration: Verified<Registration>, mandate: Verified<Mandate>) {
        let mut pairs = self.0.lock();
        pairs.retain(|_, (_, known)| {
            known.account != mandate.account
                || (known.mediator != mandate.mediator && known.sequence >= mandate.sequence)
        });
        if pairs.len() >= MAX_PAIRS {
            pairs.clear();
        }
        pairs.insert(mandate.signed().mandate_hash(), (registration, mandate));
    }
}
