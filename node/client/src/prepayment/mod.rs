//! A client's money: what it has prepaid its mediator, what that is used for, and whether the
//! statements are right.

mod deposit;
mod history;
mod report;
mod statement_check;
mod statement_store;
mod stored;
mod warning;
mod withdraw;

use fincrypt_protocol::Refusal;
use fincrypt_protocol::limits::MAX_ENTRIES;
use fincrypt_protocol::mediate::{
    GetBalance, GetDeposit, GetHistory, GetStatements, History, Statements, Withdraw,
};
use fincrypt_protocol::money::{Balance, DepositTo, Entry, Payout, Stated, Withdrawal};
use fincrypt_protocol::statement::Contract;

use super::error::ClientError;
use super::mediator_client::MediatorClient;

pub use deposit::{DepositReport, deposit};
pub use history::{EntryReport, HistoryReport, history};
pub(crate) use report::look_at_purse;
pub use report::{
    BalanceReport, FaultReport, PurseReport, StatementReport, StatementsReport, balance, statements,
};
pub use withdraw::{WithdrawOptions, WithdrawReport, withdraw};

/// Pages of a history that are asked for: a million entries.
const MOST_PAGES: usize = 16 << 10;
/// Pages of statements that are asked for: 4096 contracts, with a node each.
const MOST_CONTRACTS: usize = 64;

impl MediatorClient {
    async fn deposit_to(&self) -> Result<DepositTo, ClientError> {
        self.ask(GetDeposit {}).await
    }

    async fn balance(&self) -> Result<Balance, ClientError> {
        self.ask(GetBalance {}).await
    }

    /// How the prepayment stands; none at a mediator where nobody can pay in.
    async fn balance_if_any(&self) -> Result<Option<Balance>, ClientError> {
        match self.balance().await {
            Ok(balance) => Ok(Some(balance)),
            Err(ClientError::Money(Refusal::NoWallet)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All that ever changed the prepayment, oldest first.
    async fn history(&self) -> Result<Vec<Entry>, ClientError> {
        let (mut all, mut after) = (Vec::<Entry>::new(), 0);
        for _ in 0..MOST_PAGES {
            let History { entries, more } = self.ask(GetHistory { after }).await?;
            let grows = entries.iter().is_sorted_by(|one, next| one.number < next.number)
                && entries.first().is_none_or(|first| first.number > after);
            if !grows || entries.len() > MAX_ENTRIES || (more && entries.is_empty()) {
                return Err(self.unexpected());
            }
            after = entries.last().map_or(after, |last| last.number);
            all.extend(entries);
            if !more {
                break;
            }
        }
        Ok(all)
    }

    /// The newest statements of all contracts, unchecked.
    async fn statements(&self) -> Result<Vec<Stated>, ClientError> {
        let (mut all, mut after) = (Vec::new(), None);
        for _ in 0..MOST_CONTRACTS {
            let Statements { statements, more } = self.ask(GetStatements { after }).await?;
            let last = statements.last().and_then(|last| Contract::new(last.terms).ok());
            let last = last.map(|contract| contract.id());
            // What does not go on would be asked for again and again.
            if statements.len() > MAX_ENTRIES || (more && last <= after) {
                return Err(self.unexpected());
            }
            after = last;
            all.extend(statements);
            if !more {
                break;
            }
        }
        Ok(all)
    }

    async fn withdraw(&self, withdrawal: Withdrawal) -> Result<Payout, ClientError> {
        self.ask(Withdraw { withdrawal }).await
    }
}
