//! What changed the prepayment, for people.

use std::collections::HashMap;

use fincrypt_protocol::ContractId;
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::{Arrival, Change, Entry};
use serde::Serialize;

use super::client::PrepaymentClient;
use super::withdraw::shown_sending;
use crate::error::ClientError;
use crate::session::with_vault;
use crate::vault::Vault;
use fincrypt_net::shown;

/// Something that changed the prepayment.
#[derive(Debug, Serialize)]
pub struct EntryReport {
    /// Its number; they grow, with gaps.
    pub number: u64,
    /// When, in seconds since 1970.
    pub time: u64,
    /// `deposited`, `deposit_gone`, `charged`, `withdrawn`, `sent`, `arrived`, `reopened` or `failed`.
    pub what: &'static str,
    /// How much, in msat: what a statement adds to the one before.
    pub amount_msat: Option<u64>,
    /// The transaction's output, the payment, or the payout.
    pub reference: Option<String>,
    /// The storage node that earns, as a peer id.
    pub storage: Option<String>,
    /// The epoch up to which it has earned.
    pub epoch: Option<u64>,
}

/// All that changed the prepayment.
#[derive(Debug, Serialize)]
pub struct HistoryReport {
    /// Oldest first.
    pub entries: Vec<EntryReport>,
}

fn shown_arrival(arrival: Arrival) -> String {
    match arrival {
        Arrival::Output(transaction, output) => format!("{transaction}:{output}"),
        Arrival::Payment(hash) => hash.to_string(),
    }
}

/// Entries for people: what each statement adds, rather than what it comes to.
fn entries(entries: Vec<Entry>) -> Vec<EntryReport> {
    let mut sums: HashMap<ContractId, Msat> = HashMap::new();
    let mut told = |entry: Entry| {
        let (what, amount, reference) = match entry.change {
            Change::Deposited { arrival, amount } => {
                ("deposited", Some(amount), Some(shown_arrival(arrival)))
            }
            Change::DepositGone { arrival } => ("deposit_gone", None, Some(shown_arrival(arrival))),
            Change::Charged { contract, earned, fee, .. } => {
                let sum = earned.checked_add(fee).unwrap_or(Msat::new(u64::MAX));
                let before = sums.insert(contract, sum).unwrap_or_default();
                ("charged", Some(sum.checked_sub(before).unwrap_or_default()), None)
            }
            Change::Withdrawn { payout, amount } => ("withdrawn", Some(amount), Some(payout.to_string())),
            Change::Sent { sending, .. } => ("sent", None, Some(shown_sending(sending))),
            Change::Arrived { sending, .. } => ("arrived", None, Some(shown_sending(sending))),
            Change::Reopened { payout, failed: false } => ("reopened", None, Some(payout.to_string())),
            Change::Reopened { payout, failed: true } => ("failed", None, Some(payout.to_string())),
        };
        let (storage, epoch) = match entry.change {
            Change::Charged { storage, epoch, .. } => (Some(shown(&storage)), Some(epoch.number())),
            _ => (None, None),
        };
        let (number, time, amount_msat) = (entry.number, entry.time.secs(), amount.map(Msat::get));
        EntryReport { number, time, what, amount_msat, reference, storage, epoch }
    };
    entries.into_iter().map(&mut told).collect()
}

/// All that changed the prepayment.
///
/// # Errors
/// [`ClientError`] if the mediator does not answer.
pub async fn history(vault: &Vault) -> Result<HistoryReport, ClientError> {
    let changes = with_vault(vault, async |session| {
        Ok(PrepaymentClient(&session.mediator(vault).await?).history().await?)
    })
    .await?;
    Ok(HistoryReport { entries: entries(changes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{Epoch, NodeId, UnixTime};

    #[test]
    fn what_a_statement_adds_is_told_rather_than_its_sum() {
        let charged = |number, contract, earned| Entry {
            number,
            time: UnixTime::from_secs(number),
            change: Change::Charged {
                contract: ContractId::from_bytes([contract; 32]),
                storage: NodeId::from_bytes([9; 32]),
                epoch: Epoch::new(number),
                earned: Msat::new(earned),
                fee: Msat::new(earned / 10),
            },
        };
        let told = entries(vec![charged(1, 1, 100), charged(2, 2, 50), charged(3, 1, 130)]);
        let amounts: Vec<_> = told.iter().map(|entry| (entry.number, entry.amount_msat)).collect();
        assert_eq!(amounts, [(1, Some(110)), (2, Some(55)), (3, Some(33))]);
    }
}
