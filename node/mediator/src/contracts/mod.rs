//! Contracts: the one owner of what each contract of an account with a storage node amounts to, and
//! of what an account's prepayment is spoken for by.
//!
//! A contract has terms, the statements that were signed for it and the epochs that wait for one
//! ([`ContractState`]). An account has its contracts, withdrawals that are on hold, and the time since
//! which its prepayment is used up ([`Prepayment`]). All of it is in memory, verified once; the tables
//! on disk are written before it changes ([`live`]).
//!
//! The rule that everything here serves: what is signed for, on hold and paid out of an account is never
//! more than was paid in ([`Holds`]).

mod live;
mod state;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use fincrypt_billing::statement::Fault;
use fincrypt_billing::{Cost, EmptySince, Holds};
use fincrypt_ledger::{Account as LedgerAccount, Ledger, LedgerError};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::Stated;
use fincrypt_protocol::pay::{Bill, Billed};
use fincrypt_protocol::statement::{Terms, TermsError};
use fincrypt_protocol::{AccountId, AnswerDigest, ContractId, Epoch, NodeId, SigningKey, UnixTime};
use fincrypt_state::kv::KvError;
use fincrypt_state::state::State;
use serde::Serialize;

use live::Live;
use state::{ContractState, Prepayment};
use tables::Durable;

/// Contracts that an operator is shown at most.
const SHOWN: usize = 10_000;

/// Contracts could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContractsError {
    /// The tables.
    #[error("the tables of contracts")]
    Tables(#[from] KvError),
    /// The books.
    #[error("the ledger")]
    Ledger(#[from] LedgerError),
    /// A stored statement or a sum of one.
    #[error("a contract's statement")]
    Statement(#[from] Fault),
    /// Terms that no contract can have.
    #[error("a contract's terms")]
    Terms(#[from] TermsError),
}

/// An audit that a storage node has passed.
pub(crate) struct PassedAudit {
    /// The storage node.
    pub(crate) node: NodeId,
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// The digest of the node's proofs.
    pub(crate) answer: AnswerDigest,
    /// Bytes that it holds now, by account.
    pub(crate) held: HashMap<AccountId, u64>,
    /// Terms of contracts that begin with it, where there is none yet.
    pub(crate) begun: Vec<Terms>,
}

/// The effect of a storage node's answers to bills.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Accounts of which the node had lost its newest statement and knows it again: it has lost what it
    /// knew of payouts, too. To be confirmed by [`Contracts::caught_up`].
    pub(crate) caught_up: BTreeSet<AccountId>,
}

/// How an account's prepayment is spoken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Spoken {
    /// The prepayment by the books.
    pub(crate) prepaid: Msat,
    /// What of it is signed for, on hold or in arrears.
    pub(crate) holds: Holds,
}

/// The sum of one contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owed {
    /// The storage node.
    pub node: String,
    /// The account.
    pub account: String,
    /// The newest epoch that was countersigned.
    pub epoch: u64,
    /// The sum of that statement, in msat.
    pub earned_msat: u64,
    /// The agreed price, in msat per GiB-month.
    pub price: u64,
}

/// Money on hold for a withdrawal that is being decided on, until this is dropped. After a restart
/// nothing is: what was decided is in the books.
pub(crate) struct Hold<'a, S: Durable = State> {
    contracts: &'a Contracts<S>,
    account: AccountId,
    amount: Msat,
}

impl<S: Durable> Hold<'_, S> {
    /// The amount on hold.
    pub(crate) fn amount(&self) -> Msat {
        self.amount
    }
}

impl<S: Durable> Drop for Hold<'_, S> {
    fn drop(&mut self) {
        self.contracts.live.release(&self.account, self.amount);
    }
}

/// All contracts of a mediator.
pub(crate) struct Contracts<S: Durable = State> {
    live: Live<S>,
}

impl<S: Durable> Contracts<S> {
    /// Reads all contracts.
    ///
    /// # Errors
    /// [`ContractsError`] if one cannot be read: nothing may be signed then.
    pub(crate) fn open(state: S) -> Result<Self, ContractsError> {
        Ok(Self { live: Live::open(state)? })
    }

    /// Accounts of `accounts` that have no contract with `node`.
    pub(crate) fn without_contract<'a>(
        &self,
        node: &NodeId,
        accounts: impl IntoIterator<Item = &'a AccountId>,
    ) -> Vec<AccountId> {
        self.live.view(|map| {
            accounts.into_iter().filter(|account| map.contract(account, node).is_none()).copied().collect()
        })
    }

    /// Accounts that have a contract with a node.
    pub(crate) fn accounts_of(&self, node: &NodeId) -> Vec<AccountId> {
        self.live.view(|map| map.accounts_of(node).copied().collect())
    }

    /// The terms that were agreed on with a node for an account.
    pub(crate) fn terms(&self, account: &AccountId, node: &NodeId) -> Option<Terms> {
        self.live.view(|map| map.contract(account, node).map(|contract| *contract.terms()))
    }

    /// Adds a passed audit to the contracts of its node, and signs what has been earned where the
    /// account's prepayment covers it; with `covered_by` none everything is signed. What was signed
    /// before and not answered is proposed again in any case. The proposals are durable: two different
    /// statements of one epoch would be proof of fraud.
    ///
    /// # Errors
    /// [`ContractsError`]: nothing is changed, and nothing may be sent.
    pub(crate) fn passed(
        &self,
        audit: PassedAudit,
        key: &SigningKey,
        covered_by: Option<&Ledger>,
    ) -> Result<Vec<Bill>, ContractsError> {
        let PassedAudit { node, epoch, answer, mut held, begun } = audit;
        let mut change = self.live.change();
        let mut contracts: BTreeMap<AccountId, ContractState> = change.contracts_of(&node);
        for terms in begun.into_iter().filter(|terms| terms.storage == node) {
            if let std::collections::btree_map::Entry::Vacant(free) = contracts.entry(terms.account) {
                free.insert(ContractState::begin(terms)?);
            }
        }
        for (account, contract) in &mut contracts {
            contract.passed(epoch, held.remove(account).unwrap_or(0), answer)?;
        }
        let covered: Vec<bool> = match covered_by {
            None => vec![true; contracts.len()],
            Some(ledger) => change.with_books(ledger, |map, books| {
                let covers = |(account, contract): (&AccountId, &ContractState)| {
                    let balance = books.balance(LedgerAccount::Prepayment(*account));
                    let charged = contract.charged(books);
                    let holds = map.holds(account, books, Some((&node, charged)));
                    !contract.has_news() || holds.can_authorize(balance, &charged)
                };
                contracts.iter().map(covers).collect()
            }),
        };
        let mut bills = Vec::with_capacity(contracts.len());
        for ((account, mut contract), covered) in contracts.into_iter().zip(covered) {
            if !covered {
                tracing::info!(%node, %account, "statement_waits_for_prepayment");
            }
            bills.extend(contract.bill(covered, key)?);
            change.stage(account, node, contract);
        }
        change.commit()?;
        Ok(bills)
    }

    /// Takes a node's answers to its bills. The books come first: what they miss of a crash comes again
    /// with the next statement's sum.
    ///
    /// # Errors
    /// [`ContractsError`]: the answers count as not received.
    pub(crate) fn answered(
        &self,
        node: NodeId,
        answers: Vec<(AccountId, Billed)>,
        ledger: &Ledger,
        now: UnixTime,
    ) -> Result<Answered, ContractsError> {
        let mut change = self.live.change();
        let mut contracts = change.contracts_of(&node);
        let (mut accruals, mut answered) = (Vec::new(), Answered::default());
        for (account, answer) in answers {
            let Some(contract) = contracts.get_mut(&account) else { continue };
            if contract.answered(answer, &mut accruals)? {
                answered.caught_up.insert(account);
            }
        }
        let posted = ledger.record_all(now, &accruals)?;
        for refused in posted.iter().filter_map(|posted| posted.as_ref().err()) {
            tracing::error!(%node, %refused, "ledger_refused_statement");
        }
        contracts.into_iter().for_each(|(account, contract)| change.stage(account, node, contract));
        change.commit()?;
        Ok(answered)
    }

    /// Confirms that a node which had lost its newest statements has been brought up to date.
    ///
    /// # Errors
    /// [`ContractsError`]: it is brought up to date once more.
    pub(crate) fn caught_up(
        &self,
        node: NodeId,
        accounts: &BTreeSet<AccountId>,
    ) -> Result<(), ContractsError> {
        let mut change = self.live.change();
        let contracts = change.contracts_of(&node).into_iter();
        for (account, mut contract) in contracts.filter(|(account, _)| accounts.contains(account)) {
            contract.caught_up();
            change.stage(account, node, contract);
        }
        change.commit()
    }

    /// How an account's prepayment is spoken for. Leaves no entry for an unknown account.
    pub(crate) fn spoken(&self, account: &AccountId, ledger: &Ledger) -> Spoken {
        self.live.with_books(ledger, |map, books| {
            let prepaid = books.balance(LedgerAccount::Prepayment(*account));
            Spoken { prepaid, holds: map.holds(account, books, None) }
        })
    }

    /// Notes, durably, since when an account's prepayment does not cover what its contracts cost; since
    /// when that is.
    ///
    /// # Errors
    /// [`ContractsError`] if it cannot be noted.
    pub(crate) fn record_runway(
        &self,
        account: AccountId,
        left: Msat,
        cost: Cost,
        grace: Duration,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, ContractsError> {
        let of = |map: &live::Map| EmptySince(map.prepayment(&account).and_then(Prepayment::empty));
        let update = |known: EmptySince| {
            let mut empty = known;
            empty.runway(left, cost, grace, now);
            (empty.0, empty != known)
        };
        if let (empty, false) = update(self.live.view(of)) {
            return Ok(empty);
        }
        let mut change = self.live.change();
        let (empty, differs) = update(change.view(of));
        if differs {
            change.stage_empty(account, empty);
            change.commit()?;
        }
        Ok(empty)
    }

    /// Puts money on hold that is about to leave, all that is free if no amount is said; none if there
    /// is less.
    pub(crate) fn hold(
        &self,
        account: AccountId,
        amount: Option<Msat>,
        ledger: &Ledger,
    ) -> Option<Hold<'_, S>> {
        // No statement is signed between the look and the hold.
        let change = self.live.change();
        let free = change.with_books(ledger, |map, books| {
            let balance = books.balance(LedgerAccount::Prepayment(account));
            map.holds(&account, books, None).free(balance)
        });
        let amount = amount.unwrap_or(free);
        let held = amount <= free && !amount.is_zero() && change.hold(account, amount);
        // Not `then_some`: a hold that is dropped takes money off hold, even one that was never made.
        held.then(|| Hold { contracts: self, account, amount })
    }

    /// Up to `most` of an account's newest statements that both have signed, in order of their
    /// contracts, after `after`; and whether more follow.
    pub(crate) fn agreed_of(
        &self,
        account: &AccountId,
        after: Option<ContractId>,
        most: usize,
    ) -> (Vec<Stated>, bool) {
        let contracts = self.live.view(|map| {
            let all = map.prepayment(account).into_iter().flat_map(Prepayment::contracts);
            let of = all.map(|(_, contract)| (contract.id(), std::sync::Arc::clone(contract)));
            let of =
                of.filter(|(id, contract)| after.is_none_or(|after| *id > after) && contract.is_agreed());
            of.collect::<BTreeMap<_, _>>()
        });
        let more = contracts.len() > most;
        (contracts.values().take(most).filter_map(|contract| contract.stated()).collect(), more)
    }

    /// The sums of contracts, for the operator: at most ten thousand.
    pub(crate) fn owed(&self) -> Vec<Owed> {
        self.live.view(|map| map.contracts().take(SHOWN).map(|contract| contract.owed()).collect())
    }
}
