//! Requests about an account's prepayment.

use fincrypt_protocol::mediate::{History, Statements};
use fincrypt_protocol::money::{Balance, DepositTo, Payout, Withdrawal};
use fincrypt_protocol::{ContractId, NodeId, Refusal};

use crate::MediatorRole;

impl MediatorRole {
    pub(super) async fn deposit_to(&self, from: NodeId) -> Result<DepositTo, Refusal> {
        let account = self.account(from)?;
        self.register(from).await?;
        Ok(self.payments.prepayments.deposit_to(account).await?)
    }

    pub(super) async fn balance(&self, from: NodeId) -> Result<Balance, Refusal> {
        Ok(self.payments.prepayments.balance(self.account(from)?).await?)
    }

    pub(super) async fn history(&self, from: NodeId, after: u64) -> Result<History, Refusal> {
        let (entries, more) = self.payments.prepayments.entries(self.account(from)?, after).await?;
        Ok(History { entries, more })
    }

    pub(super) fn statements(&self, from: NodeId, after: Option<ContractId>) -> Result<Statements, Refusal> {
        let (statements, more) = self.payments.prepayments.statements(self.account(from)?, after);
        Ok(Statements { statements, more })
    }

    pub(super) async fn withdraw(&self, from: NodeId, withdrawal: Withdrawal) -> Result<Payout, Refusal> {
        Ok(self.payments.prepayments.withdraw(self.account(from)?, withdrawal).await?)
    }
}
