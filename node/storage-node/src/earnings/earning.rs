//! How one account at one mediator stands: its contract, and this node's own counts.

use fincrypt_billing::statement::{Counted, Holding, SavedHolding};
use fincrypt_protocol::statement::{Contract, Terms};
use fincrypt_protocol::{Epoch, UnixTime};
use serde::{Deserialize, Serialize};

use super::EarningsError;

/// Counts kept before there is a contract.
const MAX_COUNTS: usize = 64;

/// How one account at one mediator stands.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Earning {
    /// The terms of the contract, once there is one.
    pub(crate) terms: Option<Terms>,
    /// What was agreed on by it, and counted since.
    holding: SavedHolding,
    /// Counts of epochs before there was a contract.
    pub(crate) counts: Vec<(Epoch, Counted)>,
    /// Bytes at the last audit.
    pub(crate) held: u64,
    /// How many of them, or of those at the audit before, had come shortly before it.
    pub(crate) fresh: u64,
    /// Why the newest statement was refused, for the operator.
    pub(crate) fault: Option<String>,
    /// Length of the epochs of the counts, in seconds.
    pub(crate) seconds: u32,
    /// Bytes of epochs that were answered for and not charged, added up.
    pub(crate) unpaid: u64,
    /// When something was first counted without a contract.
    pub(crate) unbilled: Option<UnixTime>,
}

impl Earning {
    /// The contract and what was agreed on by it; none before the first statement.
    ///
    /// # Errors
    /// If the stored terms or statements do not verify.
    pub(crate) fn contract(&self) -> Result<Option<Holding>, EarningsError> {
        let Some(terms) = self.terms else { return Ok(None) };
        Ok(Some(Holding::restore(Contract::new(terms)?, &self.holding)?))
    }

    /// Records the contract, known or new, and what was agreed on by it.
    pub(crate) fn record(&mut self, holding: &Holding) {
        self.terms = Some(*holding.contract().terms());
        self.holding = holding.saved();
        self.counts.clear();
        self.unbilled = None;
    }

    /// Counts what was held in an epoch whose challenge was answered. `seconds` is the epoch's length.
    pub(crate) fn count(
        &mut self,
        epoch: Epoch,
        seconds: u32,
        counted: Counted,
        now: UnixTime,
    ) -> Result<(), EarningsError> {
        let as_before = self.seconds == seconds;
        self.seconds = seconds;
        match self.contract()? {
            Some(holding) if holding.contract().terms().epoch_seconds.get() != seconds => {}
            Some(mut holding) => {
                holding.counted(epoch, counted);
                self.holding = holding.saved();
            }
            None => {
                if !as_before {
                    self.counts.clear();
                }
                if counted.bytes > 0 {
                    self.unbilled.get_or_insert(now);
                }
                self.counts.retain(|(known, _)| *known != epoch);
                self.counts.push((epoch, counted));
                let superfluous = self.counts.len().saturating_sub(MAX_COUNTS);
                self.counts.drain(..superfluous);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fincrypt_protocol::AnswerDigest;

    use super::super::tests::{NOW, contract, relation};
    use super::*;

    fn counted(bytes: u64) -> Counted {
        Counted { bytes, answer: AnswerDigest::from_bytes([0; 32]) }
    }

    #[test]
    fn counts_before_a_contract_are_of_one_length_of_epoch_and_bounded() {
        let mut earning = Earning::default();
        for epoch in 0..100 {
            earning.count(Epoch::new(epoch), 3600, counted(1), NOW).expect("no contract");
        }
        assert_eq!((earning.counts.len(), earning.counts[0].0), (MAX_COUNTS, Epoch::new(36)));
        earning.count(Epoch::new(99), 3600, counted(2), NOW).expect("no contract");
        assert_eq!((earning.counts.len(), earning.counts[63].1.bytes), (MAX_COUNTS, 2), "repeated");
        earning.count(Epoch::new(7), 60, counted(3), NOW).expect("no contract");
        assert_eq!(earning.counts, [(Epoch::new(7), counted(3))]);
    }

    #[test]
    fn the_time_without_a_statement_begins_with_the_first_bytes_and_ends_with_a_contract() {
        let mut earning = Earning::default();
        earning.count(Epoch::new(1), 3600, counted(0), NOW).expect("no contract");
        assert_eq!(earning.unbilled, None);
        earning.count(Epoch::new(2), 3600, counted(1), NOW).expect("no contract");
        assert_eq!(earning.unbilled, Some(NOW));
        earning.record(&Holding::new(contract(relation())));
        assert_eq!((earning.unbilled, earning.counts.len()), (None, 0));
        let first = contract(relation()).terms().first;
        earning.count(first, 3600, counted(4), NOW).expect("restores");
        let holding = earning.contract().expect("restores").expect("a contract");
        assert_eq!(holding.uncharged().map(|(_, counted)| counted.bytes).collect::<Vec<_>>(), [4]);
        earning.count(first, 60, counted(5), NOW).expect("restores");
        let holding = earning.contract().expect("restores").expect("a contract");
        assert_eq!(
            holding.uncharged().map(|(_, counted)| counted.bytes).collect::<Vec<_>>(),
            [4],
            "of another length"
        );
    }
}
