use std::num::NonZeroU32;

use fincrypt_protocol::amount::{Msat, Permille};
use fincrypt_protocol::statement::{Statement, Terms};
use fincrypt_protocol::{AnswerDigest, Signed, SigningKey};
use zeroize::Zeroizing;

use super::*;

const NOW: UnixTime = UnixTime::from_secs(1000 * 3600);
const GIB: u64 = 1 << 30;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn own() -> Own {
    Own {
        network: Network::Local,
        account: key(3).account(),
        mediator: key(2).node(),
        max_price: Some(Price::new(1500)),
        now: NOW,
    }
}

fn terms(storage: u8) -> Terms {
    Terms {
        network: Network::Local,
        storage: key(storage).node(),
        mediator: key(2).node(),
        account: key(3).account(),
        price: Price::new(1500),
        fee: Permille::new(25).expect("a share"),
        first: Epoch::new(990),
        epoch_seconds: NonZeroU32::new(3600).expect("not zero"),
        credit_bound: Msat::new(2000),
        payout_threshold: Msat::new(1000),
        grace_days: 90,
        minimum_days: 30,
    }
}

/// What the mediator and a storage node sign, both their real keys; the money follows.
fn stated(terms: Terms, storage: u8, epoch: u64, bytes: u64, byte_epochs: u64) -> Stated {
    let contract = Contract::new(terms).expect("good terms");
    let statement = Statement {
        network: terms.network,
        contract: contract.id(),
        storage: terms.storage,
        mediator: terms.mediator,
        account: terms.account,
        epoch: Epoch::new(epoch),
        bytes,
        byte_epochs,
        earned: fincrypt_billing::earned(terms.price, byte_epochs, terms.epoch_seconds.get()).expect("fits"),
        answer: AnswerDigest::from_bytes([7; 32]),
    };
    let proposal = Signed::seal(&statement, &key(2)).expect("seals");
    let proposal = proposal.verify_proposal(terms.network).expect("ours");
    Stated { terms, statement: Countersigned::seal(&proposal, &key(storage)) }
}

fn judged(newest: Option<&Stated>, stated: &Stated, most: u64) -> Result<Judged, Wrong> {
    check_statement(&own(), newest.map(|newest| &newest.statement), None, stated, |_| most)
}

#[test]
fn a_statement_of_what_was_stored_is_right_and_adds_its_step() {
    let first = stated(terms(10), 10, 991, GIB, 2 * GIB);
    let step = judged(None, &first, GIB).expect("right").step.expect("new");
    assert_eq!((step.from.secs(), step.to.secs()), (990 * 3600, 992 * 3600));
    assert_eq!(step.byte_seconds, 2 * 3600 * u128::from(GIB));
    let next = stated(terms(10), 10, 993, GIB, 3 * GIB);
    let step = judged(Some(&first), &next, GIB).expect("right").step.expect("new");
    assert_eq!((step.from.secs(), step.to.secs()), (992 * 3600, 994 * 3600));
    assert!(judged(Some(&next), &first, GIB).expect("superseded").step.is_none());
}

#[test]
fn more_than_was_stored_is_found_in_an_epoch_and_in_the_sum() {
    let wrong = |stated: &Stated| judged(None, stated, GIB).expect_err("overbilled").to_string();
    assert!(wrong(&stated(terms(10), 10, 990, GIB + 1, GIB + 1)).contains("overbilled"));
    assert!(wrong(&stated(terms(10), 10, 990, GIB, GIB + 1)).contains("overbilled"));
}

#[test]
fn what_was_stored_counts_as_of_the_first_epoch_that_is_charged() {
    let asked = std::cell::Cell::new(0);
    let most = |since: UnixTime| {
        asked.set(since.secs());
        GIB
    };
    let first = stated(terms(10), 10, 995, GIB, GIB);
    check_statement(&own(), None, None, &first, most).expect("right");
    assert_eq!(asked.get(), 990 * 3600);
    let next = stated(terms(10), 10, 997, GIB, 2 * GIB);
    check_statement(&own(), Some(&first.statement), None, &next, most).expect("right");
    assert_eq!(asked.get(), 996 * 3600);
}

#[test]
fn forgeries_and_what_is_not_ours_are_found() {
    let good = stated(terms(10), 10, 990, GIB, GIB);
    // Signed by another storage node than the one that the terms name.
    let forged = stated(terms(10), 11, 990, GIB, GIB);
    assert!(matches!(judged(None, &forged, GIB), Err(Wrong::Fault(Fault::Record(_)))));
    // Under other terms than those that were signed.
    let other = Stated { terms: Terms { price: Price::new(1), ..terms(10) }, ..good.clone() };
    assert!(matches!(judged(None, &other, GIB), Err(Wrong::Fault(Fault::OtherContract))));
    let with = |change: fn(&mut Own)| {
        let mut own = own();
        change(&mut own);
        check_statement(&own, None, None, &good, |_| GIB).expect_err("not ours")
    };
    assert!(matches!(with(|own| own.account = key(4).account()), Wrong::Account));
    assert!(matches!(with(|own| own.mediator = key(4).node()), Wrong::Mediator(_)));
    assert!(matches!(with(|own| own.network = Network::Main), Wrong::Network(_)));
    assert!(matches!(
        with(|own| own.now = UnixTime::from_secs(900 * 3600)),
        Wrong::Fault(Fault::TooFar { .. })
    ));
    let bad = Stated { terms: Terms { grace_days: 1, ..terms(10) }, ..good };
    assert!(matches!(judged(None, &bad, GIB), Err(Wrong::Terms(_))));
}

#[test]
fn a_new_contract_above_the_limit_is_wrong_and_one_agreed_to_before_goes_on() {
    let dear = Terms { price: Price::new(1501), ..terms(10) };
    let first = stated(dear, 10, 990, GIB, GIB);
    assert!(matches!(judged(None, &first, GIB), Err(Wrong::Fault(Fault::Price { .. }))));
    let next = stated(dear, 10, 991, GIB, 2 * GIB);
    assert!(judged(Some(&first), &next, GIB).is_ok());
    let any = Own { max_price: None, ..own() };
    assert!(check_statement(&any, None, None, &first, |_| GIB).is_ok());
}

#[test]
fn two_statements_of_one_epoch_are_a_proof_whichever_is_known_as_the_newest() {
    let one = stated(terms(10), 10, 990, GIB, GIB);
    for other in [stated(terms(10), 10, 990, GIB - 1, GIB - 1), stated(terms(10), 10, 990, GIB - 1, GIB)] {
        let found = check_statement(&own(), None, Some(&one.statement), &other, |_| GIB);
        let Err(Wrong::Fault(Fault::Contradiction(proof))) = found else { panic!("{found:?}") };
        assert_eq!((proof.epoch(), proof.storage()), (Epoch::new(990), Some(key(10).node())));
        // Anybody can check it.
        assert!(Contradiction::new(proof.signers().clone(), Network::Local).is_ok());
    }
    assert!(check_statement(&own(), Some(&one.statement), Some(&one.statement), &one, |_| GIB).is_ok());
}

#[test]
fn storage_nodes_that_are_right_one_by_one_can_be_wrong_together() {
    let length = |_: &Judged| Duration::from_secs(3600);
    let round = |epochs: [u64; 3]| -> Vec<Judged> {
        let each = [10, 11, 12].into_iter().zip(epochs);
        each.map(|(node, epoch)| {
            judged(None, &stated(terms(node), node, epoch, GIB, GIB * (epoch - 989)), GIB).expect("right")
        })
        .collect()
    };
    let same = round([991, 991, 991]);
    assert!(together(&same, length, |_| 3 * GIB).is_ok());
    assert!(matches!(
        together(&same, length, |_| 3 * GIB - 1),
        Err(Wrong::Together { epoch, .. }) if epoch == Epoch::new(991)
    ));
    // No two of one epoch, but the sums tell.
    let apart = round([991, 992, 993]);
    assert!(together(&apart, length, |_| 3 * GIB).is_ok());
    assert!(together(&apart, length, |_| 2 * GIB).is_err());
    assert!(together(&[], length, |_| 0).is_ok());
}
