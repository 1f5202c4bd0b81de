//! One contract, and one account's prepayment, as they are in memory: verified objects and their
//! transitions. Sans-IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use fincrypt_billing::Charged;
use fincrypt_billing::statement::{Absorbed, Billing, Fault};
use fincrypt_ledger::{Books, Event};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::Stated;
use fincrypt_protocol::pay::{Bill, Billed};
use fincrypt_protocol::statement::{Contract, Terms};
use fincrypt_protocol::{AnswerDigest, ContractId, Epoch, NodeId, Refusal, SigningKey, UnixTime};

use super::tables::SavedContract;
use super::{ContractsError, Owed};

/// One contract.
#[derive(Debug, Clone)]
pub(super) struct ContractState {
    /// Its statements, verified.
    billing: Billing,
    /// The sum of all passed epochs.
    due: Msat,
    /// Bytes held at the last audit.
    held: u64,
    /// The largest sum ever signed: a statement that was refused may be countersigned after all.
    promised: Msat,
    /// The node does not know the newest statement that it has signed: the next bill brings it.
    node_is_behind: bool,
}

impl ContractState {
    /// A contract that begins.
    pub(super) fn begin(terms: Terms) -> Result<Self, ContractsError> {
        let billing = Billing::new(Contract::new(terms)?);
        Ok(Self { billing, due: Msat::ZERO, held: 0, promised: Msat::ZERO, node_is_behind: false })
    }

    /// A contract that this program has stored, so verified before.
    pub(super) fn stored(saved: &SavedContract) -> Result<Self, ContractsError> {
        let billing = Billing::verified_before(Contract::new(saved.terms)?, &saved.billing)?;
        let promised = saved.promised.max(billing.promised());
        let due = billing.due()?;
        Ok(Self { billing, due, held: saved.held, promised, node_is_behind: saved.node_is_behind })
    }

    /// The contract as it is stored.
    pub(super) fn saved(&self) -> SavedContract {
        SavedContract {
            terms: *self.terms(),
            billing: self.billing.saved(),
            held: self.held,
            promised: self.promised,
            node_is_behind: self.node_is_behind,
        }
    }

    pub(super) fn id(&self) -> ContractId {
        self.billing.contract().id()
    }

    pub(super) fn terms(&self) -> &Terms {
        self.billing.contract().terms()
    }

    /// Whether there are passed epochs that no statement was signed for.
    pub(super) fn has_news(&self) -> bool {
        self.billing.has_news()
    }

    /// Whether a statement of it has both signatures.
    pub(super) fn is_agreed(&self) -> bool {
        self.billing.agreed().is_some()
    }

    /// The newest statement that both have signed.
    pub(super) fn stated(&self) -> Option<Stated> {
        let agreed = self.billing.agreed()?;
        Some(Stated { terms: *self.terms(), statement: agreed.countersigned().clone() })
    }

    /// What it takes of the account's prepayment, the mediator's fee included.
    pub(super) fn charged(&self, books: &Books) -> Charged {
        let fee = self.terms().fee;
        let booked = books.contract(self.id());
        let booked = booked.and_then(|booked| booked.earned.checked_add(booked.fee)).unwrap_or_default();
        let (promised, due) = (Charged::cost(self.promised, fee), Charged::cost(self.due, fee));
        Charged { booked, promised, due }
    }

    /// The node passed the audit of an epoch and holds `now` bytes: charged is what it held at both ends.
    pub(super) fn passed(&mut self, epoch: Epoch, now: u64, answer: AnswerDigest) -> Result<(), Fault> {
        let bytes = now.min(self.held);
        self.held = now;
        if bytes > 0 {
            self.billing.passed(epoch, bytes, answer);
        }
        self.due = self.billing.due()?;
        Ok(())
    }

    /// The bill to send: of all that passed if that is `covered`, of what was signed before otherwise.
    pub(super) fn bill(&mut self, covered: bool, key: &SigningKey) -> Result<Option<Bill>, ContractsError> {
        let proposal = if covered { self.billing.propose(key)? } else { self.billing.repeat() };
        self.promised = self.billing.promised().max(self.promised);
        let newest = self.billing.agreed().filter(|_| self.node_is_behind);
        let newest = newest.map(|agreed| agreed.countersigned().clone());
        Ok(proposal.map(|proposal| Bill { terms: *self.terms(), proposal, newest }))
    }

    /// Takes the node's answer to a bill, and adds to `accruals` what is to be booked. Whether a node that
    /// had lost its newest statement has it again.
    pub(super) fn answered(&mut self, answer: Billed, accruals: &mut Vec<Event>) -> Result<bool, Fault> {
        let agreed = self.take(answer, accruals);
        self.promised = self.billing.promised().max(self.promised);
        self.due = self.billing.due()?;
        Ok(agreed && self.node_is_behind)
    }

    /// Takes an answer; whether the node agrees.
    fn take(&mut self, answer: Billed, accruals: &mut Vec<Event>) -> bool {
        let (node, account) = (self.terms().storage, self.terms().account);
        match answer {
            Billed::Agreed(agreed) => {
                let absorbed = self.billing.absorb(&agreed);
                accruals.extend(self.accrual(&absorbed));
                return true;
            }
            Billed::Refused { refusal: Refusal::Misstated, newest } => {
                let epoch = self.billing.proposed();
                tracing::warn!(%node, %account, ?epoch, "statement_refused");
                // Until it has signed the next one: it may have recalled this one, and hear of no payouts
                // yet.
                self.node_is_behind |= self.is_behind(newest.as_deref());
                if let Some(newest) = newest {
                    let before = self.id();
                    let absorbed = self.billing.catch_up(&newest);
                    accruals.extend(self.accrual(&absorbed));
                    if self.id() != before {
                        self.promised = Msat::ZERO;
                    }
                }
                if let Some(epoch) = epoch {
                    self.billing.refused(epoch);
                }
            }
            Billed::Refused { refusal, .. } => {
                tracing::warn!(%node, %account, %refusal, "statement_not_taken");
            }
        }
        false
    }

    /// The node has been brought up to date.
    pub(super) fn caught_up(&mut self) {
        self.node_is_behind = false;
    }

    /// Whether what the node shows as its newest statement is older than one of this contract that it has
    /// signed.
    fn is_behind(&self, theirs: Option<&Stated>) -> bool {
        let contract = self.billing.contract();
        let Some(ours) = self.billing.agreed() else { return false };
        let Some(theirs) = theirs else { return true };
        let theirs = theirs.statement.verify(contract.terms().network);
        theirs.is_ok_and(|theirs| theirs.is_of(contract) && theirs.epoch < ours.epoch)
    }

    /// What a statement with both signatures adds to the books.
    fn accrual(&self, absorbed: &Result<Absorbed, Fault>) -> Option<Event> {
        match absorbed {
            Ok(Absorbed::Newest(agreed)) => Some(Event::Accrual {
                contract: agreed.contract,
                account: agreed.account,
                storage: agreed.storage,
                epoch: agreed.epoch,
                earned: agreed.earned,
                fee: self.terms().fee.of(agreed.earned),
            }),
            Ok(Absorbed::Old) => None,
            Err(fault) => {
                tracing::warn!(node = %self.terms().storage, %fault, "countersigned_statement_not_taken");
                None
            }
        }
    }

    /// For the operator.
    pub(super) fn owed(&self) -> Owed {
        let (terms, agreed) = (self.terms(), self.billing.agreed());
        Owed {
            node: fincrypt_net::shown(&terms.storage),
            account: terms.account.to_string(),
            epoch: agreed.map_or(0, |agreed| agreed.epoch.number()),
            earned_msat: agreed.map_or(Msat::ZERO, |agreed| agreed.earned).get(),
            price: terms.price.get(),
        }
    }
}

/// One account's contracts, holds, and whether its prepayment is used up.
#[derive(Debug, Default)]
pub(super) struct Prepayment {
    contracts: BTreeMap<NodeId, Arc<ContractState>>,
    /// Withdrawals that are being decided on and not in the books yet.
    held: Msat,
    /// Since when the next epoch is not covered.
    empty: Option<UnixTime>,
}

impl Prepayment {
    /// Its contracts, by storage node.
    pub(super) fn contracts(&self) -> impl Iterator<Item = (&NodeId, &Arc<ContractState>)> {
        self.contracts.iter()
    }

    /// The contract with a node.
    pub(super) fn contract(&self, node: &NodeId) -> Option<&Arc<ContractState>> {
        self.contracts.get(node)
    }

    /// Since when the next epoch is not covered.
    pub(super) fn empty(&self) -> Option<UnixTime> {
        self.empty
    }

    /// Withdrawals on hold.
    pub(super) fn held(&self) -> Msat {
        self.held
    }

    pub(super) fn put(&mut self, node: NodeId, contract: ContractState) {
        self.contracts.insert(node, Arc::new(contract));
    }

    pub(super) fn set_empty(&mut self, since: Option<UnixTime>) {
        self.empty = since;
    }

    pub(super) fn set_held(&mut self, held: Msat) {
        self.held = held;
    }
}
