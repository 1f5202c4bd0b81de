//! What each of the three does with a statement.

mod random;

use std::num::NonZeroU32;
use std::time::Duration;

use fincrypt_protocol::amount::{Msat, Permille, Price};
use fincrypt_protocol::money::Stated;
use fincrypt_protocol::statement::{Contract, Countersigned, Statement, Terms};
use fincrypt_protocol::{AnswerDigest, Epoch, Network, RecordError, Signed, SigningKey, UnixTime};
use zeroize::Zeroizing;

use super::*;
use crate::accrual;

const FIRST: u64 = 1000;
const NOW: Epoch = Epoch::new(FIRST + 100);
const GIB: u64 = 1 << 30;
const MOST: u64 = 64 * GIB;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn storage() -> SigningKey {
    key(1)
}

fn mediator() -> SigningKey {
    key(2)
}

fn contract() -> Contract {
    let terms = Terms {
        network: Network::Local,
        storage: storage().node(),
        mediator: mediator().node(),
        account: key(3).account(),
        price: Price::new(150_000),
        fee: Permille::new(25).expect("a share"),
        first: Epoch::new(FIRST),
        epoch_seconds: NonZeroU32::new(3600).expect("not zero"),
        credit_bound: Msat::new(2000),
        payout_threshold: Msat::new(1000),
        grace_days: 30,
        minimum_days: 30,
    };
    Contract::new(terms).expect("good terms")
}

fn answer(epoch: u64) -> AnswerDigest {
    AnswerDigest::from_bytes([epoch as u8; 32])
}

fn known() -> Known {
    Known { most_bytes: MOST, max_price: Price::new(150_000), now: NOW }
}

/// A statement as its mediator would sign it, with whatever `change` makes of it.
fn proposal(
    epoch: u64,
    bytes: u64,
    byte_epochs: u64,
    change: impl FnOnce(&mut Statement),
) -> Signed<Statement> {
    let contract = contract();
    let terms = contract.terms();
    let mut statement = Statement {
        network: terms.network,
        contract: contract.id(),
        storage: terms.storage,
        mediator: terms.mediator,
        account: terms.account,
        epoch: Epoch::new(epoch),
        bytes,
        byte_epochs,
        earned: accrual::earned(terms.price, byte_epochs, 3600).expect("fits"),
        answer: answer(epoch),
    };
    change(&mut statement);
    Signed::seal(&statement, &mediator()).expect("seals")
}

fn both_sign(proposal: &Signed<Statement>) -> Countersigned {
    Countersigned::seal(&proposal.verify_proposal(Network::Local).expect("verifies"), &storage())
}

fn count(holding: &mut Holding, epoch: u64, bytes: u64) {
    holding.counted(Epoch::new(epoch), Counted { bytes, answer: answer(epoch) });
}

fn countersign(holding: &mut Holding, proposal: &Signed<Statement>) -> Result<Answer, Fault> {
    holding.countersign(proposal, Permille::NONE, NOW, &storage())
}

/// A node that has countersigned two GiB in the first epoch and counted three in the next.
fn holding() -> Holding {
    let mut holding = Holding::new(contract());
    count(&mut holding, FIRST, 2 * GIB);
    count(&mut holding, FIRST + 1, 3 * GIB);
    countersign(&mut holding, &proposal(FIRST, 2 * GIB, 2 * GIB, |_| {})).expect("countersigns");
    holding
}

#[test]
fn storage_countersigns_what_it_counted_and_repeats_itself() {
    let mut holding = holding();
    let next = proposal(FIRST + 1, 3 * GIB, 5 * GIB, |_| {});
    let first = countersign(&mut holding, &next).expect("countersigns");
    assert!(matches!(first, Answer::Countersigned { unpaid: 0, .. }));
    let again = countersign(&mut holding, &next).expect("known");
    assert!(matches!(again, Answer::Known(_)));
    assert_eq!(first.newest().countersigned(), again.newest().countersigned());
    let old = countersign(&mut holding, &proposal(FIRST, 2 * GIB, 2 * GIB, |_| {})).expect("superseded");
    assert_eq!(old.newest().epoch, Epoch::new(FIRST + 1));
}

#[test]
fn storage_refuses_what_differs_from_its_own_counts_and_names_the_epoch() {
    let next = FIRST + 1;
    let refusal = |proposal: &Signed<Statement>| {
        let fault = countersign(&mut holding(), proposal).expect_err("refused");
        assert!(fault.to_string().starts_with(&format!("epoch {next}")), "{fault}");
        fault
    };
    let less = refusal(&proposal(next, 2 * GIB, 4 * GIB, |_| {}));
    assert!(matches!(less, Fault::Underpaid { stated, held, .. } if (stated, held) == (2 * GIB, 3 * GIB)));
    assert!(matches!(refusal(&proposal(next, 4 * GIB, 6 * GIB, |_| {})), Fault::Overbilled { .. }));
    assert!(matches!(refusal(&proposal(next, 3 * GIB, 6 * GIB, |_| {})), Fault::Overbilled { .. }));
    assert!(matches!(refusal(&proposal(next, 3 * GIB, 4 * GIB, |_| {})), Fault::Falls { .. }));
    let sum = |statement: &mut Statement| statement.earned = Msat::ZERO;
    assert!(matches!(refusal(&proposal(next, 3 * GIB, 5 * GIB, sum)), Fault::Sum { .. }));
    let other = |statement: &mut Statement| statement.answer = answer(0);
    assert!(matches!(refusal(&proposal(next, 3 * GIB, 5 * GIB, other)), Fault::OtherAnswer { .. }));
}

#[test]
fn an_epoch_that_storage_did_not_answer_in_is_not_countersigned() {
    let fault = countersign(&mut holding(), &proposal(FIRST + 2, GIB, 3 * GIB, |_| {})).expect_err("refused");
    assert!(matches!(fault, Fault::OtherAnswer { epoch } if epoch == Epoch::new(FIRST + 2)));
}

#[test]
fn a_tolerance_lets_a_mediator_know_of_a_little_less() {
    let next = proposal(FIRST + 1, 3 * GIB - GIB / 100, 5 * GIB - GIB / 100, |_| {});
    let one = Permille::new(10).expect("a share");
    let answer = holding().countersign(&next, one, NOW, &storage()).expect("countersigns");
    assert!(matches!(answer, Answer::Countersigned { unpaid, .. } if unpaid == GIB / 100));
    assert!(matches!(countersign(&mut holding(), &next), Err(Fault::Underpaid { .. })));
}

#[test]
fn an_epoch_that_was_not_passed_is_told_as_unpaid() {
    let mut holding = holding();
    count(&mut holding, FIRST + 2, GIB);
    let answer = countersign(&mut holding, &proposal(FIRST + 2, GIB, 3 * GIB, |_| {})).expect("countersigns");
    assert!(matches!(answer, Answer::Countersigned { unpaid, .. } if unpaid == 3 * GIB));
}

#[test]
fn two_statements_of_one_epoch_are_kept_as_proof() {
    let mut holding = holding();
    // The first one is refused, which does not make the second any better.
    countersign(&mut holding, &proposal(FIRST + 1, 4 * GIB, 6 * GIB, |_| {})).expect_err("overbilled");
    let fault =
        countersign(&mut holding, &proposal(FIRST + 1, 3 * GIB, 5 * GIB, |_| {})).expect_err("contradicts");
    assert!(matches!(fault, Fault::Contradiction(_)));
    let proof = holding.contradiction().expect("kept").signers().clone();
    let bytes = fincrypt_protocol::cbor::encode(&proof).expect("encodes");
    let read = fincrypt_protocol::cbor::decode(&bytes, 4096).expect("decodes");
    let proof = Contradiction::new(read, Network::Local).expect("anybody can check it");
    assert_eq!((proof.mediator(), proof.storage()), (mediator().node(), None));
    let restored = Holding::restore(contract(), &holding.saved()).expect("restores");
    assert_eq!(restored.contradiction(), Some(&proof));
}

#[test]
fn equal_statements_and_other_peoples_are_no_contradiction() {
    let one = proposal(FIRST, GIB, GIB, |_| {});
    let none = |first: &Signed<Statement>, second: &Signed<Statement>| {
        Contradiction::new(Signers::Mediator(first.clone(), second.clone()), Network::Local).is_err()
    };
    assert!(none(&one, &one));
    assert!(none(&one, &proposal(FIRST + 1, GIB, 2 * GIB, |_| {})));
    let forged =
        Signed::seal(&*one.verify_proposal(Network::Local).expect("verifies"), &storage()).expect("seals");
    assert!(none(&one, &forged));
}

#[test]
fn a_client_pays_the_step_and_the_fee_once() {
    let mut paying = Paying::new(contract(), None).expect("new");
    let mut sum = (0, 0);
    for count in 1..=20 {
        let statement = both_sign(&proposal(FIRST + count - 1, 10 * GIB, count * 10 * GIB, |_| {}));
        let Payment::Due { earned, fee } = paying.pay(&statement, known()).expect("pays") else {
            panic!("nothing due")
        };
        sum = (sum.0 + earned.get(), sum.1 + fee.get());
        assert_eq!(paying.pay(&statement, known()).expect("known"), Payment::Nothing);
    }
    // 200 GiB-epochs of an hour at 150 sat: 41,666.6 msat; 2.5 % of that.
    assert_eq!(sum, (41_666, 1041));
    assert_eq!(paying.paid(), (Msat::new(41_666), Msat::new(1041)));
}

#[test]
fn a_client_refuses_what_it_does_not_know_to_be_its_own() {
    let refusal = |statement: &Countersigned, known: Known| {
        let mut paying = Paying::new(contract(), None).expect("new");
        let fault = paying.pay(statement, known).expect_err("refused");
        assert_eq!(paying.paid(), (Msat::ZERO, Msat::ZERO));
        fault
    };
    let good = both_sign(&proposal(FIRST, GIB, GIB, |_| {}));
    assert!(matches!(
        refusal(&good, Known { most_bytes: GIB - 1, ..known() }),
        Fault::Overbilled { epoch, .. } if epoch == Epoch::new(FIRST)
    ));
    assert!(matches!(refusal(&good, Known { max_price: Price::FREE, ..known() }), Fault::Price { .. }));
    assert!(matches!(refusal(&good, Known { now: Epoch::new(FIRST - 2), ..known() }), Fault::TooFar { .. }));
    let bloated = both_sign(&proposal(FIRST + 1, MOST, 3 * MOST, |_| {}));
    assert!(matches!(refusal(&bloated, known()), Fault::Overbilled { .. }));
    let early = both_sign(&proposal(FIRST - 1, GIB, GIB, |_| {}));
    assert!(matches!(refusal(&early, known()), Fault::BeforeContract { .. }));
    let other = both_sign(&proposal(FIRST, GIB, GIB, |statement| statement.account = key(9).account()));
    assert!(matches!(refusal(&other, known()), Fault::OtherContract));
}

#[test]
fn a_client_never_pays_for_an_epoch_without_both_signatures() {
    let proposal = proposal(FIRST, GIB, GIB, |_| {});
    let verified = proposal.verify_proposal(Network::Local).expect("verifies");
    for signer in [mediator(), key(7)] {
        let mut paying = Paying::new(contract(), None).expect("new");
        let fault = paying.pay(&Countersigned::seal(&verified, &signer), known()).expect_err("refused");
        assert!(matches!(fault, Fault::Record(RecordError::Signature)));
    }
}

#[test]
fn a_client_keeps_proof_against_both_who_signed_twice() {
    let mut paying = Paying::new(contract(), None).expect("new");
    paying.pay(&both_sign(&proposal(FIRST, GIB, GIB, |_| {})), known()).expect("pays");
    let fault =
        paying.pay(&both_sign(&proposal(FIRST, 2 * GIB, 2 * GIB, |_| {})), known()).expect_err("proof");
    let Fault::Contradiction(proof) = fault else { panic!("{fault}") };
    assert_eq!((proof.mediator(), proof.storage()), (mediator().node(), Some(storage().node())));
}

#[test]
fn a_refused_epoch_is_given_up_and_no_second_statement_of_it_is_signed() {
    let mut billing = Billing::new(contract());
    assert!(billing.passed(Epoch::new(FIRST), GIB, answer(FIRST)));
    let first = billing.propose(&mediator()).expect("proposes").expect("something");
    assert_eq!(billing.refused(Epoch::new(FIRST + 7)), 0);
    assert_eq!(billing.refused(Epoch::new(FIRST)), 1);
    assert_eq!(billing.propose(&mediator()).expect("proposes"), None);
    assert!(!billing.passed(Epoch::new(FIRST), 2 * GIB, answer(FIRST)));
    assert!(billing.passed(Epoch::new(FIRST + 1), GIB, answer(FIRST + 1)));
    let next = billing.propose(&mediator()).expect("proposes").expect("something");
    let next = next.verify_proposal(Network::Local).expect("verifies");
    assert_eq!((next.epoch, next.byte_epochs), (Epoch::new(FIRST + 1), GIB));
    // Storage has signed it after all: that is the truth from then on.
    billing.absorb(&both_sign(&first)).expect("verifies");
    assert_eq!(billing.agreed().map(|agreed| agreed.epoch), Some(Epoch::new(FIRST)));
}

#[test]
fn a_mediator_that_lost_its_records_goes_on_from_what_storage_shows_it() {
    let statement = both_sign(&proposal(FIRST + 3, GIB, 4 * GIB, |_| {}));
    let newest = Stated { terms: *contract().terms(), statement };
    // An older state of the same contract.
    let mut older = Billing::new(contract());
    older.passed(Epoch::new(FIRST + 5), GIB, answer(5));
    assert!(matches!(older.catch_up(&newest), Ok(Absorbed::Newest(_))));
    assert_eq!(
        older.due().expect("fits"),
        accrual::earned(Price::new(150_000), 5 * GIB, 3600).expect("fits")
    );
    // Nothing at all, so it began another contract: what passed meanwhile is billed by the old one.
    let later = Terms { first: Epoch::new(FIRST + 4), ..*contract().terms() };
    let later = Contract::new(later).expect("good terms");
    let mut lost = Billing::new(later);
    lost.passed(Epoch::new(FIRST + 5), GIB, answer(5));
    lost.propose(&mediator()).expect("proposes").expect("something");
    assert!(matches!(lost.catch_up(&newest), Ok(Absorbed::Newest(_))));
    assert_eq!(lost.contract(), &contract());
    assert_eq!(lost.due().expect("fits"), older.due().expect("fits"));
    assert_eq!(lost.promised(), accrual::earned(Price::new(150_000), 4 * GIB, 3600).expect("fits"));
    // What was agreed on since is not given up for it, nor does another's statement count.
    let mut agreed = Billing::new(later);
    let of_later = |statement: &mut Statement| statement.contract = later.id();
    agreed.absorb(&both_sign(&proposal(FIRST + 6, GIB, GIB, of_later))).expect("signed by both");
    assert!(matches!(agreed.catch_up(&newest), Err(Fault::OtherContract)));
    let foreign = Terms { account: key(9).account(), ..*contract().terms() };
    let mut other = Billing::new(Contract::new(foreign).expect("good terms"));
    assert!(matches!(other.catch_up(&newest), Err(Fault::OtherContract)));
    let forged = proposal(FIRST + 3, GIB, 9 * GIB, |_| {}).verify_proposal(Network::Local).expect("verifies");
    let forged = Stated { statement: Countersigned::seal(&forged, &key(8)), ..newest };
    assert!(matches!(Billing::new(contract()).catch_up(&forged), Err(Fault::Record(_))));
}

#[test]
fn storage_that_lost_its_records_goes_on_from_what_its_mediator_shows_it() {
    let newest = both_sign(&proposal(FIRST + 3, GIB, 4 * GIB, |_| {}));
    let next = proposal(FIRST + 5, GIB, 6 * GIB, |_| {});
    // It has counted since it came back, and knows nothing of before, or only the beginning.
    for mut lost in [Holding::new(contract()), holding()] {
        (3..=5).for_each(|epoch| count(&mut lost, FIRST + epoch, GIB));
        let more = proposal(FIRST + 4, GIB, 9 * GIB, |_| {});
        countersign(&mut lost, &more).expect_err("more than it has counted");
        assert!(lost.recall(&newest).expect("its own"));
        assert!(!lost.recall(&newest).expect("known"));
        assert!(!lost.recall(&both_sign(&proposal(FIRST, 2 * GIB, 2 * GIB, |_| {}))).expect("older"));
        assert_eq!(lost.agreed().map(|agreed| agreed.epoch), Some(Epoch::new(FIRST + 3)));
        let answer = countersign(&mut lost, &next).expect("the step is what it counted");
        assert!(matches!(answer, Answer::Countersigned { unpaid: 0, .. }));
    }
    // Nothing is taken that it has not signed itself, nor another contract's.
    let stated = proposal(FIRST + 3, GIB, 4 * GIB, |_| {}).verify_proposal(Network::Local).expect("verifies");
    for forged in [Countersigned::seal(&stated, &mediator()), Countersigned::seal(&stated, &key(8))] {
        assert!(matches!(Holding::new(contract()).recall(&forged), Err(Fault::Record(_))));
    }
    let later = Terms { first: Epoch::new(FIRST + 1), ..*contract().terms() };
    let mut other = Holding::new(Contract::new(later).expect("good terms"));
    assert!(matches!(other.recall(&newest), Err(Fault::OtherContract)));
}

#[test]
fn a_restarted_mediator_proposes_the_same_to_the_byte() {
    let mut billing = Billing::new(contract());
    billing.passed(Epoch::new(FIRST), GIB, answer(FIRST));
    let proposal = billing.propose(&mediator()).expect("proposes");
    let saved = fincrypt_protocol::cbor::encode(&billing.saved()).expect("encodes");
    let saved = fincrypt_protocol::cbor::decode(&saved, 1 << 16).expect("decodes");
    let mut billing = Billing::restore(contract(), &saved).expect("restores");
    assert!(!billing.passed(Epoch::new(FIRST), 2 * GIB, answer(FIRST)));
    assert_eq!(billing.propose(&mediator()).expect("proposes"), proposal);
}

#[test]
fn at_the_bound_no_shards_are_taken_and_after_the_grace_they_may_go() {
    let (contract, mut credit) = (contract(), Credit::default());
    let patience = Duration::from_secs(2 * 3600);
    let epoch = Epoch::new(FIRST);
    let at = |hours: u64| UnixTime::from_secs((FIRST + 1 + hours) * 3600);
    let mut standing = |earned, paid, hours| {
        credit.standing(&contract, (Msat::new(earned), Msat::new(paid)), epoch, patience, at(hours))
    };
    assert_eq!(standing(1999, 0, 1), CreditStanding::Open { left: Msat::new(1) });
    let (owed, bound, until) = (Msat::new(2000), Msat::new(2000), at(1 + 30 * 24));
    assert_eq!(standing(2000, 0, 1), CreditStanding::Bound { owed, bound, epoch, until });
    // Whichever began first counts: no statement came either.
    let until = at(30 * 24);
    assert_eq!(standing(2000, 0, 5), CreditStanding::Bound { owed, bound, epoch, until });
    assert_eq!(standing(2000, 1000, 5), CreditStanding::Uncharged { epoch, until });
    assert!(!standing(2000, 1000, 30 * 24 - 1).takes_shards());
    assert_eq!(standing(2000, 1000, 30 * 24), CreditStanding::Lapsed { epoch, since: until });
    assert!(standing(2000, 2000, 1).takes_shards());
}

#[test]
fn what_was_signed_and_not_answered_is_repeated_and_no_longer_after_an_answer() {
    let mut billing = Billing::new(contract());
    assert!(!billing.has_news() && billing.repeat().is_none());
    assert!(billing.passed(Epoch::new(FIRST), GIB, answer(FIRST)));
    assert!(billing.has_news() && billing.repeat().is_none(), "nothing was signed yet");
    let first = billing.propose(&mediator()).expect("fits").expect("something is due");
    assert!(billing.passed(Epoch::new(FIRST + 1), GIB, answer(FIRST + 1)));
    // It is not paid for, and waits; what was signed does not change by it.
    assert!(billing.has_news() && billing.repeat() == Some(first.clone()));
    assert_eq!(Billing::restore(contract(), &billing.saved()).expect("ours").repeat(), Some(first.clone()));
    let earned = |epochs| accrual::earned(contract().terms().price, epochs * GIB, 3600).expect("fits");
    assert_eq!((billing.promised(), billing.due().expect("fits")), (earned(1), earned(2)));
    let mut refused = billing.clone();
    assert_eq!((refused.refused(Epoch::new(FIRST)), refused.repeat()), (1, None));
    assert_eq!(refused.due().expect("fits"), earned(1), "what was refused is given up");
    billing.absorb(&both_sign(&first)).expect("signed by both");
    assert!(billing.has_news() && billing.repeat().is_none());
    assert_eq!((billing.promised(), billing.due().expect("fits")), (earned(1), earned(2)));
}

#[test]
fn more_epochs_than_a_statement_may_add_are_not_kept_count_of() {
    let mut billing = Billing::new(contract());
    assert!(billing.passed(Epoch::new(FIRST + MAX_STEP - 1), 1, answer(1)));
    assert!(!billing.passed(Epoch::new(FIRST + MAX_STEP), 1, answer(2)));
}
