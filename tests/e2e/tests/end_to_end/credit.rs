//! A mediator that bills and does not pay: what it may owe is bounded, and nothing is lost meanwhile.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_billing::statement::{Absorbed, Billing};
use fincrypt_net::Net;
use fincrypt_protocol::amount::{Msat, Permille, Price};
use fincrypt_protocol::money::{Payout, PayoutState, Sending};
use fincrypt_protocol::pay::{
    Bill, Billed, Countersign, Destination, Done, GetDestination, NotePayout, Request,
};
use fincrypt_protocol::shard::{Audited, Challenge, Challenged};
use fincrypt_protocol::statement::{Contract, Terms};
use fincrypt_protocol::{
    AnswerDigest, Call, ContractId, Epoch, Nonce, PaymentHash, PayoutId, Refusal, ShardIndex, UnixTime,
};
use fincrypt_shards::proof::answer_digest;
use fincrypt_storage_node::PayoutTo;

use crate::hostile::{NETWORK, Stage, payload, run, run_for, stage_on};

/// Four KiB earn some thousand satoshi in a second.
const PRICE: Price = Price::new(3_000_000_000_000_000_000);
const SECONDS: u32 = 1;

struct Mediator {
    stage: Stage,
    billing: Billing,
}

impl Mediator {
    fn terms(stage: &Stage, first: Epoch) -> Terms {
        Terms {
            network: NETWORK,
            storage: stage.node,
            mediator: stage.mediator.own(),
            account: stage.account().account(),
            price: PRICE,
            fee: Permille::NONE,
            first,
            epoch_seconds: NonZeroU32::new(SECONDS).expect("not zero"),
            credit_bound: Msat::new(1_000_000),
            payout_threshold: Msat::new(100_000),
            grace_days: 90,
            minimum_days: 30,
        }
    }

    fn now() -> Epoch {
        Epoch::at(UnixTime::now(), Duration::from_secs(SECONDS.into()))
    }

    /// Waits until this machine's clock is in an epoch, or past it.
    async fn wait_until(epoch: Epoch) {
        while Self::now() < epoch {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Audits an epoch that is over.
    async fn audit(&mut self, epoch: Epoch) {
        let (account, segment) = (self.stage.account().account(), self.stage.segment(1));
        let index = ShardIndex::new(0).expect("valid");
        let (nonce, shards) = (Nonce::from_bytes([9; 32]), vec![Challenged { account, segment, index }]);
        let audited = Some(Audited { epoch, seconds: SECONDS });
        let challenge = Challenge { nonce, shards, audited };
        let asked = self.stage.mediator.shard_with(self.stage.node, challenge, Bytes::new()).await;
        let (_, proofs) = asked.expect("answered");
        let digest = AnswerDigest::from_bytes(answer_digest(&nonce, &proofs));
        self.billing.passed(epoch, payload(1).len() as u64, digest);
    }

    /// What storage says to the newest proposal.
    async fn propose(&mut self) -> Billed {
        let proposal = self.billing.propose(&self.stage.mediator_key).expect("proposes").expect("something");
        let bills = vec![Bill { terms: *self.billing.contract().terms(), proposal, newest: None }];
        self.ask(Countersign { bills }).await.expect("an answer to a bill").bills.remove(0)
    }

    /// Has what passed countersigned; all that was earned by now.
    async fn bill(&mut self) -> Msat {
        match self.propose().await {
            Billed::Agreed(agreed) => match self.billing.absorb(&agreed).expect("signed") {
                Absorbed::Newest(agreed) => agreed.earned,
                Absorbed::Old => panic!("nothing new"),
            },
            other => panic!("{other:?}"),
        }
    }

    async fn ask<C: Call<Request = Request>>(&self, call: C) -> Result<C::Response, Refusal> {
        self.stage.pay(&self.stage.mediator, call).await
    }

    async fn put(&self, seed: u8) -> Result<(), Refusal> {
        self.stage.put(self.stage.placement(seed), payload(seed)).await
    }

    /// Says that something was paid.
    async fn say_paid(
        &self,
        from: &Net,
        contract: ContractId,
        (amount, state): (Msat, PayoutState),
    ) -> Result<Done, Refusal> {
        let payout = Payout {
            id: PayoutId::from_bytes([1; 16]),
            state,
            sending: Some(Sending::Payment(PaymentHash::from_bytes([2; 32]))),
            parts: vec![(contract, amount)],
            arrives: amount,
        };
        self.stage.pay(from, NotePayout { payout }).await
    }
}

#[test]
fn a_mediator_that_does_not_pay_reaches_its_bound_and_may_store_again_once_it_does() {
    run(async {
        let stage = stage_on(1 << 30, |terms| {
            terms.price = PRICE;
            terms.credit_limit = Msat::new(1_000_000);
            terms.payout = PayoutTo::Destination("lno1".to_owned());
        })
        .await;
        let first = Mediator::now();
        let contract = Contract::new(Mediator::terms(&stage, first)).expect("good terms");
        let mut mediator = Mediator { stage, billing: Billing::new(contract) };
        let destination = || GetDestination { lightning: None };
        assert_eq!(mediator.ask(destination()).await, Ok(Destination { to: None }), "a stranger");
        assert_eq!(mediator.put(1).await, Ok(()));
        mediator.audit(first).await;
        // Not yet: nothing was held at the epoch before.
        mediator.billing = Billing::new(contract);
        Mediator::wait_until(first.plus(1)).await;
        mediator.audit(first.plus(1)).await;
        let earned = mediator.bill().await;
        assert!(earned > Msat::new(1_000_000), "{earned}");
        assert_eq!(mediator.ask(destination()).await, Ok(Destination { to: Some("lno1".to_owned()) }));

        // At the bound: nothing new, what is there is read, charged, and may be put again.
        assert_eq!(mediator.put(2).await, Err(Refusal::CreditBound));
        assert_eq!(mediator.put(1).await, Ok(()));
        let (node, get) = (mediator.stage.node, mediator.stage.get());
        let shard = mediator.stage.mediator.shard_with(node, get, Bytes::new()).await.expect("served");
        assert_eq!(shard.1, payload(1));
        let epoch = first.plus(2);
        Mediator::wait_until(epoch).await;
        mediator.audit(epoch).await;
        let earned = mediator.bill().await;

        // Another contract would shed the debt: it is refused, and shown the one that is owed by.
        let later = Contract::new(Mediator::terms(&mediator.stage, epoch)).expect("good terms");
        let owing = std::mem::replace(&mut mediator.billing, Billing::new(later));
        mediator.billing.passed(epoch, payload(1).len() as u64, AnswerDigest::from_bytes([1; 32]));
        let Billed::Refused { refusal: Refusal::Misstated, newest: Some(newest) } = mediator.propose().await
        else {
            panic!("taken, or nothing is shown")
        };
        assert_eq!(
            (newest.terms, newest.statement.verify(NETWORK).expect("signed by both").earned),
            (*contract.terms(), earned)
        );
        mediator.billing.catch_up(&newest).expect("its own");
        assert_eq!(mediator.billing.contract(), &contract);
        assert_eq!(mediator.billing.promised(), owing.promised());

        // A stranger's word counts for nothing, nor does one about another's contract.
        let (id, arrived) = (contract.id(), (earned, PayoutState::Arrived));
        let stranger = mediator.stage.stranger().await;
        assert_eq!(mediator.say_paid(&stranger, id, arrived).await, Err(Refusal::Invalid));
        let foreign = ContractId::from_bytes([7; 32]);
        let own = &mediator.stage.mediator;
        assert_eq!(mediator.say_paid(own, foreign, arrived).await, Err(Refusal::Invalid));

        // Of a payout that pays that, too, only the part of this one counts.
        let parts = vec![(id, earned), (foreign, earned)];
        let arrives = earned.checked_add(earned).expect("fits");
        let both = Payout {
            id: PayoutId::from_bytes([1; 16]),
            state: PayoutState::OnTheWay,
            sending: None,
            parts,
            arrives,
        };
        assert_eq!(mediator.stage.pay(own, NotePayout { payout: both }).await, Ok(Done {}));

        // What is on the way is not there yet; what failed never will be; what arrived counts once.
        for state in [PayoutState::OnTheWay, PayoutState::Failed] {
            assert_eq!(mediator.say_paid(own, id, (earned, state)).await, Ok(Done {}));
            assert_eq!(mediator.put(2).await, Err(Refusal::CreditBound), "{state:?}");
        }
        for _ in 0..2 {
            assert_eq!(mediator.say_paid(own, id, arrived).await, Ok(Done {}));
        }
        assert_eq!(mediator.put(2).await, Ok(()));
        // It is taken back: the chain was reorganised.
        assert_eq!(mediator.say_paid(own, id, (earned, PayoutState::OnTheWay)).await, Ok(Done {}));
        assert_eq!(mediator.put(3).await, Err(Refusal::CreditBound));

        // Once nothing is owed another contract may begin.
        assert_eq!(mediator.say_paid(own, id, arrived).await, Ok(Done {}));
        mediator.billing = Billing::new(later);
        // The epoch before is charged already.
        let next = epoch.plus(1);
        Mediator::wait_until(next).await;
        mediator.audit(next).await;
        assert!(mediator.bill().await > Msat::ZERO);
    });
}

/// A priced node, and a mediator that has stored one shard there.
async fn stored() -> Stage {
    let stage = stage_on(1 << 30, |terms| {
        terms.price = PRICE;
        terms.credit_limit = Msat::new(1_000_000);
        terms.payout = PayoutTo::Destination("lno1".to_owned());
    })
    .await;
    assert_eq!(stage.put(stage.placement(1), payload(1)).await, Ok(()));
    stage
}

#[test]
fn terms_that_were_only_stated_bind_nobody_and_end_no_grace() {
    run(async {
        let stage = stored().await;
        // A contract that would have lapsed long ago, with a statement that cannot be signed; and one of
        // epochs of another length than the audited ones.
        let ancient = Mediator::terms(&stage, Epoch::new(0));
        let hours = Terms {
            epoch_seconds: NonZeroU32::new(3600).expect("not zero"),
            ..Mediator::terms(&stage, Epoch::new(0))
        };
        let epoch = Mediator::now();
        let mut mediator =
            Mediator { stage, billing: Billing::new(Contract::new(ancient).expect("good terms")) };
        mediator.audit(epoch).await;
        for terms in [ancient, hours] {
            mediator.billing = Billing::new(Contract::new(terms).expect("good terms"));
            let first = Epoch::new(epoch.number().min(8000));
            mediator.billing.passed(first, payload(1).len() as u64, AnswerDigest::from_bytes([1; 32]));
            let Billed::Refused { newest: None, .. } = mediator.propose().await else { panic!("taken") };
            assert_eq!(mediator.put(2).await, Ok(()), "it neither lapsed nor is at a bound");
        }
    });
}

#[test]
fn an_audit_of_another_time_earns_nothing() {
    run(async {
        let stage = stored().await;
        let first = Mediator::now();
        let contract = Contract::new(Mediator::terms(&stage, first)).expect("good terms");
        let mut mediator = Mediator { stage, billing: Billing::new(contract) };
        // Two audits of the future: nothing that it counts can be agreed on.
        for ahead in [1000, 1001] {
            mediator.audit(first.plus(ahead)).await;
        }
        let Billed::Refused { .. } = mediator.propose().await else { panic!("signed for what is to come") };
    });
}

#[test]
fn of_two_statements_of_an_epoch_that_come_at_once_one_is_signed() {
    run(async {
        let stage = stored().await;
        let first = Mediator::now();
        let contract = Contract::new(Mediator::terms(&stage, first)).expect("good terms");
        let mut mediator = Mediator { stage, billing: Billing::new(contract) };
        mediator.audit(first).await;
        Mediator::wait_until(first.plus(1)).await;
        mediator.billing = Billing::new(contract);
        mediator.audit(first.plus(1)).await;
        // The same epoch, and another sum: a byte less, which is tolerated.
        let mut other = Billing::new(contract);
        let proposal =
            mediator.billing.propose(&mediator.stage.mediator_key).expect("fits").expect("something");
        let answer = proposal.verify_proposal(NETWORK).expect("its own").answer;
        other.passed(first.plus(1), payload(1).len() as u64 - 1, answer);
        let second = other.propose(&mediator.stage.mediator_key).expect("fits").expect("something");
        let terms = *contract.terms();
        let ask =
            |proposal| mediator.ask(Countersign { bills: vec![Bill { terms, proposal, newest: None }] });
        let (one, two) = tokio::join!(ask(proposal), ask(second));
        let agreed = [one, two]
            .into_iter()
            .filter(|answer| matches!(answer, Ok(said) if matches!(said.bills[..], [Billed::Agreed(_)])));
        assert_eq!(agreed.count(), 1);
    });
}

#[test]
#[ignore = "waits for 48 epochs: cargo test --workspace --test end_to_end -- --ignored credit::"]
fn whoever_audits_and_never_bills_may_store_nothing_after_48_epochs() {
    run_for(Duration::from_secs(100), async {
        let stage = stored().await;
        let contract = Contract::new(Mediator::terms(&stage, Mediator::now())).expect("good terms");
        let mut mediator = Mediator { stage, billing: Billing::new(contract) };
        for _ in 0..50 {
            assert_eq!(mediator.put(2).await, Ok(()));
            let epoch = Mediator::now();
            mediator.audit(epoch).await;
            Mediator::wait_until(epoch.plus(1)).await;
        }
        assert_eq!(mediator.put(3).await, Err(Refusal::CreditBound));
        // What is there is served, and one statement opens it again.
        assert!(mediator.stage.ask(&mediator.stage.mediator, mediator.stage.get()).await.is_ok());
        mediator.audit(Mediator::now()).await;
        assert!(mediator.bill().await > Msat::ZERO);
        assert_eq!(
            mediator.put(3).await,
            Err(Refusal::CreditBound),
            "that statement alone reaches the bound"
        );
        let (id, all) = (contract.id(), Msat::new(u64::MAX >> 1));
        let own = &mediator.stage.mediator;
        assert_eq!(mediator.say_paid(own, id, (all, PayoutState::Arrived)).await, Ok(Done {}));
        assert_eq!(mediator.put(3).await, Ok(()));
    });
}
