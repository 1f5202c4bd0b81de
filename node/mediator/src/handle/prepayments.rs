//! Requests about an account's prepayment.

use fincrypt_protocol::mediate::{History, Statements};
use fincrypt_protocol::money::{Balance, DepositTo, Payout, Withdrawal};
use fincrypt_protocol::{AccountId, ContractId, NodeId, Refusal};

use crate::MediatorRole;

/// Requests about a prepayment, of one peer.
pub(super) struct PrepaymentRequests<'r> {
    pub(super) role: &'r MediatorRole,
    pub(super) from: NodeId,
}

impl PrepaymentRequests<'_> {
    pub(super) async fn deposit_to(&self) -> Result<DepositTo, Refusal> {
        let account = self.account()?;
        self.role.register(self.from).await?;
        Ok(self.role.payments.prepayments.deposit_to(account).await?)
    }

    pub(super) async fn balance(&self) -> Result<Balance, Refusal> {
        Ok(self.role.payments.prepayments.balance(self.account()?).await?)
    }

    pub(super) async fn history(&self, after: u64) -> Result<History, Refusal> {
        let (entries, more) = self.role.payments.prepayments.entries(self.account()?, after).await?;
        Ok(History { entries, more })
    }

    pub(super) fn statements(&self, after: Option<ContractId>) -> Result<Statements, Refusal> {
        let (statements, more) = self.role.payments.prepayments.statements(self.account()?, after);
        Ok(Statements { statements, more })
    }

    pub(super) async fn withdraw(&self, withdrawal: Withdrawal) -> Result<Payout, Refusal> {
        Ok(self.role.payments.prepayments.withdraw(self.account()?, withdrawal).await?)
    }

    fn account(&self) -> Result<AccountId, Refusal> {
        self.role.account(self.from)
    }
}
