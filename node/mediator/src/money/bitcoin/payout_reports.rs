//! What creditors are told of payouts: each storage node once for each stage of a payout to it, clients
//! when they ask.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fincrypt_ledger::{Books, Owed, PayoutBook, PayoutStage};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::{Payout, PayoutState};
use fincrypt_protocol::{AccountId, NodeId, PayoutId};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::Table;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::due::nodes_of;
use super::wallets::Wallets;

/// `(payout, node)` → the stage that the node was told of.
const REPORTED: Table<(PayoutId, NodeId), ReportStage> = Table::new("payout_reports", 64);

/// Progress of a payout: differs whenever a report is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReportStage {
    state: PayoutState,
    /// How often it was sent, in any version.
    sent: u32,
    /// How often it was reopened.
    round: u32,
}

fn stage(book: &PayoutBook) -> ReportStage {
    let state = match book.stage {
        PayoutStage::Open => PayoutState::OnTheWay,
        PayoutStage::Settled { .. } => PayoutState::Arrived,
        PayoutStage::Failed => PayoutState::Failed,
    };
    ReportStage { state, sent: u32::try_from(book.sent.len()).unwrap_or(u32::MAX), round: book.round }
}

/// A report that a storage node has not acknowledged.
pub(super) struct Report {
    pub(super) node: NodeId,
    pub(super) payout: Payout,
    pub(super) stage: ReportStage,
}

/// The payee of a part.
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
fn report(books: &Books, id: PayoutId, book: &PayoutBook, whose: Creditor) -> Payout {
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

/// Which creditor has been told what.
pub(super) struct PayoutReports {
    wallets: Arc<Wallets>,
    state: State,
    /// Payouts of which all nodes have been told, and at which stage: no more than the books have.
    complete: Mutex<HashMap<PayoutId, ReportStage>>,
}

impl PayoutReports {
    /// Reports of the payouts in the books.
    pub(super) fn new(wallets: Arc<Wallets>, state: State) -> Self {
        Self { wallets, state, complete: Mutex::default() }
    }

    /// A payout as the account that withdrew is told of it.
    pub(super) fn to_client(&self, account: AccountId, id: PayoutId) -> Option<Payout> {
        let whose = Creditor::Client(account);
        self.wallets.ledger.books(|books| books.payout(id).map(|book| report(books, id, book, whose)))
    }

    /// Reports of payouts that some node has not been told of as they stand.
    ///
    /// # Errors
    /// If what was acknowledged cannot be read.
    pub(super) fn outstanding(&self) -> Result<Vec<Report>, KvError> {
        let mut complete = self.complete.lock();
        // Of years of payouts almost none.
        let changed: Vec<(PayoutId, ReportStage, Vec<Report>)> = self.wallets.ledger.books(|books| {
            let stages = books.payouts().map(|(id, book)| (id, book, stage(book)));
            let changed = stages.filter(|(id, _, stage)| complete.get(id) != Some(stage));
            let reports = changed.map(|(id, book, stage)| {
                let nodes: BTreeSet<NodeId> = nodes_of(books, book).collect();
                let to =
                    |node| Report { node, payout: report(books, id, book, Creditor::Storage(node)), stage };
                (id, stage, nodes.into_iter().map(to).collect())
            });
            reports.collect()
        });
        let mut outstanding = Vec::new();
        for (id, stage, reports) in changed {
            let before = outstanding.len();
            for report in reports {
                let known = REPORTED.get(&self.state, &(id, report.node))?;
                if known != Some(stage) {
                    outstanding.push(report);
                }
            }
            if outstanding.len() == before {
                complete.insert(id, stage);
            }
        }
        Ok(outstanding)
    }

    /// Notes that a node has acknowledged a report.
    ///
    /// # Errors
    /// If that cannot be noted: it is told again.
    pub(super) fn acknowledged(
        &self,
        node: &NodeId,
        payout: PayoutId,
        stage: ReportStage,
    ) -> Result<(), KvError> {
        let mut batch = Batch::default();
        REPORTED.put(&mut batch, &(payout, *node), &stage)?;
        self.state.commit(&batch)
    }

    /// Has a node told of all payouts once more: it has lost what it knew of them.
    ///
    /// # Errors
    /// If this cannot be recorded.
    pub(super) fn repeat(&self, node: &NodeId) -> Result<(), KvError> {
        // The lock first: what is being told meanwhile is not taken for told to all.
        let mut complete = self.complete.lock();
        let theirs: Vec<PayoutId> = self.wallets.ledger.books(|books| {
            let theirs = |book: &PayoutBook| nodes_of(books, book).any(|of| of == *node);
            books.payouts().filter(|(_, book)| theirs(book)).map(|(id, _)| id).collect()
        });
        let mut batch = Batch::default();
        for id in theirs {
            REPORTED.remove(&mut batch, &(id, *node));
            complete.remove(&id);
        }
        if batch.is_empty() { Ok(()) } else { self.state.commit(&batch) }
    }
}
