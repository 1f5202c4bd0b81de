//! Batches: one transaction for all operators who want to be paid on the chain and are due.

use fincrypt_protocol::amount::{Msat, Sat};
use fincrypt_protocol::limits::MAX_PARTS;
use fincrypt_protocol::{PayoutId, UnixTime};
use fincrypt_wallet::ledger::{Account, Event, LedgerError, Part, PayTo, Rail};
use fincrypt_wallet::treasury::{Output, Treasury, TreasuryError};

use super::transactions::TARGET;
use super::{Due, Money};

/// What the network may get of a batch, in permille.
const MOST_FEE_PERMILLE: u64 = 25;
/// The least that is paid by an output: less is hardly worth spending to whoever gets it.
const LEAST_OUTPUT: Msat = Msat::new(1_000_000);

/// What each of these amounts bears of a fee, in proportion; the first bear what is left over.
fn shares(amounts: &[Sat], fee: Sat) -> Option<Vec<Sat>> {
    let sum: u128 = amounts.iter().map(|amount| u128::from(amount.get())).sum();
    let share = |amount: &Sat| {
        let share = (u128::from(fee.get()) * u128::from(amount.get())).checked_div(sum)?;
        u64::try_from(share).ok()
    };
    let mut shares: Vec<u64> = amounts.iter().map(share).collect::<Option<_>>()?;
    let rest = fee.get().checked_sub(shares.iter().sum())?;
    for share in shares.iter_mut().take(usize::try_from(rest).ok()?) {
        *share += 1;
    }
    Some(shares.into_iter().map(Sat::new).collect())
}

/// Outputs of which each bears its share of the fee.
fn less_fee(outputs: &[Output], fee: Sat) -> Option<Vec<Output>> {
    let amounts: Vec<Sat> = outputs.iter().map(|output| output.amount).collect();
    let less = outputs.iter().zip(shares(&amounts, fee)?).map(|(output, share)| {
        let amount = output.amount.checked_sub(share)?;
        Some(Output { address: output.address.clone(), amount })
    });
    less.collect()
}

/// Why a payout on the chain was not decided on.
pub(super) enum NotDecided {
    /// It would cost so much of the sum, in permille.
    Dear(u64),
    Treasury(TreasuryError),
    Ledger(LedgerError),
}

impl From<TreasuryError> for NotDecided {
    fn from(error: TreasuryError) -> Self {
        Self::Treasury(error)
    }
}

impl From<LedgerError> for NotDecided {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl Money {
    /// Decides to pay these outputs, of which each bears its share of the fee: durable in the books
    /// before it is signed, and signed before it is sent.
    pub(super) fn intend_transaction(
        &self,
        treasury: &Treasury,
        payout: PayoutId,
        parts: Vec<Part>,
        outputs: &[Output],
        most_permille: u64,
    ) -> Result<(), NotDecided> {
        let fee = treasury.quote(outputs, TARGET)?;
        let sum: u64 = outputs.iter().map(|output| output.amount.get()).sum();
        if u128::from(fee.get()) * 1000 > u128::from(sum) * u128::from(most_permille) {
            return Err(NotDecided::Dear(fee.get().saturating_mul(1000) / sum.max(1)));
        }
        let outputs = less_fee(outputs, fee).ok_or(NotDecided::Dear(1000))?;
        let to = |output: &Output| {
            let amount = output.amount.to_msat()?;
            Some(PayTo { destination: output.address.clone(), amount })
        };
        let to = outputs.iter().map(to).collect::<Option<_>>().ok_or(NotDecided::Dear(1000))?;
        let event = Event::PayoutIntent { payout, rail: Rail::OnChain, parts, to };
        self.ledger.record(UnixTime::now(), &event)?;
        if let Err(error) = treasury.prepare(payout, &outputs, fee) {
            // Nothing was signed.
            self.ledger.record(UnixTime::now(), &Event::PayoutFailed { payout })?;
            return Err(error.into());
        }
        Ok(())
    }

    /// What the wallet can pay by the books and by its coins.
    fn spendable(&self, treasury: &Treasury) -> Msat {
        let books = self.ledger.books(|books| {
            let there = u128::from(books.balance(Account::OnChain).get());
            there.saturating_sub(books.committed(Rail::OnChain))
        });
        let funds = treasury.funds();
        let coins = funds.confirmed.checked_sub(funds.committed).and_then(Sat::to_msat).unwrap_or_default();
        coins.min(Msat::new(u64::try_from(books).unwrap_or(u64::MAX)))
    }

    /// Decides to pay all of these in one transaction, unless that costs too much of it. Blocks.
    pub(in crate::mediator) fn intend_batch(&self, mut due: Vec<(Due, String)>) -> Result<(), LedgerError> {
        let Some(treasury) = self.treasury() else { return Ok(()) };
        // One that is too small would hold all others up.
        due.retain(|(due, _)| {
            let enough = due.total >= LEAST_OUTPUT;
            if !enough {
                let reason =
                    format!("on the chain no less than {LEAST_OUTPUT} are paid: it waits until more is owed");
                self.trouble(&due.node, &reason);
            }
            enough
        });
        // The smallest first: of coins that do not suffice for all, most are paid.
        due.sort_unstable_by_key(|(due, _)| due.total);
        let (mut parts, mut sum) = (0, Msat::ZERO);
        let there = self.spendable(treasury);
        due.retain(|(due, _)| {
            parts += due.parts.len();
            sum = sum.checked_add(due.total).unwrap_or(Msat::new(u64::MAX));
            if sum > there {
                self.trouble(
                    &due.node,
                    "the wallet's coins do not suffice now: add capital (`wallet address`)",
                );
            }
            parts <= MAX_PARTS && sum <= there
        });
        if due.is_empty() {
            return Ok(());
        }
        let outputs: Vec<Output> = due
            .iter()
            .map(|(due, address)| Output { address: address.clone(), amount: due.total.whole_sat() })
            .collect();
        let Ok(payout) = super::payouts::draw() else { return Ok(()) };
        let parts = due.iter().flat_map(|(due, _)| due.parts.clone()).collect();
        let decided = self.intend_transaction(treasury, payout, parts, &outputs, MOST_FEE_PERMILLE);
        let reason = match decided {
            Ok(()) => return Ok(()),
            Err(NotDecided::Dear(permille)) => {
                let (whole, part) = (permille / 10, permille % 10);
                format!("a transaction would cost {whole}.{part} % of it: it waits until more is owed")
            }
            Err(NotDecided::Treasury(error)) => error.to_string(),
            Err(NotDecided::Ledger(LedgerError::Books(refused))) => refused.to_string(),
            Err(NotDecided::Ledger(failed)) => return Err(failed),
        };
        due.iter().for_each(|(due, _)| self.trouble(&due.node, &reason));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_fee_is_shared_to_the_satoshi_in_proportion(
            amounts in proptest::collection::vec(1u64..1 << 40, 1..50), fee in 0u64..100_000,
        ) {
            let sat: Vec<Sat> = amounts.iter().map(|amount| Sat::new(*amount)).collect();
            let shares = shares(&sat, Sat::new(fee)).expect("shares");
            prop_assert_eq!(shares.iter().map(|share| share.get()).sum::<u64>(), fee);
            let sum: u128 = amounts.iter().map(|amount| u128::from(*amount)).sum();
            for (amount, share) in amounts.iter().zip(&shares) {
                let fair = u128::from(fee) * u128::from(*amount) / sum;
                prop_assert!(u128::from(share.get()) - fair <= 1);
            }
        }
    }
}
