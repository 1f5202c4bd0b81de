//! Who earned what, what was paid, and by what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// A payout that arrived, as storage was told of it.
#[derive(Debug, Serialize)]
pub(crate) struct Paid {
    /// A transaction's id, or a payment's hash.
    by: String,
    on_chain: bool,
    /// What of the earnings it settled, and what of that arrived.
    msat: u64,
    arrived_msat: u64,
}

/// What came to an operator's wallet as that wallet says: by transaction or payment hash, in msat.
pub(crate) type Received = BTreeMap<String, u64>;

/// A storage node.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    name: String,
    rail: &'static str,
    earned_msat: u64,
    paid_msat: u64,
    coming_msat: u64,
    /// Epochs that it is not paid for, as it did not prove what it was asked for.
    refused_epochs: usize,
    /// What a cheater had earned when it was found out.
    cheated_at_msat: Option<u64>,
    payouts: Vec<Paid>,
    /// What of the payouts is in the operator's wallet.
    received_msat: u64,
}

/// A sum over all contracts of a storage node.
pub(crate) fn paid_to(storage: &Value, key: &str) -> u64 {
    let contracts = storage["earned"].as_array().into_iter().flatten();
    contracts.filter_map(|contract| contract[key].as_u64()).sum()
}

impl Node {
    pub(crate) fn new(
        name: String,
        rail: &'static str,
        storage: &Value,
        refused: usize,
        cheated: Option<u64>,
    ) -> Self {
        let payout = |payout: &Value| {
            let (id, hash) = (payout["transaction"].as_str(), payout["payment_hash"].as_str());
            let by = id.or(hash).filter(|_| payout["state"] == "arrived")?;
            Some(Paid {
                by: by.to_owned(),
                on_chain: id.is_some(),
                msat: payout["msat"].as_u64()?,
                arrived_msat: payout["arrives_msat"].as_u64()?,
            })
        };
        Self {
            name,
            rail,
            earned_msat: paid_to(storage, "earned_msat"),
            paid_msat: paid_to(storage, "paid_msat"),
            coming_msat: paid_to(storage, "coming_msat"),
            refused_epochs: refused,
            cheated_at_msat: cheated,
            payouts: storage["payouts"].as_array().into_iter().flatten().filter_map(payout).collect(),
            received_msat: 0,
        }
    }

    /// Finds its payouts in its operator's wallet and takes them out of there. What is not as it should be.
    fn find(&mut self, chain: &BTreeSet<String>, wallet: &mut Received) -> Vec<String> {
        let mut wrong = Vec::new();
        for paid in &self.payouts {
            let came = wallet.remove(&paid.by);
            self.received_msat += came.unwrap_or_default();
            if came != Some(paid.arrived_msat) {
                let (name, Paid { by, arrived_msat, .. }) = (&self.name, paid);
                wrong.push(format!("{name}: of {by}, {came:?} msat came where {arrived_msat} were told"));
            }
            if paid.on_chain && !chain.contains(&paid.by) {
                wrong.push(format!("{}: {} is not in bitcoind's chain", self.name, paid.by));
            }
        }
        let settled: u64 = self.payouts.iter().map(|paid| paid.msat).sum();
        if settled != self.paid_msat {
            let (name, paid) = (&self.name, self.paid_msat);
            wrong.push(format!("{name}: {paid} msat count as paid, its payouts come to {settled}"));
        }
        match self.cheated_at_msat {
            Some(then) if self.earned_msat > then => {
                wrong.push(format!("{} earned on after it cheated", self.name));
            }
            Some(_) if self.refused_epochs == 0 => wrong.push(format!("{} was not found out", self.name)),
            None if self.refused_epochs > 0 => wrong.push(format!("{} is refused epochs", self.name)),
            None if self.payouts.is_empty() => wrong.push(format!("{} was not paid", self.name)),
            _ => {}
        }
        wrong
    }
}

/// The closing table.
#[derive(Debug, Default, Serialize)]
pub struct Table {
    pub(crate) nodes: Vec<Node>,
    pub(crate) deposit_msat: u64,
    /// What of the deposit is left, what storage has earned, and the mediator by it.
    pub(crate) prepaid_msat: u64,
    /// What the client has taken out again.
    pub(crate) withdrawn_msat: u64,
    pub(crate) earned_msat: u64,
    pub(crate) fees_msat: u64,
    /// What is not as it should be; empty is the aim.
    pub wrong: Vec<String>,
}

impl Table {
    /// Looks whether what each operator's wallet received is what its nodes were told, to the millisatoshi,
    /// and nothing else came; and whether cheaters earned nothing more. Several nodes may have one wallet.
    pub(crate) fn check(&mut self, chain: &BTreeSet<String>, wallets: &mut [(Vec<usize>, Received)]) {
        for (nodes, wallet) in wallets {
            for at in nodes {
                let wrong = self.nodes[*at].find(chain, wallet);
                self.wrong.extend(wrong);
            }
            let more = wallet
                .iter()
                .map(|(by, msat)| format!("{msat} msat came by {by}, which no node was told of"));
            self.wrong.extend(more);
        }
    }

    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }
}

fn sat(msat: u64) -> String {
    format!("{}.{:03}", msat / 1000, msat % 1000)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:<11} {:<18} {:>14} {:>14} {:>11} {:>14} {:>12} {:>8} {:>14}",
            "node", "paid to", "accrued", "paid", "fees", "received", "owed", "payouts", "epochs refused"
        )?;
        for node in &self.nodes {
            let fees: u64 = node.payouts.iter().map(|paid| paid.msat.saturating_sub(paid.arrived_msat)).sum();
            let cheated = if node.cheated_at_msat.is_some() { "  cheated" } else { "" };
            writeln!(
                f,
                "  {:<11} {:<18} {:>14} {:>14} {:>11} {:>14} {:>12} {:>8} {:>14}{cheated}",
                node.name,
                node.rail,
                sat(node.earned_msat),
                sat(node.paid_msat),
                sat(fees),
                sat(node.received_msat),
                sat(node.earned_msat.saturating_sub(node.paid_msat)),
                node.payouts.len(),
                node.refused_epochs,
            )?;
        }
        writeln!(f, "\n  payouts, as bitcoind and the receiving nodes know them")?;
        for node in &self.nodes {
            for paid in &node.payouts {
                let what = if paid.on_chain { "txid" } else { "payment" };
                writeln!(
                    f,
                    "  {:<11} {:>12} sat arrived, {what} {}",
                    node.name,
                    sat(paid.arrived_msat),
                    paid.by
                )?;
            }
        }
        writeln!(f, "\n  client      paid in {} sat", sat(self.deposit_msat))?;
        writeln!(
            f,
            "              = {} taken out + {} left + {} to storage + {} fee of the mediator",
            sat(self.withdrawn_msat),
            sat(self.prepaid_msat),
            sat(self.earned_msat),
            sat(self.fees_msat)
        )?;
        for wrong in &self.wrong {
            writeln!(f, "  wrong       {wrong}")?;
        }
        let result = if self.is_right() {
            "PAID: everyone honest, to the millisatoshi; the cheaters nothing since"
        } else {
            "NOT RIGHT: see above"
        };
        writeln!(f, "  result      {result}")
    }
}
