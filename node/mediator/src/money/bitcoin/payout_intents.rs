//! Deciding on payouts to storage nodes: who is due, over which rail, how much.

use std::sync::Arc;

use fincrypt_ledger::{Event, LedgerError, PayTo, Rail};
use fincrypt_treasury::lightning::Destination;

use super::due::{self, Due, PayoutTerms};
use super::paid_at::PaidAt;
use super::payout_failures::PayoutFailures;
use super::wallets::Wallets;

/// Decides on payouts, and records what it decided before anything is signed or sent.
pub(super) struct PayoutIntents {
    pub(super) wallets: Arc<Wallets>,
    pub(super) failures: Arc<PayoutFailures>,
    pub(super) paid_at: PaidAt,
    pub(super) terms: PayoutTerms,
}

impl PayoutIntents {
    /// Storage nodes to be paid now that are not waiting after a failure.
    pub(super) fn due(&self) -> Vec<Due> {
        let now = self.wallets.now();
        // Read before the ledger is locked.
        let nodes: Vec<_> = self.wallets.ledger.books(|books| books.payables().into_keys().collect());
        let paid: std::collections::BTreeMap<_, _> =
            nodes.iter().filter_map(|node| Some((*node, now.since(self.paid_at.get(node)?)))).collect();
        let due =
            self.wallets.ledger.books(|books| due::due(books, &self.terms, |node| paid.get(node).copied()));
        due.into_iter().filter(|due| !self.failures.waits(&due.node)).collect()
    }

    /// Whether an invoice was named before, whatever came of it: it is one payment, and no second one. To be
    /// asked while deciding.
    pub(super) fn is_used(&self, to: &Destination) -> bool {
        let Destination::Invoice(invoice) = to else { return false };
        let same = |to: &PayTo| {
            // Offers are many, and none of them is an invoice.
            let known = Some(&to.destination).filter(|text| !text.starts_with("lno"));
            let known = known.and_then(|text| text.parse().ok());
            matches!(known, Some(Destination::Invoice(known)) if known.payment_hash() == invoice.payment_hash())
        };
        self.wallets.ledger.books(|books| {
            books.payouts().any(|(_, book)| book.rail == Rail::Lightning && book.to.iter().any(same))
        })
    }

    /// Decides to pay a node over Lightning: durable before anything leaves. Blocks.
    pub(super) fn intend_payment(
        &self,
        due: &Due,
        to: &Destination,
        direct: bool,
    ) -> Result<(), LedgerError> {
        let _deciding = self.wallets.decide();
        if self.is_used(to) {
            self.failures.record(
                &due.node,
                "its operator names an invoice that was used: name an offer, or another invoice",
            );
            return Ok(());
        }
        let arriving = due::arrives(due.total, self.terms.routing_permille, direct);
        let Some(amount) = arriving else { return Ok(()) };
        let payout = self.wallets.draw();
        let to = vec![PayTo { destination: to.to_string(), amount }];
        let event = Event::PayoutIntent { payout, rail: Rail::Lightning, parts: due.parts.clone(), to };
        match self.wallets.record(&event) {
            Ok(_) => Ok(()),
            Err(LedgerError::Books(refused)) => {
                self.failures.record(&due.node, &refused.to_string());
                Ok(())
            }
            Err(failed) => Err(failed),
        }
    }
}
