//! Two statements of one epoch under one key: proof that its owner lies to somebody.

use fincrypt_protocol::cbor::{self, CborError};
use fincrypt_protocol::statement::{Countersigned, Statement};
use fincrypt_protocol::{Epoch, Network, NodeId, RecordError, Signed, Verified};
use serde::{Deserialize, Serialize};

/// What two contradictory statements are signed by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signers {
    /// The mediator alone: two proposals.
    Mediator(Signed<Statement>, Signed<Statement>),
    /// Mediator and storage node.
    Both(Countersigned, Countersigned),
}

/// Not a proof of anything.
#[derive(Debug, thiserror::Error)]
pub enum NoContradiction {
    /// A signature does not verify.
    #[error("a signature does not verify")]
    Record(#[from] RecordError),
    /// The two are equal, or of different contracts or epochs.
    #[error("the two statements do not contradict each other")]
    Agree,
}

/// Proof of contradictory signatures, which anybody can check.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("epoch {}: {mediator} signed two different statements of it", epoch.number())]
pub struct Contradiction {
    epoch: Epoch,
    mediator: NodeId,
    storage: Option<NodeId>,
    signers: Signers,
}

fn contradict(first: &Statement, second: &Statement) -> bool {
    first.contract == second.contract
        && first.mediator == second.mediator
        && first.storage == second.storage
        && first.epoch == second.epoch
        && first != second
}

impl Contradiction {
    /// Checks a proof.
    ///
    /// # Errors
    /// [`NoContradiction`] if it is none.
    pub fn new(signers: Signers, network: Network) -> Result<Self, NoContradiction> {
        let (first, second, both) = match &signers {
            Signers::Mediator(first, second) => {
                let first = first.verify_proposal(network)?.into_body();
                (first, second.verify_proposal(network)?.into_body(), false)
            }
            Signers::Both(first, second) => {
                let (first, second) = (first.verify(network)?, second.verify(network)?);
                (Statement::clone(&first), Statement::clone(&second), true)
            }
        };
        if !contradict(&first, &second) {
            return Err(NoContradiction::Agree);
        }
        let storage = both.then_some(first.storage);
        Ok(Self { epoch: first.epoch, mediator: first.mediator, storage, signers })
    }

    /// The proof that two verified proposals are, if they contradict each other.
    pub(super) fn between(first: &Verified<Statement>, second: &Verified<Statement>) -> Option<Box<Self>> {
        contradict(first, second).then(|| {
            let signers = Signers::Mediator(first.signed().clone(), second.signed().clone());
            Box::new(Self { epoch: first.epoch, mediator: first.mediator, storage: None, signers })
        })
    }

    /// The epoch that was stated twice.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The mediator, which signed both.
    #[must_use]
    pub fn mediator(&self) -> NodeId {
        self.mediator
    }

    /// The storage node, if it signed both as well.
    #[must_use]
    pub fn storage(&self) -> Option<NodeId> {
        self.storage
    }

    /// The proof as it is kept and shown to others; [`Contradiction::new`] reads it.
    #[must_use]
    pub fn signers(&self) -> &Signers {
        &self.signers
    }

    /// The proof as text, to be handed on: the CBOR of its [`Signers`] in hexadecimal.
    ///
    /// # Errors
    /// Never for one of ours; the encoder's refusal otherwise.
    pub fn to_hex(&self) -> Result<String, CborError> {
        Ok(hex::encode(cbor::encode(&self.signers)?))
    }
}
