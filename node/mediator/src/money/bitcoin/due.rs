//! Due payouts, by payee and sum: rules over the books, without a wallet.

use std::collections::BTreeSet;
use std::time::Duration;

use fincrypt_ledger::{Books, Owed, Part, PayoutBook};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::limits::MAX_PARTS;
use fincrypt_protocol::{ContractId, NodeId};

/// An operator's terms of payouts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PayoutTerms {
    /// What is owed to a node from which on it is paid at once.
    pub(crate) threshold: Msat,
    /// Since the last payout, after which any satoshi is paid; none to wait for the threshold.
    pub(crate) interval: Option<Duration>,
    /// What is owed to a node that waits for a channel, from which on it gets one.
    pub(crate) channel_from: Msat,
    /// What the route of a Lightning payment may cost, in permille.
    pub(crate) routing_permille: u16,
}

/// Storage nodes that a payout pays, once for each of its parts.
pub(super) fn nodes_of<'a>(books: &'a Books, payout: &'a PayoutBook) -> impl Iterator<Item = NodeId> + 'a {
    payout.parts.iter().filter_map(|part| match part.owed {
        Owed::Contract(contract) => books.contract(contract).map(|contract| contract.storage),
        _ => None,
    })
}

/// The sum due to one node, in whole satoshi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// The node.
    pub(crate) node: NodeId,
    /// Contract by contract, at most [`MAX_PARTS`].
    pub(super) parts: Vec<Part>,
    /// The sum.
    pub(super) total: Msat,
}

impl Due {
    /// The same, of `most` at most in whole satoshi; the rest stays owed.
    pub(super) fn at_most(mut self, most: Msat) -> Self {
        let most = Msat::new(most.get() - most.get() % 1000);
        if self.total <= most {
            return self;
        }
        let mut left = most.get();
        for part in &mut self.parts {
            part.amount = Msat::new(part.amount.get().min(left));
            left -= part.amount.get();
        }
        self.parts.retain(|part| !part.amount.is_zero());
        self.total = most;
        self
    }
}

/// The most to pay at once after so many failures in a row: half as much each time, since a route may
/// bear less than all of it; not less than `least`, if so much is owed.
pub(super) fn after_failures(total: Msat, tries: u32, least: Msat) -> Msat {
    Msat::new(total.get().checked_shr(tries).unwrap_or(0)).max(least).min(total)
}

/// Whole satoshi of what is owed; the rest stays owed.
fn whole(mut owed: Vec<(ContractId, Msat)>) -> (Vec<Part>, Msat) {
    owed.sort_unstable_by_key(|(contract, amount)| (std::cmp::Reverse(*amount), *contract));
    owed.truncate(MAX_PARTS);
    let sum: u64 = owed.iter().fold(0, |sum, (_, amount)| sum.saturating_add(amount.get()));
    // From the last parts, which are the smallest.
    let mut rest = sum % 1000;
    for (_, amount) in owed.iter_mut().rev() {
        let less = rest.min(amount.get());
        *amount = Msat::new(amount.get() - less);
        rest -= less;
    }
    let parts = owed.into_iter().filter(|(_, amount)| !amount.is_zero());
    let part = |(contract, amount)| Part { owed: Owed::Contract(contract), amount };
    (parts.map(part).collect(), Msat::new(sum - sum % 1000))
}

/// All nodes to be paid now: those to whom the threshold is owed, or anything since long ago. A
/// node with a payout under way waits for that. `since` tells how long ago one was paid last.
pub(super) fn due(
    books: &Books,
    terms: &PayoutTerms,
    since: impl Fn(&NodeId) -> Option<Duration>,
) -> Vec<Due> {
    let busy: BTreeSet<NodeId> =
        books.open_payouts().flat_map(|(_, payout)| nodes_of(books, payout)).collect();
    let payables = books.payables().into_iter().filter(|(node, _)| !busy.contains(node));
    let due = payables.filter_map(|(node, owed)| {
        let (parts, total) = whole(owed);
        let late = terms.interval.is_some_and(|interval| since(&node).is_none_or(|since| since >= interval));
        (total >= terms.threshold || late && !total.is_zero()).then_some(Due { node, parts, total })
    });
    due.filter(|due| !due.total.is_zero()).collect()
}

/// What arrives of `total` if the route may cost its share: whole satoshi, and nothing for a
/// direct channel. None if nothing would be left.
pub(super) fn arrives(total: Msat, routing_permille: u16, direct: bool) -> Option<Msat> {
    if direct {
        return Some(total);
    }
    let share = u128::from(total.get()) * u128::from(routing_permille) / 1000;
    // A satoshi at least: less is no route's price.
    let cap = u64::try_from(share.div_ceil(1000).max(1) * 1000).ok()?;
    total.checked_sub(Msat::new(cap)).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_ledger::{Arrival, Event, Ledger, Owner, PayTo, Rail};
    use fincrypt_protocol::{AccountId, Epoch, PayoutId, UnixTime};
    use proptest::prelude::*;

    const TERMS: PayoutTerms = PayoutTerms {
        threshold: Msat::new(100_000),
        interval: None,
        channel_from: Msat::new(10_000_000),
        routing_permille: 10,
    };

    fn node(id: u8) -> NodeId {
        NodeId::from_bytes([id; 32])
    }

    /// A ledger of which each contract `(id, node)` has earned so many msat.
    fn ledger(earned: &[(u8, u8, u64)]) -> (tempfile::TempDir, Ledger) {
        let dir = tempfile::tempdir().expect("a folder");
        let (ledger, _) = Ledger::open(dir.path()).expect("opens");
        let account = AccountId::from_bytes([9; 32]);
        let arrival = Arrival::Payment(fincrypt_protocol::PaymentHash::from_bytes([1; 32]));
        let (owner, amount) = (Owner::Client(account), Msat::new(1 << 40));
        let mut events = vec![Event::Deposit { arrival, round: 0, owner, amount }];
        events.extend(earned.iter().map(|(id, of, earned)| Event::Accrual {
            contract: ContractId::from_bytes([*id; 32]),
            account,
            storage: node(*of),
            epoch: Epoch::new(1),
            earned: Msat::new(*earned),
            fee: Msat::ZERO,
        }));
        for event in events {
            ledger.record(UnixTime::from_secs(1), &event).expect("recorded");
        }
        (dir, ledger)
    }

    #[test]
    fn a_node_is_due_from_the_threshold_on_or_after_the_interval_and_never_twice_at_once() {
        let (_dir, ledger) = ledger(&[(1, 1, 60_400), (2, 1, 40_500), (3, 2, 99_999), (4, 3, 999)]);
        let found = ledger.books(|books| due(books, &TERMS, |_| None));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].node, found[0].total), (node(1), Msat::new(100_000)));
        let daily = PayoutTerms { interval: Some(Duration::from_secs(86_400)), ..TERMS };
        let ago = |_: &NodeId| Some(Duration::from_secs(86_399));
        assert_eq!(ledger.books(|books| due(books, &daily, ago)).len(), 1);
        let late = ledger.books(|books| due(books, &daily, |_| None));
        assert_eq!(
            late.iter().map(|due| due.node).collect::<Vec<_>>(),
            [node(1), node(2)],
            "no part of a satoshi"
        );
        let to = vec![PayTo { destination: "lno1".to_owned(), amount: Msat::new(1) }];
        let (payout, rail, parts) = (PayoutId::from_bytes([1; 16]), Rail::Lightning, found[0].parts.clone());
        let intent = Event::PayoutIntent { payout, rail, parts, to };
        ledger.record(UnixTime::from_secs(1), &intent).expect("recorded");
        let free = PayoutTerms { threshold: Msat::ZERO, ..TERMS };
        let others = ledger.books(|books| due(books, &free, |_| None));
        assert_eq!(others.iter().map(|due| due.node).collect::<Vec<_>>(), [node(2)]);
    }

    proptest! {
        #[test]
        fn whole_satoshi_of_all_contracts_are_paid_and_less_than_one_stays(
            owed in proptest::collection::vec(0u64..10_000_000, 1..50),
        ) {
            let sum: u64 = owed.iter().sum();
            let owed: Vec<_> = (0u8..).zip(&owed)
                .map(|(id, owed)| (ContractId::from_bytes([id; 32]), Msat::new(*owed))).collect();
            let (parts, total) = whole(owed.clone());
            prop_assert_eq!(total.get(), sum - sum % 1000);
            prop_assert_eq!(parts.iter().map(|part| part.amount.get()).sum::<u64>(), total.get());
            let less = Due { node: node(1), parts: parts.clone(), total }.at_most(Msat::new(sum / 3));
            prop_assert_eq!(less.total.get(), less.parts.iter().map(|part| part.amount.get()).sum::<u64>());
            prop_assert_eq!(less.total.get(), sum / 3 / 1000 * 1000);
            for part in parts {
                let Owed::Contract(contract) = part.owed else { panic!("a contract's") };
                let of = owed.iter().find(|(id, _)| *id == contract).expect("owed").1;
                prop_assert!(part.amount <= of && !part.amount.is_zero());
            }
        }

        #[test]
        fn after_each_failure_half_is_tried_and_never_nothing(total in 1u64..1 << 40, tries in 0u32..80) {
            let (total, least) = (Msat::new(total), Msat::new(1000));
            let (most, less) = (after_failures(total, tries, least), after_failures(total, tries + 1, least));
            prop_assert!(most <= total && most >= least.min(total) && less <= most);
            prop_assert!(less.get() <= most.get() / 2 || less == least.min(total));
            prop_assert_eq!(after_failures(total, 0, least), total);
        }

        #[test]
        fn a_route_costs_no_more_than_its_share_or_a_satoshi(total in 0u64..1 << 40, permille in 0u16..=500) {
            let total = Msat::new(total * 1000);
            match arrives(total, permille, false) {
                Some(arrives) => {
                    let fee = total.get() - arrives.get();
                    prop_assert_eq!(arrives.get() % 1000, 0);
                    prop_assert!(fee >= 1000 && fee <= total.get() / 1000 * u64::from(permille) + 1000);
                }
                None => prop_assert!(total.get() <= 1000),
            }
            prop_assert_eq!(arrives(total, permille, true), Some(total));
        }
    }
}
