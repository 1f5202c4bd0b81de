//! How much mediators may owe: at the bound no new shards of the account are taken, those that are
//! there are kept for the promised grace, and read as before.

use std::time::Duration;

use fincrypt_billing::statement::CreditStanding;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::{Clock, UnixTime};

use crate::earnings::{Earnings, EarningsError, PATIENCE, Relation};
use crate::{PayoutTo, StorageTerms};

/// A mediator that has never made a contract is waited for as if its epochs were of this length at most.
const LONGEST_EPOCH: Duration = Duration::from_secs(3600);

/// Why no new shard is taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreditError {
    /// The mediator owes as much as it may, or has not stated what it owes for too long.
    #[error("the mediator owes as much as it may")]
    Bound,
    /// The earnings could not be read or changed.
    #[error(transparent)]
    Earnings(#[from] EarningsError),
}

/// On what a new shard is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// A contract within its bounds, or nothing that is to be paid.
    Open,
    /// No contract; the time begins in which the first statement has to come: see
    /// [`CreditControl::wait_for_statement`].
    Unbilled,
}

/// Whether a mediator has stored for too long without ever billing. `seconds` is the length of its
/// epochs; 0 if it has not audited either.
fn is_too_long(unbilled: Duration, seconds: u32) -> bool {
    let length = Some(Duration::from_secs(seconds.into())).filter(|length| !length.is_zero());
    unbilled > length.unwrap_or(LONGEST_EPOCH).min(LONGEST_EPOCH) * PATIENCE
}

/// The bound on what mediators may owe.
#[derive(Clone)]
pub(crate) struct CreditControl {
    earnings: Earnings,
    clock: Clock,
    /// Whether anything can be owed at all: nobody can pay an operator who names no destination.
    is_paid: bool,
}

impl CreditControl {
    pub(crate) fn new(earnings: Earnings, clock: Clock, terms: &StorageTerms) -> Self {
        let is_paid = terms.price > Price::FREE && terms.payout != PayoutTo::Nowhere;
        Self { earnings, clock, is_paid }
    }

    /// Whether a new shard of the account may be taken from the mediator; `holds` says whether
    /// anything of the account is held already.
    ///
    /// # Errors
    /// [`CreditError::Bound`] if its mediator owes too much for it.
    pub(crate) fn admit(&self, relation: &Relation, holds: bool) -> Result<Admission, CreditError> {
        if !self.is_paid {
            return Ok(Admission::Open);
        }
        let now = self.clock.now();
        let takes = match self.earnings.standing(relation, holds, now)? {
            Some(standing) => standing.takes_shards(),
            None => {
                let earning = self.earnings.earning(relation)?;
                // Nothing is owed for what is not there.
                let Some(since) = earning.unbilled.filter(|_| holds) else { return Ok(Admission::Unbilled) };
                !is_too_long(now.since(since), earning.seconds)
            }
        };
        if takes { Ok(Admission::Open) } else { Err(CreditError::Bound) }
    }

    /// Records since when a mediator without a contract has stored something.
    ///
    /// # Errors
    /// If the earnings cannot be read or written.
    pub(crate) fn wait_for_statement(&self, relation: &Relation) -> Result<(), CreditError> {
        let mut change = self.earnings.change();
        let mut earning = self.earnings.earning(relation)?;
        if earning.terms.is_none() {
            earning.unbilled = Some(self.clock.now());
            change.put_earning(relation, &earning)?;
            change.commit(&relation.0)?;
        }
        Ok(())
    }

    /// Since when the grace of an account's contract is over, if it is.
    ///
    /// # Errors
    /// If the earnings cannot be read or written.
    pub(crate) fn lapsed(&self, relation: &Relation, holds: bool) -> Result<Option<UnixTime>, EarningsError> {
        if !self.is_paid {
            return Ok(None);
        }
        Ok(match self.earnings.standing(relation, holds, self.clock.now())? {
            Some(CreditStanding::Lapsed { since, .. }) => Some(since),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::earnings::tests::{HOUR, NOW, begin, earnings, relation};

    const GRACE: Duration = Duration::from_secs(90 * 24 * 3600);

    fn control(earnings: &Earnings) -> (CreditControl, Clock) {
        let clock = Clock::manual(NOW);
        (CreditControl { earnings: earnings.clone(), clock: clock.clone(), is_paid: true }, clock)
    }

    #[test]
    fn a_contract_of_which_nothing_is_charged_lapses_after_its_grace_and_not_a_moment_before() {
        let (_dir, earnings) = earnings();
        begin(&earnings, &relation());
        let (credit, clock) = control(&earnings);
        assert_eq!(credit.admit(&relation(), true).expect("open"), Admission::Open);
        clock.advance(HOUR * 50);
        assert!(matches!(credit.admit(&relation(), true), Err(CreditError::Bound)));
        assert_eq!(credit.lapsed(&relation(), true).expect("reads"), None);
        let first_end = NOW.secs() - NOW.secs() % 3600 + 3600;
        let over = UnixTime::from_secs(first_end).plus(GRACE);
        clock.advance(Duration::from_secs(over.secs() - clock.now().secs() - 1));
        assert_eq!(credit.lapsed(&relation(), true).expect("reads"), None);
        clock.advance(Duration::from_secs(1));
        assert_eq!(credit.lapsed(&relation(), true).expect("reads"), Some(over));
        assert_eq!(credit.lapsed(&relation(), false).expect("reads"), None, "nothing is held");
    }

    #[test]
    fn a_mediator_without_a_contract_is_waited_for_from_its_first_shard() {
        let (_dir, earnings) = earnings();
        let (credit, clock) = control(&earnings);
        assert_eq!(credit.admit(&relation(), false).expect("new"), Admission::Unbilled);
        credit.wait_for_statement(&relation()).expect("written");
        clock.advance(HOUR * 48);
        assert_eq!(credit.admit(&relation(), true).expect("in time"), Admission::Open);
        clock.advance(Duration::from_secs(1));
        assert!(matches!(credit.admit(&relation(), true), Err(CreditError::Bound)));
        assert_eq!(credit.admit(&relation(), false).expect("nothing is held"), Admission::Unbilled);
        // One that began a contract meanwhile is not.
        begin(&earnings, &relation());
        credit.wait_for_statement(&relation()).expect("written");
        assert_eq!(earnings.earning(&relation()).expect("reads").unbilled, None);
    }

    #[test]
    fn who_is_not_paid_bounds_nothing() {
        let (_dir, earnings) = earnings();
        begin(&earnings, &relation());
        let (mut credit, clock) = control(&earnings);
        credit.is_paid = false;
        clock.advance(GRACE * 2);
        assert_eq!(credit.admit(&relation(), true).expect("open"), Admission::Open);
        assert_eq!(credit.lapsed(&relation(), true).expect("reads"), None);
    }

    #[test]
    fn whoever_never_bills_is_waited_for_two_days_at_most() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert!(!is_too_long(hours(48), 3600) && is_too_long(hours(48) + Duration::from_secs(1), 3600));
        assert!(is_too_long(Duration::from_secs(97), 2) && !is_too_long(Duration::from_secs(96), 2));
        // A mediator that says that its epochs are long is not waited for any longer.
        assert!(is_too_long(hours(49), u32::MAX));
        // And one that does not audit at all has as long.
        assert!(is_too_long(hours(49), 0) && !is_too_long(hours(48), 0));
    }
}
