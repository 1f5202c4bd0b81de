//! What a peer is told when a service refuses or fails. A failure is logged here with its causes, as
//! the peer is not told of them.

use fincrypt_accounts::AccountsError;
use fincrypt_protocol::Refusal;
use fincrypt_shards::StoreError;

use crate::access::AccessError;
use crate::admissions::AdmissionError;
use crate::countersigning::CountersignError;
use crate::counting::CountError;
use crate::credit::CreditError;
use crate::deletion::DeletionError;
use crate::earnings::EarningsError;
use crate::heads::HeadError;
use crate::holdings::HoldingsError;
use crate::intake::IntakeError;
use crate::payouts::PayoutError;
use crate::proofs::ProofError;
use crate::reads::ReadError;

/// Logs a failure with its causes, and refuses.
pub(super) fn failed(error: &dyn std::error::Error) -> Refusal {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    tracing::error!(error = %text, "storage_request_failed");
    Refusal::Failed
}

fn store(error: &StoreError) -> Refusal {
    match error {
        StoreError::Full { .. } => Refusal::Full,
        StoreError::Conflict => Refusal::Conflict,
        error => failed(error),
    }
}

fn accounts(error: AccountsError) -> Refusal {
    error.into()
}

impl From<HoldingsError> for Refusal {
    fn from(error: HoldingsError) -> Self {
        match error {
            HoldingsError::Store(error) => store(&error),
            HoldingsError::Accounts(error) => accounts(error),
        }
    }
}

impl From<AccessError> for Refusal {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::NotMandated => Self::NotMandated,
            AccessError::BadLogin => Self::BadLogin,
            AccessError::OtherRegistration => Self::OtherRegistration,
            AccessError::Record(_) => Self::Invalid,
            AccessError::Accounts(error) => accounts(error),
        }
    }
}

impl From<AdmissionError> for Refusal {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::Access(error) => error.into(),
            AdmissionError::OtherAccount => Self::Invalid,
            AdmissionError::UnknownAccount => Self::NotHeld,
            AdmissionError::UnknownMandate => Self::UnknownMandate,
            AdmissionError::Holdings(error) => error.into(),
        }
    }
}

impl From<EarningsError> for Refusal {
    fn from(error: EarningsError) -> Self {
        failed(&error)
    }
}

impl From<CreditError> for Refusal {
    fn from(error: CreditError) -> Self {
        match error {
            CreditError::Bound => Self::CreditBound,
            CreditError::Earnings(error) => error.into(),
        }
    }
}

impl From<IntakeError> for Refusal {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::NotMandated => Self::NotMandated,
            IntakeError::Inconsistent => Self::Invalid,
            IntakeError::Full => Self::Full,
            IntakeError::OtherPositionHeld | IntakeError::OtherPosition(_) => Self::Conflict,
            IntakeError::WrongShard(_) => Self::WrongShard,
            IntakeError::Admission(error) => error.into(),
            IntakeError::Credit(error) => error.into(),
            IntakeError::Store(error) => store(&error),
            IntakeError::Accounts(error) => accounts(error),
            IntakeError::Receipt(error) => failed(&error),
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Access(error) => error.into(),
            ReadError::NotHeld => Self::NotHeld,
            ReadError::Store(error) => store(&error),
            ReadError::Accounts(error) => accounts(error),
        }
    }
}

impl From<CountError> for Refusal {
    fn from(error: CountError) -> Self {
        match error {
            CountError::Earnings(error) => error.into(),
            CountError::Accounts(error) => accounts(error),
            CountError::Store(error) => failed(&error),
        }
    }
}

impl From<ProofError> for Refusal {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::TooMuch => Self::Invalid,
            ProofError::Access(error) => error.into(),
            ProofError::Store(error) => store(&error),
            ProofError::Count(error) => error.into(),
        }
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Access(error) => error.into(),
            HeadError::UnknownAccount => Self::NotHeld,
            HeadError::Rewind(_) => Self::Invalid,
            HeadError::Accounts(error) => accounts(error),
        }
    }
}

impl From<DeletionError> for Refusal {
    fn from(error: DeletionError) -> Self {
        match error {
            DeletionError::Access(error) => error.into(),
            DeletionError::UnknownAccount => Self::NotHeld,
            DeletionError::Holdings(error) => error.into(),
            DeletionError::Earnings(error) => error.into(),
        }
    }
}

impl From<CountersignError> for Refusal {
    fn from(error: CountersignError) -> Self {
        match error {
            CountersignError::OtherRelation | CountersignError::Terms(_) => Self::Invalid,
            CountersignError::Accounts(error) => accounts(error),
            CountersignError::Earnings(error) => error.into(),
        }
    }
}

impl From<PayoutError> for Refusal {
    fn from(error: PayoutError) -> Self {
        match error {
            PayoutError::Parts { .. } | PayoutError::UnknownContracts => Self::Invalid,
            PayoutError::TooMany => Self::Busy,
            PayoutError::Earnings(error) => error.into(),
        }
    }
}
