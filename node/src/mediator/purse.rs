//! What clients ask about their money.

use fincrypt_protocol::amount::{Msat, Sat};
use fincrypt_protocol::money::{Balance, DepositTo, Entry, Payout, Stated, Withdrawal};
use fincrypt_protocol::{AccountId, ContractId, Refusal};

use fincrypt_wallet::ledger::Account;

use super::MediatorRole;

impl MediatorRole {
    /// Where an account may pay in, and how much it should.
    pub(super) async fn deposit_to(&self, account: AccountId) -> Result<DepositTo, Refusal> {
        let (address, offer) = self.money.deposit_to(account).await?;
        Ok(DepositTo { address, offer, advised: Sat::ZERO })
    }

    /// How its prepayment stands.
    pub(super) async fn balance(&self, account: AccountId) -> Result<Balance, Refusal> {
        if !self.money.takes_deposits() {
            return Err(Refusal::NoWallet);
        }
        let prepaid = Account::Prepayment(account);
        Ok(Balance {
            prepaid: self.money.ledger().books(|books| books.balance(prepaid)),
            epoch: Msat::ZERO,
            day: Msat::ZERO,
            pending: self.money.pending(&account),
            leaving: Msat::ZERO,
            empty: None,
            grace_days: 0,
        })
    }

    /// A page of what changed it, and whether more follows.
    pub(super) async fn entries(
        &self,
        _account: AccountId,
        _after: u64,
    ) -> Result<(Vec<Entry>, bool), Refusal> {
        Err(Refusal::NoWallet)
    }

    /// A page of the newest statements of its contracts, and whether more follow.
    pub(super) async fn statements(
        &self,
        _account: AccountId,
        _after: Option<ContractId>,
    ) -> Result<(Vec<Stated>, bool), Refusal> {
        Err(Refusal::NoWallet)
    }

    /// Pays out of it.
    pub(super) async fn withdraw(
        &self,
        account: AccountId,
        withdrawal: Withdrawal,
    ) -> Result<Payout, Refusal> {
        self.money.withdraw(account, withdrawal, Msat::ZERO).await
    }
}
