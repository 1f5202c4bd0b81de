//! Clients take out what they prepaid and did not use.

use fincrypt_ledger::{Account, Event, LedgerError, Owed, Part, PayTo, Rail};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::limits::MAX_DESTINATION;
use fincrypt_protocol::money::{Payout, Withdrawal};
use fincrypt_protocol::{AccountId, PayoutId, Refusal, UnixTime};
use fincrypt_treasury::lightning::Destination;
use fincrypt_treasury::onchain::{Output, TreasuryError, is_address};

use super::batch::NotDecided;
use super::due::arrives;
use super::{Money, To};
use fincrypt_accounts::failed;

/// What the network may get of a withdrawal, in permille.
const MOST_FEE_PERMILLE: u64 = 500;
/// The least that is worth a payment.
const LEAST: Msat = Msat::new(2000);

impl Money {
    /// Pays out of an account's prepayment, once for each withdrawal.
    pub(super) fn withdraw_once(
        &self,
        account: AccountId,
        withdrawal: &Withdrawal,
    ) -> Result<Payout, Refusal> {
        let id = withdrawal.payout(&account);
        if self.told_client(account, id).is_none() {
            self.intend_withdrawal(account, id, withdrawal)?;
            self.moved.notify_one();
        }
        self.told_client(account, id).ok_or(Refusal::Failed)
    }

    fn intend_withdrawal(
        &self,
        account: AccountId,
        id: PayoutId,
        withdrawal: &Withdrawal,
    ) -> Result<(), Refusal> {
        if withdrawal.to.len() > MAX_DESTINATION {
            return Err(Refusal::Destination);
        }
        let to = self.read_destination(&withdrawal.to).map_err(|_| Refusal::Destination)?;
        let there = self.ledger.books(|books| books.balance(Account::Prepayment(account)));
        let whole = Msat::new(there.get() - there.get() % 1000);
        let amount = withdrawal.amount.unwrap_or(whole);
        if amount < LEAST || amount > there || !amount.get().is_multiple_of(1000) {
            return Err(Refusal::Insufficient);
        }
        match to {
            To::Lightning(to) => self.withdraw_over_lightning(account, id, amount, &to),
            // Whoever wants a channel of ours is a storage node.
            To::Channel(_) => Err(Refusal::Destination),
            To::Chain(address) => self.withdraw_on_chain(account, id, amount, address),
        }
    }

    fn withdraw_on_chain(
        &self,
        account: AccountId,
        id: PayoutId,
        amount: Msat,
        address: String,
    ) -> Result<(), Refusal> {
        let treasury = self.treasury().ok_or(Refusal::NoWallet)?;
        let parts = vec![Part { owed: Owed::Client(account), amount }];
        let output = Output { address, amount: amount.whole_sat() };
        // Who withdraws chose the chain, and bears what it costs.
        match self.intend_transaction(treasury, id, parts, &[output], MOST_FEE_PERMILLE) {
            Ok(()) => Ok(()),
            Err(NotDecided::Dear(_) | NotDecided::Treasury(TreasuryError::Dust(_))) => {
                Err(Refusal::Insufficient)
            }
            Err(NotDecided::Treasury(_) | NotDecided::Ledger(LedgerError::Books(_))) => {
                Err(Refusal::NoWallet)
            }
            Err(NotDecided::Ledger(error)) => Err(failed(&error)),
        }
    }

    fn withdraw_over_lightning(
        &self,
        account: AccountId,
        id: PayoutId,
        amount: Msat,
        to: &Destination,
    ) -> Result<(), Refusal> {
        let most = arrives(amount, self.terms.routing_permille, false).ok_or(Refusal::Insufficient)?;
        let arriving = to.asks().unwrap_or(most);
        if arriving > most {
            return Err(Refusal::Insufficient);
        }
        let _deciding = self.decide();
        if self.is_used(to) {
            return Err(Refusal::Used);
        }
        let to = vec![PayTo { destination: to.to_string(), amount: arriving }];
        let parts = vec![Part { owed: Owed::Client(account), amount }];
        let event = Event::PayoutIntent { payout: id, rail: Rail::Lightning, parts, to };
        match self.ledger.record(UnixTime::now(), &event) {
            Ok(_) => Ok(()),
            // Too little in the channels.
            Err(LedgerError::Books(_)) => Err(Refusal::NoWallet),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Reads where money is to go.
    pub(crate) fn read_destination(&self, text: &str) -> Result<To, super::destination::NoDestination> {
        let network = self.network();
        To::read(text, |text| network.is_some_and(|network| is_address(text, network)))
    }
}
