//! Deciding on payouts, and what creditors are told of them.

use fincrypt_ledger::{Books, Event, LedgerError, Owed, PayTo, PayoutBook, PayoutStage, Rail};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::{Payout, PayoutState};
use fincrypt_protocol::{AccountId, NodeId, PayoutId, Refusal, UnixTime};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_treasury::lightning::Destination;

use super::{Due, Money, due};
use fincrypt_accounts::failed;

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

/// Who is paid by a part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Creditor {
    Storage(NodeId),
    Client(AccountId),
    Operator,
}

fn creditor(books: &Books, owed: Owed) -> Option<Creditor> {
    Some(match owed {
        Owed::Contract(contract) => Creditor::Storage(books.contract(contract)?.storage),
        Owed::Client(account) => Creditor::Client(account),
        Owed::Capital | Owed::Fees => Creditor::Operator,
    })
}

/// What arrives of a payout at one creditor: destinations are in the order in which creditors appear.
fn arrives(books: &Books, book: &PayoutBook, whose: Creditor) -> Msat {
    let mut creditors: Vec<Creditor> = Vec::new();
    for found in book.parts.iter().filter_map(|part| creditor(books, part.owed)) {
        if !creditors.contains(&found) {
            creditors.push(found);
        }
    }
    let at = creditors.iter().position(|found| *found == whose);
    at.and_then(|at| book.to.get(at)).map_or(Msat::ZERO, |to| to.amount)
}

/// A payout as one creditor is told of it.
fn told(books: &Books, id: PayoutId, book: &PayoutBook, whose: Creditor) -> Payout {
    let (state, taken) = match &book.stage {
        PayoutStage::Open => (PayoutState::OnTheWay, None),
        PayoutStage::Settled { taken, .. } => (PayoutState::Arrived, Some(taken)),
        PayoutStage::Failed => (PayoutState::Failed, None),
    };
    let sending = match &book.stage {
        PayoutStage::Settled { sending, .. } => Some(*sending),
        _ => book.sent.last().copied(),
    };
    let amounts = book.parts.iter().enumerate().map(|(at, part)| {
        let amount = taken.and_then(|taken| taken.get(at).copied()).unwrap_or(part.amount);
        (part.owed, amount)
    });
    let ours = amounts.filter(|(owed, _)| creditor(books, *owed) == Some(whose));
    let parts = ours.filter_map(|(owed, amount)| match owed {
        Owed::Contract(contract) => Some((contract, amount)),
        _ => None,
    });
    Payout { id, state, sending, parts: parts.collect(), arrives: arrives(books, book, whose) }
}

impl Money {
    /// A payout as the account that withdrew is told of it.
    pub(super) fn told_client(&self, account: AccountId, id: PayoutId) -> Option<Payout> {
        let whose = Creditor::Client(account);
        self.ledger.books(|books| books.payout(id).map(|book| told(books, id, book, whose)))
    }

    /// Payouts that some node has not heard of as they stand, and who is to.
    pub(crate) fn untold(&self) -> Vec<(NodeId, Payout, Vec<u8>)> {
        let mut all_told = self.all_told.lock();
        self.ledger.books(|books| {
            let mut untold = Vec::new();
            for (id, book) in books.payouts() {
                let now = stage(book);
                // Of years of payouts almost all.
                if all_told.get(&id) == Some(&now) {
                    continue;
                }
                let mut nodes: Vec<NodeId> = super::nodes_of(books, book).collect();
                nodes.sort_unstable();
                nodes.dedup();
                let before = untold.len();
                for node in nodes {
                    let key = [id.as_bytes().as_slice(), node.as_bytes()].concat();
                    if self.state.get(TOLD, &key).ok().flatten().as_ref() == Some(&now) {
                        continue;
                    }
                    untold.push((node, told(books, id, book, Creditor::Storage(node)), now.clone()));
                }
                if untold.len() == before {
                    all_told.insert(id, now);
                }
            }
            untold
        })
    }

    /// Notes that a node has heard of a payout.
    pub(crate) fn heard(&self, node: &NodeId, payout: PayoutId, stage: Vec<u8>) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.put(TOLD, [payout.as_bytes().as_slice(), node.as_bytes()].concat(), stage);
        self.state.commit(&batch).map_err(|error| failed(&error))
    }

    /// Has a node told of all payouts once more: it has lost what it knew of them.
    pub(super) fn report_again(&self, node: &NodeId) -> Result<(), Refusal> {
        // The lock first: what is being told meanwhile is not taken for told to all.
        let mut all_told = self.all_told.lock();
        let mut batch = Batch::default();
        self.ledger.books(|books| {
            let theirs = |book: &PayoutBook| super::nodes_of(books, book).any(|of| of == *node);
            for (id, _) in books.payouts().filter(|(_, book)| theirs(book)) {
                batch.remove(TOLD, [id.as_bytes().as_slice(), node.as_bytes()].concat());
                all_told.remove(&id);
            }
        });
        if batch.is_empty() { Ok(()) } else { self.state.commit(&batch).map_err(|error| failed(&error)) }
    }

    /// Where a node wants to be paid, as it said last.
    pub(crate) fn known_destination(&self, node: &NodeId) -> Option<String> {
        self.read(PAY_TO, node.as_bytes()).ok().flatten()
    }

    /// Remembers it.
    pub(crate) fn learn_destination(&self, node: &NodeId, to: &str) -> Result<(), Refusal> {
        if self.known_destination(node).as_deref() == Some(to) {
            return Ok(());
        }
        self.write(PAY_TO, node.as_bytes(), &to)
    }

    /// Decides to pay a node over Lightning: durable before anything leaves. Blocks.
    pub(super) fn intend_payment(
        &self,
        due: &Due,
        to: &Destination,
        direct: bool,
    ) -> Result<(), LedgerError> {
        let _deciding = self.decide();
        if self.is_used(to) {
            self.trouble(
                &due.node,
                "its operator names an invoice that was used: name an offer, or another invoice",
            );
            return Ok(());
        }
        let arriving = due::arrives(due.total, self.terms.routing_permille, direct);
        let Some(amount) = arriving else { return Ok(()) };
        let Ok(payout) = draw() else { return Ok(()) };
        let to = vec![PayTo { destination: to.to_string(), amount }];
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
