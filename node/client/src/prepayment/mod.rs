//! A client's money: what it has prepaid its mediator, what that is used for, and whether the
//! statements are right.

mod client;
mod deposit;
pub(crate) mod error;
mod history;
mod report;
mod runway;
mod statement_check;
mod statement_store;
mod stored;
mod withdraw;

pub use deposit::{DepositReport, deposit};
pub use error::PrepaymentError;
pub use history::{EntryReport, HistoryReport, history};
pub(crate) use report::prepayment_status;
pub use report::{
    BalanceReport, FaultReport, PrepaymentStatus, PrepaymentWarning, StatementReport, StatementsReport,
    balance, statements,
};
pub use runway::RunwayWarning;
pub use withdraw::{WithdrawOptions, WithdrawReport, withdraw};
