//! Records of accounts that are taken in: registrations, mandates, keeps and holder lists.

use std::sync::Arc;

use fincrypt_accounts::{Accounts, AccountsError};
use fincrypt_protocol::record::{HolderList, Keep, Mandate, Registration};
use fincrypt_protocol::shard::Authority;
use fincrypt_protocol::{NodeId, Signed, Verified};
use fincrypt_shards::{ShardStore, StoreError};
use fincrypt_state::kv::Batch;

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
}

/// A registration and a mandate that verify, and whether they are known already.
pub(crate) struct VerifiedPair {
    pub(crate) registration: Verified<Registration>,
    pub(crate) mandate: Verified<Mandate>,
    is_new: bool,
}

impl Admissions {
    pub(crate) fn new(options: AdmissionOptions) -> Self {
        Self(Arc::new(Inner { options, cache: MandateCache::default() }))
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
        let Inner { options, cache } = &*self.0;
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
