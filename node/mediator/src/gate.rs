//! What clients' prepayments cover: what may be signed for them and stored for them, and since when
//! one is empty. The rules are [`Claims`] and [`Escrow`].
//!
//! Tree `empty_purses`: account → since when the next epoch is not covered, u64le seconds since 1970.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::Duration;

use fincrypt_billing::statement::Billing;
use fincrypt_billing::{Charged, Claims, Cost, Escrow};
use fincrypt_ledger::{Account as LedgerAccount, Books, Ledger};
use fincrypt_protocol::amount::{Msat, Price};
use fincrypt_protocol::statement::{Contract, Terms};
use fincrypt_protocol::{AccountId, ContractId, NodeId, Refusal, UnixTime};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;

use super::MediatorRole;
use super::money::Settlement;
use super::records::SegmentRecord;
use fincrypt_accounts::failed;

/// `account` → since when it is empty.
const EMPTY: Tree = Tree("empty_purses");
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A contract, as far as its client's prepayment goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    terms: Terms,
    contract: ContractId,
    promised: Msat,
    due: Msat,
}

impl Line {
    /// What a contract has come to, of which at most `promised` was ever signed.
    pub(super) fn of(billing: &Billing, promised: Msat) -> Result<Self, Refusal> {
        let (contract, fee) = (billing.contract(), billing.contract().terms().fee);
        let due = billing.due().map_err(|error| failed(&error))?;
        Ok(Self {
            terms: *contract.terms(),
            contract: contract.id(),
            promised: Charged::cost(promised, fee),
            due: Charged::cost(due, fee),
        })
    }

    fn charged(&self, books: &Books) -> Charged {
        let booked = books.contract(self.contract);
        let booked = booked.and_then(|booked| booked.earned.checked_add(booked.fee)).unwrap_or_default();
        Charged { booked, promised: self.promised, due: self.due }
    }
}

/// What an account's prepayment is spoken for by.
#[derive(Debug, Default)]
pub(super) struct Purse {
    lines: HashMap<NodeId, Line>,
    /// Withdrawals that are being decided on, and not in the books yet.
    leaving: Msat,
}

impl Purse {
    fn claims(&self, books: &Books) -> Claims {
        Claims::of(self.lines.values().map(|line| line.charged(books)), self.leaving)
    }

    pub(super) fn note(&mut self, node: NodeId, line: Line) {
        self.lines.insert(node, line);
    }

    /// Whether a statement of all that a node has earned may be signed.
    pub(super) fn lets_sign(&self, account: AccountId, node: &NodeId, books: &Books) -> bool {
        let balance = books.balance(LedgerAccount::Prepayment(account));
        let line = self.lines.get(node).map(|line| line.charged(books)).unwrap_or_default();
        self.claims(books).lets_sign(balance, &line)
    }
}

/// All accounts' purses, in memory, and which of them are empty.
pub(super) struct Gate {
    state: State,
    purses: Mutex<HashMap<AccountId, Purse>>,
}

/// How an account's prepayment stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct PurseStanding {
    pub(super) prepaid: Msat,
    pub(super) claims: Claims,
    pub(super) cost: Cost,
    pub(super) empty: Option<UnixTime>,
    pub(super) grace_days: u16,
}

/// Money that is set aside for as long as this lives.
pub(super) struct Leaving<'a> {
    gate: &'a Gate,
    account: AccountId,
    amount: Msat,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some(purse) = self.gate.purses().get_mut(&self.account) {
            purse.leaving = purse.leaving.checked_sub(self.amount).unwrap_or_default();
        }
    }
}

impl Gate {
    pub(super) fn new(state: State, contracts: impl IntoIterator<Item = (AccountId, NodeId, Line)>) -> Self {
        let mut purses = HashMap::<AccountId, Purse>::new();
        for (account, node, line) in contracts {
            purses.entry(account).or_default().note(node, line);
        }
        Self { state, purses: Mutex::new(purses) }
    }

    pub(super) fn purses(&self) -> MutexGuard<'_, HashMap<AccountId, Purse>> {
        self.purses.lock()
    }

    /// Nodes with which there is a contract for an account.
    pub(super) fn nodes(&self, account: &AccountId) -> Vec<NodeId> {
        self.purses().get(account).map(|purse| purse.lines.keys().copied().collect()).unwrap_or_default()
    }

    /// The terms that were agreed with a node for an account.
    fn terms(&self, account: &AccountId, node: &NodeId) -> Option<Terms> {
        self.purses().get(account)?.lines.get(node).map(|line| line.terms)
    }

    /// Sets money aside that is about to leave, all that is free if no amount is said; none if there is
    /// less.
    pub(super) fn leave(
        &self,
        account: AccountId,
        amount: Option<Msat>,
        ledger: &Ledger,
    ) -> Option<Leaving<'_>> {
        // This lock comes before the ledger's, always.
        let mut purses = self.purses();
        let (balance, claims) = ledger.books(|books| {
            let claims = purses.get(&account).map(|purse| purse.claims(books)).unwrap_or_default();
            (books.balance(LedgerAccount::Prepayment(account)), claims)
        });
        let free = claims.free(balance);
        let amount = amount.unwrap_or(free);
        if amount > free || amount.is_zero() {
            return None;
        }
        let purse = purses.entry(account).or_default();
        purse.leaving = purse.leaving.checked_add(amount)?;
        Some(Leaving { gate: self, account, amount })
    }

    fn empty(&self, account: &AccountId) -> Result<Option<UnixTime>, Refusal> {
        let bytes = self.state.get(EMPTY, account.as_bytes()).map_err(|error| failed(&error))?;
        let bytes = bytes.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map(|bytes| UnixTime::from_secs(u64::from_le_bytes(bytes))))
    }

    fn set_empty(&self, account: &AccountId, since: Option<UnixTime>) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        match since {
            Some(since) => batch.put(EMPTY, *account.as_bytes(), since.secs().to_le_bytes()),
            None => batch.remove(EMPTY, *account.as_bytes()),
        }
        self.state.commit(&batch).map_err(|error| failed(&error))
    }
}

impl Leaving<'_> {
    pub(super) fn amount(&self) -> Msat {
        self.amount
    }
}

impl MediatorRole {
    /// What is held for an account where it costs something, and on which terms: the agreed ones, or
    /// those of the contract that the next audit begins.
    fn held_on_terms(&self, account: AccountId) -> Result<Vec<(Terms, u64)>, Refusal> {
        let (mut held, mut limit) = (Vec::new(), None);
        for (node, bytes) in self.records.held_of(&account) {
            let terms = match self.gate.terms(&account, &node) {
                Some(terms) => Some(terms),
                None => {
                    let limit = match limit {
                        Some(limit) => limit,
                        None => *limit.insert(self.price_limit(&account)?),
                    };
                    self.terms_for(node, account, self.standings.now(), limit)
                }
            };
            held.extend(terms.map(|terms| (terms, bytes)));
        }
        Ok(held)
    }

    /// The most that an account's newest mandate lets storage take.
    pub(super) fn price_limit(&self, account: &AccountId) -> Result<Option<Price>, Refusal> {
        let mandate = self.records.mandate(account)?;
        // It was checked when it was kept; whether it has expired does not matter here.
        let mandate = mandate.map(|mandate| mandate.verify(self.network, UnixTime::from_secs(0)));
        Ok(mandate.transpose().map_err(|error| failed(&error))?.and_then(|mandate| mandate.max_price))
    }

    /// How an account's prepayment stands, noting since when it is empty.
    pub(super) fn purse_standing(&self, account: AccountId) -> Result<PurseStanding, Refusal> {
        let held = self.held_on_terms(account)?;
        let cost = Cost::of(held.iter().map(|(terms, bytes)| (terms, *bytes)));
        let cost = cost.map_err(|error| failed(&error))?;
        let grace_days = held.iter().map(|(terms, _)| terms.grace_days).min().unwrap_or(0);
        let (prepaid, claims) = {
            let purses = self.gate.purses();
            // Whoever asks leaves nothing behind.
            let purse = purses.get(&account);
            self.money.books().books(|books| {
                let claims = purse.map(|purse| purse.claims(books)).unwrap_or_default();
                (books.balance(LedgerAccount::Prepayment(account)), claims)
            })
        };
        let known = self.gate.empty(&account)?;
        let mut escrow = Escrow { empty: known };
        let left = claims.left(prepaid).unwrap_or_default();
        escrow.standing(left, cost, DAY * u32::from(grace_days), UnixTime::now());
        if escrow.empty != known {
            self.gate.set_empty(&account, escrow.empty)?;
        }
        Ok(PurseStanding { prepaid, claims, cost, empty: escrow.empty, grace_days })
    }

    /// Refuses a segment whose account's prepayment does not cover the next epoch of what it has and
    /// of this. What costs nothing is stored in any case, and so is all where nobody can pay in.
    pub(super) fn admit_cost(&self, account: AccountId, segment: &SegmentRecord) -> Result<(), Refusal> {
        if !self.money.takes_deposits() {
            return Ok(());
        }
        let (epoch, length) = (self.standings.now(), u64::from(segment.manifest.shard_len().get()));
        let limit = self.price_limit(&account)?;
        let lacking = segment.slots.iter().filter(|slot| slot.receipt.is_none());
        let new: Vec<Terms> = lacking
            .filter_map(|slot| {
                let node = slot.node?;
                self.gate.terms(&account, &node).or_else(|| self.terms_for(node, account, epoch, limit))
            })
            .collect();
        let cost = Cost::of(new.iter().map(|terms| (terms, length))).map_err(|error| failed(&error))?;
        if cost.epoch.is_zero() {
            return Ok(());
        }
        let standing = self.purse_standing(account)?;
        let cost = standing.cost.epoch.checked_add(cost.epoch).ok_or(Refusal::Unpaid)?;
        if standing.claims.covers(standing.prepaid, cost) { Ok(()) } else { Err(Refusal::Unpaid) }
    }
}

/// A contract's line, from what is kept of it.
pub(super) fn line_of(
    terms: Terms,
    saved: &fincrypt_billing::statement::SavedBilling,
    promised: Msat,
) -> Option<Line> {
    let billing = Billing::restore(Contract::new(terms).ok()?, saved).ok()?;
    let promised = promised.max(billing.promised());
    Line::of(&billing, promised).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_ledger::{Arrival, Event, Owner};
    use fincrypt_protocol::TxId;

    #[test]
    fn what_leaves_is_set_aside_until_it_is_in_the_books_or_given_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(&dir.path().join("state")).expect("opens");
        let (ledger, _) = Ledger::open(&dir.path().join("ledger")).expect("opens");
        let (gate, account) = (Gate::new(state, []), AccountId::from_bytes([1; 32]));
        let leave = |amount: Option<u64>| gate.leave(account, amount.map(Msat::new), &ledger);
        assert!(leave(None).is_none(), "there is nothing");
        let arrival = Arrival::Output(TxId::from_bytes([2; 32]), 0);
        let (owner, amount) = (Owner::Client(account), Msat::new(1000));
        let deposit = Event::Deposit { arrival, round: 0, owner, amount };
        ledger.record(UnixTime::from_secs(1), &deposit).expect("recorded");
        assert!(leave(Some(1001)).is_none());
        let first = leave(Some(600)).expect("there is as much");
        assert!(leave(Some(401)).is_none(), "of two at once, both would have it");
        let rest = leave(None).expect("the rest");
        assert_eq!(rest.amount(), Msat::new(400));
        drop(first);
        assert_eq!(leave(None).map(|all| all.amount()), Some(Msat::new(600)));
        drop(rest);
        assert_eq!(leave(None).map(|all| all.amount()), Some(Msat::new(1000)));
    }

    #[test]
    fn since_when_a_purse_is_empty_outlives_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || State::open(dir.path()).expect("opens").0;
        let (account, since) = (AccountId::from_bytes([1; 32]), UnixTime::from_secs(77));
        let (state, other) = (open(), AccountId::from_bytes([2; 32]));
        let gate = Gate::new(state.clone(), []);
        gate.set_empty(&account, Some(since)).expect("written");
        drop(gate);
        state.close();
        drop(state);
        let gate = Gate::new(open(), []);
        assert_eq!((gate.empty(&account), gate.empty(&other)), (Ok(Some(since)), Ok(None)));
        gate.set_empty(&account, None).expect("written");
        assert_eq!(gate.empty(&account), Ok(None));
    }
}
