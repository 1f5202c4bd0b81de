//! What the entries so far come to, in memory, and whether it holds together.

use std::collections::BTreeMap;

use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::{AccountId, ContractId, Epoch, NodeId, PayoutId, TxId};

use super::account::{Account, Arrival, Owed, Owner, Rail, Sending, Side, Source};
use super::event::{Part, PayTo};

/// What a contract has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContractBook {
    /// Whose shards.
    pub account: AccountId,
    /// Who earns.
    pub storage: NodeId,
    /// The newest epoch charged.
    pub epoch: Epoch,
    /// All that storage has earned.
    pub earned: Msat,
    /// All that the mediator has earned by it.
    pub fee: Msat,
    /// What of it has arrived at storage.
    pub paid: Msat,
}

/// Money that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DepositBook {
    pub(super) owner: Owner,
    pub(super) amount: Msat,
    /// How often it was reorganised away.
    pub(super) round: u32,
    pub(super) credited: bool,
    /// What its owner had used of it when it went away.
    pub(super) lost: Msat,
}

/// How far a payout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayoutStage {
    /// Not settled: it may be sent, or have been.
    Open,
    /// It has arrived.
    Settled {
        /// By this attempt.
        sending: Sending,
        /// At this cost in all.
        left: Msat,
        /// What each part was settled with.
        taken: Vec<Msat>,
    },
    /// It cannot arrive; its parts are owed again.
    Failed,
}

/// A payout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayoutBook {
    /// Over which rail.
    pub rail: Rail,
    /// To whom.
    pub parts: Vec<Part>,
    /// All attempts.
    pub sent: Vec<Sending>,
    /// How far it is.
    pub stage: PayoutStage,
    /// How often it was reopened.
    pub round: u32,
    /// Where it goes.
    pub to: Vec<PayTo>,
}

impl PayoutBook {
    /// What arrives at all destinations.
    #[must_use]
    pub fn arrives(&self) -> Msat {
        let sum = |sum: Msat, to: &PayTo| sum.checked_add(to.amount);
        self.to.iter().try_fold(Msat::ZERO, sum).unwrap_or_default()
    }

    /// What all parts come to.
    #[must_use]
    pub fn total(&self) -> Msat {
        // Checked when it was recorded.
        self.parts.iter().try_fold(Msat::ZERO, |sum, part| sum.checked_add(part.amount)).unwrap_or_default()
    }
}

/// Money moved between chain and channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MoveBook {
    pub(super) to: Rail,
    pub(super) amount: Msat,
    pub(super) fee: Msat,
    /// What replacements cost beyond that.
    pub(super) more: Msat,
}

/// What does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Debits and credits differ.
    #[error("assets and expenses are {debit} msat, liabilities and equity {credit} msat")]
    Unbalanced {
        /// Sum of the one side.
        debit: u128,
        /// Sum of the other.
        credit: u128,
    },
    /// A contract's sums differ.
    #[error("contract {contract}: earned {earned}, but paid, payable and in flight are {accounted} msat")]
    Contract {
        /// Which.
        contract: ContractId,
        /// What it has earned.
        earned: Msat,
        /// Where that is.
        accounted: u128,
    },
    /// A payout's balance is not what its parts say.
    #[error("payout {payout}: {balance} are in flight, its parts are {parts}")]
    Payout {
        /// Which.
        payout: PayoutId,
        /// Its account.
        balance: Msat,
        /// Its parts, if it is open.
        parts: Msat,
    },
    /// What is there is not what came and did not leave.
    #[error("{rail:?}: {balance} in the books, {came} msat came in and {left} msat left")]
    Assets {
        /// Where.
        rail: Rail,
        /// Its account.
        balance: Msat,
        /// Sum of all that came.
        came: u128,
        /// Sum of all that left.
        left: u128,
    },
    /// The journal on the disk says something else than the books in memory.
    #[error("the journal on the disk does not come to what the books in memory say")]
    Journal,
    /// The copies for reading are not those of the journal.
    #[error("entry {number} cannot be read as it is in the journal")]
    Reads {
        /// Which.
        number: u64,
    },
}

/// All balances, and what they are about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Those that are not zero.
    pub(super) balances: BTreeMap<Account, Msat>,
    pub(super) contracts: BTreeMap<ContractId, ContractBook>,
    pub(super) deposits: BTreeMap<Arrival, DepositBook>,
    pub(super) payouts: BTreeMap<PayoutId, PayoutBook>,
    pub(super) moves: BTreeMap<TxId, MoveBook>,
    pub(super) sources: BTreeMap<Source, Owner>,
    pub(super) channel_costs: Msat,
    pub(super) forwarding_income: Msat,
}

impl Books {
    /// What an account has.
    #[must_use]
    pub fn balance(&self, account: Account) -> Msat {
        self.balances.get(&account).copied().unwrap_or_default()
    }

    /// All accounts that have something.
    pub fn balances(&self) -> impl Iterator<Item = (Account, Msat)> {
        self.balances.iter().map(|(account, balance)| (*account, *balance))
    }

    /// All contracts.
    pub fn contracts(&self) -> impl Iterator<Item = (ContractId, &ContractBook)> {
        self.contracts.iter().map(|(id, contract)| (*id, contract))
    }

    /// A contract.
    #[must_use]
    pub fn contract(&self, contract: ContractId) -> Option<&ContractBook> {
        self.contracts.get(&contract)
    }

    /// A payout.
    #[must_use]
    pub fn payout(&self, payout: PayoutId) -> Option<&PayoutBook> {
        self.payouts.get(&payout)
    }

    /// What each storage node has earned and not been paid, contract by contract.
    #[must_use]
    pub fn payables(&self) -> BTreeMap<NodeId, Vec<(ContractId, Msat)>> {
        let mut payables = BTreeMap::<_, Vec<_>>::new();
        for (contract, book) in self.contracts() {
            let owed = self.balance(Account::Payable(contract));
            if !owed.is_zero() {
                payables.entry(book.storage).or_default().push((contract, owed));
            }
        }
        payables
    }

    /// All payouts that are not settled.
    pub fn open_payouts(&self) -> impl Iterator<Item = (PayoutId, &PayoutBook)> {
        let open = self.payouts.iter().filter(|(_, payout)| payout.stage == PayoutStage::Open);
        open.map(|(id, payout)| (*id, payout))
    }

    /// How often a deposit was reorganised away, and whether it is credited now: what the next
    /// event about it says. Zero and false for one that never came.
    #[must_use]
    pub fn deposit(&self, arrival: Arrival) -> (u32, bool) {
        self.deposits.get(&arrival).map_or((0, false), |deposit| (deposit.round, deposit.credited))
    }

    /// Whose it is what comes in somewhere.
    #[must_use]
    pub fn owner(&self, source: Source) -> Option<Owner> {
        self.sources.get(&source).copied()
    }

    /// Where somebody's money comes in, the newest address and offer last.
    pub fn sources_of(&self, owner: Owner) -> impl Iterator<Item = Source> {
        self.sources.iter().filter(move |(_, of)| **of == owner).map(|(source, _)| *source)
    }

    /// The next address to give away.
    #[must_use]
    pub fn next_address(&self) -> u32 {
        let addresses = self.sources.keys().filter(|source| matches!(source, Source::Address(_)));
        u32::try_from(addresses.count()).unwrap_or(u32::MAX)
    }

    /// What channels have cost so far.
    #[must_use]
    pub fn channel_costs(&self) -> Msat {
        self.channel_costs
    }

    /// What forwarding has earned so far.
    #[must_use]
    pub fn forwarding_income(&self) -> Msat {
        self.forwarding_income
    }

    /// All transactions that moved money between the rails.
    pub fn moves(&self) -> impl Iterator<Item = TxId> {
        self.moves.keys().copied()
    }

    /// All payouts that there ever were.
    pub fn payouts(&self) -> impl Iterator<Item = (PayoutId, &PayoutBook)> {
        self.payouts.iter().map(|(id, payout)| (*id, payout))
    }

    /// Everything that came in and is credited now, and in which round.
    pub fn credited(&self) -> impl Iterator<Item = (Arrival, u32, Msat)> {
        let credited = self.deposits.iter().filter(|(_, deposit)| deposit.credited);
        credited.map(|(arrival, deposit)| (*arrival, deposit.round, deposit.amount))
    }

    /// What open payouts will take from a rail.
    #[must_use]
    pub fn committed(&self, rail: Rail) -> u128 {
        let open = self.balances.iter().filter_map(|(account, balance)| match account {
            Account::InFlight(payout) => Some((payout, balance)),
            _ => None,
        });
        let on_rail = |payout: &PayoutId| self.payouts.get(payout).is_some_and(|payout| payout.rail == rail);
        open.filter(|(payout, _)| on_rail(payout)).map(|(_, balance)| u128::from(balance.get())).sum()
    }

    /// All that does not hold together; nothing does in books that only recorded events made.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let (debit, credit) = (self.side(Side::Debit), self.side(Side::Credit));
        if debit != credit {
            problems.push(Problem::Unbalanced { debit, credit });
        }
        let mut in_flight = BTreeMap::<ContractId, u128>::new();
        for (payout, book) in self.open_payouts() {
            for part in &book.parts {
                if let Owed::Contract(contract) = part.owed {
                    *in_flight.entry(contract).or_default() += u128::from(part.amount.get());
                }
            }
            let balance = self.balance(Account::InFlight(payout));
            if balance != book.total() {
                problems.push(Problem::Payout { payout, balance, parts: book.total() });
            }
        }
        for (account, balance) in self.balances() {
            match account {
                Account::InFlight(payout)
                    if self.payout(payout).is_none_or(|book| book.stage != PayoutStage::Open) =>
                {
                    problems.push(Problem::Payout { payout, balance, parts: Msat::ZERO });
                }
                Account::Payable(contract) if self.contract(contract).is_none() => {
                    let accounted = balance.get().into();
                    problems.push(Problem::Contract { contract, earned: Msat::ZERO, accounted });
                }
                _ => {}
            }
        }
        for (contract, book) in self.contracts() {
            let payable = self.balance(Account::Payable(contract));
            let accounted = u128::from(book.paid.get()) + u128::from(payable.get());
            let accounted = accounted + in_flight.get(&contract).copied().unwrap_or_default();
            if accounted != u128::from(book.earned.get()) {
                problems.push(Problem::Contract { contract, earned: book.earned, accounted });
            }
        }
        problems
            .extend([Rail::OnChain, Rail::Lightning].into_iter().filter_map(|rail| self.check_rail(rail)));
        problems
    }

    pub(super) fn side(&self, side: Side) -> u128 {
        let of_side = self.balances.iter().filter(|(account, _)| account.side() == side);
        of_side.map(|(_, balance)| u128::from(balance.get())).sum()
    }

    fn check_rail(&self, rail: Rail) -> Option<Problem> {
        let deposits =
            self.deposits.iter().filter(|(arrival, book)| book.credited && Rail::from(**arrival) == rail);
        let mut came: u128 = deposits.map(|(_, book)| u128::from(book.amount.get())).sum();
        let mut gone = 0;
        for book in self.payouts.values().filter(|book| book.rail == rail) {
            if let PayoutStage::Settled { left, .. } = book.stage {
                gone += u128::from(left.get());
            }
        }
        for book in self.moves.values() {
            let amount = u128::from(book.amount.get());
            let fee = u128::from(book.fee.get()) + u128::from(book.more.get());
            if book.to == rail {
                came += amount;
            } else {
                gone += amount + fee;
            }
        }
        if rail == Rail::Lightning {
            gone += u128::from(self.channel_costs.get());
            came += u128::from(self.forwarding_income.get());
        }
        let balance = self.balance(rail.account());
        (came != gone + u128::from(balance.get())).then_some(Problem::Assets {
            rail,
            balance,
            came,
            left: gone,
        })
    }
}
