//! Bills: after every audit that a storage node passes, a statement for each account of which it holds
//! something, until the node has countersigned it.

use std::sync::Arc;

use fincrypt_protocol::limits::MAX_BILLS;
use fincrypt_protocol::pay::{Bill, Billed, Countersign};
use fincrypt_protocol::{AccountId, AnswerDigest, Clock, Epoch, NodeId, SigningKey};
use fincrypt_state::kv::KvError;

use super::auditor::Bill as Biller;
use super::contract_terms::ContractTerms;
use super::contracts::{Contracts, ContractsError, PassedAudit};
use super::error::{Interrupted, StoreError, blocking};
use super::holder_link::{Delivery, HolderLink};
use super::money::{Money, Settlement};
use super::prepayment::{Prepayments, StatusError};
use super::stores::HeldShards;

/// Why an audit was not billed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BillingError {
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The contracts.
    #[error("contracts: {0}")]
    Contracts(#[from] ContractsError),
    /// A prepayment.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// Reports of payouts, which the money keeps.
    #[error("reports of payouts were not repeated: {0}")]
    Reports(#[source] KvError),
}

impl From<Interrupted> for BillingError {
    fn from(error: Interrupted) -> Self {
        Self::Store(error.into())
    }
}

/// Bills storage earnings to the prepayments of accounts. Cheap to clone.
#[derive(Clone)]
pub(super) struct Billing {
    pub(super) contracts: Arc<Contracts>,
    pub(super) terms: Arc<ContractTerms>,
    pub(super) prepayments: Prepayments,
    pub(super) held: HeldShards,
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
    async fn bill(&self, node: NodeId, epoch: Epoch, answer: AnswerDigest) -> Result<(), BillingError> {
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
    fn passed(&self, node: NodeId, epoch: Epoch, answer: AnswerDigest) -> Result<Vec<Bill>, BillingError> {
        let held = self.held.bytes_by_account(&node);
        let begun = self.terms.begun(node, held.keys(), epoch)?;
        let audit = PassedAudit { node, epoch, answer, held, begun };
        let covered_by = self.money.takes_deposits().then(|| self.money.books());
        let bills = self.contracts.passed(audit, &self.key, covered_by)?;
        if covered_by.is_some() {
            // Since when a prepayment is used up, as soon as it is.
            let accounts = self.contracts.accounts_of(&node);
            accounts.into_iter().try_for_each(|account| self.prepayments.status(account).map(drop))?;
        }
        Ok(bills)
    }

    fn answered(&self, node: NodeId, answers: Vec<(AccountId, Billed)>) -> Result<(), BillingError> {
        let answered = self.contracts.answered(node, answers, self.money.books(), self.clock.now());
        let caught_up = answered?.caught_up;
        if caught_up.is_empty() {
            return Ok(());
        }
        // What it was paid it has lost with the rest.
        self.money.repeat_reports(&node).map_err(BillingError::Reports)?;
        Ok(self.contracts.caught_up(node, &caught_up)?)
    }
}
