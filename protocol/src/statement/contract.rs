//! The terms of a contract, and their hash.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::amount::{Msat, Permille, Price};
use crate::domain;
use crate::epoch::Epoch;
use crate::id::{AccountId, ContractId, NodeId};
use crate::network::Network;

/// The fewest days that a contract keeps unpaid shards.
pub const MIN_GRACE_DAYS: u16 = 30;

/// Terms that nobody may agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// The credit would end before a payout is due.
    #[error("a credit bound of {bound} is less than twice the payout threshold of {threshold}")]
    CreditBound {
        /// The bound.
        bound: Msat,
        /// The threshold.
        threshold: Msat,
    },
    /// The grace is too short for the promise of recovery.
    #[error("unpaid shards would be kept for {days} days, the least is {MIN_GRACE_DAYS}")]
    Grace {
        /// Days offered.
        days: u16,
    },
}

/// What a storage node and a mediator agree on for one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Network it is for.
    pub network: Network,
    /// Holds the shards and is paid for it.
    pub storage: NodeId,
    /// Audits and pays.
    pub mediator: NodeId,
    /// Owns the shards; its prepayment at the mediator is what pays.
    pub account: AccountId,
    /// For holding data.
    pub price: Price,
    /// The mediator's fee, on top of what storage earns.
    pub fee: Permille,
    /// The first epoch that can be charged.
    pub first: Epoch,
    /// How long an epoch is.
    pub epoch_seconds: NonZeroU32,
    /// Unpaid earnings at which storage takes no new shards; at least twice the payout threshold.
    pub credit_bound: Msat,
    /// Earnings from which a payout is due.
    pub payout_threshold: Msat,
    /// Days that unpaid shards are kept, at least 30.
    pub grace_days: u16,
    /// Days that are charged at least for whatever is stored.
    pub minimum_days: u16,
}

/// Terms that were checked, and their id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contract {
    terms: Terms,
    id: ContractId,
}

impl Contract {
    /// Checks the terms and computes their id.
    ///
    /// # Errors
    /// [`TermsError`] if the bounds among them do not hold.
    pub fn new(terms: Terms) -> Result<Self, TermsError> {
        let (bound, threshold) = (terms.credit_bound, terms.payout_threshold);
        if threshold.checked_mul(2).is_none_or(|least| bound < least) {
            return Err(TermsError::CreditBound { bound, threshold });
        }
        if terms.grace_days < MIN_GRACE_DAYS {
            return Err(TermsError::Grace { days: terms.grace_days });
        }
        let id = domain::CONTRACT_ID.hash(&[
            terms.network.name().as_bytes(),
            &[0],
            terms.storage.as_bytes(),
            terms.mediator.as_bytes(),
            terms.account.as_bytes(),
            &terms.price.get().to_le_bytes(),
            &terms.fee.get().to_le_bytes(),
            &terms.first.number().to_le_bytes(),
            &terms.epoch_seconds.get().to_le_bytes(),
            &bound.get().to_le_bytes(),
            &threshold.get().to_le_bytes(),
            &terms.grace_days.to_le_bytes(),
            &terms.minimum_days.to_le_bytes(),
        ]);
        Ok(Self { terms, id: ContractId::from_bytes(id) })
    }

    /// The terms.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The contract's identity.
    #[must_use]
    pub fn id(&self) -> ContractId {
        self.id
    }
}
