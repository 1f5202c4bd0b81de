//! Where earnings go, and what mediators say they have paid.
//!
//! A mediator's word is kept, and shown with the transaction or payment hash by which an operator finds
//! the money in its own wallet; it counts against what the mediator owes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fincrypt_protocol::limits::MAX_PARTS;
use fincrypt_protocol::money::{Payout, PayoutState};
use fincrypt_protocol::{Clock, NodeId};

use crate::earnings::{Change, Earnings, EarningsError, KnownPayout};
use crate::{OwnLightning, PayoutTo};

/// Payouts that are over and remembered, of one mediator.
const REMEMBERED: usize = 1000;
/// Payouts under way that one mediator may tell of.
const UNDER_WAY: usize = 100;
/// Characters of the key of a mediator's Lightning node, in hexadecimal.
const MAX_NODE: usize = 66;

/// Why a mediator's word of a payout is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PayoutError {
    /// It has no parts, too many, or two of one contract.
    #[error("a payout of {parts} parts, or two of one contract")]
    Parts {
        /// Parts stated.
        parts: usize,
    },
    /// It pays for no contract with this mediator.
    #[error("a payout of no contract with its mediator")]
    UnknownContracts,
    /// Too many payouts are under way.
    #[error("too many payouts of the mediator are under way")]
    TooMany,
    /// The earnings could not be read or changed.
    #[error(transparent)]
    Earnings(#[from] EarningsError),
}

/// Where earnings go, and what has come.
pub(crate) struct Payouts {
    earnings: Earnings,
    clock: Clock,
    to: PayoutTo,
    /// The operator's own Lightning node, if it is paid there.
    lightning: Option<Arc<dyn OwnLightning>>,
}

impl Payouts {
    pub(crate) fn new(
        earnings: Earnings,
        clock: Clock,
        to: PayoutTo,
        lightning: Option<Arc<dyn OwnLightning>>,
    ) -> Self {
        Self { earnings, clock, to, lightning }
    }

    /// Where the operator wants its earnings, for mediators of which something was counted. One with a
    /// countersigned statement may open channels to a Lightning node of this one's own, which counts them
    /// at once.
    ///
    /// # Errors
    /// If the earnings fails.
    pub(crate) fn destination(
        &self,
        from: NodeId,
        lightning: Option<String>,
    ) -> Result<Option<String>, EarningsError> {
        if !self.earnings.knows(&from)? {
            return Ok(None);
        }
        let own = match (&self.to, &self.lightning) {
            (PayoutTo::Destination(text), _) => return Ok(Some(text.clone())),
            (PayoutTo::Own, Some(own)) => own,
            _ => return Ok(None),
        };
        if let Some(node) = lightning.filter(|node| node.len() == MAX_NODE)
            && self.earnings.has_countersigned(&from)?
        {
            own.trust(&node);
        }
        Ok(own.address())
    }

    /// Records what a mediator says of a payout, durably. Its newest word replaces those before.
    /// Parts of contracts that this node does not know, or not any more, are left out.
    ///
    /// # Errors
    /// [`PayoutError`] if nothing of it is recorded.
    pub(crate) fn record(&self, from: NodeId, mut payout: Payout) -> Result<(), PayoutError> {
        let parts = payout.parts.len();
        let contracts: BTreeSet<_> = payout.parts.iter().map(|(contract, _)| contract).collect();
        if parts == 0 || parts > MAX_PARTS || contracts.len() < parts {
            return Err(PayoutError::Parts { parts });
        }
        let mut change = self.earnings.change();
        let mut known = Vec::with_capacity(parts);
        for part in payout.parts {
            if self.earnings.is_contract_with(&part.0, &from)? {
                known.push(part);
            }
        }
        if known.is_empty() {
            return Err(PayoutError::UnknownContracts);
        }
        payout.parts = known;
        let before = self.earnings.payout(&from, &payout.id)?;
        self.stage_sums(before.as_ref().map(|before| &before.payout), &payout, &mut change)?;
        let since = match &before {
            Some(before) => before.since,
            None => {
                self.make_room(&from, &mut change)?;
                self.clock.now()
            }
        };
        change.put_payout(&from, &KnownPayout { payout, since })?;
        Ok(change.commit(&from)?)
    }

    /// Takes back what was said of a payout before, and adds what is said now.
    fn stage_sums(
        &self,
        before: Option<&Payout>,
        payout: &Payout,
        change: &mut Change<'_>,
    ) -> Result<(), EarningsError> {
        let said = before.into_iter().chain([payout]);
        let mut sums = BTreeMap::new();
        for (contract, _) in said.flat_map(|payout| &payout.parts) {
            sums.insert(*contract, self.earnings.paid(contract)?);
        }
        for (contract, amount) in before.into_iter().flat_map(|before| &before.parts) {
            if let (Some(sum), Some(before)) = (sums.get_mut(contract), before) {
                sum.take_back(before.state, *amount);
            }
        }
        for (contract, amount) in &payout.parts {
            if let Some(sum) = sums.get_mut(contract) {
                sum.add(payout.state, *amount);
            }
        }
        sums.iter().try_for_each(|(contract, sum)| change.put_paid(contract, sum))
    }

    /// Makes room for one more payout of a mediator. What the forgotten ones paid stays counted.
    fn make_room(&self, mediator: &NodeId, change: &mut Change<'_>) -> Result<(), PayoutError> {
        let (mut over, mut under_way) = (Vec::new(), 0);
        for (id, known) in self.earnings.payouts(mediator)? {
            match known.payout.state {
                PayoutState::OnTheWay => under_way += 1,
                PayoutState::Arrived | PayoutState::Failed => over.push((known.since, id)),
            }
        }
        if under_way >= UNDER_WAY {
            return Err(PayoutError::TooMany);
        }
        over.sort_unstable();
        let superfluous = (over.len() + 1).saturating_sub(REMEMBERED);
        for (_, id) in over.into_iter().take(superfluous) {
            change.remove_payout(mediator, &id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fincrypt_protocol::amount::Msat;
    use fincrypt_protocol::{ContractId, PayoutId};

    use super::*;
    use crate::earnings::Paid;
    use crate::earnings::tests::{NOW, begin, earnings, relation};

    fn payouts(earnings: &Earnings) -> Payouts {
        Payouts::new(earnings.clone(), Clock::manual(NOW), PayoutTo::Nowhere, None)
    }

    fn payout(number: u8, parts: Vec<(ContractId, Msat)>, state: PayoutState) -> Payout {
        let id = PayoutId::from_bytes([number; 16]);
        Payout { id, state, sending: None, parts, arrives: Msat::new(1) }
    }

    /// Trusts whoever it is told to.
    #[derive(Default)]
    struct Own(parking_lot::Mutex<Vec<String>>);

    impl OwnLightning for Own {
        fn address(&self) -> Option<String> {
            Some("own".to_owned())
        }

        fn trust(&self, node: &str) {
            self.0.lock().push(node.to_owned());
        }

        fn run(
            self: Arc<Self>,
            _: tokio::sync::watch::Receiver<bool>,
        ) -> futures::future::BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[test]
    fn only_mediators_that_are_known_learn_the_destination_and_only_billed_ones_are_trusted() {
        let (_dir, earnings) = earnings();
        let (own, relation) = (Arc::new(Own::default()), relation());
        let lightning = Some(Arc::clone(&own) as Arc<dyn OwnLightning>);
        let payouts = Payouts::new(earnings.clone(), Clock::manual(NOW), PayoutTo::Own, lightning);
        let named = PayoutTo::Destination("lno1".to_owned());
        let named = Payouts::new(earnings.clone(), Clock::manual(NOW), named, None);
        let key = "02".repeat(33);
        let ask = || payouts.destination(relation.0, Some(key.clone())).expect("reads");
        assert_eq!((ask(), named.destination(relation.0, None).expect("reads")), (None, None), "a stranger");
        let mut change = earnings.change();
        change.put_earning(&relation, &earnings.earning(&relation).expect("reads")).expect("fits");
        change.commit(&relation.0).expect("written");
        drop(change);
        assert_eq!(ask().as_deref(), Some("own"));
        assert_eq!(named.destination(relation.0, None).expect("reads").as_deref(), Some("lno1"));
        assert!(own.0.lock().is_empty(), "nothing is countersigned");
        begin(&earnings, &relation);
        ask();
        assert_eq!(*own.0.lock(), [key]);
    }

    #[test]
    fn the_newest_word_replaces_those_before_and_failed_counts_as_nothing() {
        let (_dir, earnings) = earnings();
        let (payouts, from) = (payouts(&earnings), relation().0);
        let contract = begin(&earnings, &relation()).id();
        let say = |state| payouts.record(from, payout(1, vec![(contract, Msat::new(7))], state));
        let sums = |arrived, coming| Paid { arrived: Msat::new(arrived), coming: Msat::new(coming) };
        let paid = || earnings.paid(&contract).expect("reads");
        say(PayoutState::OnTheWay).expect("recorded");
        assert_eq!(paid(), sums(0, 7));
        say(PayoutState::Failed).expect("recorded");
        assert_eq!(paid(), sums(0, 0));
        for _ in 0..2 {
            say(PayoutState::Arrived).expect("recorded");
            assert_eq!(paid(), sums(7, 0), "it counts once");
        }
        say(PayoutState::OnTheWay).expect("recorded");
        assert_eq!(paid(), sums(0, 7), "the chain was reorganised");
    }

    #[test]
    fn parts_of_other_contracts_and_of_one_contract_twice_are_not_counted() {
        let (_dir, earnings) = earnings();
        let (payouts, from) = (payouts(&earnings), relation().0);
        let (contract, foreign) = (begin(&earnings, &relation()).id(), ContractId::from_bytes([7; 32]));
        let one = |contract| (contract, Msat::new(3));
        let say = |parts| payouts.record(from, payout(1, parts, PayoutState::Arrived));
        assert!(matches!(say(vec![]), Err(PayoutError::Parts { parts: 0 })));
        assert!(matches!(say(vec![one(contract), one(contract)]), Err(PayoutError::Parts { parts: 2 })));
        assert!(matches!(say(vec![one(foreign)]), Err(PayoutError::UnknownContracts)));
        say(vec![one(foreign), one(contract)]).expect("a part of it");
        assert_eq!(earnings.paid(&contract).expect("reads").arrived, Msat::new(3));
        assert_eq!(earnings.paid(&foreign).expect("reads").arrived, Msat::ZERO);
    }

    #[test]
    fn payouts_under_way_are_bounded_and_those_that_are_over_make_room() {
        let (_dir, earnings) = earnings();
        let (payouts, from) = (payouts(&earnings), relation().0);
        let contract = begin(&earnings, &relation()).id();
        let say = |number, state| payouts.record(from, payout(number, vec![(contract, Msat::new(1))], state));
        for number in 0..UNDER_WAY as u8 {
            say(number, PayoutState::OnTheWay).expect("room");
        }
        assert!(matches!(say(200, PayoutState::OnTheWay), Err(PayoutError::TooMany)));
        say(0, PayoutState::Arrived).expect("it is known");
        say(200, PayoutState::OnTheWay).expect("room again");
    }
}
