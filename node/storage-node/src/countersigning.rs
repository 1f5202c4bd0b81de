//! What this node countersigns: statements that agree with its own counts, of contracts that it would
//! have made.
//!
//! A mediator is held to a contract until it has paid for it: were another one accepted before, its debt
//! would no longer count towards the bound. Whatever is refused is answered with the newest statement
//! that both have signed, so a mediator that has lost its own finds out where it was. A mediator does the
//! same for a node that has lost its own.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_accounts::{Accounts, AccountsError};
use fincrypt_billing::statement::{Answer, Holding};
use fincrypt_protocol::amount::{Msat, Permille};
use fincrypt_protocol::money::Stated;
use fincrypt_protocol::pay::Bill;
use fincrypt_protocol::statement::{Contract, Countersigned, Terms, TermsError};
use fincrypt_protocol::{Clock, Epoch, NodeId, SigningKey};

use crate::StorageTerms;
use crate::earnings::{Change, Earning, Earnings, EarningsError};

/// Of what was counted, this much may be missing from a statement, in permille: shards whose receipts
/// were lost.
const TOLERANCE: u64 = 10;
/// The longest epochs in which anything is billed, in seconds: a day. Of longer ones no statement would be
/// missed for years.
const LONGEST_EPOCH: u32 = 24 * 3600;
/// Less than this is never paid.
const SATOSHI: Msat = Msat::new(1000);

/// Why a statement is neither countersigned nor answered with another.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CountersignError {
    /// The terms name other parties, or an account of which nothing is known.
    #[error("the terms are of another relation")]
    OtherRelation,
    /// The terms contradict each other.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// Accounts could not be read.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The earnings could not be read or changed.
    #[error(transparent)]
    Earnings(#[from] EarningsError),
}

/// What this node says to a bill.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BillAnswer {
    /// The newest statement of the contract that both have signed.
    Agreed(Countersigned),
    /// The bill is not what this node counted or offers.
    Misstated {
        /// The newest statement for the same account that both have signed, of whichever contract.
        newest: Option<Box<Stated>>,
    },
}

fn misstated(known: Option<&Holding>) -> BillAnswer {
    let newest = known.and_then(|known| {
        let statement = known.agreed()?.countersigned().clone();
        Some(Box::new(Stated { terms: *known.contract().terms(), statement }))
    });
    BillAnswer::Misstated { newest }
}

/// How much may be missing of what was counted: what came shortly before the audits, and a little.
fn tolerance(earning: &Earning) -> Permille {
    let missing = earning.fresh.saturating_mul(1000).div_ceil(earning.held.max(1)).saturating_add(TOLERANCE);
    // Nothing is tolerated if a thousand permille were too many, which they are not.
    Permille::new(u16::try_from(missing.min(1000)).unwrap_or(1000)).unwrap_or(Permille::NONE)
}

/// What [`Countersigner`] is made of.
pub(crate) struct CountersignOptions {
    pub(crate) earnings: Earnings,
    pub(crate) accounts: Accounts,
    pub(crate) clock: Clock,
    pub(crate) key: SigningKey,
    pub(crate) terms: Arc<StorageTerms>,
}

/// Countersigns statements.
pub(crate) struct Countersigner {
    own: NodeId,
    options: CountersignOptions,
}

impl Countersigner {
    pub(crate) fn new(options: CountersignOptions) -> Self {
        Self { own: options.key.node(), options }
    }

    /// Countersigns what agrees with this node's own counts, one answer a bill. What was countersigned
    /// is durable before it is told.
    pub(crate) fn answer(&self, from: NodeId, bills: &[Bill]) -> Vec<Result<BillAnswer, CountersignError>> {
        // Of two proposals at once, each would find the other's epoch free.
        let mut change = self.options.earnings.change();
        let answer = |bill| {
            let answer = self.countersign(from, bill, &mut change);
            change.abandon();
            answer
        };
        bills.iter().map(answer).collect()
    }

    /// Whether the terms are between this node and this mediator, for an account that is known.
    fn is_ours(&self, from: NodeId, terms: &Terms) -> Result<bool, CountersignError> {
        let ours = terms.mediator == from
            && terms.storage == self.own
            && terms.network == self.options.accounts.network;
        Ok(ours && self.options.accounts.registration(&terms.account)?.is_some())
    }

    fn countersign(
        &self,
        from: NodeId,
        bill: &Bill,
        change: &mut Change<'_>,
    ) -> Result<BillAnswer, CountersignError> {
        let Bill { terms, proposal, newest } = bill;
        if !self.is_ours(from, terms)? {
            return Err(CountersignError::OtherRelation);
        }
        let (contract, relation) = (Contract::new(*terms)?, (from, terms.account));
        let mut earning = self.options.earnings.earning(&relation)?;
        let known = earning.contract()?;
        let mut begins = known.as_ref().is_none_or(|known| *known.contract() != contract);
        let mut holding = match &known {
            Some(known) if !begins => known.clone(),
            Some(known) => Holding::with_counts(contract, known.uncharged()),
            None => Holding::with_counts(contract, earning.counts.iter().copied()),
        };
        if let Some(newest) = newest.as_ref().filter(|_| known.is_none() || !begins)
            && let Ok(true) = holding.recall(newest)
        {
            tracing::warn!(mediator = %from, account = %terms.account, "forgotten_statement_recalled");
            begins = false;
            change.remove_payouts(&from)?;
        }
        if begins && !self.accepts(terms, known.as_ref(), earning.seconds)? {
            return Ok(misstated(known.as_ref()));
        }
        let now = self.options.clock.now();
        let epoch = Epoch::at(now, Duration::from_secs(terms.epoch_seconds.get().into()));
        let before = holding.agreed().map_or(Msat::ZERO, |agreed| agreed.earned);
        let billed = match holding.countersign(proposal, tolerance(&earning), epoch, &self.options.key) {
            Ok(answer) => {
                earning.record(&holding);
                earning.fault = None;
                earning.fresh = 0;
                if let Answer::Countersigned { unpaid, .. } = &answer {
                    earning.unpaid = earning.unpaid.saturating_add(*unpaid);
                }
                let step = answer.newest().earned.checked_sub(before).unwrap_or(Msat::ZERO);
                change.add_earned(&contract.id(), &relation, step, now)?;
                BillAnswer::Agreed(answer.newest().countersigned().clone())
            }
            Err(fault) => {
                tracing::warn!(mediator = %from, account = %terms.account, %fault, "statement_refused");
                earning.fault = Some(fault.to_string());
                // A contract begins with its first statement: nothing follows from terms that were only stated.
                if !begins {
                    earning.record(&holding);
                }
                misstated(known.as_ref().filter(|_| begins).or(Some(&holding)))
            }
        };
        change.put_earning(&relation, &earning)?;
        change.commit(&from)?;
        Ok(billed)
    }

    /// Whether new terms are what this node offers, of epochs as long as those it was audited in, and
    /// nothing is owed by those before, nor left uncharged.
    fn accepts(&self, terms: &Terms, known: Option<&Holding>, seconds: u32) -> Result<bool, EarningsError> {
        let offered = &self.options.terms;
        let good = terms.epoch_seconds.get() == seconds
            && seconds <= LONGEST_EPOCH
            && terms.price >= offered.price
            && terms.credit_bound <= offered.credit_limit
            && terms.grace_days <= offered.grace_days
            && terms.minimum_days >= offered.minimum_days;
        let Some(known) = known.filter(|_| good) else { return Ok(good) };
        let earned = known.agreed().map_or(Msat::ZERO, |agreed| agreed.earned);
        let paid = self.options.earnings.paid(&known.contract().id())?.arrived;
        let settled = earned.checked_sub(paid).is_none_or(|owed| owed < SATOSHI);
        let left_out = known.uncharged().any(|(epoch, counted)| epoch < terms.first && counted.bytes > 0);
        Ok(settled && !left_out && terms.first > known.contract().terms().first)
    }
}

#[cfg(test)]
mod tests {
    use fincrypt_billing::statement::{Billing, Counted};
    use fincrypt_protocol::amount::Price;
    use fincrypt_protocol::record::Registration;
    use fincrypt_protocol::{AnswerDigest, GuardKey, HeadKey, Network, Signed};
    use fincrypt_state::state::State;
    use zeroize::Zeroizing;

    use super::*;
    use crate::PayoutTo;
    use crate::earnings::tests::{HOUR, NOW, contract};
    use crate::earnings::{Paid, Relation};

    /// A TiB, of which an hour earns about 1,400 satoshi.
    const BYTES: u64 = 1 << 40;
    const ANSWER: AnswerDigest = AnswerDigest::from_bytes([4; 32]);

    struct Node {
        _dir: tempfile::TempDir,
        countersigner: Countersigner,
        mediator: SigningKey,
        relation: Relation,
        first: Epoch,
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([seed; 32]))
    }

    impl Node {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let (state, _) = State::open(dir.path()).expect("opens");
            let (owner, mediator) = (key(1), key(2));
            let accounts = Accounts::new(state.clone(), Network::Local);
            let registration = Registration {
                network: Network::Local,
                account: owner.account(),
                head_key: HeadKey::from_bytes([1; 32]),
                guard_key: GuardKey::from_bytes([2; 32]),
            };
            let registration = Signed::seal(&registration, &owner).expect("seals");
            accounts.register(&registration.verify(Network::Local, NOW).expect("valid")).expect("new");
            let terms = Arc::new(StorageTerms {
                price: Price::new(1_000_000),
                egress_price: Price::FREE,
                payout: PayoutTo::Nowhere,
                grace_days: 90,
                minimum_days: 30,
                credit_limit: Msat::new(1_000_000),
                release_delay: HOUR,
                scrub_period: HOUR,
            });
            let countersigner = Countersigner::new(CountersignOptions {
                earnings: Earnings::new(state),
                accounts,
                clock: Clock::manual(NOW),
                key: key(3),
                terms,
            });
            let relation = (mediator.node(), owner.account());
            Self { _dir: dir, countersigner, mediator, relation, first: Epoch::at(NOW, HOUR) }
        }

        fn earnings(&self) -> &Earnings {
            &self.countersigner.options.earnings
        }

        /// Counts what was held in an epoch.
        fn count(&self, epoch: Epoch) {
            let mut change = self.earnings().change();
            let mut earning = self.earnings().earning(&self.relation).expect("reads");
            earning.held = BYTES;
            earning.count(epoch, 3600, Counted { bytes: BYTES, answer: ANSWER }, NOW).expect("restores");
            change.put_earning(&self.relation, &earning).expect("fits");
            change.commit(&self.relation.0).expect("written");
        }

        /// A bill for one epoch in which the mediator counted `bytes`, by a contract that begins with it.
        fn bill(&self, first: Epoch, bytes: u64) -> Bill {
            let terms = Terms { storage: key(3).node(), first, ..*contract(self.relation).terms() };
            let mut billing = Billing::new(Contract::new(terms).expect("good terms"));
            billing.passed(first, bytes, ANSWER);
            let proposal = billing.propose(&self.mediator).expect("proposes").expect("something");
            Bill { terms, proposal, newest: None }
        }

        fn answer(&self, bill: Bill) -> Result<BillAnswer, CountersignError> {
            self.countersigner.answer(self.relation.0, &[bill]).remove(0)
        }

        fn earned(&self) -> Msat {
            let days = self.earnings().earned_days(NOW, 1).expect("reads");
            days.first().map_or(Msat::ZERO, |day| day.earned)
        }
    }

    #[test]
    fn a_statement_that_agrees_with_the_counts_is_signed_and_earned_once() {
        let node = Node::new();
        node.count(node.first);
        for _ in 0..2 {
            let answer = node.answer(node.bill(node.first, BYTES)).expect("ours");
            let BillAnswer::Agreed(agreed) = answer else { panic!("{answer:?}") };
            let earned = agreed.verify(Network::Local).expect("signed by both").earned;
            assert!(earned > Msat::new(1_000_000), "{earned}");
            assert_eq!(node.earned(), earned);
        }
    }

    #[test]
    fn a_statement_of_less_than_was_counted_is_refused_and_begins_no_contract() {
        let node = Node::new();
        node.count(node.first);
        let answer = node.answer(node.bill(node.first, BYTES / 2)).expect("ours");
        assert!(matches!(answer, BillAnswer::Misstated { newest: None }), "{answer:?}");
        let earning = node.earnings().earning(&node.relation).expect("reads");
        assert!(earning.terms.is_none() && earning.fault.is_some());
        assert_eq!(node.earned(), Msat::ZERO);
    }

    #[test]
    fn terms_of_another_mediator_or_an_unknown_account_are_not_answered() {
        let node = Node::new();
        node.count(node.first);
        let bill = node.bill(node.first, BYTES);
        let answer = node.countersigner.answer(key(9).node(), std::slice::from_ref(&bill)).remove(0);
        assert!(matches!(answer, Err(CountersignError::OtherRelation)), "{answer:?}");
        let terms = Terms { account: key(9).account(), ..bill.terms };
        let answer = node.answer(Bill { terms, ..bill });
        assert!(matches!(answer, Err(CountersignError::OtherRelation)), "{answer:?}");
    }

    #[test]
    fn another_contract_begins_only_once_the_one_before_is_paid() {
        let node = Node::new();
        let next = node.first.plus(1);
        node.count(node.first);
        let first = node.bill(node.first, BYTES);
        let id = Contract::new(first.terms).expect("good terms").id();
        assert!(matches!(node.answer(first).expect("ours"), BillAnswer::Agreed(_)));
        let earned = node.earned();
        node.countersigner.options.clock.advance(HOUR);
        node.count(next);
        let answer = node.answer(node.bill(next, BYTES)).expect("ours");
        assert!(matches!(answer, BillAnswer::Misstated { newest: Some(_) }), "{answer:?}");
        let mut change = node.earnings().change();
        change.put_paid(&id, &Paid { arrived: earned, coming: Msat::ZERO }).expect("fits");
        change.commit(&node.relation.0).expect("written");
        drop(change);
        let answer = node.answer(node.bill(next, BYTES)).expect("ours");
        assert!(matches!(answer, BillAnswer::Agreed(_)), "{answer:?}");
    }
}
