//! Every message and record, encoded, against the fixture in `tests/vectors`: the wire format
//! cannot change unnoticed.

mod cddl;

use fincrypt_vectors::check;
use std::fmt::Write;

use bytes::Bytes;
use proptest::prelude::*;
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use crate::amount::{Msat, Permille, Price, Sat};
use crate::limits::{
    MAX_ADOPT_HINTS, MAX_ADOPT_KEEPS, MAX_ADOPT_RELEASES, MAX_BILLS, MAX_CHALLENGE, MAX_DOUBTS, MAX_ENTRIES,
    MAX_HEADER, MAX_PARTS, MAX_PAYLOAD, MAX_RELEASE_SEGMENTS, MAX_REQUEST_HEADER,
};
use crate::money::{
    Arrival, Balance, Change, DepositTo, Entry, Payout, PayoutState, Pending, Sending, Stated, Withdrawal,
};
use crate::record::{
    Adopt, Condition, Head, HolderList, Keep, Mandate, MediatorRecord, PayoutKind, Receipt, Registration,
    Release, Released, Rewind, Rights, StorageOffer, Undo,
};
use crate::shard::{Challenged, Verdict};
use crate::statement::{Contract, Countersigned, Statement, Terms};
use crate::{
    AccountId, AnswerDigest, Body, Code, ContractId, Epoch, Frame, GuardKey, HeadHash, HeadKey, Header,
    MandateHash, Manifest, Network, NodeId, Nonce, PaymentHash, PayoutId, Redundancy, Refusal, Rewound,
    RunId, SegmentId, ShardId, ShardIndex, ShardLen, Signature, Signed, SigningKey, Tag, TxId, UnixTime,
    mediate, shard,
};

fn key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([1; 32]))
}

fn index(at: u8) -> ShardIndex {
    ShardIndex::new(at).expect("valid")
}

fn seal<T: Body>(body: &T) -> Signed<T> {
    Signed::seal(body, &key()).expect("seals")
}

const SEGMENT: SegmentId = SegmentId::from_bytes([2; 32]);
const NETWORK: Network = Network::Test;
const TIME: UnixTime = UnixTime::from_secs(1_700_000_000);
const PROOF: Signature = Signature::from_bytes([9; 64]);

fn manifest() -> Manifest {
    let ids = vec![ShardId::from_bytes([3; 32]), ShardId::from_bytes([4; 32])];
    Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::FULL, ids).expect("valid")
}

fn registration() -> Signed<Registration> {
    let (head_key, guard_key) = (HeadKey::from_bytes([5; 32]), GuardKey::from_bytes([6; 32]));
    seal(&Registration { network: NETWORK, account: key().account(), head_key, guard_key })
}

fn mandate() -> Signed<Mandate> {
    let rights = Rights { put: true, audit: true, get: false };
    let (account, mediator) = (key().account(), NodeId::from_bytes([7; 32]));
    seal(&Mandate {
        network: NETWORK,
        account,
        mediator,
        rights,
        byte_cap: 1 << 40,
        sequence: 3,
        expiry: TIME,
        max_price: None,
    })
}

fn head() -> Signed<Head> {
    let (account, head_key) = (AccountId::from_bytes([8; 32]), key().head_key());
    let previous = Some(HeadHash::from_bytes([1; 32]));
    seal(&Head { network: NETWORK, account, head_key, sequence: 7, previous, body: ByteBuf::from([1, 2, 3]) })
}

fn keep() -> Signed<Keep> {
    seal(&Keep { network: NETWORK, account: key().account(), run: RunId::from_bytes([4; 16]) })
}

fn release(what: Released) -> Signed<Release> {
    let (account, head_key) = (AccountId::from_bytes([8; 32]), key().head_key());
    seal(&Release { network: NETWORK, account, head_key, what, sequence: TIME.secs() })
}

fn rewound() -> Rewound {
    let (account, guard_key) = (AccountId::from_bytes([8; 32]), key().guard_key());
    let (base, head_key) = (head().head_hash(), HeadKey::from_bytes([5; 32]));
    let rewind = Rewind { network: NETWORK, account, guard_key, base, head_key, sequence: TIME.secs() };
    Rewound { rewind: seal(&rewind), base: head() }
}

fn undo() -> Signed<Undo> {
    let (account, guard_key) = (AccountId::from_bytes([8; 32]), key().guard_key());
    seal(&Undo { network: NETWORK, account, guard_key, sequence: TIME.secs(), guarded: true })
}

fn holders() -> Signed<HolderList> {
    let (account, mediator) = (AccountId::from_bytes([8; 32]), key().node());
    let holders = vec![(index(0), NodeId::from_bytes([1; 32])), (index(1), NodeId::from_bytes([2; 32]))];
    seal(&HolderList { network: NETWORK, account, mediator, segment: SEGMENT, sequence: 2, holders })
}

fn receipt() -> Signed<Receipt> {
    seal(&Receipt {
        network: NETWORK,
        node: key().node(),
        account: AccountId::from_bytes([8; 32]),
        mandate: MandateHash::from_bytes([1; 32]),
        segment: SEGMENT,
        index: index(1),
        shard: ShardId::from_bytes([3; 32]),
        length: 4096,
        price: Price::new(1500),
        time: TIME,
        paid_until: TIME,
    })
}

fn offer() -> Signed<StorageOffer> {
    seal(&StorageOffer {
        network: NETWORK,
        node: key().node(),
        price: Price::new(1500),
        egress_price: Price::FREE,
        condition: Condition::Serving,
        free_bytes: 1 << 40,
        grace_days: 90,
        minimum_days: 30,
        payout: vec![PayoutKind::Lightning, PayoutKind::OnChain],
        addresses: vec![ByteBuf::from([4, 127, 0, 0, 1])],
        sequence: 1,
        expiry: TIME,
    })
}

fn mediator_record() -> Signed<MediatorRecord> {
    seal(&MediatorRecord {
        network: NETWORK,
        node: key().node(),
        fee_permille: 25,
        floor: Redundancy::MIN,
        payment_networks: vec!["regtest".to_owned()],
        addresses: vec![],
        sequence: 1,
        expiry: TIME,
    })
}

fn mediate_requests() -> Vec<mediate::Request> {
    use mediate::Request as R;
    let (run, tag) = (RunId::from_bytes([4; 16]), Tag::from_bytes([5; 32]));
    vec![
        R::Record,
        R::Hello,
        R::Login { registration: registration(), proof: PROOF },
        R::Quote { redundancy: Redundancy::MIN, max_price: None },
        R::Open { run, mandate: mandate(), manifest: manifest(), tag },
        R::Put { segment: SEGMENT, index: index(0) },
        R::Commit { segment: SEGMENT },
        R::Keep { keep: keep() },
        R::Get { segment: SEGMENT, index: index(1) },
        R::Locate { segments: vec![SEGMENT] },
        R::HeadGet,
        R::HeadSwap { expected: None, head: head() },
    ]
}

fn mediate_responses() -> Vec<mediate::Response> {
    use mediate::Response as R;
    let code = Code::new(4, 4).expect("valid");
    let (price, egress_price) = (Price::new(1500), Price::FREE);
    let quote = mediate::Quote { eligible: 8, code, price, egress_price, fee_permille: 25, caps_off: true };
    let located = mediate::Located {
        manifest: manifest(),
        tag: Tag::from_bytes([5; 32]),
        holders: vec![(index(0), NodeId::from_bytes([1; 32]))],
    };
    let node = NodeId::from_bytes([1; 32]);
    let nodes = vec![mediate::NodeAddresses { node, addresses: vec![ByteBuf::from([4, 127, 0, 0, 1])] }];
    vec![
        R::Refused(Refusal::TooFewPeers { eligible: 1, needed: 2 }),
        R::Record(mediator_record()),
        R::Nonce(Nonce::from_bytes([6; 32])),
        R::Welcome { known: true },
        R::Quote(quote),
        R::Opened { missing: 5 },
        R::Taken,
        R::Receipts(vec![receipt()]),
        R::Kept,
        R::Shard,
        R::Located { segments: vec![located], nodes },
        R::Head(Some(head())),
        R::Head(None),
        R::Swapped,
    ]
}

fn shard_requests() -> Vec<shard::Request> {
    use shard::Request as R;
    let account = AccountId::from_bytes([8; 32]);
    let placement = shard::Placement {
        registration: registration(),
        mandate: mandate(),
        run: RunId::from_bytes([4; 16]),
        manifest: manifest(),
        index: index(0),
        tag: Tag::from_bytes([5; 32]),
    };
    vec![
        R::Quote,
        R::Hello,
        R::Login { registration: registration(), proof: PROOF },
        R::Put(Box::new(placement)),
        R::Get { account, segment: SEGMENT, index: index(1) },
        R::List { account, after: Some((SEGMENT, index(1))) },
        R::Locate { account, segments: vec![SEGMENT] },
        R::Holders { lists: vec![holders()] },
        R::Keep { keep: keep() },
        R::HeadPut { registration: registration(), head: head() },
        R::Heads { account },
    ]
}

fn shard_responses() -> Vec<shard::Response> {
    use shard::Response as R;
    let held = vec![index(0), index(1)];
    let tag = Tag::from_bytes([5; 32]);
    vec![
        R::Refused(Refusal::Full),
        R::Offer(offer()),
        R::Nonce(Nonce::from_bytes([6; 32])),
        R::Welcome { mandate: Some(mandate()) },
        R::Receipt(receipt()),
        R::Shard,
        R::Listed { shards: vec![(SEGMENT, index(1), ShardId::from_bytes([3; 32]))], more: true },
        R::Located(vec![shard::HeldSegment {
            manifest: manifest(),
            tag,
            run: RunId::from_bytes([4; 16]),
            held,
            holders: Some(holders()),
            due: None,
        }]),
        R::Done,
        R::Heads { heads: vec![head()], rewound: None },
    ]
}

/// Each message as a frame in hexadecimal, after checking that it comes back from its bytes.
fn lines<H: Header + Clone + PartialEq + std::fmt::Debug>(title: &str, messages: Vec<H>, out: &mut String) {
    for header in messages {
        let payload = if header.payload_limit() > 0 { Bytes::from_static(b"payload") } else { Bytes::new() };
        let frame = Frame { header, payload };
        let bytes = [frame.prefix().expect("encodes"), frame.payload.to_vec()].concat();
        assert_eq!(Frame::from_slice(&bytes).expect("decodes"), frame);
        let hex = hex::encode(bytes);
        writeln!(out, "{title} {hex}").expect("a string takes everything");
    }
}

#[test]
fn messages_are_what_the_fixture_says() {
    let mut text = String::new();
    lines("mediate-request", mediate_requests(), &mut text);
    lines("mediate-response", mediate_responses(), &mut text);
    lines("shard-request", shard_requests(), &mut text);
    lines("shard-response", shard_responses(), &mut text);
    check("messages.txt", &text);
}

#[test]
fn releases_and_undos_are_what_the_fixture_says() {
    let mut text = String::new();
    let named = Released::Segments(vec![SEGMENT, SegmentId::from_bytes([3; 32])]);
    let (everything, some) = (release(Released::Everything), release(named));
    let asked = vec![
        mediate::Request::Release { release: everything.clone() },
        mediate::Request::Undo { undo: undo() },
    ];
    lines("mediate-request", asked, &mut text);
    let answered = vec![
        mediate::Response::Released { holders: 8, heard: 7, due: Some(TIME) },
        mediate::Response::Undone,
        mediate::Response::Refused(Refusal::Guarded),
        mediate::Response::Refused(Refusal::Stale),
    ];
    lines("mediate-response", answered, &mut text);
    let asked = vec![
        shard::Request::Release { release: everything },
        shard::Request::Release { release: some },
        shard::Request::Undo { undo: undo() },
    ];
    lines("shard-request", asked, &mut text);
    let answered = vec![shard::Response::Released { due: TIME }, shard::Response::Undone { pending: true }];
    lines("shard-response", answered, &mut text);
    check("release-messages.txt", &text);
}

#[test]
fn rewinds_are_what_the_fixture_says() {
    let mut text = String::new();
    lines("mediate-request", vec![mediate::Request::Rewind(Box::new(rewound()))], &mut text);
    let answered = vec![mediate::Response::Rewound, mediate::Response::Refused(Refusal::Rewound)];
    lines("mediate-response", answered, &mut text);
    lines("shard-request", vec![shard::Request::Rewind(Box::new(rewound()))], &mut text);
    let heads = shard::Response::Heads { heads: vec![head()], rewound: Some(Box::new(rewound())) };
    lines("shard-response", vec![heads], &mut text);
    check("rewind-messages.txt", &text);
}

fn stated() -> Stated {
    let storage = SigningKey::from_seed(&Zeroizing::new([2; 32]));
    let terms = Terms {
        network: NETWORK,
        storage: storage.node(),
        mediator: key().node(),
        account: AccountId::from_bytes([8; 32]),
        price: Price::new(1500),
        fee: Permille::new(25).expect("valid"),
        first: Epoch::new(3),
        epoch_seconds: std::num::NonZeroU32::new(3600).expect("not zero"),
        credit_bound: Msat::new(20_000_000),
        payout_threshold: Msat::new(100_000),
        grace_days: 90,
        minimum_days: 30,
    };
    let statement = Statement {
        network: NETWORK,
        contract: Contract::new(terms).expect("valid").id(),
        storage: terms.storage,
        mediator: terms.mediator,
        account: terms.account,
        epoch: Epoch::new(4),
        bytes: 1 << 30,
        byte_epochs: 2 << 30,
        earned: Msat::new(4),
        answer: AnswerDigest::from_bytes([3; 32]),
    };
    let proposal = seal(&statement).verify(NETWORK, TIME).expect("verifies");
    Stated { terms, statement: Countersigned::seal(&proposal, &storage) }
}

fn payout() -> Payout {
    Payout {
        id: PayoutId::from_bytes([1; 16]),
        state: PayoutState::Arrived,
        sending: Some(Sending::Payment(PaymentHash::from_bytes([2; 32]))),
        parts: vec![(ContractId::from_bytes([3; 32]), Msat::new(100_000))],
        arrives: Msat::new(99_000),
    }
}

#[test]
fn money_is_spoken_of_as_the_fixture_says() {
    let mut text = String::new();
    let withdrawal =
        Withdrawal { id: PayoutId::from_bytes([1; 16]), to: "lno1".to_owned(), amount: Some(Msat::new(5)) };
    let asked = vec![
        mediate::Request::Deposit,
        mediate::Request::Balance,
        mediate::Request::History { after: 7 },
        mediate::Request::Statements { after: Some(ContractId::from_bytes([3; 32])) },
        mediate::Request::Withdraw(withdrawal),
    ];
    lines("mediate-request", asked, &mut text);
    let (transaction, contract) = (TxId::from_bytes([4; 32]), ContractId::from_bytes([3; 32]));
    let (arrival, sending) = (Arrival::Output(transaction, 1), Sending::Transaction(transaction));
    let (amount, id) = (Msat::new(1_000_000), PayoutId::from_bytes([1; 16]));
    let storage = NodeId::from_bytes([1; 32]);
    let (epoch, earned, fee) = (Epoch::new(4), Msat::new(4), Msat::new(1));
    let changes = [
        Change::Deposited { arrival, amount },
        Change::DepositGone { arrival },
        Change::Charged { contract, storage, epoch, earned, fee },
        Change::Withdrawn { payout: id, amount },
        Change::Sent { payout: id, sending },
        Change::Arrived { payout: id, sending },
        Change::Reopened { payout: id, failed: true },
    ];
    let entries = (1..).zip(changes).map(|(number, change)| Entry { number, time: TIME, change }).collect();
    let balance = Balance {
        prepaid: amount,
        epoch: Msat::new(5),
        day: Msat::new(120),
        pending: vec![Pending { arrival, amount, confirmations: 1, needed: 3 }],
        leaving: Msat::ZERO,
        empty: Some(TIME),
        grace_days: 90,
    };
    let to = DepositTo {
        address: Some("bcrt1q".to_owned()),
        offer: Some("lno1".to_owned()),
        advised: Sat::new(10_000),
    };
    let answered = vec![
        mediate::Response::DepositTo(to),
        mediate::Response::Balance(balance),
        mediate::Response::History { entries, more: true },
        mediate::Response::Statements { statements: vec![stated()], more: false },
        mediate::Response::Withdrawn(payout()),
        mediate::Response::Refused(Refusal::Unpaid),
        mediate::Response::Refused(Refusal::NoWallet),
        mediate::Response::Refused(Refusal::Destination),
        mediate::Response::Refused(Refusal::Insufficient),
        mediate::Response::Refused(Refusal::Used),
    ];
    lines("mediate-response", answered, &mut text);
    let lightning = Some("02".repeat(33));
    let asked = vec![shard::Request::PayTo { lightning }, shard::Request::Paid { payout: payout() }];
    lines("shard-request", asked, &mut text);
    let answered = vec![
        shard::Response::PayTo(Some("lno1".to_owned())),
        shard::Response::PayTo(None),
        shard::Response::Refused(Refusal::CreditBound),
    ];
    lines("shard-response", answered, &mut text);
    check("money-messages.txt", &text);
}

fn bill() -> shard::Bill {
    let terms = stated().terms;
    let agreed = stated().statement.verify(NETWORK).expect("verifies");
    shard::Bill { terms, proposal: agreed.proposal().signed().clone(), newest: None }
}

#[test]
fn bills_and_what_is_said_to_them_are_what_the_fixture_says() {
    let mut text = String::new();
    let reminding = shard::Bill { newest: Some(stated().statement), ..bill() };
    lines("shard-request", vec![shard::Request::Bill { bills: vec![bill(), reminding] }], &mut text);
    let refusal = Refusal::Misstated;
    let billed = vec![
        shard::Billed::Agreed(stated().statement),
        shard::Billed::Refused { refusal, newest: None },
        shard::Billed::Refused { refusal, newest: Some(Box::new(stated())) },
    ];
    lines("shard-response", vec![shard::Response::Billed(billed)], &mut text);
    check("bill-messages.txt", &text);
}

#[test]
fn the_largest_answers_about_money_fit_their_limits() {
    let reminding = shard::Bill { newest: Some(stated().statement), ..bill() };
    let bills = shard::Request::Bill { bills: vec![reminding; MAX_BILLS] };
    let largest = crate::cbor::encode(&bills).expect("encodes");
    assert!(largest.len() <= MAX_REQUEST_HEADER as usize, "{}", largest.len());
    let refused = shard::Billed::Refused { refusal: Refusal::Misstated, newest: Some(Box::new(stated())) };
    let billed = shard::Response::Billed(vec![refused; MAX_BILLS]);
    let largest = crate::cbor::encode(&billed).expect("encodes");
    assert!(largest.len() <= MAX_HEADER as usize, "{}", largest.len());
    let parts = vec![(ContractId::from_bytes([3; 32]), Msat::new(u64::MAX)); MAX_PARTS];
    let paid = shard::Request::Paid { payout: Payout { parts, ..payout() } };
    let largest = crate::cbor::encode(&paid).expect("encodes");
    assert!(largest.len() <= MAX_REQUEST_HEADER as usize, "{}", largest.len());
    let statements = mediate::Response::Statements { statements: vec![stated(); MAX_ENTRIES], more: true };
    let largest = crate::cbor::encode(&statements).expect("encodes");
    assert!(largest.len() <= MAX_HEADER as usize, "{}", largest.len());
}

#[test]
fn challenges_and_conditions_are_what_the_fixture_says() {
    let mut text = String::new();
    let account = AccountId::from_bytes([8; 32]);
    let shards = vec![
        Challenged { account, segment: SEGMENT, index: index(0) },
        Challenged { account, segment: SEGMENT, index: index(29) },
    ];
    let asked = vec![shard::Request::Challenge { nonce: Nonce::from_bytes([7; 32]), shards, audited: None }];
    lines("shard-request", asked, &mut text);
    let verdicts = vec![Verdict::Proved, Verdict::Missing, Verdict::Damaged, Verdict::Refused];
    let offer = offer().verify(NETWORK, UnixTime::from_secs(0)).expect("verifies").into_body();
    let offers = [Condition::Failing, Condition::Leaving].map(|condition| {
        shard::Response::Offer(seal(&StorageOffer { condition, free_bytes: 0, ..offer.clone() }))
    });
    let answered = [shard::Response::Proofs { verdicts }].into_iter().chain(offers).collect();
    lines("shard-response", answered, &mut text);
    check("challenge-messages.txt", &text);
}

#[test]
fn limits_of_the_price_are_what_the_fixture_says() {
    let limit = Price::new(1500);
    let before = mandate().verify(NETWORK, UnixTime::from_secs(0)).expect("verifies").into_body();
    let limited = seal(&Mandate { max_price: Some(limit), ..before });
    let mut text = String::new();
    let asked = shard::Request::Mandate { registration: registration(), mandate: limited };
    lines("shard-request", vec![asked], &mut text);
    let quote = mediate::Request::Quote { redundancy: Redundancy::MIN, max_price: Some(limit) };
    lines("mediate-request", vec![quote], &mut text);
    check("max-price.txt", &text);
}

#[test]
fn what_an_owner_gives_a_new_mediator_to_tell_is_what_the_fixture_says() {
    let mut text = String::new();
    let adoption = mediate::Adoption {
        adopt: adopt(),
        mandate: mandate(),
        keep: keep(),
        head: None,
        holders: Vec::new(),
        keeps: vec![keep()],
        releases: vec![release(Released::Segments(vec![SEGMENT]))],
        rewound: None,
    };
    lines("mediate-request", vec![mediate::Request::Adopt(Box::new(adoption))], &mut text);
    check("adopt-statements.txt", &text);
}

fn adopt() -> Signed<Adopt> {
    let (account, new) = (key().account(), NodeId::from_bytes([2; 32]));
    seal(&Adopt { network: NETWORK, account, old: Some(NodeId::from_bytes([1; 32])), new, sequence: 7 })
}

#[test]
fn moves_to_another_mediator_are_what_the_fixture_says() {
    let mut text = String::new();
    let node = NodeId::from_bytes([1; 32]);
    let holders = vec![mediate::NodeAddresses { node, addresses: vec![ByteBuf::from([4, 127, 0, 0, 1])] }];
    let (mandate, head) = (mandate(), Some(head()));
    let adoption = mediate::Adoption {
        adopt: adopt(),
        mandate: mandate.clone(),
        keep: keep(),
        head,
        rewound: None,
        holders,
        keeps: Vec::new(),
        releases: Vec::new(),
    };
    let asked =
        vec![mediate::Request::Adopt(Box::new(adoption)), mediate::Request::Dismiss { adopt: adopt() }];
    lines("mediate-request", asked, &mut text);
    let answered = vec![
        mediate::Response::Adopted { segments: 1000, found: 8, heard: 7, complete: false },
        mediate::Response::Dismissed,
        mediate::Response::Refused(Refusal::Dismissed),
    ];
    lines("mediate-response", answered, &mut text);
    let asked = vec![shard::Request::Mandate { registration: registration(), mandate: mandate.clone() }];
    lines("shard-request", asked, &mut text);
    let tag = Tag::from_bytes([5; 32]);
    let released = shard::HeldSegment {
        manifest: manifest(),
        tag,
        run: RunId::from_bytes([4; 16]),
        held: vec![index(0)],
        holders: None,
        due: Some(TIME),
    };
    let answered = vec![shard::Response::Mandated(mandate), shard::Response::Located(vec![released])];
    lines("shard-response", answered, &mut text);
    check("adopt-messages.txt", &text);
}

#[test]
fn doubts_are_what_the_fixture_says_and_as_many_as_may_be_fit() {
    let mut text = String::new();
    let doubt = |shards| mediate::Request::Doubt { shards };
    lines("mediate-request", vec![doubt(vec![(SEGMENT, index(0)), (SEGMENT, index(29))])], &mut text);
    lines("mediate-response", vec![mediate::Response::Doubted], &mut text);
    check("doubt-messages.txt", &text);
    let largest = crate::cbor::encode(&doubt(vec![(SEGMENT, index(29)); MAX_DOUBTS])).expect("encodes");
    assert!(largest.len() <= MAX_REQUEST_HEADER as usize);
}

#[test]
fn the_largest_challenge_and_its_answer_fit_their_limits() {
    let account = AccountId::from_bytes([8; 32]);
    let shards = vec![Challenged { account, segment: SEGMENT, index: index(29) }; MAX_CHALLENGE];
    let asked =
        Frame::bare(shard::Request::Challenge { nonce: Nonce::from_bytes([7; 32]), shards, audited: None });
    assert!(crate::cbor::encode(&asked.header).expect("encodes").len() <= MAX_REQUEST_HEADER as usize);
    // A leaf and ten siblings each.
    assert!(MAX_CHALLENGE * (1024 + 10 * 32) <= MAX_PAYLOAD as usize);
}

#[test]
fn a_release_holds_as_many_segments_as_it_may_and_not_many_more() {
    let sealed = |count: usize| {
        let what = Released::Segments(vec![SEGMENT; count]);
        let (account, head_key) = (key().account(), key().head_key());
        let body = Release { network: Network::Local, account, head_key, what, sequence: u64::MAX };
        Signed::seal(&body, &key())
    };
    assert!(sealed(MAX_RELEASE_SEGMENTS).is_ok());
    assert!(sealed(MAX_RELEASE_SEGMENTS + 16).is_err());
}

#[test]
fn an_adoption_with_all_that_it_may_bring_fits_a_request() {
    let segments = vec![SEGMENT; MAX_RELEASE_SEGMENTS];
    let hint = |at: usize| mediate::NodeAddresses {
        node: NodeId::from_bytes([at as u8; 32]),
        addresses: vec![ByteBuf::from([1; 64]); 8],
    };
    let adoption = mediate::Adoption {
        adopt: adopt(),
        mandate: mandate(),
        keep: keep(),
        head: Some(head()),
        holders: (0..MAX_ADOPT_HINTS).map(hint).collect(),
        keeps: vec![keep(); MAX_ADOPT_KEEPS],
        releases: vec![release(Released::Segments(segments)); MAX_ADOPT_RELEASES],
        rewound: Some(rewound()),
    };
    let bytes = crate::cbor::encode(&mediate::Request::Adopt(Box::new(adoption))).expect("encodes");
    // The bodies of the two heads are shorter here than real ones.
    assert!(
        bytes.len() + 2 * crate::limits::MAX_HEAD <= MAX_REQUEST_HEADER as usize,
        "{} bytes",
        bytes.len()
    );
}

#[test]
fn the_largest_holder_list_and_offer_fit_their_limits() {
    let holders = (0..30).map(|at| (index(at), NodeId::from_bytes([at; 32]))).collect();
    let (account, mediator) = (AccountId::from_bytes([8; 32]), key().node());
    seal(&HolderList { network: NETWORK, account, mediator, segment: SEGMENT, sequence: u64::MAX, holders });
    let offer = offer().verify(NETWORK, UnixTime::from_secs(0)).expect("verifies").into_body();
    let bytes = seal(&StorageOffer { addresses: vec![ByteBuf::from([1; 256]); 8], ..offer }).to_bytes();
    assert!(bytes.expect("encodes").len() <= crate::limits::MAX_RECORD);
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_refused(bytes: Vec<u8>) {
        let _ = Frame::<mediate::Request>::from_slice(&bytes);
        let _ = Frame::<mediate::Response>::from_slice(&bytes);
        let _ = Frame::<shard::Request>::from_slice(&bytes);
        let _ = Frame::<shard::Response>::from_slice(&bytes);
    }

    #[test]
    fn releases_and_undos_survive_their_bytes_and_hold_for_their_signer(
        segments in prop::collection::vec(any::<[u8; 32]>(), 0..MAX_RELEASE_SEGMENTS),
        all: bool,
        guarded: bool,
        sequence: u64,
    ) {
        let segments: Vec<_> = segments.into_iter().map(SegmentId::from_bytes).collect();
        let what = if all { Released::Everything } else { Released::Segments(segments) };
        let (account, head_key) = (key().account(), key().head_key());
        let release = Release { network: NETWORK, account, head_key, what, sequence };
        let back = Signed::<Release>::from_bytes(&seal(&release).to_bytes()?)?;
        prop_assert_eq!(back.verify(NETWORK, TIME)?.into_body(), release);
        let account = AccountId::from_bytes([8; 32]);
        let undo = Undo { network: NETWORK, account, guard_key: key().guard_key(), sequence, guarded };
        let back = Signed::<Undo>::from_bytes(&seal(&undo).to_bytes()?)?;
        prop_assert_eq!(back.verify(NETWORK, TIME)?.into_body(), undo.clone());
        let (base, head_key) = (head().head_hash(), key().head_key());
        let guard_key = key().guard_key();
        let rewind = Rewind { network: NETWORK, account, guard_key, base, head_key, sequence };
        let back = Signed::<Rewind>::from_bytes(&seal(&rewind).to_bytes()?)?;
        prop_assert_eq!(back.verify(NETWORK, TIME)?.into_body(), rewind);
        // The account's own signature does not stand for its guard's.
        let forged = Undo { guard_key: GuardKey::from_bytes([6; 32]), ..undo };
        prop_assert!(seal(&forged).verify(NETWORK, TIME).is_err());
    }

    /// Damage anywhere in a real frame never panics, and never yields another message with the
    /// same bytes.
    #[test]
    fn a_damaged_frame_is_read_or_refused(pick: prop::sample::Index, at: prop::sample::Index, bit in 0u8..8) {
        let requests = shard_requests();
        let header = requests[pick.index(requests.len())].clone();
        let mut bytes = Frame::bare(header).prefix().expect("encodes");
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = Frame::<shard::Request>::from_slice(&bytes);
    }
}
