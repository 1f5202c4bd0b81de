//! What a mediator may sign for a client: never more than is prepaid, so that nothing it signs becomes
//! its loss.
//!
//! A statement that was signed is as good as booked, whether or not storage has answered: what it adds
//! is set aside. Epochs that the rest does not cover stay noted as arrears. Sums are cumulative, so a
//! later deposit pays all of them with the next statement.

use fincrypt_protocol::amount::{Msat, Permille};

/// What one contract has come to since it began, the mediator's fee included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Charged {
    /// Taken from the prepayment.
    pub booked: Msat,
    /// The largest sum that the mediator has ever signed, countersigned or not.
    pub promised: Msat,
    /// All passed epochs.
    pub due: Msat,
}

impl Charged {
    /// What a sum that storage has earned costs the client.
    #[must_use]
    pub fn cost(earned: Msat, fee: Permille) -> Msat {
        earned.checked_add(fee.of(earned)).unwrap_or(Msat::new(u64::MAX))
    }

    /// Signed for, and not booked.
    fn aside(&self) -> Msat {
        self.promised.checked_sub(self.booked).unwrap_or_default()
    }

    /// What a statement of all passed epochs would add to what is signed for.
    fn arrears(&self) -> Msat {
        self.due.checked_sub(self.promised.max(self.booked)).unwrap_or_default()
    }
}

/// What of an account's prepayment is spoken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holds {
    /// Signed for and not booked, or on its way out.
    pub aside: Msat,
    /// For epochs that passed and that nothing was signed for.
    pub arrears: Msat,
}

fn plus(sum: Msat, more: Msat) -> Msat {
    // More money than there can be is not covered by any.
    sum.checked_add(more).unwrap_or(Msat::new(u64::MAX))
}

impl Holds {
    /// The holds of all of an account's contracts, and what else is set aside.
    #[must_use]
    pub fn of(contracts: impl IntoIterator<Item = Charged>, aside: Msat) -> Self {
        let none = Self { aside, arrears: Msat::ZERO };
        contracts.into_iter().fold(none, |holds, contract| Self {
            aside: plus(holds.aside, contract.aside()),
            arrears: plus(holds.arrears, contract.arrears()),
        })
    }

    /// What of `balance` can still be signed for, or paid out.
    #[must_use]
    pub fn free(&self, balance: Msat) -> Msat {
        balance.checked_sub(self.aside).unwrap_or_default()
    }

    /// Whether a statement of all that passed of `contract`, one of these, may be signed.
    #[must_use]
    pub fn can_authorize(&self, balance: Msat, contract: &Charged) -> bool {
        contract.arrears() <= self.free(balance)
    }

    /// What is left of `balance` once all that passed is paid; less than nothing is none.
    #[must_use]
    pub fn left(&self, balance: Msat) -> Option<Msat> {
        balance.checked_sub(self.aside)?.checked_sub(self.arrears)
    }

    /// Whether `balance` pays all that passed and `cost` beside it. What costs nothing needs nothing.
    #[must_use]
    pub fn covers(&self, balance: Msat, cost: Msat) -> bool {
        cost.is_zero() || self.left(balance).is_some_and(|left| left >= cost)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use fincrypt_protocol::amount::Price;
    use fincrypt_protocol::statement::{Contract, Countersigned, Statement, Terms};
    use fincrypt_protocol::{AnswerDigest, Epoch, Network, NodeId, Signed, SigningKey};
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;
    use crate::statement::{Absorbed, Billing};

    fn charged(booked: u64, promised: u64, due: u64) -> Charged {
        Charged { booked: Msat::new(booked), promised: Msat::new(promised), due: Msat::new(due) }
    }

    #[test]
    fn what_is_signed_is_set_aside_before_anything_else_is_signed() {
        let (first, second) = (charged(10, 30, 30), charged(0, 0, 80));
        let holds = Holds::of([first, second], Msat::ZERO);
        assert_eq!(holds, Holds { aside: Msat::new(20), arrears: Msat::new(80) });
        assert!(holds.can_authorize(Msat::new(100), &second));
        assert!(!holds.can_authorize(Msat::new(99), &second));
        // Nothing new costs nothing, and what leaves is set aside, too.
        assert!(holds.can_authorize(Msat::ZERO, &first));
        assert!(!Holds::of([first, second], Msat::new(1)).can_authorize(Msat::new(100), &second));
        assert_eq!(holds.free(Msat::new(25)), Msat::new(5));
    }

    #[test]
    fn arrears_come_before_what_is_new_and_what_is_free_needs_nothing() {
        let holds = Holds::of([charged(10, 30, 110)], Msat::ZERO);
        assert!(holds.covers(Msat::new(107), Msat::new(7)));
        assert!(!holds.covers(Msat::new(106), Msat::new(7)));
        assert!(holds.covers(Msat::ZERO, Msat::ZERO));
        assert_eq!((holds.left(Msat::new(100)), holds.left(Msat::new(99))), (Some(Msat::ZERO), None));
    }

    const NETWORK: Network = Network::Local;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([seed; 32]))
    }

    fn terms(storage: NodeId) -> Terms {
        Terms {
            network: NETWORK,
            storage,
            mediator: key(1).node(),
            account: key(2).account(),
            price: Price::new(150_000),
            fee: Permille::new(25).expect("a share"),
            first: Epoch::new(0),
            epoch_seconds: NonZeroU32::new(3600).expect("not zero"),
            credit_bound: Msat::new(2000),
            payout_threshold: Msat::new(1000),
            grace_days: 30,
            minimum_days: 30,
        }
    }

    /// A contract at a mediator, everything it ever signed, and what the books say.
    struct Line {
        storage: SigningKey,
        billing: Billing,
        signed: Vec<Signed<Statement>>,
        promised: Msat,
        booked: Msat,
    }

    impl Line {
        fn charged(&self) -> Charged {
            let cost = |earned| Charged::cost(earned, self.billing.contract().terms().fee);
            let promised = cost(self.promised.max(self.billing.promised()));
            Charged { booked: self.booked, promised, due: cost(self.billing.due().expect("fits")) }
        }

        /// Storage countersigns something that was signed; what that costs.
        fn agree(&mut self, statement: usize) -> Msat {
            let Some(statement) = self.signed.get(statement) else { return Msat::ZERO };
            let proposal = statement.verify_proposal(NETWORK).expect("ours");
            let agreed = Countersigned::seal(&proposal, &self.storage);
            let Ok(Absorbed::Newest(agreed)) = self.billing.absorb(&agreed) else { return Msat::ZERO };
            let sum = Charged::cost(agreed.earned, self.billing.contract().terms().fee);
            // The books refuse a sum that falls.
            let step = sum.checked_sub(self.booked).unwrap_or_default();
            self.booked = self.booked.max(sum);
            step
        }
    }

    fn sign(lines: &mut [Line], at: usize, balance: Msat) {
        let holds = Holds::of(lines.iter().map(Line::charged), Msat::ZERO);
        let line = &mut lines[at];
        if line.billing.has_news() && holds.can_authorize(balance, &line.charged()) {
            line.signed.extend(line.billing.propose(&key(1)).expect("fits"));
            line.promised = line.promised.max(line.billing.promised());
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Deposit(u64),
        Passed(usize, u64),
        Sign(usize),
        Agree(usize, usize),
        Refuse(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => (0u64..3000).prop_map(Step::Deposit),
            4 => (0usize..3, 1u64..1 << 32).prop_map(|(at, bytes)| Step::Passed(at, bytes)),
            4 => (0usize..3).prop_map(Step::Sign),
            3 => (0usize..3, 0usize..4).prop_map(|(at, back)| Step::Agree(at, back)),
            1 => (0usize..3).prop_map(Step::Refuse),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_that_is_signed_is_ever_more_than_was_prepaid(
            steps in proptest::collection::vec(step(), 1..80),
        ) {
            let (mut balance, mut epoch) = (Msat::ZERO, 0);
            let mut lines: Vec<Line> = (10..13).map(|seed| Line {
                storage: key(seed),
                billing: Billing::new(Contract::new(terms(key(seed).node())).expect("good terms")),
                signed: Vec::new(),
                promised: Msat::ZERO,
                booked: Msat::ZERO,
            }).collect();
            for step in steps {
                match step {
                    Step::Deposit(more) => balance = plus(balance, Msat::new(more)),
                    Step::Passed(at, bytes) => {
                        epoch += 1;
                        lines[at].billing.passed(Epoch::new(epoch), bytes, AnswerDigest::from_bytes([1; 32]));
                    }
                    Step::Sign(at) => sign(&mut lines, at, balance),
                    // Storage may bring forward what it had refused, or what was superseded.
                    Step::Agree(at, back) => {
                        let line = &mut lines[at];
                        let step = line.agree(line.signed.len().wrapping_sub(1 + back));
                        let rest = balance.checked_sub(step);
                        prop_assert!(rest.is_some(), "{step:?} of {balance:?}");
                        balance = rest.unwrap_or_default();
                    }
                    Step::Refuse(at) => {
                        if let Some(proposed) = lines[at].billing.proposed() {
                            lines[at].billing.refused(proposed);
                        }
                    }
                }
            }
            // With enough money every epoch that was not given up is signed for and paid.
            balance = plus(balance, Msat::new(1 << 40));
            for at in 0..lines.len() {
                sign(&mut lines, at, balance);
                let line = &mut lines[at];
                balance = balance.checked_sub(line.agree(line.signed.len().wrapping_sub(1))).expect("covered");
                prop_assert!(!line.billing.has_news());
            }
            let holds = Holds::of(lines.iter().map(Line::charged), Msat::ZERO);
            prop_assert_eq!(holds.arrears, Msat::ZERO);
        }
    }
}
