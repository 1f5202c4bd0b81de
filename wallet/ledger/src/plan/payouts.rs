//! The life of a payout: announced, sent, settled; reopened or failed.

use std::collections::BTreeSet;

use fincrypt_protocol::PayoutId;
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::limits::MAX_DESTINATION;

use super::{BooksError, Draft, Effect, Planned, Planner, is_next, minus, plus};
use crate::account::{Account, Owed, Rail, Sending};
use crate::books::{ContractBook, PayoutBook, PayoutStage};
use crate::event::{MAX_PARTS, Part, PayTo};

impl Planner<'_> {
    pub(super) fn intent(&self, payout: PayoutId, rail: Rail, parts: &[Part], to: &[PayTo]) -> Planned {
        if let Some(known) = self.0.payouts.get(&payout) {
            let same = known.rail == rail && known.parts == parts && known.to == to;
            return if same { Ok(None) } else { Err(BooksError::Differs) };
        }
        let creditors: BTreeSet<Owed> = parts.iter().map(|part| part.owed).collect();
        if parts.is_empty() || parts.len() > MAX_PARTS || creditors.len() < parts.len() {
            return Err(BooksError::Parts);
        }
        let mut draft = Draft::new(self.0);
        let mut total = Msat::ZERO;
        for part in parts {
            if part.amount.is_zero() {
                return Err(BooksError::Nothing);
            }
            total = plus(total, part.amount)?;
            draft.debit(part.owed.account(), part.amount)?;
        }
        let mut arrives = Msat::ZERO;
        for to in to {
            arrives = plus(arrives, to.amount)?;
        }
        let each = |to: &PayTo| {
            let whole = rail == Rail::Lightning || to.amount.whole_sat().to_msat() == Some(to.amount);
            !to.amount.is_zero() && whole && to.destination.len() <= MAX_DESTINATION
        };
        let count = if rail == Rail::Lightning { 1..=1 } else { 1..=parts.len() };
        if !count.contains(&to.len()) || arrives > total || !to.iter().all(each) {
            return Err(BooksError::Destination);
        }
        if rail == Rail::OnChain && total.whole_sat().to_msat() != Some(total) {
            return Err(BooksError::NotWhole(total));
        }
        let free = u128::from(self.0.balance(rail.account()).get()).saturating_sub(self.0.committed(rail));
        if free < u128::from(total.get()) {
            return Err(BooksError::Committed { rail, free, needs: total });
        }
        draft.credit(Account::InFlight(payout), total)?;
        let (parts, sent) = (parts.to_vec(), Vec::new());
        let book = PayoutBook { rail, parts, sent, stage: PayoutStage::Open, round: 0, to: to.to_vec() };
        draft.effects.push(Effect::Payout(payout, book));
        draft.finish()
    }

    fn known_payout(&self, payout: PayoutId) -> Result<&PayoutBook, BooksError> {
        self.0.payouts.get(&payout).ok_or(BooksError::UnknownPayout(payout))
    }

    pub(super) fn sent(&self, payout: PayoutId, sending: Sending) -> Planned {
        let known = self.known_payout(payout)?;
        if known.sent.contains(&sending) {
            return Ok(None);
        }
        if Rail::from(sending) != known.rail {
            return Err(BooksError::WrongRail);
        }
        if known.stage != PayoutStage::Open {
            return Err(BooksError::Over(payout));
        }
        let mut draft = Draft::new(self.0);
        let mut book = known.clone();
        book.sent.push(sending);
        draft.touch_parts(payout, &book);
        draft.effects.push(Effect::Payout(payout, book));
        draft.finish()
    }

    pub(super) fn settled(&self, payout: PayoutId, round: u32, sending: Sending, left: Msat) -> Planned {
        let known = self.known_payout(payout)?;
        if !known.sent.contains(&sending) {
            return Err(BooksError::NotSent);
        }
        if !is_next(known.round, round)? {
            return Ok(None);
        }
        if let PayoutStage::Settled { sending: by, left: cost, .. } = known.stage {
            return if (by, cost) == (sending, left) { Ok(None) } else { Err(BooksError::Differs) };
        }
        let total = known.total();
        match known.rail {
            Rail::OnChain if left < total => return Err(BooksError::LeftLess { left, total }),
            // Another transaction has spent its inputs for good.
            Rail::OnChain if known.stage == PayoutStage::Failed => return Err(BooksError::Over(payout)),
            Rail::OnChain | Rail::Lightning => {}
        }
        // What a routing fee's reserve was not needed for is owed again, from the last part on.
        let mut rest = total.checked_sub(left).unwrap_or_default();
        let mut taken: Vec<Msat> = known.parts.iter().map(|part| part.amount).collect();
        let mut draft = Draft::new(self.0);
        for (part, taken) in known.parts.iter().zip(&mut taken).rev() {
            let back = rest.min(*taken);
            rest = minus(rest, back)?;
            *taken = minus(*taken, back)?;
            if known.stage == PayoutStage::Failed {
                // It had read as failed, and arrived after all.
                *taken = draft.debit_or_lose(part.owed.account(), *taken)?;
            } else {
                draft.credit(part.owed.account(), back)?;
            }
        }
        if known.stage == PayoutStage::Open {
            draft.debit(Account::InFlight(payout), total)?;
        }
        draft.debit(Account::NetworkFees, left.checked_sub(total).unwrap_or_default())?;
        draft.credit(known.rail.account(), left)?;
        draft.pay(known, &taken, plus)?;
        draft.touch_parts(payout, known);
        let stage = PayoutStage::Settled { sending, left, taken };
        draft.effects.push(Effect::Payout(payout, PayoutBook { stage, ..known.clone() }));
        draft.finish()
    }

    pub(super) fn reopened(&self, payout: PayoutId, round: u32) -> Planned {
        let known = self.known_payout(payout)?;
        if !is_next(known.round, round)? {
            return Ok(None);
        }
        // A Lightning payment that arrived stays.
        let PayoutStage::Settled { left, taken, .. } = &known.stage else {
            return Err(BooksError::NotSettled(payout));
        };
        if known.rail == Rail::Lightning {
            return Err(BooksError::Over(payout));
        }
        let total = known.total();
        let mut draft = Draft::new(self.0);
        draft.debit(known.rail.account(), *left)?;
        draft.credit(Account::NetworkFees, minus(*left, total)?)?;
        draft.credit(Account::InFlight(payout), total)?;
        draft.pay(known, taken, minus)?;
        draft.touch_parts(payout, known);
        let (round, stage) = (known.round.saturating_add(1), PayoutStage::Open);
        draft.effects.push(Effect::Payout(payout, PayoutBook { round, stage, ..known.clone() }));
        draft.finish()
    }

    pub(super) fn failed(&self, payout: PayoutId) -> Planned {
        let known = self.known_payout(payout)?;
        match known.stage {
            PayoutStage::Open => {}
            PayoutStage::Failed => return Ok(None),
            PayoutStage::Settled { .. } => return Err(BooksError::Over(payout)),
        }
        let mut draft = Draft::new(self.0);
        draft.debit(Account::InFlight(payout), known.total())?;
        for part in &known.parts {
            draft.credit(part.owed.account(), part.amount)?;
        }
        draft
            .effects
            .push(Effect::Payout(payout, PayoutBook { stage: PayoutStage::Failed, ..known.clone() }));
        draft.finish()
    }
}

impl Draft<'_> {
    fn touch_parts(&mut self, payout: PayoutId, book: &PayoutBook) {
        self.touches.insert(Account::InFlight(payout));
        self.touches.extend(book.parts.iter().map(|part| part.owed.account()));
    }

    /// Changes what the contracts among a payout's parts count as paid.
    fn pay(
        &mut self,
        payout: &PayoutBook,
        taken: &[Msat],
        change: impl Fn(Msat, Msat) -> Result<Msat, BooksError>,
    ) -> Result<(), BooksError> {
        for (part, taken) in payout.parts.iter().zip(taken) {
            if let Owed::Contract(contract) = part.owed {
                let book =
                    *self.books.contracts.get(&contract).ok_or(BooksError::UnknownContract(contract))?;
                let paid = change(book.paid, *taken)?;
                self.effects.push(Effect::Contract(contract, ContractBook { paid, ..book }));
            }
        }
        Ok(())
    }
}
