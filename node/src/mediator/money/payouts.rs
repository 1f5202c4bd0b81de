//! Deciding on payouts, and what creditors are told of them.

use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::{Payout, PayoutState};
use fincrypt_protocol::{ContractId, NodeId, PayoutId, Refusal, UnixTime};
use fincrypt_storage::kv::{Batch, KeyValue, Tree};
use fincrypt_wallet::ledger::{Books, Event, LedgerError, Owed, PayTo, PayoutBook, PayoutStage, Rail};
use fincrypt_wallet::lightning::Destination;

use super::due::arrives;
use super::{Due, Money};
use crate::accounts::failed;

/// `node` → where its operator wants to be paid, as it said last.
const PAY_TO: Tree = Tree("pay_to");
/// `payout` → what its nodes were told of it.
const TOLD: Tree = Tree("payout_told");

/// A new identity.
pub(super) fn draw() -> Result<PayoutId, Refusal> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| failed(&error))?;
    Ok(PayoutId::from_bytes(id))
}

/// How far a payout is, in a byte that differs whenever a creditor is to be told.
fn stage(book: &PayoutBook) -> Vec<u8> {
    let state = match book.stage {
        PayoutStage::Open => 0,
        PayoutStage::Settled { .. } => 1,
        PayoutStage::Failed => 2,
    };
    let sent = u32::try_from(book.sent.len()).unwrap_or(u32::MAX);
    [&[state][..], &sent.to_le_bytes(), &book.round.to_le_bytes()].concat()
}

/// A payout as one creditor is told of it: the parts that `counts`.
fn told(id: PayoutId, book: &PayoutBook, counts: impl Fn(&Owed) -> bool) -> Payout {
    let (state, taken, left) = match &book.stage {
        PayoutStage::Open => (PayoutState::OnTheWay, None, None),
        PayoutStage::Settled { taken, left, .. } => (PayoutState::Arrived, Some(taken), Some(*left)),
        PayoutStage::Failed => (PayoutState::Failed, None, None),
    };
    let sending = match &book.stage {
        PayoutStage::Settled { sending, .. } => Some(*sending),
        _ => book.sent.last().copied(),
    };
    let amounts = book.parts.iter().enumerate().map(|(at, part)| {
        let amount = taken.and_then(|taken| taken.get(at).copied()).unwrap_or(part.amount);
        (part.owed, amount)
    });
    let ours: Vec<(Owed, Msat)> = amounts.filter(|(owed, _)| counts(owed)).collect();
    let sum = ours.iter().fold(Msat::ZERO, |sum, (_, amount)| sum.checked_add(*amount).unwrap_or(sum));
    // A payment has one creditor; of a transaction, each bears its share of the fee.
    let arrives = match (&book.to, left) {
        (Some(to), _) => to.amount,
        (None, _) => sum,
    };
    let parts = ours.into_iter().filter_map(|(owed, amount)| match owed {
        Owed::Contract(contract) => Some((contract, amount)),
        _ => None,
    });
    Payout { id, state, sending, parts: parts.collect(), arrives }
}

impl Money {
    /// A payout as the account that withdrew is told of it.
    pub(super) fn told_client(&self, id: PayoutId) -> Option<Payout> {
        self.ledger.books(|books| books.payout(id).map(|book| told(id, book, |_| true)))
    }

    /// Payouts that some node has not heard of as they stand, and who is to.
    pub(in crate::mediator) fn untold(&self) -> Vec<(NodeId, Payout, Vec<u8>)> {
        let storage = |books: &Books, contract: ContractId| books.contract(contract).map(|book| book.storage);
        self.ledger.books(|books| {
            let mut untold = Vec::new();
            for (id, book) in books.payouts() {
                let now = stage(book);
                let mut nodes: Vec<NodeId> = super::nodes_of(books, book).collect();
                nodes.sort_unstable();
                nodes.dedup();
                for node in nodes {
                    let key = [id.as_bytes().as_slice(), node.as_bytes()].concat();
                    if self.state.get(TOLD, &key).ok().flatten().as_ref() == Some(&now) {
                        continue;
                    }
                    let ours = |owed: &Owed| match owed {
                        Owed::Contract(contract) => storage(books, *contract) == Some(node),
                        _ => false,
                    };
                    untold.push((node, told(id, book, ours), now.clone()));
                }
            }
            untold
        })
    }

    /// Notes that a node has heard of a payout.
    pub(in crate::mediator) fn heard(
        &self,
        node: &NodeId,
        payout: PayoutId,
        stage: Vec<u8>,
    ) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.put(TOLD, [payout.as_bytes().as_slice(), node.as_bytes()].concat(), stage);
        self.state.commit(&batch).map_err(|error| failed(&error))
    }

    /// Where a node wants to be paid, as it said last.
    pub(in crate::mediator) fn known_destination(&self, node: &NodeId) -> Option<String> {
        self.read(PAY_TO, node.as_bytes()).ok().flatten()
    }

    /// Remembers it.
    pub(in crate::mediator) fn learn_destination(&self, node: &NodeId, to: &str) -> Result<(), Refusal> {
        if self.known_destination(node).as_deref() == Some(to) {
            return Ok(());
        }
        self.write(PAY_TO, node.as_bytes(), &to)
    }

    /// Decides to pay a node over Lightning: durable before anything leaves. Blocks.
    pub(in crate::mediator) fn intend_payment(
        &self,
        due: &Due,
        to: &Destination,
        direct: bool,
    ) -> Result<(), LedgerError> {
        let Some(amount) = arrives(due.total, self.terms.routing_permille, direct) else { return Ok(()) };
        let Ok(payout) = draw() else { return Ok(()) };
        let to = Some(PayTo { destination: to.to_string(), amount });
        let event = Event::PayoutIntent { payout, rail: Rail::Lightning, parts: due.parts.clone(), to };
        match self.ledger.record(UnixTime::now(), &event) {
            Ok(_) => Ok(()),
            Err(LedgerError::Books(refused)) => {
                self.trouble(&due.node, &refused.to_string());
                Ok(())
            }
            Err(failed) => Err(failed),
        }
    }
}
