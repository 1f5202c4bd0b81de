//! What can go wrong with what is kept of accounts.

use fincrypt_state::kv::KvError;

/// Why something was not recorded, or not read.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The state could not be read or written.
    #[error("the state of accounts failed")]
    State(#[from] KvError),
    /// Another registration of the account came first.
    #[error("another registration of the account is known")]
    OtherRegistration,
    /// A mandate of a higher sequence is known.
    #[error("a newer mandate of the account is known")]
    Superseded,
    /// The account gave mandates of this sequence to as many mediators as it may.
    #[error("the account has too many mandates")]
    TooManyMandates,
    /// The sequence lies further ahead than the record's kind may.
    #[error("the sequence lies too far ahead")]
    TooFarAhead,
    /// The record is of another account than it must be.
    #[error("the record belongs to another account")]
    OtherAccount,
    /// The record is signed by another key than it must be.
    #[error("the record is signed by another key than the account's")]
    WrongKey,
    /// The account was rewound: its former head key counts no more.
    #[error("the account was rewound to another head key")]
    Rewound,
    /// A rewind of at least this sequence is known.
    #[error("a newer rewind of the account is known")]
    OldRewind,
    /// A release or an undo is refused.
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

/// Why a release or an undo is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The account's guard lets no release in.
    #[error("the account's guard refuses releases")]
    Guarded,
    /// One of at least this sequence is known.
    #[error("a newer release or undo is known")]
    Stale,
    /// The sequence lies further ahead of the clock than it may.
    #[error("the sequence lies too far ahead")]
    TooFarAhead,
    /// It names more segments than a release may.
    #[error("too many segments in one release")]
    TooMany,
    /// It is not by the account's guard.
    #[error("the undo is signed by another key than the guard's")]
    OtherGuard,
}
