//! The earnings of a storage node: what mediators owe it and what they say they have paid.
//!
//! One owner of all tables of money. Whoever changes something holds a [`Change`], of which there is
//! one at a time; whoever asks reads without waiting for it. What a contract's credit depends on is
//! kept in memory and dropped as soon as it changes, because shards come by the hundred and reading
//! a contract verifies signatures.

mod earning;
mod payout;
mod view;

use std::sync::Arc;
use std::time::Duration;

use fincrypt_billing::statement::{Credit, CreditStanding, Fault};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::statement::{Contract, TermsError};
use fincrypt_protocol::{AccountId, ContractId, Epoch, NodeId, PayoutId, UnixTime};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::Table;
use hashlink::LruCache;
use parking_lot::{Mutex, MutexGuard};

pub(crate) use earning::Earning;
pub(crate) use payout::{KnownPayout, Paid};
pub use view::{Earned, EarnedOnDay, PaidView};

/// An account at a mediator.
pub(crate) type Relation = (NodeId, AccountId);

/// How each account at each mediator stands. The limit is a year of counts.
const EARNINGS: Table<Relation, Earning> = Table::new("earnings", 2 << 20);
/// Whose each contract is of which a statement was countersigned.
const CONTRACTS: Table<ContractId, Relation> = Table::new("contracts", 160);
/// What a mediator last said of each of its payouts.
const PAYOUTS: Table<(NodeId, PayoutId), KnownPayout> = Table::new("payouts", 128 << 10);
/// The sums of what is said to have arrived, and to be on the way.
const PAID: Table<ContractId, Paid> = Table::new("paid", 64);
/// `(mediator, day)` → what was countersigned on that day (UTC).
const DAYS: Table<(NodeId, u64), Msat> = Table::new("earned_days", 16);
/// Since when the credit bound of a contract is reached.
const REACHED: Table<ContractId, UnixTime> = Table::new("credit_reached", 16);

/// Seconds of a day.
pub(crate) const DAY: u64 = 24 * 3600;
/// Epochs for which a statement may be missing: a mediator may be down for two days.
pub(crate) const PATIENCE: u32 = 48;
/// Relations whose debt is kept in memory; at about 300 bytes each, a little more than 1 MiB.
const MAX_DEBTS: usize = 4096;

/// Why the earnings could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum EarningsError {
    /// The state could not be read or written.
    #[error("the state of the earnings failed")]
    State(#[from] KvError),
    /// The terms of a contract of the earnings contradict each other.
    #[error("the earnings hold terms that nobody may agree on")]
    Terms(#[from] TermsError),
    /// A statement of the earnings does not verify.
    #[error("the earnings hold a statement that does not verify")]
    Statement(#[from] Fault),
}

/// What the standing of a contract's credit depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Debt {
    contract: Contract,
    /// The newest epoch countersigned, and what the contract has earned by it.
    agreed: Option<(Epoch, Msat)>,
    /// What is said to have arrived.
    arrived: Msat,
    /// Since when the bound is reached.
    reached: Option<UnixTime>,
}

impl Debt {
    /// How the contract stands, for a storage node that `holds` something of it or nothing, and since
    /// when its bound is reached. No statement is missed of a contract of which nothing is held.
    fn standing(&self, holds: bool, now: UnixTime) -> (CreditStanding, Option<UnixTime>) {
        let terms = self.contract.terms();
        let length = Duration::from_secs(terms.epoch_seconds.get().into());
        let (epoch, earned) = match self.agreed {
            Some((epoch, earned)) => (Some(epoch), earned),
            None => (None, Msat::ZERO),
        };
        let epoch = if holds { epoch.unwrap_or(terms.first) } else { Epoch::at(now, length) };
        let mut credit = Credit { reached: self.reached };
        let sums = (earned, self.arrived);
        let standing = credit.standing(&self.contract, sums, epoch, length * PATIENCE, now);
        (standing, credit.reached)
    }
}

/// Debts that were looked up, until they change.
struct Debts {
    /// Grows with every change, so that what was read before one is not kept after it.
    generation: u64,
    known: LruCache<Relation, Option<Debt>>,
}

impl Default for Debts {
    fn default() -> Self {
        Self { generation: 0, known: LruCache::new(MAX_DEBTS) }
    }
}

struct Inner {
    state: State,
    /// Held while something is read to be changed.
    changing: Mutex<()>,
    debts: Mutex<Debts>,
}

/// The earnings; clones share it. All methods block on the disk.
#[derive(Clone)]
pub struct Earnings(Arc<Inner>);

impl Earnings {
    /// The earnings in an open state, of which a process has one.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self(Arc::new(Inner { state, changing: Mutex::default(), debts: Mutex::default() }))
    }

    /// Begins a change; waits for another one to end.
    pub(crate) fn change(&self) -> Change<'_> {
        Change { earnings: self, batch: Batch::default(), _one: self.0.changing.lock() }
    }

    /// How an account at a mediator stands.
    pub(crate) fn earning(&self, relation: &Relation) -> Result<Earning, EarningsError> {
        Ok(EARNINGS.get(&self.0.state, relation)?.unwrap_or_default())
    }

    /// Whether anything was ever counted of a mediator.
    pub(crate) fn knows(&self, mediator: &NodeId) -> Result<bool, EarningsError> {
        Ok(!EARNINGS.scan(&self.0.state, mediator, None, 1)?.is_empty())
    }

    /// Whether a statement of a mediator was ever countersigned.
    pub(crate) fn has_countersigned(&self, mediator: &NodeId) -> Result<bool, EarningsError> {
        Ok(!DAYS.scan(&self.0.state, mediator, None, 1)?.is_empty())
    }

    /// Whether a contract is one that this node has, or had, with a mediator.
    pub(crate) fn is_contract_with(
        &self,
        contract: &ContractId,
        mediator: &NodeId,
    ) -> Result<bool, EarningsError> {
        Ok(CONTRACTS.get(&self.0.state, contract)?.is_some_and(|(known, _)| known == *mediator))
    }

    /// What is said to be paid of a contract.
    pub(crate) fn paid(&self, contract: &ContractId) -> Result<Paid, EarningsError> {
        Ok(PAID.get(&self.0.state, contract)?.unwrap_or_default())
    }

    /// A payout that a mediator told of.
    pub(crate) fn payout(
        &self,
        mediator: &NodeId,
        payout: &PayoutId,
    ) -> Result<Option<KnownPayout>, EarningsError> {
        Ok(PAYOUTS.get(&self.0.state, &(*mediator, *payout))?)
    }

    /// All payouts that a mediator told of and that are remembered.
    pub(crate) fn payouts(&self, mediator: &NodeId) -> Result<Vec<(PayoutId, KnownPayout)>, EarningsError> {
        let known = PAYOUTS.scan(&self.0.state, mediator, None, usize::MAX)?;
        Ok(known.into_iter().map(|((_, id), payout)| (id, payout)).collect())
    }

    /// How the contract of a relation stands, for a node that `holds` something of the account or
    /// nothing; none without a contract. Since when its bound is reached outlives a restart.
    pub(crate) fn standing(
        &self,
        relation: &Relation,
        holds: bool,
        now: UnixTime,
    ) -> Result<Option<CreditStanding>, EarningsError> {
        let Some(debt) = self.debt(relation)? else { return Ok(None) };
        let (standing, reached) = debt.standing(holds, now);
        if reached == debt.reached {
            return Ok(Some(standing));
        }
        // Looked up again, as a payment may have come meanwhile.
        let mut change = self.change();
        let Some(debt) = self.debt(relation)? else { return Ok(None) };
        let (standing, reached) = debt.standing(holds, now);
        match reached {
            Some(since) => REACHED.put(&mut change.batch, &debt.contract.id(), &since)?,
            None => REACHED.remove(&mut change.batch, &debt.contract.id()),
        }
        change.commit(&relation.0)?;
        Ok(Some(standing))
    }

    fn debt(&self, relation: &Relation) -> Result<Option<Debt>, EarningsError> {
        let generation = {
            let mut debts = self.0.debts.lock();
            if let Some(known) = debts.known.get(relation) {
                return Ok(*known);
            }
            debts.generation
        };
        let debt = self.debt_of(&self.earning(relation)?)?;
        let mut debts = self.0.debts.lock();
        if debts.generation == generation {
            debts.known.insert(*relation, debt);
        }
        Ok(debt)
    }

    fn debt_of(&self, earning: &Earning) -> Result<Option<Debt>, EarningsError> {
        let Some(holding) = earning.contract()? else { return Ok(None) };
        let contract = *holding.contract();
        Ok(Some(Debt {
            contract,
            agreed: holding.agreed().map(|agreed| (agreed.epoch, agreed.earned)),
            arrived: self.paid(&contract.id())?.arrived,
            reached: REACHED.get(&self.0.state, &contract.id())?,
        }))
    }
}

/// A change of the earnings: staged, then committed, one at a time.
pub(crate) struct Change<'a> {
    earnings: &'a Earnings,
    batch: Batch,
    _one: MutexGuard<'a, ()>,
}

impl Change<'_> {
    /// Replaces how an account at a mediator stands.
    pub(crate) fn put_earning(
        &mut self,
        relation: &Relation,
        earning: &Earning,
    ) -> Result<(), EarningsError> {
        Ok(EARNINGS.put(&mut self.batch, relation, earning)?)
    }

    /// Adds what a statement added to the earnings of a contract.
    pub(crate) fn add_earned(
        &mut self,
        contract: &ContractId,
        relation: &Relation,
        step: Msat,
        now: UnixTime,
    ) -> Result<(), EarningsError> {
        CONTRACTS.put(&mut self.batch, contract, relation)?;
        let day = (relation.0, now.secs() / DAY);
        let known = DAYS.get(&self.earnings.0.state, &day)?.unwrap_or(Msat::ZERO);
        Ok(DAYS.put(&mut self.batch, &day, &known.checked_add(step).unwrap_or(known))?)
    }

    /// Replaces the sums of what is paid of a contract.
    pub(crate) fn put_paid(&mut self, contract: &ContractId, paid: &Paid) -> Result<(), EarningsError> {
        Ok(PAID.put(&mut self.batch, contract, paid)?)
    }

    /// Replaces what a mediator said of a payout.
    pub(crate) fn put_payout(&mut self, mediator: &NodeId, known: &KnownPayout) -> Result<(), EarningsError> {
        Ok(PAYOUTS.put(&mut self.batch, &(*mediator, known.payout.id), known)?)
    }

    /// Removes a payout. What it paid stays counted.
    pub(crate) fn remove_payout(&mut self, mediator: &NodeId, payout: &PayoutId) {
        PAYOUTS.remove(&mut self.batch, &(*mediator, *payout));
    }

    /// Removes all that a mediator told of payouts, which it tells again: what is left of it after a
    /// loss would be counted twice.
    pub(crate) fn remove_payouts(&mut self, mediator: &NodeId) -> Result<(), EarningsError> {
        for (payout, _) in self.earnings.payouts(mediator)? {
            self.remove_payout(mediator, &payout);
        }
        let Self { earnings, batch, .. } = self;
        CONTRACTS.visit(&earnings.0.state, &fincrypt_state::table::Everything, |contract, (known, _)| {
            if known == *mediator {
                PAID.remove(batch, &contract);
            }
            Ok(())
        })
    }

    /// Makes what was staged of this mediator durable. The change goes on with nothing staged.
    ///
    /// # Errors
    /// [`EarningsError::State`]; then nothing of it has happened.
    pub(crate) fn commit(&mut self, mediator: &NodeId) -> Result<(), EarningsError> {
        let batch = std::mem::take(&mut self.batch);
        let committed = self.earnings.0.state.commit(&batch);
        // Also after a failure: what is known of the disk then is what it says.
        let mut debts = self.earnings.0.debts.lock();
        debts.generation = debts.generation.wrapping_add(1);
        debts.known.retain(|(known, _), _| known != mediator);
        Ok(committed?)
    }

    /// Drops what was staged.
    pub(crate) fn abandon(&mut self) {
        self.batch = Batch::default();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZeroU32;

    use fincrypt_billing::statement::Holding;
    use fincrypt_protocol::Network;
    use fincrypt_protocol::amount::{Permille, Price};
    use fincrypt_protocol::statement::Terms;

    use super::*;

    pub(crate) const HOUR: Duration = Duration::from_secs(3600);
    pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);

    pub(crate) fn earnings() -> (tempfile::TempDir, Earnings) {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(dir.path()).expect("opens");
        (dir, Earnings::new(state))
    }

    pub(crate) fn relation() -> Relation {
        (NodeId::from_bytes([5; 32]), AccountId::from_bytes([6; 32]))
    }

    pub(crate) fn contract((mediator, account): Relation) -> Contract {
        Contract::new(Terms {
            network: Network::Local,
            storage: NodeId::from_bytes([1; 32]),
            mediator,
            account,
            price: Price::new(1_000_000),
            fee: Permille::NONE,
            first: Epoch::at(NOW, HOUR),
            epoch_seconds: NonZeroU32::new(3600).expect("not zero"),
            credit_bound: Msat::new(1_000_000),
            payout_threshold: Msat::new(100_000),
            grace_days: 90,
            minimum_days: 30,
        })
        .expect("good terms")
    }

    /// Begins a contract of which nothing is charged yet.
    pub(crate) fn begin(earnings: &Earnings, relation: &Relation) -> Contract {
        let contract = contract(*relation);
        let mut change = earnings.change();
        let mut earning = earnings.earning(relation).expect("reads");
        earning.record(&Holding::new(contract));
        change.put_earning(relation, &earning).expect("fits");
        change.add_earned(&contract.id(), relation, Msat::ZERO, NOW).expect("fits");
        change.commit(&relation.0).expect("written");
        contract
    }

    fn debt(earned: u64, arrived: u64) -> Debt {
        let contract = contract(relation());
        let agreed = Some((contract.terms().first, Msat::new(earned)));
        Debt { contract, agreed, arrived: Msat::new(arrived), reached: None }
    }

    #[test]
    fn the_bound_is_reached_by_what_is_owed_and_left_by_what_arrives() {
        let (standing, reached) = debt(1_000_000, 0).standing(true, NOW);
        assert!(matches!(standing, CreditStanding::Bound { owed, .. } if owed == Msat::new(1_000_000)));
        assert_eq!(reached, Some(NOW));
        let (standing, reached) = debt(1_000_000, 1).standing(true, NOW);
        assert_eq!((standing, reached), (CreditStanding::Open { left: Msat::new(1) }, None));
    }

    #[test]
    fn a_statement_is_missed_only_of_what_is_held() {
        let late = NOW.plus(HOUR * (PATIENCE + 2));
        assert!(matches!(debt(0, 0).standing(true, late).0, CreditStanding::Uncharged { .. }));
        assert!(matches!(debt(0, 0).standing(false, late).0, CreditStanding::Open { .. }));
    }

    #[test]
    fn a_standing_follows_a_change_at_once() {
        let (_dir, earnings) = earnings();
        let relation = relation();
        assert_eq!(earnings.standing(&relation, true, NOW).expect("reads"), None);
        let contract = begin(&earnings, &relation);
        let left = |amount| Some(CreditStanding::Open { left: Msat::new(amount) });
        assert_eq!(earnings.standing(&relation, true, NOW).expect("reads"), left(1_000_000));
        assert!(earnings.is_contract_with(&contract.id(), &relation.0).expect("reads"));
        assert!(!earnings.is_contract_with(&contract.id(), &NodeId::from_bytes([9; 32])).expect("reads"));
    }

    #[test]
    fn when_the_bound_was_reached_outlives_what_is_kept_in_memory() {
        let (_dir, earnings) = earnings();
        let relation = relation();
        let contract = begin(&earnings, &relation);
        let mut change = earnings.change();
        REACHED.put(&mut change.batch, &contract.id(), &NOW).expect("fits");
        change.commit(&relation.0).expect("written");
        drop(change);
        assert_eq!(earnings.debt(&relation).expect("reads").expect("a contract").reached, Some(NOW));
        // Nothing is owed: the bound is left again, durably.
        earnings.standing(&relation, true, NOW).expect("reads");
        let again = Earnings::new(earnings.0.state.clone());
        assert_eq!(again.debt(&relation).expect("reads").expect("a contract").reached, None);
    }

    #[test]
    fn payouts_of_one_mediator_are_removed_without_those_of_others() {
        let (_dir, earnings) = earnings();
        let (one, other) = (relation(), (NodeId::from_bytes([8; 32]), relation().1));
        let paid = Paid { arrived: Msat::new(5), coming: Msat::ZERO };
        let contracts = [one, other].map(|relation| begin(&earnings, &relation).id());
        let mut change = earnings.change();
        for (contract, relation) in contracts.iter().zip([one, other]) {
            change.put_paid(contract, &paid).expect("fits");
            change.commit(&relation.0).expect("written");
        }
        change.remove_payouts(&one.0).expect("reads");
        change.commit(&one.0).expect("written");
        assert_eq!(contracts.map(|id| earnings.paid(&id).expect("reads")), [Paid::default(), paid]);
    }
}
