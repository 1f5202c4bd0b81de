//! Rewinds: which key signs an account's heads and releases, as storage nodes and mediators know it.

use fincrypt_protocol::limits::MAX_REWOUND;
use fincrypt_protocol::record::{Head, Registration, Rewind};
use fincrypt_protocol::{AccountId, HeadHash, HeadKey, Rewound, Verified, VerifiedRewound};
use fincrypt_state::kv::Batch;
use fincrypt_state::table::Table;
use serde::{Deserialize, Serialize};

use crate::accounts::Accounts;
use crate::error::AccountsError;
use crate::stored::Stored;

/// `account` → the newest rewind and its head.
const REWINDS: Table<AccountId, StoredRewind> = Table::new("rewinds", MAX_REWOUND);

/// A rewind and the head that it names, verified before they were stored.
#[derive(Serialize, Deserialize)]
struct StoredRewind {
    rewind: Stored<Rewind>,
    base: Stored<Head>,
}

/// Which heads count: those of the account's key, and the one that its rewind names.
pub struct HeadAuthority {
    key: HeadKey,
    base: Option<HeadHash>,
}

impl HeadAuthority {
    /// The authority of an account with this registration and newest rewind.
    pub fn of(registration: &Registration, rewound: Option<&VerifiedRewound>) -> Self {
        match rewound {
            Some(known) => Self { key: known.rewind.head_key, base: Some(known.rewind.base) },
            None => Self { key: registration.head_key, base: None },
        }
    }

    /// Whether a head counts.
    pub fn accepts(&self, head: &Verified<Head>) -> bool {
        head.head_key == self.key || self.base == Some(head.signed().head_hash())
    }
}

impl Accounts {
    /// The newest rewind of an account.
    ///
    /// # Errors
    /// [`AccountsError::State`].
    pub fn rewind(&self, account: &AccountId) -> Result<Option<VerifiedRewound>, AccountsError> {
        let known = REWINDS.get(&self.state, account)?;
        Ok(known.map(|known| VerifiedRewound { rewind: known.rewind.0, base: known.base.0 }))
    }

    /// The same, as it travels.
    ///
    /// # Errors
    /// [`AccountsError::State`].
    pub fn rewound(&self, account: &AccountId) -> Result<Option<Rewound>, AccountsError> {
        Ok(self.rewind(account)?.map(|known| known.rewound()))
    }

    /// Refuses a head or release that is not signed by the account's present head key.
    ///
    /// # Errors
    /// [`AccountsError::Rewound`] for a former key, [`AccountsError::WrongKey`].
    pub fn check_head_key(&self, registration: &Registration, signer: HeadKey) -> Result<(), AccountsError> {
        match self.rewind(&registration.account)? {
            Some(known) if known.rewind.head_key == signer => Ok(()),
            Some(_) => Err(AccountsError::Rewound),
            None if signer == registration.head_key => Ok(()),
            None => Err(AccountsError::WrongKey),
        }
    }

    /// Adds a rewind that is newer than the known one to the batch; whether it is new.
    ///
    /// # Errors
    /// [`AccountsError::OldRewind`], or [`AccountsError::OtherAccount`] or [`AccountsError::WrongKey`] if it
    /// is not this registration's.
    pub fn admit_rewind(
        &self,
        registration: &Registration,
        new: &VerifiedRewound,
        batch: &mut Batch,
    ) -> Result<bool, AccountsError> {
        if new.rewind.account != registration.account {
            return Err(AccountsError::OtherAccount);
        }
        if new.rewind.guard_key != registration.guard_key {
            return Err(AccountsError::WrongKey);
        }
        if let Some(known) = self.rewind(&registration.account)? {
            if known.rewind.signed() == new.rewind.signed() {
                return Ok(false);
            }
            if known.rewind.sequence >= new.rewind.sequence {
                return Err(AccountsError::OldRewind);
            }
        }
        let stored = StoredRewind { rewind: Stored(new.rewind.clone()), base: Stored(new.base.clone()) };
        REWINDS.put(batch, &registration.account, &stored)?;
        Ok(true)
    }
}
