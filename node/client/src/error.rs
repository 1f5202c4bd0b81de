//! Why a use case failed: the sum of the domains' errors. Each domain says what failed beside its code;
//! what a person can do about it is said where there is a person, in the command line.

use fincrypt_net::{CallError, ConnectError, EngineError, IdentityError};
use fincrypt_protocol::RecordError;
use fincrypt_state::kv::KvError;
use fincrypt_vault::keyfile::KeyfileError;
use fincrypt_vault::words::WordsError;

use crate::backup::error::BackupError;
use crate::head::error::HeadError;
use crate::home::HomeError;
use crate::mediator_client::error::{MediatorError, OfferError, Refused};
use crate::pipeline::PipelineError;
use crate::prepayment::error::PrepaymentError;
use crate::reader::error::ReadError;
use crate::recover::error::RecoveryError;
use crate::restore::error::RestoreError;
use crate::segment_reader::SegmentReadError;
use crate::session::error::SessionError;
use crate::vault_state::VaultStateError;

/// A client's command failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The home, the vault in it or its local state.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The swarm could not be joined.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The mediator: which one, whether it answers, and what it refuses.
    #[error(transparent)]
    Mediator(#[from] MediatorError),
    /// The vault's head and who else writes it.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// What is stored cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something was not stored.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The target of a restore.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// What was looked for with the words.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A record of our own could not be made, or one of another's does not verify.
    #[error("a record could not be made: {0}")]
    Record(#[from] RecordError),
    /// A part of the program stopped.
    #[error("an inner part stopped unexpectedly")]
    Inner,
}

macro_rules! through {
    ($($variant:ident: $($error:ty),+;)*) => {$($(
        impl From<$error> for ClientError {
            fn from(error: $error) -> Self {
                Self::$variant(error.into())
            }
        }
    )+)*};
}
through! {
    Home: KvError, KeyfileError, WordsError;
    Session: ConnectError, EngineError, IdentityError;
    Mediator: CallError, OfferError, PrepaymentError;
    Head: fincrypt_vault::head::HeadError;
    Read: SegmentReadError;
    Backup: PipelineError;
}

impl From<VaultStateError> for ClientError {
    fn from(error: VaultStateError) -> Self {
        match error {
            VaultStateError::OlderHead { found, known } => HeadError::RolledBack { found, known }.into(),
            other => HomeError::from(other).into(),
        }
    }
}

impl ClientError {
    /// Why the mediator refused a request, if it did and that is something to act on.
    pub(crate) fn refused(&self) -> Option<Refused> {
        match self {
            Self::Mediator(error) => error.refused(),
            _ => None,
        }
    }
}
