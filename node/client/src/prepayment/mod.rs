//! A client's money: what it has prepaid its mediator, what that is used for, and whether the
//! statements are right.

mod client;
mod deposit;
mod history;
mod report;
mod statement_check;
mod statement_store;
mod stored;
mod warning;
mod withdraw;

pub use deposit::{DepositReport, deposit};
pub use history::{EntryReport, HistoryReport, history};
pub(crate) use report::look_at_purse;
pub use report::{
    BalanceReport, FaultReport, PurseReport, StatementReport, StatementsReport, balance, statements,
};
pub use withdraw::{WithdrawOptions, WithdrawReport, withdraw};
