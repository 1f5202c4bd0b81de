//! Batches: one transaction for all operators who want to be paid on the chain and are due.

use fincrypt_ledger::{Event, LedgerError, Part, PayTo, Rail};
use fincrypt_protocol::amount::{Msat, Sat};
use fincrypt_protocol::limits::MAX_PARTS;
use fincrypt_protocol::{NodeId, PayoutId};
use fincrypt_treasury::onchain::{Output, Treasury, TreasuryError};

use super::chain_payouts::TARGET;
use super::due::Due;
use super::payout_intents::PayoutIntents;

/// The network's largest share of a batch, in permille.
const MOST_FEE_PERMILLE: u64 = 25;
/// The least that is paid by an output: less is hardly worth spending to its recipient.
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

/// Whether a fee exceeds this share of what is paid, in permille.
fn is_dear(fee: Sat, sum: Sat, most_permille: u64) -> bool {
    u128::from(fee.get()) * 1000 > u128::from(sum.get()) * u128::from(most_permille)
}

/// Payees that are not paid now, and why.
type Waits = (NodeId, String);

/// Whom one transaction pays of all that are due, with the coins that are `there`; and who waits, and why.
fn choose(mut due: Vec<(Due, String)>, there: impl FnOnce() -> Msat) -> (Vec<(Due, String)>, Vec<Waits>) {
    let mut waiting = Vec::new();
    // One that is too small would hold all others up.
    due.retain(|(due, _)| {
        let enough = due.total >= LEAST_OUTPUT;
        if !enough {
            let reason =
                format!("on the chain no less than {LEAST_OUTPUT} are paid: it waits until more is owed");
            waiting.push((due.node, reason));
        }
        enough
    });
    if due.is_empty() {
        return (due, waiting);
    }
    // The smallest first: of coins that do not suffice for all, most are paid.
    due.sort_unstable_by_key(|(due, _)| due.total);
    let (mut parts, mut sum, there) = (0, Msat::ZERO, there());
    due.retain(|(due, _)| {
        parts += due.parts.len();
        sum = sum.checked_add(due.total).unwrap_or(Msat::new(u64::MAX));
        if sum > there {
            let reason = "the wallet's coins do not suffice now: add capital (`wallet address`)";
            waiting.push((due.node, reason.to_owned()));
        }
        // Whoever finds no room is next.
        parts <= MAX_PARTS && sum <= there
    });
    (due, waiting)
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

impl PayoutIntents {
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
        let _deciding = self.wallets.decide();
        let fee = treasury.quote(outputs, TARGET)?;
        let sum: u64 = outputs.iter().map(|output| output.amount.get()).sum();
        if is_dear(fee, Sat::new(sum), most_permille) {
            return Err(NotDecided::Dear(fee.get().saturating_mul(1000) / sum.max(1)));
        }
        let outputs = less_fee(outputs, fee).ok_or(NotDecided::Dear(1000))?;
        let to = |output: &Output| {
            let amount = output.amount.to_msat()?;
            Some(PayTo { destination: output.address.clone(), amount })
        };
        let to = outputs.iter().map(to).collect::<Option<_>>().ok_or(NotDecided::Dear(1000))?;
        let event = Event::PayoutIntent { payout, rail: Rail::OnChain, parts, to };
        self.wallets.record(&event)?;
        if let Err(error) = treasury.prepare(payout, &outputs, fee) {
            // Nothing was signed.
            self.wallets.record(&Event::PayoutFailed { payout })?;
            return Err(error.into());
        }
        Ok(())
    }

    /// The sum that the wallet can pay by the books and by its coins.
    fn spendable(&self, treasury: &Treasury) -> Msat {
        let funds = treasury.funds();
        let coins = funds.confirmed.checked_sub(funds.committed).and_then(Sat::to_msat).unwrap_or_default();
        coins.min(self.wallets.unpromised())
    }

    /// Decides to pay all of these in one transaction, unless that costs too much of it. Blocks.
    pub(super) fn intend_batch(&self, due: Vec<(Due, String)>) -> Result<(), LedgerError> {
        let Some(treasury) = self.wallets.treasury() else { return Ok(()) };
        let (due, waiting) = choose(due, || self.spendable(treasury));
        waiting.iter().for_each(|(node, reason)| self.failures.record(node, reason));
        if due.is_empty() {
            return Ok(());
        }
        let outputs: Vec<Output> = due
            .iter()
            .map(|(due, address)| Output { address: address.clone(), amount: due.total.whole_sat() })
            .collect();
        let payout = self.wallets.draw();
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
        due.iter().for_each(|(due, _)| self.failures.record(&due.node, &reason));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_ledger::Owed;
    use fincrypt_protocol::ContractId;
    use proptest::prelude::*;

    /// Node `id` is owed so many satoshi, in so many parts.
    fn due(id: u8, sat: u64, parts: usize) -> (Due, String) {
        let total = Msat::new(sat * 1000);
        let owed = Owed::Contract(ContractId::from_bytes([id; 32]));
        let parts = vec![Part { owed, amount: total }; parts];
        (Due { node: NodeId::from_bytes([id; 32]), parts, total }, format!("address {id}"))
    }

    fn ids<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> Vec<u8> {
        nodes.into_iter().map(|node| node.as_bytes()[0]).collect()
    }

    #[test]
    fn a_batch_costs_2_5_percent_of_it_at_most() {
        let dear = |fee: u64, sum: u64| is_dear(Sat::new(fee), Sat::new(sum), MOST_FEE_PERMILLE);
        assert!(!dear(25, 1000) && dear(26, 1000) && dear(25, 999));
        assert!(!dear(0, 0) && dear(1, 0) && dear(u64::MAX, u64::MAX));
    }

    #[test]
    fn of_coins_that_do_not_suffice_the_smallest_are_paid_and_nobody_who_gets_too_little() {
        let all = vec![due(1, 5000, 1), due(2, 999, 1), due(3, 1000, 1), due(4, 2000, 1)];
        let chosen = |there: u64| {
            let (paid, waiting) = choose(all.clone(), || Msat::new(there * 1000));
            (ids(paid.iter().map(|(due, _)| &due.node)), waiting)
        };
        let (paid, waiting) = chosen(8000);
        assert_eq!((paid, ids(waiting.iter().map(|(node, _)| node))), (vec![3, 4, 1], vec![2]));
        assert!(waiting[0].1.contains("no less than 1000.000 sat"), "{waiting:?}");
        let (paid, waiting) = chosen(7999);
        assert_eq!((paid, ids(waiting.iter().map(|(node, _)| node))), (vec![3, 4], vec![2, 1]));
        assert!(waiting[1].1.contains("wallet address"), "{waiting:?}");
        assert_eq!(chosen(999).0, Vec::<u8>::new());
        // More than fit into one transaction are paid by the next, and nothing is wrong with them.
        let many = vec![due(1, 9000, MAX_PARTS), due(2, 8000, 1)];
        let (paid, waiting) = choose(many, || Msat::new(u64::MAX));
        assert_eq!((ids(paid.iter().map(|(due, _)| &due.node)), waiting.len()), (vec![2], 0));
    }

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
