//! Why a mediator did not do what it was asked. Here alone a refusal, as it travels, becomes what it
//! means for a client.

use fincrypt_net::{CallError, ConnectError, shown};
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::{Network, NodeId, Refusal};

use crate::prepayment::error::PrepaymentError;

/// The mediator: which one, whether it answers, and what it refuses.
#[derive(Debug, thiserror::Error)]
pub enum MediatorError {
    /// No mediator was found.
    #[error("no mediator answers in network {0}")]
    NotFound(Network),
    /// What was given is no mediator.
    #[error("{0:?} is neither a peer id nor an address")]
    NotAMediator(String),
    /// The vault's mediator does not answer.
    #[error("the vault's mediator {} does not answer ({reason})", shown(.node))]
    Gone {
        /// The mediator.
        node: NodeId,
        /// What happened.
        reason: String,
    },
    /// The vault's mediator has not answered for long.
    #[error("the vault's mediator {} has not answered for {days} days", shown(.node))]
    Lost {
        /// The mediator.
        node: NodeId,
        /// Since when it was last seen.
        days: u64,
    },
    /// The mediator has been dismissed, by another device of the vault.
    #[error("the vault has moved away from mediator {}, and storage does not tell where to", shown(.0))]
    Dismissed(NodeId),
    /// What it offers is not enough.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// It refuses something about money.
    #[error(transparent)]
    Prepayment(#[from] PrepaymentError),
    /// It refuses, for a reason that a client acts on.
    #[error("node {} refused: {reason}", shown(.node))]
    Refused {
        /// The mediator.
        node: NodeId,
        /// Its reason.
        reason: Refused,
    },
    /// The request failed in another way.
    #[error(transparent)]
    Call(CallError),
}

/// What the mediator offers is not what a run needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Too few storage nodes.
    #[error(
        "{eligible} storage nodes qualify, at least {needed} are needed: {missing} more must join before anything can be stored"
    )]
    TooFewNodes {
        /// Those that qualify.
        eligible: u16,
        /// The fewest that would do.
        needed: u16,
        /// How many are missing.
        missing: u16,
    },
    /// Less redundancy than was asked for.
    #[error(
        "the mediator offers {data} of {total} shards, which is less than the redundancy asked for: nothing was stored"
    )]
    LowRedundancy {
        /// Data shards.
        data: u8,
        /// All shards.
        total: u8,
    },
    /// Storage is dearer than the limit.
    #[error("storage costs {price}, more than the limit of {most}, and nothing was stored")]
    TooDear {
        /// What it costs.
        price: Price,
        /// What is paid at most.
        most: Price,
    },
}

/// A reason to refuse that a client acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another device has given a newer mandate.
    #[error("no valid mandate for this")]
    NotMandated,
    /// The segment was released, or a mediator that started again has forgotten it.
    #[error("the segment is unknown")]
    UnknownSegment,
    /// A storage node has lost what it had signed for.
    #[error("data shards are missing")]
    Incomplete,
    /// Another device's head came first.
    #[error("the head has changed meanwhile")]
    HeadMoved,
    /// An undo forbids releases.
    #[error("the account is guarded: its releases were undone with the 24 words, which alone can lift this")]
    Guarded,
    /// A record of a higher sequence is known.
    #[error("a newer record is known already")]
    Stale,
    /// The vault has another mediator now.
    #[error("the vault has moved to another mediator")]
    Dismissed,
    /// The words have given the vault another head key.
    #[error("the vault was rewound with its 24 words, and this machine's keys are of before")]
    Rewound,
}

impl From<CallError> for MediatorError {
    fn from(error: CallError) -> Self {
        let CallError::Refused { node, refusal } = error else { return Self::Call(error) };
        let refused = |reason| Self::Refused { node, reason };
        match refusal {
            Refusal::TooFewPeers { eligible, needed } => {
                let missing = needed.saturating_sub(eligible);
                OfferError::TooFewNodes { eligible, needed, missing }.into()
            }
            Refusal::Unpaid => PrepaymentError::UsedUp.into(),
            Refusal::NoWallet => PrepaymentError::NoWallet.into(),
            Refusal::Destination => PrepaymentError::Destination.into(),
            Refusal::Insufficient => PrepaymentError::TooLittle.into(),
            Refusal::Used => PrepaymentError::InvoiceUsed.into(),
            Refusal::NotMandated => refused(Refused::NotMandated),
            Refusal::UnknownSegment => refused(Refused::UnknownSegment),
            Refusal::Incomplete => refused(Refused::Incomplete),
            Refusal::HeadMoved => refused(Refused::HeadMoved),
            Refusal::Guarded => refused(Refused::Guarded),
            Refusal::Stale => refused(Refused::Stale),
            Refusal::Dismissed => refused(Refused::Dismissed),
            Refusal::Rewound => refused(Refused::Rewound),
            _ => Self::Call(error),
        }
    }
}

impl From<ConnectError> for MediatorError {
    fn from(error: ConnectError) -> Self {
        Self::Call(error.into())
    }
}

impl MediatorError {
    /// Why it refused, if it did and that is something to act on.
    pub(crate) fn refused(&self) -> Option<Refused> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    /// Whether the mediator has answered, with a refusal.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Self::Offer(_) | Self::Prepayment(_) | Self::Refused { .. } => true,
            Self::Call(error) => error.refusal().is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(refusal: Refusal) -> MediatorError {
        CallError::Refused { node: NodeId::from_bytes([7; 32]), refusal }.into()
    }

    #[test]
    fn a_refusal_that_a_client_acts_on_is_told_apart_and_says_who_refused() {
        let moved = refusal(Refusal::HeadMoved);
        assert_eq!(moved.refused(), Some(Refused::HeadMoved));
        assert!(moved.to_string().ends_with("refused: the head has changed meanwhile"), "{moved}");
        assert_eq!(refusal(Refusal::Busy).refused(), None);
    }

    #[test]
    fn a_refusal_about_money_or_storage_says_what_is_missing() {
        let few = refusal(Refusal::TooFewPeers { eligible: 3, needed: 8 });
        assert!(few.to_string().contains("5 more must join"), "{few}");
        let unpaid = refusal(Refusal::Unpaid);
        assert!(matches!(unpaid, MediatorError::Prepayment(PrepaymentError::UsedUp)), "{unpaid:?}");
    }

    #[test]
    fn every_refusal_is_an_answer_and_a_broken_connection_is_none() {
        for answered in [Refusal::Busy, Refusal::Unpaid, Refusal::Stale, Refusal::BadLogin] {
            assert!(refusal(answered).is_answer(), "{answered:?}");
        }
        assert!(!MediatorError::from(CallError::Stopped).is_answer());
    }
}
