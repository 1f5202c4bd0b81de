//! What comes in, and whose it is.

use fincrypt_protocol::money::{Arrival, Pending};
use fincrypt_protocol::{AccountId, PaymentHash, Refusal, UnixTime};
use fincrypt_storage::kv::Tree;
use fincrypt_wallet::ledger::{Event, LedgerError, Owner, Source};

use super::Money;
use crate::accounts::failed;
use crate::serve::blocking;

/// `account` → its offer.
const OFFERS: Tree = Tree("deposit_offers");

impl Money {
    /// An address and an offer that are the account's alone, durably.
    pub(in crate::mediator) async fn deposit_to(
        self: &std::sync::Arc<Self>,
        account: AccountId,
    ) -> Result<(Option<String>, Option<String>), Refusal> {
        let money = std::sync::Arc::clone(self);
        blocking(move || {
            let offer = money.offer_for(account)?;
            if offer.is_none() { Err(Refusal::NoWallet) } else { Ok((None, offer)) }
        })
        .await
    }

    /// The account's offer: always the same.
    fn offer_for(&self, account: AccountId) -> Result<Option<String>, Refusal> {
        if let Some(known) = self.read(OFFERS, account.as_bytes())? {
            return Ok(Some(known));
        }
        let Some(lightning) = self.lightning() else { return Ok(None) };
        let (id, offer) = lightning.offer("Fincrypt storage, prepaid").map_err(|error| failed(&error))?;
        // Whose it is comes first: nobody has seen it yet.
        let event = Event::Attributed { source: Source::Offer(id.0), owner: Owner::Client(account) };
        self.ledger.record(UnixTime::now(), &event).map_err(|error| failed(&error))?;
        self.write(OFFERS, account.as_bytes(), &offer)?;
        Ok(Some(offer))
    }

    /// What is on its way in for an account and does not count yet.
    pub(in crate::mediator) fn pending(&self, _account: &AccountId) -> Vec<Pending> {
        Vec::new()
    }

    /// Books whatever came in and is not booked. Blocks.
    pub(super) fn collect(&self) -> Result<(), LedgerError> {
        let Some(lightning) = self.lightning() else { return Ok(()) };
        for deposit in lightning.deposits() {
            let arrival = Arrival::Payment(PaymentHash::from_bytes(deposit.id));
            let (known, owner) = self.ledger.books(|books| {
                let owner = deposit.offer.and_then(|offer| books.owner(Source::Offer(offer.0)));
                (books.deposit(arrival).1, owner.unwrap_or(Owner::Operator))
            });
            if !known {
                let event = Event::Deposit { arrival, round: 0, owner, amount: deposit.amount };
                self.ledger.record(UnixTime::now(), &event)?;
                tracing::info!(amount = %deposit.amount, "a Lightning deposit came in");
            }
        }
        Ok(())
    }
}
