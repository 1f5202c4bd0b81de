//! The signed transactions of payouts, as the journal has them.

use std::collections::BTreeMap;

use bitcoin::consensus::encode::deserialize;
use bitcoin::{OutPoint, Transaction};
use fincrypt_protocol::amount::Sat;
use fincrypt_protocol::{PayoutId, TxId};

use super::error::{TreasuryError, failed};
use super::record::{Record, Version};
use super::transaction::txid;

/// A signed transaction, durable and ready to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// It.
    pub transaction: TxId,
    /// What the network gets.
    pub fee: Sat,
}

/// A version as it is used.
pub(super) struct Signed {
    pub(super) record: Version,
    pub(super) transaction: Transaction,
}

impl Signed {
    pub(super) fn prepared(&self) -> Prepared {
        Prepared { transaction: txid(self.transaction.compute_txid()), fee: self.record.fee }
    }

    /// What nodes ask of a replacement: the fee of what it replaces, and a satoshi for each of its own
    /// virtual bytes (BIP-125), which may be some more.
    pub(super) fn least_replacement(&self) -> Sat {
        let size = self.transaction.vsize() as u64 + 2;
        Sat::new(self.record.fee.get().saturating_add(size))
    }
}

/// All payouts that are not buried.
#[derive(Default)]
pub(super) struct Payouts(pub(super) BTreeMap<PayoutId, Vec<Signed>>);

impl Payouts {
    pub(super) fn add(&mut self, record: Version) -> Result<(), TreasuryError> {
        let transaction = deserialize(&record.raw).map_err(|error| failed(&error))?;
        self.0.entry(record.payout).or_default().push(Signed { record, transaction });
        Ok(())
    }

    pub(super) fn bury(&mut self, payout: PayoutId) {
        self.0.remove(&payout);
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.0.values().flatten().map(|signed| Record::Version(signed.record.clone()))
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = OutPoint> + '_ {
        let transactions = self.0.values().flatten().map(|signed| &signed.transaction);
        transactions.flat_map(|transaction| transaction.input.iter().map(|input| input.previous_output))
    }

    pub(super) fn spends(&self, coin: &OutPoint) -> bool {
        self.inputs().any(|input| input == *coin)
    }

    pub(super) fn newest(&self, payout: PayoutId) -> Option<&Signed> {
        self.0.get(&payout)?.last()
    }
}
