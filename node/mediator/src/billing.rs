//! Bills: after every audit that a storage node passes, a statement for each account of which it holds
//! something, until the node has countersigned it.

use std::sync::Arc;

use fincrypt_accounts::failed;
use fincrypt_net::blocking;
use fincrypt_protocol::limits::MAX_BILLS;
use fincrypt_protocol::pay::{Bill, Billed, Countersign};
use fincrypt_protocol::{AccountId, AnswerDigest, Clock, Epoch, NodeId, Refusal, SigningKey};

use super::auditor::Bill as Biller;
use super::contract_terms::ContractTerms;
use super::contracts::{Contracts, PassedAudit};
use super::holder_link::{Delivery, HolderLink};
use super::money::{Money, Settlement};
use super::prepayment::Prepayments;
use super::records::Records;

/// Bills storage earnings to the prepayments of accounts. Cheap to clone.
#[derive(Clone)]
pub(super) struct Billing {
    pub(super) contracts: Arc<Contracts>,
    pub(super) terms: Arc<ContractTerms>,
    pub(super) prepayments: Prepayments,
    pub(super) records: Records,
    pub(super) money: Arc<Money>,
    pub(super) link: HolderLink,
    pub(super) key: SigningKey,
    pub(super) clock: Clock,
}

impl Biller for Billing {
    /// Adds an audit that a node passed to its contracts, and has the sums countersigned. A statement
    /// that does not come through is followed by a later one, which holds its sum.
    ///
    /// # Errors
    /// If what was earned cannot be stored: no statement is sent.
    async fn bill(&self, node: NodeId, epoch: Epoch, answer: AnswerDigest) -> Result<(), Refusal> {
        let this = self.clone();
        let bills = blocking(move || this.passed(node, epoch, answer)).await?;
        for page in bills.chunks(MAX_BILLS) {
            let sent = self.link.pay(node, Countersign { bills: page.to_vec() }).await;
            let Delivery::Acknowledged(answered) = sent else { return Ok(()) };
            let accounts = page.iter().map(|bill| bill.terms.account);
            let answers: Vec<(AccountId, Billed)> = accounts.zip(answered.bills).collect();
            let this = self.clone();
            blocking(move || this.answered(node, answers)).await?;
        }
        Ok(())
    }
}

impl Billing {
    fn passed(&self, node: NodeId, epoch: Epoch, answer: AnswerDigest) -> Result<Vec<Bill>, Refusal> {
        let held = self.records.held_for(&node);
        let begun = self.terms.begun(node, held.keys(), epoch)?;
        let audit = PassedAudit { node, epoch, answer, held, begun };
        let covered_by = self.money.takes_deposits().then(|| self.money.books());
        let bills = self.contracts.passed(audit, &self.key, covered_by).map_err(|error| failed(&error))?;
        if covered_by.is_some() {
            // Since when a prepayment is used up, as soon as it is.
            let accounts = self.contracts.accounts_of(&node);
            accounts.into_iter().try_for_each(|account| self.prepayments.status(account).map(drop))?;
        }
        Ok(bills)
    }

    fn answered(&self, node: NodeId, answers: Vec<(AccountId, Billed)>) -> Result<(), Refusal> {
        let answered = self.contracts.answered(node, answers, self.money.books(), self.clock.now());
        let caught_up = answered.map_err(|error| failed(&error))?.caught_up;
        if caught_up.is_empty() {
            return Ok(());
        }
        // What it was paid it has lost with the rest.
        self.money.repeat_reports(&node)?;
        self.contracts.caught_up(node, &caught_up).map_err(|error| failed(&error))
    }
}
