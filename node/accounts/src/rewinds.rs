//! Rewinds: which key signs an account's heads and releases, as storage nodes and mediators know it.

use fincrypt_protocol::limits::MAX_REWOUND;
use fincrypt_protocol::record::{Head, Registration};
use fincrypt_protocol::{
    AccountId, HeadHash, HeadKey, Refusal, Rewound, UnixTime, Verified, VerifiedRewound, cbor,
};
use fincrypt_state::kv::{Batch, KeyValue, Tree};

use crate::accounts::{Accounts, failed};

/// `account` → the newest rewind and its head.
const REWINDS: Tree = Tree("rewinds");

/// Which heads count: those of the account's key, and the one that its rewind names.
pub struct Lineage {
    key: HeadKey,
    base: Option<HeadHash>,
}

impl Lineage {
    /// That of an account which was rewound last as told.
    pub fn of(registration: &Registration, rewound: Option<&VerifiedRewound>) -> Self {
        match rewound {
            Some(known) => Self { key: known.rewind.head_key, base: Some(known.rewind.base) },
            None => Self { key: registration.head_key, base: None },
        }
    }

    /// Whether a head counts.
    pub fn has(&self, head: &Verified<Head>) -> bool {
        head.head_key == self.key || self.base == Some(head.signed().head_hash())
    }
}

impl Accounts {
    /// The newest rewind of an account, as it was verified when it was kept.
    pub fn rewound(&self, account: &AccountId) -> Result<Option<Rewound>, Refusal> {
        let bytes = self.state.get(REWINDS, account.as_bytes()).map_err(|error| failed(&error))?;
        bytes.map(|bytes| cbor::decode(&bytes, MAX_REWOUND).map_err(|error| failed(&error))).transpose()
    }

    /// The same, with what it says.
    pub fn rewind(&self, registration: &Registration) -> Result<Option<VerifiedRewound>, Refusal> {
        let rewound = self.rewound(&registration.account)?;
        let verify =
            |rewound: Rewound| rewound.verify(self.network, &registration.guard_key, UnixTime::now());
        rewound.map(|rewound| verify(rewound).map_err(|error| failed(&error))).transpose()
    }

    /// Refuses a head or release that the account's head key of now has not signed.
    pub fn check_head_key(&self, registration: &Registration, signer: HeadKey) -> Result<(), Refusal> {
        match self.rewind(registration)? {
            Some(known) if known.rewind.head_key == signer => Ok(()),
            Some(_) => Err(Refusal::Rewound),
            None if signer == registration.head_key => Ok(()),
            None => Err(Refusal::Invalid),
        }
    }

    /// Takes a rewind that is newer than the known one; whether it is new.
    pub fn admit_rewind(
        &self,
        registration: &Registration,
        new: &VerifiedRewound,
        batch: &mut Batch,
    ) -> Result<bool, Refusal> {
        if new.rewind.account != registration.account {
            return Err(Refusal::Invalid);
        }
        if let Some(known) = self.rewind(registration)? {
            if known.rewind.signed() == new.rewind.signed() {
                return Ok(false);
            }
            if known.rewind.sequence >= new.rewind.sequence {
                return Err(Refusal::Stale);
            }
        }
        let bytes = cbor::encode(&new.rewound()).map_err(|error| failed(&error))?;
        batch.put(REWINDS, *registration.account.as_bytes(), bytes);
        Ok(true)
    }
}
