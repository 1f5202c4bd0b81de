//! What clients ask about their money.

use std::sync::Arc;

use fincrypt_billing::WARN_DAYS;
use fincrypt_ledger::{Account, Books, Event, Owed, Owner, Part, Record};
use fincrypt_protocol::amount::{Msat, Sat};
use fincrypt_protocol::limits::MAX_ENTRIES;
use fincrypt_protocol::money::{Balance, Change, DepositTo, Entry, Payout, Stated, Withdrawal};
use fincrypt_protocol::{AccountId, ContractId, NodeId, Refusal};

use super::MediatorRole;
use super::gate::PurseStanding;
use super::money::Settlement;
use fincrypt_accounts::failed;
use fincrypt_net::blocking;

/// What is advised at least: less is hardly worth a payment.
const LEAST_DEPOSIT: Sat = Sat::new(1000);

/// What should be there: what is owed by now, and a warning's worth of days.
fn advised(standing: &PurseStanding) -> Option<Sat> {
    let spoken_for = standing.claims.arrears.checked_add(standing.claims.aside)?;
    let wanted = standing.cost.day.checked_mul(WARN_DAYS)?.checked_add(spoken_for)?;
    Some(Sat::new(wanted.get().div_ceil(1000)).max(LEAST_DEPOSIT))
}

fn share(parts: &[Part], account: AccountId) -> Option<Msat> {
    parts.iter().find(|part| part.owed == Owed::Client(account)).map(|part| part.amount)
}

/// What of an account's prepayment is in payouts that are not settled.
fn leaving(books: &Books, account: AccountId) -> Msat {
    let open = books.open_payouts().filter_map(|(_, payout)| share(&payout.parts, account));
    open.fold(Msat::ZERO, |sum, amount| sum.checked_add(amount).unwrap_or(sum))
}

/// What an entry of the ledger means for an account; none if nothing.
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

impl MediatorRole {
    /// Where an account may pay in, and how much it should.
    pub(super) async fn deposit_to(self: &Arc<Self>, account: AccountId) -> Result<DepositTo, Refusal> {
        let role = Arc::clone(self);
        let asked = move || Ok((role.money.deposit_to(account)?, role.purse_standing(account)?));
        let ((address, offer), standing) = blocking(asked).await?;
        let advised = advised(&standing).ok_or_else(|| failed(&"the cost is more than there can be"))?;
        Ok(DepositTo { address, offer, advised })
    }

    /// How its prepayment stands.
    pub(super) async fn balance(self: &Arc<Self>, account: AccountId) -> Result<Balance, Refusal> {
        if !self.money.takes_deposits() {
            return Err(Refusal::NoWallet);
        }
        let role = Arc::clone(self);
        let standing = blocking(move || role.purse_standing(account)).await?;
        Ok(Balance {
            prepaid: standing.prepaid,
            epoch: standing.cost.epoch,
            day: standing.cost.day,
            pending: self.money.pending(&account).into_iter().take(MAX_ENTRIES).collect(),
            leaving: self.money.books().books(|books| leaving(books, account)),
            empty: standing.empty,
            grace_days: standing.grace_days,
        })
    }

    /// A page of what changed it, and whether more follows.
    pub(super) async fn entries(
        self: &Arc<Self>,
        account: AccountId,
        after: u64,
    ) -> Result<(Vec<Entry>, bool), Refusal> {
        let role = Arc::clone(self);
        blocking(move || {
            let (mut entries, mut after) = (Vec::new(), after);
            loop {
                let records = role.money.books().history(Account::Prepayment(account), after, MAX_ENTRIES);
                let records = records.map_err(|error| failed(&error))?;
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

    /// A page of the newest statements of its contracts, and whether more follow.
    pub(super) async fn statements(
        self: &Arc<Self>,
        account: AccountId,
        after: Option<ContractId>,
    ) -> Result<(Vec<Stated>, bool), Refusal> {
        let role = Arc::clone(self);
        blocking(move || {
            let nodes: Vec<NodeId> = role.gate.nodes(&account);
            role.bills.agreed_of(&account, nodes, after, MAX_ENTRIES)
        })
        .await
    }

    /// Pays out of it, unless what it would take is spoken for.
    pub(super) async fn withdraw(
        self: &Arc<Self>,
        account: AccountId,
        mut withdrawal: Withdrawal,
    ) -> Result<Payout, Refusal> {
        if !self.money.takes_deposits() {
            return Err(Refusal::NoWallet);
        }
        // One that was decided on is told, not decided on again.
        let (ledger, payout) = (self.money.books(), withdrawal.payout(&account));
        let leaving = if ledger.books(|books| books.payout(payout).is_some()) {
            None
        } else {
            Some(self.gate.leave(account, withdrawal.amount, ledger).ok_or(Refusal::Insufficient)?)
        };
        if let Some(leaving) = &leaving {
            // All means all that can be moved on the chain, too.
            let all = || leaving.amount().whole_sat().to_msat().filter(|all| !all.is_zero());
            withdrawal.amount = Some(withdrawal.amount.or_else(all).ok_or(Refusal::Insufficient)?);
        }
        let money = Arc::clone(&self.money);
        blocking(move || money.withdraw(account, &withdrawal)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_billing::{Claims, Cost};
    use fincrypt_ledger::{Ledger, PayTo, Rail, Source};
    use fincrypt_protocol::money::{Arrival, Sending};
    use fincrypt_protocol::{Epoch, PayoutId, TxId, UnixTime};

    fn standing(day: u64, arrears: u64) -> PurseStanding {
        PurseStanding {
            prepaid: Msat::ZERO,
            claims: Claims { aside: Msat::ZERO, arrears: Msat::new(arrears) },
            cost: Cost { epoch: Msat::new(1), day: Msat::new(day) },
            empty: None,
            grace_days: 90,
        }
    }

    #[test]
    fn thirty_days_and_what_is_owed_are_advised_in_whole_satoshi() {
        assert_eq!(advised(&standing(0, 0)), Some(Sat::new(1000)));
        assert_eq!(advised(&standing(33_333, 0)), Some(Sat::new(1000)));
        assert_eq!(advised(&standing(33_334, 0)), Some(Sat::new(1001)));
        assert_eq!(advised(&standing(100_000, 500)), Some(Sat::new(3001)));
        assert_eq!(advised(&standing(u64::MAX, 0)), None);
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
