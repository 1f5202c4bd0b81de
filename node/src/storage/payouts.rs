//! Where earnings go, and what mediators say they have paid.

use fincrypt_protocol::money::Payout;
use fincrypt_protocol::shard::Response;
use fincrypt_protocol::{NodeId, Refusal};

use super::StorageRole;
use crate::config::PayoutTo;
use crate::serve::Answer;

impl StorageRole {
    /// Where the operator wants its earnings.
    pub(super) fn pay_to(&self) -> Option<String> {
        match &self.terms.payout {
            PayoutTo::Destination(text) => Some(text.clone()),
            PayoutTo::Nowhere | PayoutTo::Own => None,
        }
    }

    /// Takes in what a mediator says of a payout.
    pub(super) fn paid(&self, _from: NodeId, _payout: Payout) -> Answer<Response> {
        Err(Refusal::Invalid)
    }
}
