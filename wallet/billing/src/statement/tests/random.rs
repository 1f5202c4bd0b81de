//! Whatever becomes of the messages, all end at the same statement.

use std::collections::BTreeMap;

use fincrypt_protocol::Signed;
use fincrypt_protocol::statement::{Agreed, Countersigned};
use proptest::prelude::*;

use super::*;
use crate::accrual;

/// What happens between the three of them.
#[derive(Debug, Clone)]
enum Act {
    /// The next epoch passes; storage holds so many GiB, and passes its audit or does not.
    Epoch(u64, bool),
    /// The mediator sends its proposal.
    Propose,
    /// A proposal that was ever sent arrives, perhaps again.
    Countersign(prop::sample::Index),
    /// An answer that was ever sent arrives at the mediator.
    Absorb(prop::sample::Index),
    /// A countersigned statement arrives at the client.
    Pay(prop::sample::Index),
    /// All three are switched off and on.
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (0u64..64, prop::bool::weighted(0.8)).prop_map(|(gib, passes)| Act::Epoch(gib, passes)),
        2 => Just(Act::Propose),
        2 => any::<prop::sample::Index>().prop_map(Act::Countersign),
        2 => any::<prop::sample::Index>().prop_map(Act::Absorb),
        2 => any::<prop::sample::Index>().prop_map(Act::Pay),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 0..60)
}

struct World {
    billing: Billing,
    holding: Holding,
    paying: Paying,
    epoch: u64,
    passed: BTreeMap<u64, u64>,
    proposals: Vec<Signed<Statement>>,
    answers: Vec<Countersigned>,
    paid: (u64, u64),
}

impl World {
    fn new() -> Self {
        Self {
            billing: Billing::new(contract()),
            holding: Holding::new(contract()),
            paying: Paying::new(contract(), None).expect("new"),
            epoch: FIRST,
            passed: BTreeMap::new(),
            proposals: Vec::new(),
            answers: Vec::new(),
            paid: (0, 0),
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Epoch(gib, passes) => {
                let bytes = gib * GIB;
                count(&mut self.holding, self.epoch, bytes);
                if *passes {
                    assert!(self.billing.passed(Epoch::new(self.epoch), bytes, answer(self.epoch)));
                    self.passed.insert(self.epoch, bytes);
                }
                self.epoch += 1;
            }
            Act::Propose => self.proposals.extend(self.billing.propose(&mediator()).expect("proposes")),
            Act::Countersign(index) if !self.proposals.is_empty() => {
                let proposal = index.get(&self.proposals).clone();
                let answer = countersign(&mut self.holding, &proposal).expect("an honest proposal");
                self.answers.push(answer.newest().countersigned().clone());
            }
            Act::Absorb(index) if !self.answers.is_empty() => {
                self.billing.absorb(index.get(&self.answers)).expect("both signed");
            }
            Act::Pay(index) if !self.answers.is_empty() => self.pay(&index.get(&self.answers).clone()),
            Act::Restart => {
                self.billing = Billing::restore(contract(), &self.billing.saved()).expect("restores");
                self.holding = Holding::restore(contract(), &self.holding.saved()).expect("restores");
                let saved = self.paying.agreed().map(|agreed| agreed.countersigned().clone());
                self.paying = Paying::new(contract(), saved.as_ref()).expect("restores");
            }
            Act::Countersign(_) | Act::Absorb(_) | Act::Pay(_) => {}
        }
    }

    fn pay(&mut self, statement: &Countersigned) {
        if let Payment::Due { earned, fee } = self.paying.pay(statement, known()).expect("honest") {
            self.paid = (self.paid.0 + earned.get(), self.paid.1 + fee.get());
        }
    }

    fn sums(&self) -> [u64; 3] {
        [self.billing.agreed(), self.holding.agreed(), self.paying.agreed()]
            .map(|agreed| agreed.map_or(0, |agreed| agreed.byte_epochs))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_lost_repeated_or_late_all_end_at_the_same_statement(acts in acts()) {
        let mut world = World::new();
        for act in &acts {
            let before = world.sums();
            world.act(act);
            for (before, after) in before.into_iter().zip(world.sums()) {
                prop_assert!(after >= before, "a sum fell");
            }
        }
        // At last one of each message arrives.
        world.act(&Act::Epoch(1, true));
        world.act(&Act::Propose);
        let newest = world.proposals.last().expect("proposed").clone();
        let answer = countersign(&mut world.holding, &newest).expect("honest");
        let answer = answer.newest().countersigned().clone();
        world.billing.absorb(&answer).expect("both signed");
        world.pay(&answer);
        let total: u64 = world.passed.values().sum();
        prop_assert_eq!(world.sums(), [total; 3]);
        for agreed in [world.billing.agreed(), world.holding.agreed(), world.paying.agreed()] {
            prop_assert_eq!(agreed.map(Agreed::countersigned), Some(&answer));
        }
        // Not a millisatoshi is lost in the steps.
        let earned = accrual::earned(Price::new(150_000), total, 3600)?;
        prop_assert_eq!(world.paid, (earned.get(), contract().terms().fee.of(earned).get()));
        prop_assert!(world.holding.contradiction().is_none());
    }
}
