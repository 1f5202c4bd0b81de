//! What the books say, for a person.

use std::fmt;

use fincrypt_protocol::ContractId;
use fincrypt_protocol::amount::Msat;

use super::account::{Account, Rail, Side};
use super::books::{Books, ContractBook, Problem};

/// A contract in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditedContract {
    /// Which.
    pub id: ContractId,
    /// What it has come to.
    pub book: ContractBook,
    /// What is owed.
    pub payable: Msat,
}

/// The books at one time, and what does not hold together in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Entries in the journal.
    pub entries: u64,
    /// Bitcoin on the chain.
    pub on_chain: Msat,
    /// Bitcoin in channels.
    pub lightning: Msat,
    /// Sums of all prepayments, payables and payouts in flight, in msat.
    pub owed: [u128; 3],
    /// Put in by the operator.
    pub capital: Msat,
    /// Earned by the mediator.
    pub fees: Msat,
    /// Earned by forwarding payments for others.
    pub forwarding: Msat,
    /// Paid to miners and routing nodes.
    pub network_fees: Msat,
    /// Owed by clients who will not pay.
    pub losses: Msat,
    /// All contracts.
    pub contracts: Vec<AuditedContract>,
    /// What does not hold together: nothing, unless something is wrong with the disk or the program.
    pub problems: Vec<Problem>,
}

impl Audit {
    pub(super) fn new(books: &Books, entries: u64, problems: Vec<Problem>) -> Self {
        let mut owed = [0; 3];
        for (account, balance) in books.balances() {
            let sum = match account {
                Account::Prepayment(_) => 0,
                Account::Payable(_) => 1,
                Account::InFlight(_) => 2,
                _ => continue,
            };
            owed[sum] += u128::from(balance.get());
        }
        let contract = |(id, book): (ContractId, &ContractBook)| AuditedContract {
            id,
            book: *book,
            payable: books.balance(Account::Payable(id)),
        };
        Self {
            entries,
            on_chain: books.balance(Rail::OnChain.account()),
            lightning: books.balance(Rail::Lightning.account()),
            owed,
            capital: books.balance(Account::Capital),
            fees: books.balance(Account::Fees),
            forwarding: books.balance(Account::Forwarding),
            network_fees: books.balance(Account::NetworkFees),
            losses: books.balance(Account::Losses),
            contracts: books.contracts().map(contract).collect(),
            problems,
        }
    }

    /// Whether everything holds together.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Assets less what is owed to others, in msat: what is the operator's own. Negative when the
    /// mediator owes more than it has.
    #[must_use]
    pub fn equity(&self) -> i128 {
        let plus = [self.capital, self.fees, self.forwarding].map(|msat| i128::from(msat.get()));
        let plus: i128 = plus.iter().sum();
        plus - i128::from(self.network_fees.get()) - i128::from(self.losses.get())
    }
}

/// Millisatoshi as satoshi.
fn sat(msat: i128) -> String {
    let (sign, msat) = (if msat < 0 { "-" } else { "" }, msat.unsigned_abs());
    format!("{sign}{}.{:03} sat", msat / 1000, msat % 1000)
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assets = i128::from(self.on_chain.get()) + i128::from(self.lightning.get());
        let owed = self.owed.map(|sum| i128::try_from(sum).unwrap_or(i128::MAX));
        writeln!(f, "{} entries", self.entries)?;
        let mut line = |name: &str, msat: i128| writeln!(f, "{name:<28}{:>24}", sat(msat));
        line("assets", assets)?;
        line("  on the chain", self.on_chain.get().into())?;
        line("  in channels", self.lightning.get().into())?;
        line("owed to others", owed.iter().sum())?;
        line("  clients' prepayments", owed[0])?;
        line("  payable to storage", owed[1])?;
        line("  payouts in flight", owed[2])?;
        line("equity", self.equity())?;
        line("  capital", self.capital.get().into())?;
        line("  fees earned", self.fees.get().into())?;
        line("  forwarding income", self.forwarding.get().into())?;
        line("  network fees", -i128::from(self.network_fees.get()))?;
        line("  losses", -i128::from(self.losses.get()))?;
        for AuditedContract { id, book, payable } in &self.contracts {
            let ContractBook { storage, epoch, earned, paid, .. } = book;
            writeln!(f, "contract {id} with {storage}")?;
            let epoch = epoch.number();
            writeln!(f, "  epoch {epoch}: earned {earned}, paid {paid}, payable {payable}")?;
        }
        if self.equity() < 0 {
            writeln!(f, "WARNING: more is owed than there is; add capital before anything is paid out")?;
        }
        for problem in &self.problems {
            writeln!(f, "PROBLEM: {problem}")?;
        }
        if self.is_sound() {
            write!(f, "sound")
        } else {
            write!(f, "NOT sound: keep the journal, pay nothing")
        }
    }
}

impl Books {
    /// Assets and expenses against liabilities and equity, in msat: the two sides of the balance.
    #[must_use]
    pub fn sides(&self) -> (u128, u128) {
        (self.side(Side::Debit), self.side(Side::Credit))
    }
}
