//! Heads of vaults, kept for their owners, and rewinds of them.

use fincrypt_accounts::releases::Releases;
use fincrypt_accounts::{Accounts, AccountsError};
use fincrypt_protocol::record::{Head, Registration};
use fincrypt_protocol::{AccountId, NodeId, RecordError, Rewound, Signed};
use fincrypt_state::kv::Batch;

use crate::access::{Access, AccessError, Right};

/// Why a head or a rewind is not taken in or given out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    /// The peer may not do this.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The account is not known.
    #[error("the account is not known")]
    UnknownAccount,
    /// The rewind does not verify.
    #[error("the rewind does not verify")]
    Rewind(#[source] RecordError),
    /// Accounts could not be read or changed, or refuse it.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
}

/// The heads of an account, and its newest rewind.
pub(crate) struct KnownHeads {
    pub(crate) heads: Vec<Signed<Head>>,
    pub(crate) rewound: Option<Rewound>,
}

/// Keeps heads.
pub(crate) struct Heads {
    access: Access,
    accounts: Accounts,
    releases: Releases,
}

impl Heads {
    pub(crate) fn new(access: Access, accounts: Accounts, releases: Releases) -> Self {
        Self { access, accounts, releases }
    }

    /// Records a head of an account that is known.
    ///
    /// # Errors
    /// [`HeadError`].
    pub(crate) fn put(
        &self,
        from: NodeId,
        registration: &Signed<Registration>,
        head: &Signed<Head>,
    ) -> Result<(), HeadError> {
        let (registration, head) = (self.access.verify(registration)?, self.access.verify(head)?);
        self.access.authorize(from, &registration.account, Right::Write)?;
        let known = self.accounts.registration(&registration.account)?.ok_or(HeadError::UnknownAccount)?;
        if *known != *registration {
            return Err(AccessError::OtherRegistration.into());
        }
        Ok(self.accounts.put_head(&known, &head, self.access.now())?)
    }

    /// The heads kept for an account.
    ///
    /// # Errors
    /// [`HeadError`].
    pub(crate) fn get(&self, from: NodeId, account: &AccountId) -> Result<KnownHeads, HeadError> {
        self.access.authorize(from, account, Right::Read)?;
        Ok(KnownHeads { heads: self.accounts.heads(account)?, rewound: self.accounts.rewound(account)? })
    }

    /// Records a rewind. The guard's signature suffices, whichever peer brings it.
    ///
    /// # Errors
    /// [`HeadError`].
    pub(crate) fn rewind(&self, rewound: &Rewound) -> Result<(), HeadError> {
        let account = self.access.verify(&rewound.rewind)?.account;
        let known = self.accounts.registration(&account)?.ok_or(HeadError::UnknownAccount)?;
        let verified = rewound.verify(self.accounts.network, &known.guard_key, self.access.now());
        let mut batch = Batch::default();
        if self.accounts.admit_rewind(&known, &verified.map_err(HeadError::Rewind)?, &mut batch)? {
            // Before the rewind is recorded: repeated after a crash, it must be new again.
            self.releases.void(&account)?;
            self.accounts.commit(&batch)?;
        }
        Ok(())
    }
}
