//! What is owed to storage: after every audit that a node passes, a statement for each account of
//! which it holds something, until the node has countersigned it.

use std::num::NonZeroU32;
use std::sync::Arc;

use fincrypt_billing::statement::{Absorbed, Billing, Fault, SavedBilling};
use fincrypt_ledger::Event;
use fincrypt_protocol::amount::{Msat, Permille, Price};
use fincrypt_protocol::limits::MAX_BILLS;
use fincrypt_protocol::money::Stated;
use fincrypt_protocol::shard::{Bill, Billed, Countersign};
use fincrypt_protocol::statement::{Contract, Statement, Terms};
use fincrypt_protocol::{
    AccountId, AnswerDigest, ContractId, Epoch, NodeId, Refusal, Signed, UnixTime, cbor,
};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;
use serde::{Deserialize, Serialize};

use super::MediatorRole;
use super::gate::{Line, line_of};
use super::holder_link::Delivery;
use super::money::Settlement;
use fincrypt_accounts::failed;
use fincrypt_net::blocking;

/// `node ‖ account` → [`Account`].
const BILLS: Tree = Tree("bills");
/// The most bytes of one: a year of epochs that were passed.
const MAX_BILL: usize = 2 << 20;

/// What an operator decides about money.
#[derive(Debug, Clone, Copy)]
pub struct BillingTerms {
    /// Earnings from which a payout is due.
    pub payout_threshold: Msat,
    /// Unpaid earnings at which storage takes no more.
    pub credit_bound: Msat,
}

/// How one account at one node stands.
#[derive(Serialize, Deserialize)]
struct Account {
    terms: Terms,
    billing: SavedBilling,
    /// Bytes at the last audit.
    held: u64,
    /// The largest sum ever signed: a statement that was refused may be countersigned after all.
    #[serde(default)]
    promised: Msat,
    /// The node does not know the newest statement that it has signed: the next bill brings it.
    #[serde(default)]
    forgotten: bool,
}

impl Account {
    fn new(terms: Terms) -> Self {
        let billing = SavedBilling::default();
        Self { terms, billing, held: 0, promised: Msat::ZERO, forgotten: false }
    }
}

/// What one contract has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owed {
    /// The storage node.
    pub node: String,
    /// The account.
    pub account: String,
    /// The newest epoch that was countersigned.
    pub epoch: u64,
    /// What it has come to, in msat.
    pub earned_msat: u64,
    /// The agreed price, in msat per GiB-month.
    pub price: u64,
}

/// Bills, durably.
#[derive(Clone)]
pub(super) struct Bills(State);

fn key(node: &NodeId, account: &AccountId) -> Vec<u8> {
    [node.as_bytes().as_slice(), account.as_bytes()].concat()
}

impl Bills {
    pub(super) fn new(state: State) -> Self {
        Self(state)
    }

    fn of(&self, node: &NodeId) -> Result<Vec<(AccountId, Account)>, Refusal> {
        let entries =
            self.0.scan(BILLS, node.as_bytes(), None, usize::MAX).map_err(|error| failed(&error))?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let account = key.get(32..64).and_then(|bytes| bytes.try_into().ok()).map(AccountId::from_bytes);
            let bill = cbor::decode(&value, MAX_BILL).map_err(|error| failed(&error))?;
            Ok((account.ok_or_else(|| failed(&"a bill's key is damaged"))?, bill))
        };
        entries.into_iter().map(read).collect()
    }

    /// All contracts, as far as their clients' prepayments go.
    pub(super) fn lines(&self) -> Vec<(AccountId, NodeId, Line)> {
        let entries = self.0.scan(BILLS, &[], None, usize::MAX).unwrap_or_else(|error| {
            failed(&error);
            Vec::new()
        });
        let read = |(_, value): (Vec<u8>, Vec<u8>)| {
            let bill: Option<Account> = cbor::decode(&value, MAX_BILL).ok();
            let line = bill.and_then(|bill| {
                let line = line_of(bill.terms, &bill.billing, bill.promised)?;
                Some((bill.terms.account, bill.terms.storage, line))
            });
            if line.is_none() {
                failed(&"what is owed by a contract cannot be read");
            }
            line
        };
        entries.into_iter().filter_map(read).collect()
    }

    /// Up to `most` of an account's newest statements that both have signed, in order of their
    /// contracts, after `after`; and whether more follow.
    pub(super) fn agreed_of(
        &self,
        account: &AccountId,
        nodes: Vec<NodeId>,
        after: Option<ContractId>,
        most: usize,
    ) -> Result<(Vec<Stated>, bool), Refusal> {
        let mut agreed = Vec::new();
        for node in nodes {
            let bytes = self.0.get(BILLS, &key(&node, account)).map_err(|error| failed(&error))?;
            let Some(bytes) = bytes else { continue };
            let bill: Account = cbor::decode(&bytes, MAX_BILL).map_err(|error| failed(&error))?;
            let contract = Contract::new(bill.terms).map_err(|error| failed(&error))?;
            if after.is_some_and(|after| contract.id() <= after) {
                continue;
            }
            let billing = Billing::restore(contract, &bill.billing).map_err(|error| failed(&error))?;
            let statement = billing.agreed().map(|agreed| agreed.countersigned().clone());
            agreed
                .extend(statement.map(|statement| (contract.id(), Stated { terms: bill.terms, statement })));
        }
        agreed.sort_by_key(|(contract, _)| *contract);
        let more = agreed.len() > most;
        Ok((agreed.into_iter().take(most).map(|(_, stated)| stated).collect(), more))
    }

    fn put(&self, node: &NodeId, bills: &[(AccountId, Account)]) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        for (account, bill) in bills {
            batch.put(BILLS, key(node, account), cbor::encode(bill).map_err(|error| failed(&error))?);
        }
        if batch.is_empty() { Ok(()) } else { self.0.commit(&batch).map_err(|error| failed(&error)) }
    }

    /// What all contracts have come to.
    pub(super) fn owed(&self) -> Vec<Owed> {
        let entries = self.0.scan(BILLS, &[], None, usize::MAX).unwrap_or_default();
        let read = |(_, value): (Vec<u8>, Vec<u8>)| {
            let bill: Account = cbor::decode(&value, MAX_BILL).ok()?;
            let billing = Billing::restore(Contract::new(bill.terms).ok()?, &bill.billing).ok()?;
            let agreed = billing.agreed();
            Some(Owed {
                node: fincrypt_net::shown(&bill.terms.storage),
                account: bill.terms.account.to_string(),
                epoch: agreed.map_or(0, |agreed| agreed.epoch.number()),
                earned_msat: agreed.map_or(Msat::ZERO, |agreed| agreed.earned).get(),
                price: bill.terms.price.get(),
            })
        };
        entries.into_iter().filter_map(read).collect()
    }
}

impl MediatorRole {
    /// Notes what a node has earned with an audit that it passed, and has it countersigned. A
    /// statement that does not come through is followed by a later one, which holds its sum.
    pub(super) async fn bill(
        self: &Arc<Self>,
        node: NodeId,
        epoch: Epoch,
        answer: AnswerDigest,
    ) -> Result<(), Refusal> {
        let role = Arc::clone(self);
        let bills = blocking(move || role.note_earned(node, epoch, answer)).await?;
        for page in bills.chunks(MAX_BILLS) {
            let told = self.link.send(node, Countersign { bills: page.to_vec() }).await;
            let Delivery::Acknowledged(answered) = told else { return Ok(()) };
            let (role, accounts) = (Arc::clone(self), page.iter().map(|bill| bill.terms.account));
            let answers: Vec<(AccountId, Billed)> = accounts.zip(answered.bills).collect();
            blocking(move || role.take_answers(node, answers)).await?;
        }
        Ok(())
    }

    /// Terms for a contract that begins now; none for a node that is free of charge or unknown.
    /// Nor for one that takes more than the account's mandate lets it.
    pub(super) fn terms_for(
        &self,
        node: NodeId,
        account: AccountId,
        epoch: Epoch,
        limit: Option<Price>,
    ) -> Option<Terms> {
        let offer = self.directory.offer(&node).filter(|offer| offer.price > Price::FREE)?;
        if limit.is_some_and(|most| offer.price > most) {
            return None;
        }
        let seconds = u32::try_from(self.standings.terms().epoch.as_secs()).ok()?;
        Some(Terms {
            network: self.network,
            storage: node,
            mediator: self.net.own(),
            account,
            price: offer.price,
            fee: Permille::new(self.terms.fee_permille).ok()?,
            first: epoch,
            epoch_seconds: NonZeroU32::new(seconds)?,
            credit_bound: self.terms.billing.credit_bound,
            payout_threshold: self.terms.billing.payout_threshold,
            grace_days: offer.grace_days,
            minimum_days: offer.minimum_days,
        })
    }

    /// Adds an epoch to what a node has earned, durably, and proposes the sums.
    fn note_earned(&self, node: NodeId, epoch: Epoch, answer: AnswerDigest) -> Result<Vec<Bill>, Refusal> {
        let mut held = self.records.held_for(&node);
        let mut bills = self.bills.of(&node)?;
        for account in held.keys() {
            if bills.iter().any(|(known, _)| known == account) {
                continue;
            }
            let limit = self.price_limit(account)?;
            if let Some(terms) = self.terms_for(node, *account, epoch, limit) {
                bills.push((*account, Account::new(terms)));
            }
        }
        let mut proposed = Vec::with_capacity(bills.len());
        for (account, bill) in &mut bills {
            let now = held.remove(account).unwrap_or(0);
            let bytes = now.min(bill.held);
            bill.held = now;
            let contract = Contract::new(bill.terms).map_err(|error| failed(&error))?;
            let mut billing = Billing::restore(contract, &bill.billing).map_err(|error| failed(&error))?;
            if bytes > 0 {
                billing.passed(epoch, bytes, answer);
            }
            let proposal = self.propose(node, *account, &mut billing, &mut bill.promised)?;
            bill.billing = billing.saved();
            let newest = billing.agreed().filter(|_| bill.forgotten);
            let newest = newest.map(|agreed| agreed.countersigned().clone());
            proposed.extend(proposal.map(|proposal| Bill { terms: bill.terms, proposal, newest }));
        }
        // Before anybody hears of them: two statements of one epoch are proof of fraud.
        self.bills.put(&node, &bills)?;
        if self.money.takes_deposits() {
            // Since when a prepayment is used up, as soon as it is.
            bills.iter().try_for_each(|(account, _)| self.purse_standing(*account).map(drop))?;
        }
        Ok(proposed)
    }

    /// Signs what a node has earned, if the account's prepayment covers it or nobody could pay in. What
    /// was signed before and not answered is sent again in any case.
    fn propose(
        &self,
        node: NodeId,
        account: AccountId,
        billing: &mut Billing,
        promised: &mut Msat,
    ) -> Result<Option<Signed<Statement>>, Refusal> {
        // Held until it is set aside: of two nodes at once, each would find the same money there.
        let mut purses = self.gate.purses();
        let purse = purses.entry(account).or_default();
        purse.note(node, Line::of(billing, *promised)?);
        let covered = !self.money.takes_deposits()
            || !billing.has_news()
            || self.money.books().books(|books| purse.lets_sign(account, &node, books));
        if !covered {
            tracing::info!(%node, %account, "a prepayment does not cover a statement; it waits");
            return Ok(billing.repeat());
        }
        let proposal = billing.propose(&self.key).map_err(|error| failed(&error))?;
        *promised = billing.promised().max(*promised);
        purse.note(node, Line::of(billing, *promised)?);
        Ok(proposal)
    }

    fn take_answers(&self, node: NodeId, answers: Vec<(AccountId, Billed)>) -> Result<(), Refusal> {
        let mut bills = self.bills.of(&node)?;
        let (mut accruals, mut remembers) = (Vec::new(), false);
        for (account, answer) in answers {
            let Some((_, bill)) = bills.iter_mut().find(|(known, _)| *known == account) else { continue };
            let contract = Contract::new(bill.terms).map_err(|error| failed(&error))?;
            let mut billing = Billing::restore(contract, &bill.billing).map_err(|error| failed(&error))?;
            match answer {
                Billed::Agreed(agreed) => {
                    accruals.extend(booked(node, &billing.absorb(&agreed), billing.contract()));
                    remembers |= std::mem::take(&mut bill.forgotten);
                }
                Billed::Refused { refusal: Refusal::Misstated, newest } => {
                    let epoch = billing.proposed();
                    tracing::warn!(%node, %account, ?epoch, "a storage node refuses a statement");
                    // Until it has signed the next one: it may have recalled this one, and hear of no payouts yet.
                    bill.forgotten |= is_behind(&billing, newest.as_deref());
                    if let Some(newest) = newest {
                        accruals.extend(booked(node, &billing.catch_up(&newest), billing.contract()));
                        let terms = *billing.contract().terms();
                        if bill.terms != terms {
                            (bill.terms, bill.promised) = (terms, Msat::ZERO);
                        }
                        bill.promised = billing.promised().max(bill.promised);
                    }
                    if let Some(epoch) = epoch {
                        billing.refused(epoch);
                    }
                }
                Billed::Refused { refusal, .. } => {
                    tracing::warn!(%node, %account, %refusal, "a statement is not taken")
                }
            }
            bill.billing = billing.saved();
            self.gate.purses().entry(account).or_default().note(node, Line::of(&billing, bill.promised)?);
        }
        // The books first: what they miss of a crash comes again with the next statement's sum.
        let posted =
            self.money.books().record_all(UnixTime::now(), &accruals).map_err(|error| failed(&error))?;
        for refused in posted.iter().filter_map(|posted| posted.as_ref().err()) {
            tracing::error!(%node, %refused, "the ledger refuses a statement");
        }
        if remembers {
            // What it was paid it has forgotten with the rest.
            self.money.tell_again(&node)?;
        }
        self.bills.put(&node, &bills)
    }
}

/// Whether what a node shows as its newest statement is older than one of the contract that it has signed.
fn is_behind(billing: &Billing, theirs: Option<&Stated>) -> bool {
    let contract = billing.contract();
    let Some(ours) = billing.agreed() else { return false };
    let Some(theirs) = theirs else { return true };
    let theirs = theirs.statement.verify(contract.terms().network);
    theirs.is_ok_and(|theirs| theirs.is_of(contract) && theirs.epoch < ours.epoch)
}

/// What a statement with both signatures adds to the books.
fn booked(node: NodeId, absorbed: &Result<Absorbed, Fault>, contract: &Contract) -> Option<Event> {
    match absorbed {
        Ok(Absorbed::Newest(agreed)) => {
            let fee = contract.terms().fee.of(agreed.earned);
            let (contract, account, storage) = (agreed.contract, agreed.account, agreed.storage);
            let (epoch, earned) = (agreed.epoch, agreed.earned);
            Some(Event::Accrual { contract, account, storage, epoch, earned, fee })
        }
        Ok(Absorbed::Old) => None,
        Err(fault) => {
            tracing::warn!(%node, %fault, "a storage node's statement is not taken");
            None
        }
    }
}
