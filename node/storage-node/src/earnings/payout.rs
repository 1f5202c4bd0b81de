//! What mediators say of their payouts.

use fincrypt_protocol::UnixTime;
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::{Payout, PayoutState};
use serde::{Deserialize, Serialize};

/// A payout as its mediator last told it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KnownPayout {
    pub(crate) payout: Payout,
    /// When it was first heard of.
    pub(crate) since: UnixTime,
}

/// What a mediator says it has paid of a contract.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Paid {
    /// What has arrived, the network's fees included.
    pub(crate) arrived: Msat,
    /// What is on the way.
    pub(crate) coming: Msat,
}

impl Paid {
    /// Adds a payout's part.
    pub(crate) fn add(&mut self, state: PayoutState, amount: Msat) {
        self.change(state, |sum| sum.checked_add(amount));
    }

    /// Takes a payout's part back.
    pub(crate) fn take_back(&mut self, state: PayoutState, amount: Msat) {
        self.change(state, |sum| sum.checked_sub(amount));
    }

    fn change(&mut self, state: PayoutState, change: impl Fn(Msat) -> Option<Msat>) {
        let sum = match state {
            PayoutState::Arrived => &mut self.arrived,
            PayoutState::OnTheWay => &mut self.coming,
            PayoutState::Failed => return,
        };
        *sum = change(*sum).unwrap_or(*sum);
    }
}
