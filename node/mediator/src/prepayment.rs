//! Accounts' prepayments: how long they last, what may still be stored for them, and what clients ask
//! about them.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_billing::{AccrualOverflow, Cost, Holds, WARN_DAYS};
use fincrypt_ledger::{Account, Books, Event, LedgerError, Owed, Owner, Part, Record};
use fincrypt_protocol::amount::{Msat, Sat};
use fincrypt_protocol::limits::MAX_ENTRIES;
use fincrypt_protocol::money::{Balance, Change, DepositTo, Entry, Payout, Stated, Withdrawal};
use fincrypt_protocol::{AccountId, Clock, ContractId, UnixTime};

use super::contract_terms::ContractTerms;
use super::contracts::{Contracts, ContractsError, Spoken};
use super::error::{Interrupted, StoreError, blocking};
use super::money::{Money, Settlement, SettlementError};
use super::stores::SegmentRecord;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The smallest advised deposit: less is hardly worth a payment.
const LEAST_DEPOSIT: Sat = Sat::new(1000);

/// The advised prepayment: what is owed by now, and the cost of the days before which is warned.
fn advised(status: &PrepaymentStatus) -> Option<Sat> {
    let spoken_for = status.holds.arrears.checked_add(status.holds.aside)?;
    let wanted = status.cost.day.checked_mul(WARN_DAYS)?.checked_add(spoken_for)?;
    Some(Sat::new(wanted.get().div_ceil(1000)).max(LEAST_DEPOSIT))
}

fn share(parts: &[Part], account: AccountId) -> Option<Msat> {
    parts.iter().find(|part| part.owed == Owed::Client(account)).map(|part| part.amount)
}

/// The part of an account's prepayment in payouts that are not settled.
fn leaving(books: &Books, account: AccountId) -> Msat {
    let open = books.open_payouts().filter_map(|(_, payout)| share(&payout.parts, account));
    open.fold(Msat::ZERO, |sum, amount| sum.checked_add(amount).unwrap_or(sum))
}

/// The change of an account's prepayment by an entry of the ledger; none if there is none.
fn change(record: &Record, account: AccountId) -> Option<Change> {
    Some(match &record.event {
        Event::Deposit { arrival, owner, amount, .. } if *owner == Owner::Client(account) => {
            Change::Deposited { arrival: *arrival, amount: *amount }
        }
        Event::DepositReorged { arrival, .. } => Change::DepositGone { arrival: *arrival },
        Event::Accrual { contract, storage, epoch, earned, fee, .. } => Change::Charged {
            contract: *contract,
            storage: *storage,
            epoch: *epoch,
            earned: *earned,
            fee: *fee,
        },
        Event::PayoutIntent { payout, parts, .. } => {
            Change::Withdrawn { payout: *payout, amount: share(parts, account)? }
        }
        Event::PayoutSent { payout, sending } => Change::Sent { payout: *payout, sending: *sending },
        Event::PayoutSettled { payout, sending, .. } => {
            Change::Arrived { payout: *payout, sending: *sending }
        }
        Event::PayoutReopened { payout, .. } => Change::Reopened { payout: *payout, failed: false },
        Event::PayoutFailed { payout } => Change::Reopened { payout: *payout, failed: true },
        Event::Deposit { .. }
        | Event::Attributed { .. }
        | Event::ChannelCosts { .. }
        | Event::ForwardingIncome { .. }
        | Event::Moved { .. }
        | Event::MoveReplaced { .. } => return None,
    })
}

/// The status of an account's prepayment.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrepaymentStatus {
    /// By the books.
    prepaid: Msat,
    /// The part of it that is signed for or on hold.
    holds: Holds,
    /// The cost of the account's shards.
    cost: Cost,
    /// Since when the next epoch is not covered.
    empty: Option<UnixTime>,
    /// Days after that until storage may delete.
    grace_days: u16,
}

/// Why the status of a prepayment is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The contracts.
    #[error("contracts: {0}")]
    Contracts(#[from] ContractsError),
    /// The cost of the account's shards does not fit a sum.
    #[error("the cost of an account's shards: {0}")]
    Cost(#[from] AccrualOverflow),
}

/// Why nothing more is stored for an account.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    /// Its prepayment does not cover the next epoch.
    #[error("the prepayment does not cover the next epoch")]
    Unpaid,
    /// The status of its prepayment.
    #[error(transparent)]
    Status(#[from] StatusError),
}

impl From<StoreError> for AdmitError {
    fn from(error: StoreError) -> Self {
        Self::Status(error.into())
    }
}

impl From<AccrualOverflow> for AdmitError {
    fn from(error: AccrualOverflow) -> Self {
        Self::Status(error.into())
    }
}

impl From<Interrupted> for AdmitError {
    fn from(error: Interrupted) -> Self {
        Self::Status(StoreError::from(error).into())
    }
}

/// Why a client's request about its prepayment is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepaymentError {
    /// Nobody can pay in here.
    #[error("no deposits are taken here")]
    NoWallet,
    /// The prepayment, less what is signed for or on hold, does not cover the withdrawal.
    #[error("the prepayment does not cover the withdrawal")]
    Insufficient,
    /// The money did not carry it out.
    #[error("the money: {0}")]
    Money(#[from] SettlementError),
    /// The books.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The status of the prepayment.
    #[error(transparent)]
    Status(#[from] StatusError),
}

impl From<AccrualOverflow> for PrepaymentError {
    fn from(error: AccrualOverflow) -> Self {
        Self::Status(error.into())
    }
}

impl From<Interrupted> for PrepaymentError {
    fn from(error: Interrupted) -> Self {
        Self::Status(StoreError::from(error).into())
    }
}

/// Answers clients about their prepayments, and decides what they cover. Cheap to clone.
#[derive(Clone)]
pub(super) struct Prepayments {
    pub(super) contracts: Arc<Contracts>,
    pub(super) terms: Arc<ContractTerms>,
    pub(super) money: Arc<Money>,
    pub(super) clock: Clock,
}

impl Prepayments {
    /// The status of an account's prepayment; records since when it is empty. Blocks.
    ///
    /// # Errors
    /// If that cannot be noted, or the sums do not fit.
    pub(super) fn status(&self, account: AccountId) -> Result<PrepaymentStatus, StatusError> {
        let held = self.terms.of_account(account)?;
        let cost = Cost::of(held.iter().map(|(terms, bytes)| (terms, *bytes)))?;
        let grace_days = held.iter().map(|(terms, _)| terms.grace_days).min().unwrap_or(0);
        let Spoken { prepaid, holds } = self.contracts.spoken(&account, self.money.books());
        let left = holds.left(prepaid).unwrap_or_default();
        let grace = DAY * u32::from(grace_days);
        let empty = self.contracts.record_runway(account, left, cost, grace, self.clock.now())?;
        Ok(PrepaymentStatus { prepaid, holds, cost, empty, grace_days })
    }

    /// Refuses a segment whose account's prepayment does not cover the next epoch of what it has and of
    /// this. What costs nothing is stored in any case, and so is all where nobody can pay in. Blocks.
    ///
    /// # Errors
    /// [`AdmitError::Unpaid`] if it does not.
    pub(super) fn admit_cost(&self, account: AccountId, segment: &SegmentRecord) -> Result<(), AdmitError> {
        if !self.money.takes_deposits() {
            return Ok(());
        }
        let length = u64::from(segment.manifest.shard_len().get());
        let lacking = segment.placements.iter().filter(|placement| !placement.is_held());
        let new = self.terms.at(account, lacking.filter_map(|placement| Some((placement.node?, length))))?;
        let cost = Cost::of(new.iter().map(|(terms, bytes)| (terms, *bytes)))?;
        if cost.epoch.is_zero() {
            return Ok(());
        }
        let status = self.status(account)?;
        let cost = status.cost.epoch.checked_add(cost.epoch).ok_or(AdmitError::Unpaid)?;
        if status.holds.covers(status.prepaid, cost) { Ok(()) } else { Err(AdmitError::Unpaid) }
    }

    /// An account's address and offer for deposits, and the advised sum.
    ///
    /// # Errors
    /// [`PrepaymentError::NoWallet`] if nobody can pay in.
    pub(super) async fn deposit_to(&self, account: AccountId) -> Result<DepositTo, PrepaymentError> {
        let this = self.clone();
        let asked = move || {
            let to = this.money.deposit_to(account)?;
            Ok::<_, PrepaymentError>((to, this.status(account)?))
        };
        let ((address, offer), status) = blocking(asked).await?;
        let advised = advised(&status).ok_or(AccrualOverflow)?;
        Ok(DepositTo { address, offer, advised })
    }

    /// The balance of an account's prepayment.
    ///
    /// # Errors
    /// [`PrepaymentError::NoWallet`] if nobody can pay in.
    pub(super) async fn balance(&self, account: AccountId) -> Result<Balance, PrepaymentError> {
        if !self.money.takes_deposits() {
            return Err(PrepaymentError::NoWallet);
        }
        let this = self.clone();
        let balance = move || {
            let status = this.status(account)?;
            Ok::<_, PrepaymentError>(Balance {
                prepaid: status.prepaid,
                epoch: status.cost.epoch,
                day: status.cost.day,
                pending: this.money.pending(&account).into_iter().take(MAX_ENTRIES).collect(),
                leaving: this.money.books().books(|books| leaving(books, account)),
                empty: status.empty,
                grace_days: status.grace_days,
            })
        };
        blocking(balance).await
    }

    /// A page of what changed it, and whether more follows.
    ///
    /// # Errors
    /// If the books cannot be read.
    pub(super) async fn entries(
        &self,
        account: AccountId,
        after: u64,
    ) -> Result<(Vec<Entry>, bool), PrepaymentError> {
        let money = Arc::clone(&self.money);
        blocking(move || {
            let (mut entries, mut after) = (Vec::new(), after);
            loop {
                let records = money.books().history(Account::Prepayment(account), after, MAX_ENTRIES)?;
                let (Some(last), count) = (records.last(), records.len()) else {
                    return Ok((entries, false));
                };
                after = last.number;
                for record in &records {
                    if entries.len() == MAX_ENTRIES {
                        return Ok((entries, true));
                    }
                    let (number, time) = (record.number, record.time);
                    entries.extend(change(record, account).map(|change| Entry { number, time, change }));
                }
                if count < MAX_ENTRIES {
                    return Ok((entries, false));
                }
            }
        })
        .await
    }

    /// A page of the newest statements of an account's contracts, and whether more follow.
    pub(super) fn statements(&self, account: AccountId, after: Option<ContractId>) -> (Vec<Stated>, bool) {
        self.contracts.agreed_of(&account, after, MAX_ENTRIES)
    }

    /// Pays out of it, unless what it would take is spoken for.
    ///
    /// # Errors
    /// [`PrepaymentError::Insufficient`] if it is, or why else nothing is withdrawn.
    pub(super) async fn withdraw(
        &self,
        account: AccountId,
        withdrawal: Withdrawal,
    ) -> Result<Payout, PrepaymentError> {
        if !self.money.takes_deposits() {
            return Err(PrepaymentError::NoWallet);
        }
        let this = self.clone();
        blocking(move || this.withdraw_now(account, withdrawal)).await
    }

    fn withdraw_now(
        &self,
        account: AccountId,
        mut withdrawal: Withdrawal,
    ) -> Result<Payout, PrepaymentError> {
        let (ledger, payout) = (self.money.books(), withdrawal.payout(&account));
        // One that was decided on is told, not decided on again.
        let hold = if ledger.books(|books| books.payout(payout).is_some()) {
            None
        } else {
            let hold = self.contracts.hold(account, withdrawal.amount, ledger);
            Some(hold.ok_or(PrepaymentError::Insufficient)?)
        };
        if let Some(hold) = &hold {
            // All means all that can be moved on the chain, too.
            let all = || hold.amount().whole_sat().to_msat().filter(|all| !all.is_zero());
            withdrawal.amount = Some(withdrawal.amount.or_else(all).ok_or(PrepaymentError::Insufficient)?);
        }
        // On hold until it is in the books, or refused.
        let decided = self.money.withdraw(account, &withdrawal);
        drop(hold);
        Ok(decided?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_ledger::{Ledger, PayTo, Rail, Source};
    use fincrypt_protocol::money::{Arrival, Sending};
    use fincrypt_protocol::{Epoch, NodeId, PayoutId, TxId};

    fn status(day: u64, arrears: u64) -> PrepaymentStatus {
        PrepaymentStatus {
            prepaid: Msat::ZERO,
            holds: Holds { aside: Msat::ZERO, arrears: Msat::new(arrears) },
            cost: Cost { epoch: Msat::new(1), day: Msat::new(day) },
            empty: None,
            grace_days: 90,
        }
    }

    #[test]
    fn thirty_days_and_what_is_owed_are_advised_in_whole_satoshi() {
        assert_eq!(advised(&status(0, 0)), Some(Sat::new(1000)));
        assert_eq!(advised(&status(33_333, 0)), Some(Sat::new(1000)));
        assert_eq!(advised(&status(33_334, 0)), Some(Sat::new(1001)));
        assert_eq!(advised(&status(100_000, 500)), Some(Sat::new(3001)));
        assert_eq!(advised(&status(u64::MAX, 0)), None);
    }

    #[test]
    fn an_accounts_history_tells_what_concerns_it_and_nobody_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let (ledger, _) = Ledger::open(dir.path()).expect("opens");
        let [us, them] = [1, 2].map(|id| AccountId::from_bytes([id; 32]));
        let sat = |sat: u64| Msat::new(sat * 1000);
        let (payout, sending) =
            (PayoutId::from_bytes([5; 16]), Sending::Transaction(TxId::from_bytes([6; 32])));
        let arrival = |id| Arrival::Output(TxId::from_bytes([id; 32]), 0);
        let deposit = |id, account| Event::Deposit {
            arrival: arrival(id),
            round: 0,
            owner: Owner::Client(account),
            amount: sat(5000),
        };
        let (contract, storage) = (ContractId::from_bytes([3; 32]), NodeId::from_bytes([4; 32]));
        let part = |account, amount| Part { owed: Owed::Client(account), amount: sat(amount) };
        let to = |amount| PayTo { destination: "bcrt1q".to_owned(), amount: sat(amount) };
        let events = [
            Event::Attributed { source: Source::Address(0), owner: Owner::Client(us) },
            deposit(1, us),
            deposit(2, them),
            Event::Accrual {
                contract,
                account: us,
                storage,
                epoch: Epoch::new(7),
                earned: sat(10),
                fee: sat(1),
            },
            Event::PayoutIntent {
                payout,
                rail: Rail::OnChain,
                parts: vec![part(them, 3000), part(us, 2000)],
                to: vec![to(2900), to(1900)],
            },
            Event::PayoutSent { payout, sending },
        ];
        let now = UnixTime::from_secs(9);
        assert!(ledger.record_all(now, &events).expect("recorded").iter().all(Result::is_ok));
        assert_eq!(ledger.books(|books| leaving(books, us)), sat(2000));
        let settled = Event::PayoutSettled { payout, round: 0, sending, left: sat(5100) };
        ledger.record(now, &settled).expect("recorded");
        assert_eq!(ledger.books(|books| leaving(books, us)), Msat::ZERO);

        let history = ledger.history(Account::Prepayment(us), 0, 100).expect("reads");
        let changes: Vec<_> = history.iter().filter_map(|record| change(record, us)).collect();
        let (earned, fee) = (sat(10), sat(1));
        let expected = [
            Change::Deposited { arrival: arrival(1), amount: sat(5000) },
            Change::Charged { contract, storage, epoch: Epoch::new(7), earned, fee },
            Change::Withdrawn { payout, amount: sat(2000) },
            Change::Sent { payout, sending },
            Change::Arrived { payout, sending },
        ];
        assert_eq!(changes, expected);
    }
}
