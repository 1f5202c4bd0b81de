//! Carrying out payouts that were decided on.

use std::sync::Arc;

use fincrypt_ledger::PayoutBook;
use fincrypt_protocol::{NodeId, UnixTime};

use super::due::nodes_of;
use super::paid_at::PaidAt;
use super::payout_failures::PayoutFailures;
use super::wallets::Wallets;

/// Sends what the books say is open, and books what has arrived or failed.
pub(super) struct PayoutSender {
    pub(super) wallets: Arc<Wallets>,
    pub(super) failures: Arc<PayoutFailures>,
    pub(super) paid_at: PaidAt,
}

impl PayoutSender {
    fn nodes(&self, payout: &PayoutBook) -> Vec<NodeId> {
        self.wallets.ledger.books(|books| nodes_of(books, payout).collect())
    }

    /// Notes that the nodes of a payout were paid.
    pub(super) fn paid(&self, payout: &PayoutBook, now: UnixTime) {
        let nodes = self.nodes(payout);
        nodes.iter().for_each(|node| self.failures.clear(node));
        self.paid_at.set(&nodes, now);
    }

    /// Notes that they were not.
    pub(super) fn not_paid(&self, payout: &PayoutBook, reason: &str) {
        self.nodes(payout).iter().for_each(|node| self.failures.record(node, reason));
    }
}
