//! Refusals: what a requester is told of each error. Failures of this mediator's own are logged.

use fincrypt_protocol::Refusal;

use crate::error::{Interrupted, NoRandomness, StoreError};
use crate::heads::HeadError;
use crate::migration_in::MigrationInError;
use crate::migration_out::MigrationOutError;
use crate::missing_reports::ReportError;
use crate::money::SettlementError;
#[cfg(feature = "bitcoin")]
use crate::money::WithdrawalError;
use crate::outbox::OutboxError;
use crate::prepayment::{AdmitError, PrepaymentError, StatusError};
use crate::shard_transfer::{FetchError, PutError};
use crate::stores::AnnounceError;
use crate::upload::UploadError;

/// Logs a failure of this mediator's own.
pub(super) fn failed(error: &dyn std::error::Error) -> Refusal {
    tracing::error!(%error, "request_failed");
    Refusal::Failed
}

impl From<Interrupted> for Refusal {
    fn from(_: Interrupted) -> Self {
        Self::Failed
    }
}

impl From<NoRandomness> for Refusal {
    fn from(error: NoRandomness) -> Self {
        failed(&error)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::State(error) => failed(&error),
            StoreError::Accounts(error) => error.into(),
            StoreError::Interrupted(error) => error.into(),
        }
    }
}

impl From<AnnounceError> for Refusal {
    fn from(error: AnnounceError) -> Self {
        match error {
            AnnounceError::AllOpen => Self::TooManyOpen,
            AnnounceError::Store(error) => error.into(),
        }
    }
}

impl From<OutboxError> for Refusal {
    fn from(error: OutboxError) -> Self {
        match error {
            OutboxError::Invalid => Self::Invalid,
            OutboxError::UnknownAccount => Self::NotHeld,
            OutboxError::Store(error) => error.into(),
        }
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Invalid => Self::Invalid,
            HeadError::Moved => Self::HeadMoved,
            HeadError::UnknownAccount => Self::NotHeld,
            HeadError::Departed => Self::Dismissed,
            HeadError::TooFewCopies { have, need } => not_stored(have, need),
            HeadError::Store(error) => error.into(),
        }
    }
}

impl From<MigrationInError> for Refusal {
    fn from(error: MigrationInError) -> Self {
        match error {
            MigrationInError::Invalid => Self::Invalid,
            MigrationInError::NotMandated => Self::NotMandated,
            MigrationInError::Departed => Self::Dismissed,
            MigrationInError::Stale => Self::Stale,
            MigrationInError::Store(error) => error.into(),
            MigrationInError::Outbox(error) => error.into(),
        }
    }
}

impl From<MigrationOutError> for Refusal {
    fn from(error: MigrationOutError) -> Self {
        match error {
            MigrationOutError::Invalid => Self::Invalid,
            MigrationOutError::Stale => Self::Stale,
            MigrationOutError::Store(error) => error.into(),
        }
    }
}

impl From<ReportError> for Refusal {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::TooMany => Self::Invalid,
            ReportError::Busy => Self::Busy,
            ReportError::Store(error) => error.into(),
        }
    }
}

impl From<StatusError> for Refusal {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::Store(error) => error.into(),
            StatusError::Contracts(error) => failed(&error),
            StatusError::Cost(error) => failed(&error),
        }
    }
}

impl From<AdmitError> for Refusal {
    fn from(error: AdmitError) -> Self {
        match error {
            AdmitError::Unpaid => Self::Unpaid,
            AdmitError::Status(error) => error.into(),
        }
    }
}

impl From<PrepaymentError> for Refusal {
    fn from(error: PrepaymentError) -> Self {
        match error {
            PrepaymentError::NoWallet => Self::NoWallet,
            PrepaymentError::Insufficient => Self::Insufficient,
            PrepaymentError::Money(error) => error.into(),
            PrepaymentError::Ledger(error) => failed(&error),
            PrepaymentError::Status(error) => error.into(),
        }
    }
}

impl From<SettlementError> for Refusal {
    fn from(error: SettlementError) -> Self {
        match error {
            SettlementError::NoWallet => Self::NoWallet,
            #[cfg(feature = "bitcoin")]
            SettlementError::Withdrawal(error) => error.into(),
            #[cfg(feature = "bitcoin")]
            SettlementError::Treasury(error) => failed(&error),
            SettlementError::State(error) => failed(&error),
            SettlementError::Ledger(error) => failed(&error),
        }
    }
}

#[cfg(feature = "bitcoin")]
impl From<WithdrawalError> for Refusal {
    fn from(error: WithdrawalError) -> Self {
        match error {
            WithdrawalError::Destination => Self::Destination,
            WithdrawalError::Insufficient => Self::Insufficient,
            WithdrawalError::Used => Self::Used,
            WithdrawalError::NoWallet => Self::NoWallet,
            WithdrawalError::Lost | WithdrawalError::Ledger(_) => failed(&error),
        }
    }
}

impl From<PutError> for Refusal {
    fn from(error: PutError) -> Self {
        match error {
            PutError::NoReceipt => Self::Failed,
            PutError::Departed => Self::Dismissed,
            PutError::Refused(refusal) => refusal,
        }
    }
}

impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::NotHeld => Self::NotHeld,
            FetchError::Departed => Self::Dismissed,
            FetchError::Refused(refusal) => refusal,
        }
    }
}

impl From<UploadError> for Refusal {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Invalid => Self::Invalid,
            UploadError::NotMandated => Self::NotMandated,
            UploadError::Conflict => Self::Conflict,
            UploadError::UnknownSegment => Self::UnknownSegment,
            UploadError::Closed => Self::Busy,
            UploadError::TooManyOpen => Self::TooManyOpen,
            UploadError::TooFewPeers { eligible, needed } => {
                Self::TooFewPeers { eligible: peers(eligible), needed: peers(needed) }
            }
            UploadError::Incomplete => Self::Incomplete,
            UploadError::TooFewReceipts { have, need } => not_stored(have, need),
            UploadError::Admit(error) => error.into(),
            UploadError::Announce(error) => error.into(),
            UploadError::Put(error) => error.into(),
            UploadError::Fetch(error) => error.into(),
            UploadError::Erasure(error) => failed(&error),
            UploadError::Store(error) => error.into(),
        }
    }
}

fn peers(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn not_stored(have: usize, need: usize) -> Refusal {
    let count = |value| u8::try_from(value).unwrap_or(u8::MAX);
    Refusal::NotStored { have: count(have), need: count(need) }
}
