use std::num::NonZeroU32;

use fincrypt_protocol::amount::{Msat, Permille, Price};
use fincrypt_protocol::statement::Statement;
use fincrypt_protocol::{AnswerDigest, Network, Signed, SigningKey};
use zeroize::Zeroizing;

use super::*;

const MIB: u64 = 1 << 20;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn own() -> Own {
    Own {
        network: Network::Local,
        account: key(3).account(),
        mediator: key(2).node(),
        max_price: None,
        now: UnixTime::from_secs(1000 * 3600),
    }
}

fn stated(storage: u8, epoch: u64, bytes: u64, byte_epochs: u64) -> Stated {
    let terms = Terms {
        network: Network::Local,
        storage: key(storage).node(),
        mediator: key(2).node(),
        account: key(3).account(),
        price: Price::new(150_000),
        fee: Permille::new(25).expect("a share"),
        first: Epoch::new(990),
        epoch_seconds: NonZeroU32::new(3600).expect("not zero"),
        credit_bound: Msat::new(2000),
        payout_threshold: Msat::new(1000),
        grace_days: 90,
        minimum_days: 30,
    };
    let statement = Statement {
        network: terms.network,
        contract: Contract::new(terms).expect("good terms").id(),
        storage: terms.storage,
        mediator: terms.mediator,
        account: terms.account,
        epoch: Epoch::new(epoch),
        bytes,
        byte_epochs,
        earned: fincrypt_billing::earned(terms.price, byte_epochs, 3600).expect("fits"),
        answer: AnswerDigest::from_bytes([7; 32]),
    };
    let proposal = Signed::seal(&statement, &key(2)).expect("seals");
    let proposal = proposal.verify_proposal(terms.network).expect("ours");
    Stated { terms, statement: Countersigned::seal(&proposal, &key(storage)) }
}

/// A vault that has stored nothing: what is tolerated is two shards at each node, 60 MiB in all.
fn taken(kept: &Statements, round: &[Stated]) {
    kept.take(&own(), round, &Looks::default()).expect("kept");
}

#[test]
fn good_statements_are_kept_by_contract_and_epoch_over_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let open = || State::open(dir.path()).expect("opens").0;
    let state = open();
    let kept = Statements::new(state.clone());
    taken(&kept, &[stated(10, 990, MIB, MIB), stated(11, 990, MIB, MIB)]);
    taken(&kept, &[stated(10, 991, MIB, 2 * MIB), stated(11, 990, MIB, MIB)]);
    drop(kept);
    state.close();
    drop(state);
    let kept = Statements::new(open());
    let epochs = |epoch: Option<u64>| {
        let shown = kept.shown(epoch.map(Epoch::new)).expect("reads");
        assert!(shown.iter().all(|one| one.fault.is_none()));
        let epoch = |one: &Shown| one.statement.verify(Network::Local).expect("signed").epoch.number();
        let mut epochs: Vec<_> = shown.iter().map(epoch).collect();
        epochs.sort_unstable();
        epochs
    };
    assert_eq!(
        (epochs(None), epochs(Some(990)), epochs(Some(991))),
        (vec![990, 991], vec![990, 990], vec![991])
    );
    assert!(epochs(Some(5)).is_empty());
    assert!(kept.faults().expect("reads").is_empty());
}

#[test]
fn what_is_billed_without_being_stored_is_found_once_and_stays_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let kept = Statements::new(State::open(dir.path()).expect("opens").0);
    let false_one = stated(10, 990, 500 * MIB, 500 * MIB);
    for _ in 0..2 {
        taken(&kept, std::slice::from_ref(&false_one));
    }
    let faults = kept.faults().expect("reads");
    let [fault] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!((fault.epoch, fault.contract.is_some(), fault.proved), (Epoch::new(990), true, false));
    assert!(fault.found.reason.contains("overbilled"), "{fault:?}");
    let shown = kept.shown(None).expect("reads");
    assert_eq!(shown.len(), 1);
    assert!(shown[0].fault.is_some());
    // Its sum stays wrong in what comes after.
    taken(&kept, &[stated(10, 991, MIB, 501 * MIB)]);
    assert_eq!(kept.faults().expect("reads").len(), 2);
}

#[test]
fn nodes_that_together_bill_more_than_there_is_are_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let kept = Statements::new(State::open(dir.path()).expect("opens").0);
    let round: Vec<_> = (10..41).map(|node| stated(node, 990, 2 * MIB, 2 * MIB)).collect();
    taken(&kept, &round[..30]);
    assert!(kept.faults().expect("reads").is_empty());
    taken(&kept, &round);
    let faults = kept.faults().expect("reads");
    let [fault] = &faults[..] else { panic!("{faults:?}") };
    assert!(fault.contract.is_none() && fault.found.reason.contains("together"), "{fault:?}");
}

#[test]
fn two_statements_of_one_epoch_leave_a_proof_even_of_an_epoch_long_past() {
    let dir = tempfile::tempdir().expect("a folder");
    let kept = Statements::new(State::open(dir.path()).expect("opens").0);
    taken(&kept, &[stated(10, 990, MIB, MIB)]);
    taken(&kept, &[stated(10, 993, MIB, 2 * MIB)]);
    assert!(kept.proofs(&own()).expect("reads").is_empty());
    taken(&kept, &[stated(10, 990, MIB / 2, MIB / 2)]);
    assert_eq!(kept.proofs(&own()).expect("reads").len(), 1);
    assert!(kept.faults().expect("reads").iter().any(|fault| fault.proved && fault.epoch.number() == 990));
    // What was known first stays.
    let shown = kept.shown(Some(Epoch::new(990))).expect("reads");
    assert_eq!(shown[0].statement, stated(10, 990, MIB, MIB).statement);
}

#[test]
fn statements_of_others_are_told_and_take_no_room() {
    let dir = tempfile::tempdir().expect("a folder");
    let kept = Statements::new(State::open(dir.path()).expect("opens").0);
    let other = Own { mediator: key(9).node(), ..own() };
    kept.take(&other, &[stated(10, 990, MIB, MIB)], &Looks::default()).expect("kept");
    assert!(kept.shown(None).expect("reads").is_empty());
    assert_eq!(kept.faults().expect("reads").len(), 1);
}

#[test]
fn a_contracts_statements_are_bounded_and_the_newest_stay() {
    let dir = tempfile::tempdir().expect("a folder");
    let kept = Statements::new(State::open(dir.path()).expect("opens").0);
    let own = Own { now: UnixTime::from_secs(9000 * 3600), ..own() };
    let last = 990 + MOST_STATEMENTS as u64 + 3;
    for epoch in 990..=last {
        kept.take(&own, &[stated(10, epoch, 1, epoch - 989)], &Looks::default()).expect("kept");
    }
    let at = |epoch| kept.shown(Some(Epoch::new(epoch))).expect("reads").len();
    assert_eq!((at(990), at(993), at(994), at(last)), (0, 0, 1, 1));
}

#[test]
fn a_statement_that_storage_did_not_sign_is_refused_by_its_epoch() {
    let dir = tempfile::tempdir().expect("a folder");
    let kept = Statements::new(State::open(dir.path()).expect("opens").0);
    let good = stated(10, 990, MIB, MIB);
    let proposal = good.statement.proposal().verify_proposal(Network::Local).expect("the mediator's");
    let forged = Stated { statement: Countersigned::seal(&proposal, &key(2)), ..good };
    taken(&kept, &[forged]);
    assert!(kept.shown(None).expect("reads").is_empty(), "nothing is paid for it");
    let faults = kept.faults().expect("reads");
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].epoch.number(), 990);
    assert!(
        faults[0].found.reason.starts_with("epoch 990: it is not signed by both"),
        "{}",
        faults[0].found.reason
    );
}
