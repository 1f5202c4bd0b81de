//! What a mediator is asked about a prepayment.

use fincrypt_protocol::limits::MAX_ENTRIES;
use fincrypt_protocol::mediate::{
    GetBalance, GetDeposit, GetHistory, GetStatements, History, Statements, Withdraw,
};
use fincrypt_protocol::money::{Balance, DepositTo, Entry, Payout, Stated, Withdrawal};
use fincrypt_protocol::statement::Contract;

use super::error::PrepaymentError;
use crate::mediator_client::{MediatorClient, MediatorError};

/// Pages of a history that are asked for: a million entries.
const MOST_PAGES: usize = 16 << 10;
/// Pages of statements that are asked for: 4096 contracts, with a node each.
const MOST_CONTRACTS: usize = 64;

/// What a mediator is asked about the prepayment.
pub(super) struct PrepaymentClient<'a>(pub(super) &'a MediatorClient);

impl PrepaymentClient<'_> {
    pub(super) async fn deposit_to(&self) -> Result<DepositTo, MediatorError> {
        self.0.ask(GetDeposit {}).await
    }

    pub(super) async fn balance(&self) -> Result<Balance, MediatorError> {
        self.0.ask(GetBalance {}).await
    }

    /// How the prepayment stands; none at a mediator where nobody can pay in.
    pub(super) async fn balance_if_any(&self) -> Result<Option<Balance>, MediatorError> {
        match self.balance().await {
            Ok(balance) => Ok(Some(balance)),
            Err(MediatorError::Prepayment(PrepaymentError::NoWallet)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All that ever changed the prepayment, oldest first.
    pub(super) async fn history(&self) -> Result<Vec<Entry>, MediatorError> {
        let (mut all, mut after) = (Vec::<Entry>::new(), 0);
        for _ in 0..MOST_PAGES {
            let History { entries, more } = self.0.ask(GetHistory { after }).await?;
            let grows = entries.iter().is_sorted_by(|one, next| one.number < next.number)
                && entries.first().is_none_or(|first| first.number > after);
            if !grows || entries.len() > MAX_ENTRIES || (more && entries.is_empty()) {
                return Err(self.0.unexpected());
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
    pub(super) async fn statements(&self) -> Result<Vec<Stated>, MediatorError> {
        let (mut all, mut after) = (Vec::new(), None);
        for _ in 0..MOST_CONTRACTS {
            let Statements { statements, more } = self.0.ask(GetStatements { after }).await?;
            let last = statements.last().and_then(|last| Contract::new(last.terms).ok());
            let last = last.map(|contract| contract.id());
            // What does not go on would be asked for again and again.
            if statements.len() > MAX_ENTRIES || (more && last <= after) {
                return Err(self.0.unexpected());
            }
            after = last;
            all.extend(statements);
            if !more {
                break;
            }
        }
        Ok(all)
    }

    pub(super) async fn withdraw(&self, withdrawal: Withdrawal) -> Result<Payout, MediatorError> {
        self.0.ask(Withdraw { withdrawal }).await
    }
}
