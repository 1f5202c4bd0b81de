//! Refusals: what a requester of either server is told of each error. Nothing here but this module knows of
//! them.

use fincrypt_protocol::Refusal;

use crate::error::{AccountsError, ReleaseError};

impl From<ReleaseError> for Refusal {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::Guarded => Self::Guarded,
            ReleaseError::Stale => Self::Stale,
            ReleaseError::TooFarAhead | ReleaseError::TooMany | ReleaseError::OtherGuard => Self::Invalid,
        }
    }
}

/// What a requester is told. What failed here is logged here, as it is told nobody else.
impl From<AccountsError> for Refusal {
    fn from(error: AccountsError) -> Self {
        match error {
            AccountsError::State(error) => {
                tracing::error!(%error, "accounts_state_failed");
                Self::Failed
            }
            AccountsError::OtherRegistration => Self::OtherRegistration,
            AccountsError::Superseded => Self::NotMandated,
            AccountsError::TooFarAhead
            | AccountsError::TooManyMandates
            | AccountsError::OtherAccount
            | AccountsError::WrongKey => Self::Invalid,
            AccountsError::Rewound => Self::Rewound,
            AccountsError::OldRewind => Self::Stale,
            AccountsError::Release(error) => error.into(),
        }
    }
}
