//! Records of accounts that are taken in: registrations, mandates, keeps and holder lists.

use std::sync::Arc;

use fincrypt_accounts::{Accounts, AccountsError};
use fincrypt_protocol::record::{HolderList, Keep, Mandate, Registration};
use fincrypt_protocol::shard::Authority;
use fincrypt_protocol::{NodeId, Signed, Verified};
use fincrypt_shards::{ShardStore, StoreError};
use fincrypt_state::kv::Batch;

use parking_lot::Mutex;

use crate::access::{Access, AccessError, Right};
use crate::holdings::{HoldingsError, ShardHoldings};
use crate::mandate_cache::{MandateCache, Pair};

/// Why a record is not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmissionError {
    /// The peer may not bring it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The records are of different accounts.
    #[error("the records are of different accounts")]
    OtherAccount,
    /// Nothing is known or held of the account.
    #[error("nothing is held of the account")]
    UnknownAccount,
    /// The mandate is named by its hash and was not admitted lately.
    #[error("the mandate is not known")]
    UnknownMandate,
    /// What is held could not be read.
    #[error(transparent)]
    Holdings(#[from] HoldingsError),
}

impl From<AccountsError> for AdmissionError {
    fn from(error: AccountsError) -> Self {
        Self::Holdings(error.into())
    }
}

impl From<StoreError> for AdmissionError {
    fn from(error: StoreError) -> Self {
        Self::Holdings(error.into())
    }
}

/// What [`Admissions`] is made of.
pub(crate) struct AdmissionOptions {
    pub(crate) access: Access,
    pub(crate) accounts: Accounts,
    pub(crate) store: ShardStore,
    pub(crate) holdings: ShardHoldings,
}

/// Takes records in; clones share it.
#[derive(Clone)]
pub(crate) struct Admissions(Arc<Inner>);

struct Inner {
    options: AdmissionOptions,
    cache: MandateCache,
    /// Held while a pair is compared with what is known, recorded and remembered: of two that come at
    /// once, the newer one stays.
    admitting: Mutex<()>,
}

/// A registration and a mandate that verify, and whether they are known already.
pub(crate) struct VerifiedPair {
    pub(crate) registration: Verified<Registration>,
    pub(crate) mandate: Verified<Mandate>,
    is_new: bool,
}

impl Admissions {
    pub(crate) fn new(options: AdmissionOptions) -> Self {
        Self(Arc::new(Inner { options, cache: MandateCache::default(), admitting: Mutex::default() }))
    }

    /// Verifies a pair, unless exactly these records were admitted already.
    ///
    /// # Errors
    /// [`AdmissionError::Access`] if a signature does not verify, or a record has expired;
    /// [`AdmissionError::OtherAccount`].
    pub(crate) fn verify(
        &self,
        registration: &Signed<Registration>,
        mandate: &Signed<Mandate>,
    ) -> Result<VerifiedPair, AdmissionError> {
        let access = &self.0.options.access;
        let pair = match self.0.cache.get(registration, mandate, access.now()) {
            Some(Pair { registration, mandate }) => VerifiedPair { registration, mandate, is_new: false },
            None => VerifiedPair {
                registration: access.verify(registration)?,
                mandate: access.verify(mandate)?,
                is_new: true,
            },
        };
        if pair.registration.account != pair.mandate.account {
            return Err(AdmissionError::OtherAccount);
        }
        Ok(pair)
    }

    /// Verifies by what right a mediator puts a shard.
    ///
    /// # Errors
    /// Those of [`Admissions::verify`]; [`AdmissionError::UnknownMandate`].
    pub(crate) fn authorize(&self, authority: &Authority) -> Result<VerifiedPair, AdmissionError> {
        match authority {
            Authority::Shown { registration, mandate } => self.verify(registration, mandate),
            Authority::Known(mandate) => {
                let known = self.0.cache.known(mandate, self.0.options.access.now());
                let Pair { registration, mandate } = known.ok_or(AdmissionError::UnknownMandate)?;
                Ok(VerifiedPair { registration, mandate, is_new: false })
            }
        }
    }

    /// Records a pair durably, unless it is known already.
    ///
    /// # Errors
    /// Those of [`Accounts::admit_registration`] and [`Accounts::admit_mandate`].
    pub(crate) fn admit(&self, pair: &VerifiedPair) -> Result<(), AdmissionError> {
        if !pair.is_new {
            return Ok(());
        }
        let Inner { options, cache, admitting } = &*self.0;
        let _one = admitting.lock();
        let (mut batch, now) = (Batch::default(), options.access.now());
        options.holdings.admit_registration(&pair.registration, now, &mut batch)?;
        options.accounts.admit_mandate(&pair.mandate, now, &mut batch)?;
        options.accounts.commit(&batch)?;
        cache.remember(Pair { registration: pair.registration.clone(), mandate: pair.mandate.clone() });
        Ok(())
    }

    /// Records a mandate, unless a newer one is known; the newest.
    ///
    /// # Errors
    /// [`AdmissionError::UnknownAccount`] if nothing is held for the account.
    pub(crate) fn mandate(
        &self,
        from: NodeId,
        registration: &Signed<Registration>,
        mandate: &Signed<Mandate>,
    ) -> Result<Signed<Mandate>, AdmissionError> {
        let pair = self.verify(registration, mandate)?;
        let AdmissionOptions { access, accounts, store, .. } = &self.0.options;
        let account = pair.mandate.account;
        if pair.mandate.mediator != from && !access.is_owner(&from, &account) {
            return Err(AccessError::NotMandated.into());
        }
        // A node that holds nothing for an account need not know its mediator. One that holds
        // something and does not know the account has lost its state, not its shards.
        if accounts.registration(&account)?.is_none() && store.shard_bytes_of(&account) == 0 {
            return Err(AdmissionError::UnknownAccount);
        }
        match self.admit(&pair) {
            Ok(()) | Err(AdmissionError::Holdings(HoldingsError::Accounts(AccountsError::Superseded))) => {}
            Err(error) => return Err(error),
        }
        let newest = accounts.current_mandate(&account, access.now())?;
        Ok(newest.unwrap_or_else(|| mandate.clone()))
    }

    /// Records a keep. The owner's signature suffices, whichever peer brings it.
    ///
    /// # Errors
    /// [`AdmissionError::UnknownAccount`].
    pub(crate) fn keep(&self, keep: &Signed<Keep>) -> Result<(), AdmissionError> {
        let AdmissionOptions { access, accounts, holdings, .. } = &self.0.options;
        let keep = access.verify(keep)?;
        if accounts.registration(&keep.account)?.is_none() {
            return Err(AdmissionError::UnknownAccount);
        }
        Ok(accounts.keep(&keep, access.now(), || holdings.runs(&keep.account))?)
    }

    /// Records holder lists of segments of which something is held.
    ///
    /// # Errors
    /// [`AdmissionError::Access`]; then none of them is recorded.
    pub(crate) fn holders(&self, from: NodeId, lists: &[Signed<HolderList>]) -> Result<(), AdmissionError> {
        let AdmissionOptions { access, accounts, store, .. } = &self.0.options;
        let (mut batch, mut authorized) = (Batch::default(), None);
        for list in lists {
            let list = access.verify(list)?;
            if list.mediator != from {
                return Err(AccessError::NotMandated.into());
            }
            if authorized != Some(list.account) {
                access.authorize(from, &list.account, Right::Write)?;
                authorized = Some(list.account);
            }
            if store.holds(&list.account, &list.segment)? {
                accounts.admit_holders(&list, &mut batch)?;
            }
        }
        Ok(accounts.commit(&batch)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use fincrypt_net::Sessions;
    use fincrypt_protocol::record::Rights;
    use fincrypt_protocol::{Clock, GuardKey, Network, SigningKey, UnixTime};
    use fincrypt_state::state::State;
    use zeroize::Zeroizing;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
    const ROUNDS: u8 = 24;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([seed; 32]))
    }

    fn admissions(dir: &std::path::Path) -> Admissions {
        let (state, _) = State::open(&dir.join("state")).expect("opens");
        let (store, _) = ShardStore::open(&dir.join("shards"), state.clone(), 1 << 30).expect("opens");
        let accounts = Accounts::new(state, Network::Local);
        let sessions = Arc::new(Sessions::new(Network::Local, key(200).node()));
        let access = Access::new(sessions, accounts.clone(), Clock::manual(NOW));
        let holdings = ShardHoldings::new(store.clone(), accounts.clone());
        Admissions::new(AdmissionOptions { access, accounts, store, holdings })
    }

    fn records(
        owner: &SigningKey,
        mediator: NodeId,
        sequence: u64,
    ) -> (Signed<Registration>, Signed<Mandate>) {
        let (network, account) = (Network::Local, owner.account());
        let guard_key = GuardKey::from_bytes([2; 32]);
        let registration = Registration { network, account, head_key: owner.head_key(), guard_key };
        let mandate = Mandate {
            network,
            account,
            mediator,
            rights: Rights { put: true, audit: true, get: true },
            byte_cap: 1,
            sequence,
            expiry: NOW.plus(Duration::from_secs(3600)),
            max_price: None,
        };
        let registration = Signed::seal(&registration, owner).expect("seals");
        (registration, Signed::seal(&mandate, owner).expect("seals"))
    }

    #[test]
    fn of_two_mandates_that_come_at_once_only_the_newer_one_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let admissions = admissions(dir.path());
        let accounts = &admissions.0.options.accounts;
        let (old, new) = (key(201).node(), key(202).node());
        for round in 0..ROUNDS {
            let owner = key(round);
            let pairs = [(old, 1), (new, 2)].map(|(mediator, sequence)| {
                let (registration, mandate) = records(&owner, mediator, sequence);
                admissions.verify(&registration, &mandate).expect("valid")
            });
            let both = Barrier::new(2);
            std::thread::scope(|scope| {
                for pair in &pairs {
                    scope.spawn(|| {
                        both.wait();
                        // The older one is refused if it comes second.
                        admissions.admit(pair).ok();
                    });
                }
            });
            let known = |mediator| accounts.mandate(&owner.account(), &mediator, NOW).expect("reads");
            assert!(known(new).is_some() && known(old).is_none(), "round {round}");
            let [old, _] = &pairs;
            let remembered = admissions.0.cache.known(&old.mandate.signed().mandate_hash(), NOW);
            assert!(remembered.is_none(), "round {round}");
        }
    }
}
