//! What an event changes: checked against the books before anything is written.

mod error;
mod payouts;

use std::collections::{BTreeMap, BTreeSet};

use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::{AccountId, ContractId, Epoch, NodeId, PayoutId, TxId};

use super::account::{Account, Arrival, Owner, Rail, Side, Source};
use super::books::{Books, ContractBook, DepositBook, MoveBook, PayoutBook};
use super::event::Event;

pub use error::BooksError;

/// A checked change of the books.
#[derive(Debug)]
pub(super) struct Plan {
    /// The balances that change, as they will be.
    after: BTreeMap<Account, Msat>,
    effects: Vec<Effect>,
    /// The accounts in whose history the entry appears.
    pub(super) touches: BTreeSet<Account>,
}

#[derive(Debug)]
enum Effect {
    Deposit(Arrival, DepositBook),
    Contract(ContractId, ContractBook),
    Payout(PayoutId, PayoutBook),
    Move(TxId, MoveBook),
    Source(Source, Owner),
    ChannelCosts(Msat),
    ForwardingIncome(Msat),
}

/// A plan that is being made.
struct Draft<'a> {
    books: &'a Books,
    after: BTreeMap<Account, Msat>,
    effects: Vec<Effect>,
    touches: BTreeSet<Account>,
    debits: u128,
    credits: u128,
}

type Planned = Result<Option<Plan>, BooksError>;

impl<'a> Draft<'a> {
    fn new(books: &'a Books) -> Self {
        Self {
            books,
            after: BTreeMap::new(),
            effects: Vec::new(),
            touches: BTreeSet::new(),
            debits: 0,
            credits: 0,
        }
    }

    fn balance(&self, account: Account) -> Msat {
        self.after.get(&account).copied().unwrap_or_else(|| self.books.balance(account))
    }

    fn post(&mut self, account: Account, side: Side, amount: Msat) -> Result<(), BooksError> {
        if amount.is_zero() {
            return Ok(());
        }
        let has = self.balance(account);
        let after = if account.side() == side {
            has.checked_add(amount).ok_or(BooksError::Overflow)?
        } else {
            has.checked_sub(amount).ok_or(BooksError::Insufficient { account, has, needs: amount })?
        };
        match side {
            Side::Debit => self.debits += u128::from(amount.get()),
            Side::Credit => self.credits += u128::from(amount.get()),
        }
        self.touches.insert(account);
        self.after.insert(account, after);
        Ok(())
    }

    fn debit(&mut self, account: Account, amount: Msat) -> Result<(), BooksError> {
        self.post(account, Side::Debit, amount)
    }

    fn credit(&mut self, account: Account, amount: Msat) -> Result<(), BooksError> {
        self.post(account, Side::Credit, amount)
    }

    /// Takes `amount` from what somebody is owed; what is not there is a loss. How much was there.
    fn debit_or_lose(&mut self, account: Account, amount: Msat) -> Result<Msat, BooksError> {
        let there = self.balance(account).min(amount);
        self.debit(account, there)?;
        self.debit(Account::Losses, minus(amount, there)?)?;
        Ok(there)
    }

    fn finish(self) -> Planned {
        if self.debits != self.credits {
            return Err(BooksError::Unbalanced);
        }
        Ok(Some(Plan { after: self.after, effects: self.effects, touches: self.touches }))
    }
}

fn plus(a: Msat, b: Msat) -> Result<Msat, BooksError> {
    a.checked_add(b).ok_or(BooksError::Overflow)
}

fn minus(a: Msat, b: Msat) -> Result<Msat, BooksError> {
    a.checked_sub(b).ok_or(BooksError::Overflow)
}

/// What to do with an event of round `stated` when `round` is the next: `true` if it is that one.
fn is_next(round: u32, stated: u32) -> Result<bool, BooksError> {
    if stated > round { Err(BooksError::Round { round, stated }) } else { Ok(stated == round) }
}

impl Books {
    /// What an event changes; `None` if it was recorded before.
    pub(super) fn plan(&self, event: &Event) -> Planned {
        Planner(self).plan(event)
    }

    /// Carries a plan out that was made from these books as they are.
    pub(super) fn apply(&mut self, plan: Plan) {
        for (account, balance) in plan.after {
            if balance.is_zero() {
                self.balances.remove(&account);
            } else {
                self.balances.insert(account, balance);
            }
        }
        for effect in plan.effects {
            match effect {
                Effect::Deposit(id, book) => drop(self.deposits.insert(id, book)),
                Effect::Contract(id, book) => drop(self.contracts.insert(id, book)),
                Effect::Payout(id, book) => drop(self.payouts.insert(id, book)),
                Effect::Move(id, book) => drop(self.moves.insert(id, book)),
                Effect::Source(source, owner) => drop(self.sources.insert(source, owner)),
                Effect::ChannelCosts(total) => self.channel_costs = total,
                Effect::ForwardingIncome(total) => self.forwarding_income = total,
            }
        }
    }
}

/// Plans what events change in books.
struct Planner<'a>(&'a Books);

impl Planner<'_> {
    fn plan(&self, event: &Event) -> Planned {
        match event {
            Event::Deposit { arrival, round, owner, amount } => {
                let known = self.0.deposits.get(arrival);
                let fresh = DepositBook {
                    owner: *owner,
                    amount: *amount,
                    round: 0,
                    credited: false,
                    lost: Msat::ZERO,
                };
                self.deposit_comes(*arrival, *round, known.copied().unwrap_or(fresh), fresh)
            }
            Event::DepositReorged { arrival, round } => self.deposit_goes(*arrival, *round),
            Event::Accrual { contract, account, storage, epoch, earned, fee } => {
                self.accrual(*contract, (*account, *storage), *epoch, (*earned, *fee))
            }
            Event::Attributed { source, owner } => self.attributed(*source, *owner),
            Event::ChannelCosts { total } => self.channel_costs_grow(*total),
            Event::ForwardingIncome { total } => self.forwarding_income_grows(*total),
            Event::PayoutIntent { payout, rail, parts, to } => self.intent(*payout, *rail, parts, to),
            Event::PayoutSent { payout, sending } => self.sent(*payout, *sending),
            Event::PayoutSettled { payout, round, sending, left } => {
                self.settled(*payout, *round, *sending, *left)
            }
            Event::PayoutReopened { payout, round } => self.reopened(*payout, *round),
            Event::PayoutFailed { payout } => self.failed(*payout),
            Event::Moved { transaction, to, amount, fee } => {
                self.moved(*transaction, MoveBook { to: *to, amount: *amount, fee: *fee, more: Msat::ZERO })
            }
            Event::MoveReplaced { first, fee } => self.move_replaced(*first, *fee),
        }
    }

    fn deposit_comes(
        &self,
        arrival: Arrival,
        round: u32,
        known: DepositBook,
        stated: DepositBook,
    ) -> Planned {
        let DepositBook { owner, amount, .. } = stated;
        if (known.owner, known.amount) != (owner, amount) {
            return Err(BooksError::Differs);
        }
        if amount.is_zero() {
            return Err(BooksError::Nothing);
        }
        if !is_next(known.round, round)? || known.credited {
            return Ok(None);
        }
        let mut draft = Draft::new(self.0);
        draft.debit(Rail::from(arrival).account(), amount)?;
        // What was lost with it when it went away has come back.
        draft.credit(Account::Losses, known.lost)?;
        draft.credit(owner.account(), minus(amount, known.lost)?)?;
        draft.touches.insert(owner.account());
        draft
            .effects
            .push(Effect::Deposit(arrival, DepositBook { credited: true, lost: Msat::ZERO, ..known }));
        draft.finish()
    }

    fn deposit_goes(&self, arrival: Arrival, round: u32) -> Planned {
        let known = *self.0.deposits.get(&arrival).ok_or(BooksError::UnknownDeposit)?;
        if !is_next(known.round, round)? {
            return Ok(None);
        }
        if !known.credited {
            return Err(BooksError::UnknownDeposit);
        }
        let mut draft = Draft::new(self.0);
        draft.credit(Rail::from(arrival).account(), known.amount)?;
        let there = draft.debit_or_lose(known.owner.account(), known.amount)?;
        draft.touches.insert(known.owner.account());
        let (round, lost) = (known.round.saturating_add(1), minus(known.amount, there)?);
        draft.effects.push(Effect::Deposit(arrival, DepositBook { round, credited: false, lost, ..known }));
        draft.finish()
    }

    fn accrual(
        &self,
        contract: ContractId,
        (account, storage): (AccountId, NodeId),
        epoch: Epoch,
        (earned, fee): (Msat, Msat),
    ) -> Planned {
        let known = self.0.contracts.get(&contract);
        if known.is_some_and(|known| (known.account, known.storage) != (account, storage)) {
            return Err(BooksError::Differs);
        }
        if let Some(known) = known.filter(|known| epoch <= known.epoch) {
            // Of superseded epochs nothing is remembered but that they cannot have come to more.
            let same = known.earned == earned && known.fee == fee;
            let less = epoch < known.epoch && earned <= known.earned && fee <= known.fee;
            return if same || less { Ok(None) } else { Err(BooksError::Differs) };
        }
        let (before, fee_before, paid) =
            known.map_or_else(Default::default, |known| (known.earned, known.fee, known.paid));
        let falls = BooksError::Falls { contract, epoch };
        let step = earned.checked_sub(before).zip(fee.checked_sub(fee_before));
        let (step, fee_step) = step.ok_or(falls)?;
        let mut draft = Draft::new(self.0);
        draft.debit_or_lose(Account::Prepayment(account), plus(step, fee_step)?)?;
        draft.credit(Account::Payable(contract), step)?;
        draft.credit(Account::Fees, fee_step)?;
        draft.touches.extend([Account::Prepayment(account), Account::Payable(contract)]);
        let book = ContractBook { account, storage, epoch, earned, fee, paid };
        draft.effects.push(Effect::Contract(contract, book));
        draft.finish()
    }

    fn attributed(&self, source: Source, owner: Owner) -> Planned {
        if let Some(known) = self.0.sources.get(&source) {
            return if *known == owner { Ok(None) } else { Err(BooksError::Differs) };
        }
        if let Source::Address(index) = source
            && index != self.0.next_address()
        {
            return Err(BooksError::AddressOrder { next: self.0.next_address(), stated: index });
        }
        let mut draft = Draft::new(self.0);
        draft.touches.insert(owner.account());
        draft.effects.push(Effect::Source(source, owner));
        draft.finish()
    }

    fn channel_costs_grow(&self, total: Msat) -> Planned {
        let Some(step) = total.checked_sub(self.0.channel_costs).filter(|step| !step.is_zero()) else {
            return Ok(None);
        };
        let mut draft = Draft::new(self.0);
        draft.credit(Account::Lightning, step)?;
        draft.debit(Account::NetworkFees, step)?;
        draft.effects.push(Effect::ChannelCosts(total));
        draft.finish()
    }

    fn forwarding_income_grows(&self, total: Msat) -> Planned {
        let Some(step) = total.checked_sub(self.0.forwarding_income).filter(|step| !step.is_zero()) else {
            return Ok(None);
        };
        let mut draft = Draft::new(self.0);
        draft.debit(Account::Lightning, step)?;
        draft.credit(Account::Forwarding, step)?;
        draft.effects.push(Effect::ForwardingIncome(total));
        draft.finish()
    }

    fn moved(&self, transaction: TxId, book: MoveBook) -> Planned {
        if let Some(known) = self.0.moves.get(&transaction) {
            let same = MoveBook { more: Msat::ZERO, ..*known } == book;
            return if same { Ok(None) } else { Err(BooksError::Differs) };
        }
        if book.amount.is_zero() {
            return Err(BooksError::Nothing);
        }
        let mut draft = Draft::new(self.0);
        draft.credit(book.to.other().account(), plus(book.amount, book.fee)?)?;
        draft.debit(book.to.account(), book.amount)?;
        draft.debit(Account::NetworkFees, book.fee)?;
        draft.effects.push(Effect::Move(transaction, book));
        draft.finish()
    }

    fn move_replaced(&self, first: TxId, fee: Msat) -> Planned {
        let known = self.0.moves.get(&first).copied().ok_or(BooksError::UnknownMove(first))?;
        let paid = plus(known.fee, known.more)?;
        let Some(step) = fee.checked_sub(paid).filter(|step| !step.is_zero()) else { return Ok(None) };
        let mut draft = Draft::new(self.0);
        draft.credit(known.to.other().account(), step)?;
        draft.debit(Account::NetworkFees, step)?;
        let book = MoveBook { more: plus(known.more, step)?, ..known };
        draft.effects.push(Effect::Move(first, book));
        draft.finish()
    }
}
