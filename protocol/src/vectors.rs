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
    MAX_ADOPT_HINTS, MAX_ADOPT_KEEPS, MAX_ADOPT_RELEASES, MAX_BILLS, MAX_CHALLENGE, MAX_ENTRIES, MAX_HEADER,
    MAX_MISSING_REPORTED, MAX_PARTS, MAX_PAYLOAD, MAX_RELEASE_SEGMENTS, MAX_REQUEST_HEADER,
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
    AccountId, AnswerDigest, Body, Call, Code, ContractId, Epoch, Frame, GuardKey, HeadHash, HeadKey, Header,
    MandateHash, Manifest, Network, NodeId, Nonce, PaymentHash, PayoutId, Redundancy, Refusal, Response,
    Rewound, RunId, SegmentId, ShardId, ShardIndex, ShardLen, Signature, Signed, SigningKey, Tag, TxId,
    UnixTime, mediate, pay, shard,
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
    use mediate::*;
    let (run, tag) = (RunId::from_bytes([4; 16]), Tag::from_bytes([5; 32]));
    vec![
        GetRecord {}.into(),
        Hello {}.into(),
        Login { registration: registration(), proof: PROOF }.into(),
        GetQuote { redundancy: Redundancy::MIN, max_price: None }.into(),
        OpenSegment { run, mandate: mandate(), manifest: manifest(), tag }.into(),
        PutShard { segment: SEGMENT, index: index(0) }.into(),
        CommitSegment { segment: SEGMENT }.into(),
        KeepRun { keep: keep() }.into(),
        GetShard { segment: SEGMENT, index: index(1) }.into(),
        LocateSegments { segments: vec![SEGMENT] }.into(),
        GetHead {}.into(),
        SwapHead { expected: None, head: head() }.into(),
    ]
}

fn mediate_responses(out: &mut String) {
    use mediate::*;
    let code = Code::new(4, 4).expect("valid");
    let (price, egress_price) = (Price::new(1500), Price::FREE);
    let quote = Quote { eligible: 8, code, price, egress_price, fee_permille: 25, caps_off: true };
    let located = LocatedSegment {
        manifest: manifest(),
        tag: Tag::from_bytes([5; 32]),
        holders: vec![(index(0), NodeId::from_bytes([1; 32]))],
    };
    let node = NodeId::from_bytes([1; 32]);
    let nodes = vec![NodeAddresses { node, addresses: vec![ByteBuf::from([4, 127, 0, 0, 1])] }];
    refused::<GetQuote>(Refusal::TooFewPeers { eligible: 1, needed: 2 }, out);
    answer::<GetRecord>(mediator_record(), out);
    answer::<Hello>(LoginNonce { nonce: Nonce::from_bytes([6; 32]) }, out);
    answer::<Login>(Welcome { known: true }, out);
    answer::<GetQuote>(quote, out);
    answer::<OpenSegment>(Opened { missing: 5 }, out);
    answer::<PutShard>(Done {}, out);
    answer::<CommitSegment>(Receipts { receipts: vec![receipt()] }, out);
    answer::<KeepRun>(Done {}, out);
    answer_with::<GetShard>(Done {}, b"payload", out);
    answer::<LocateSegments>(Located { segments: vec![located], nodes }, out);
    answer::<GetHead>(CurrentHead { head: Some(head()) }, out);
    answer::<GetHead>(CurrentHead { head: None }, out);
    answer::<SwapHead>(Done {}, out);
}

fn shard_requests() -> Vec<shard::Request> {
    use shard::*;
    let account = AccountId::from_bytes([8; 32]);
    let put = PutShard {
        authority: Authority::Shown { registration: registration(), mandate: mandate() },
        run: RunId::from_bytes([4; 16]),
        manifest: manifest(),
        index: index(0),
        tag: Tag::from_bytes([5; 32]),
    };
    let known = PutShard { authority: Authority::Known(mandate().mandate_hash()), ..put.clone() };
    vec![
        GetOffer {}.into(),
        Hello {}.into(),
        Login { registration: registration(), proof: PROOF }.into(),
        put.into(),
        known.into(),
        GetShard { account, segment: SEGMENT, index: index(1) }.into(),
        ListShards { account, after: Some((SEGMENT, index(1))) }.into(),
        LocateSegments { account, segments: vec![SEGMENT] }.into(),
        NoteHolders { lists: vec![holders()] }.into(),
        KeepRun { keep: keep() }.into(),
        PutHead { registration: registration(), head: head() }.into(),
        GetHeads { account }.into(),
    ]
}

fn shard_responses(out: &mut String) {
    use shard::*;
    let held = HeldSegment {
        manifest: manifest(),
        tag: Tag::from_bytes([5; 32]),
        run: RunId::from_bytes([4; 16]),
        held: vec![index(0), index(1)],
        holders: Some(holders()),
        due: None,
    };
    refused::<PutShard>(Refusal::Full, out);
    answer::<GetOffer>(offer(), out);
    answer::<Hello>(LoginNonce { nonce: Nonce::from_bytes([6; 32]) }, out);
    answer::<Login>(Welcome { mandate: Some(mandate()) }, out);
    answer::<PutShard>(receipt(), out);
    refused::<PutShard>(Refusal::UnknownMandate, out);
    answer_with::<GetShard>(Done {}, b"payload", out);
    let shards = vec![(SEGMENT, index(1), ShardId::from_bytes([3; 32]))];
    answer::<ListShards>(ShardList { shards, more: true }, out);
    answer::<LocateSegments>(HeldSegments { segments: vec![held] }, out);
    answer::<NoteHolders>(Done {}, out);
    answer::<KeepRun>(Done {}, out);
    answer::<PutHead>(Done {}, out);
    answer::<GetHeads>(Heads { heads: vec![head()], rewound: None }, out);
}

/// `MODULE-response NAME`, by the request's type.
fn title<C: Call>() -> String {
    let path = std::any::type_name::<C>();
    let mut parts = path.rsplit("::");
    let (name, module) = (parts.next().expect("a name"), parts.next().expect("a module"));
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    format!("{module}-response {snake}")
}

fn response<C: Call>(header: Response, payload: &[u8], out: &mut String) {
    let frame = Frame { header, payload: Bytes::copy_from_slice(payload) };
    let bytes = [frame.prefix().expect("encodes"), payload.to_vec()].concat();
    assert_eq!(Frame::from_slice(&bytes).expect("decodes"), frame);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(out, "{} {hex}", title::<C>()).expect("a string takes everything");
}

/// The response to a `C` as a frame in hexadecimal, after checking that it comes back from its bytes.
fn answer_with<C: Call>(body: C::Response, payload: &[u8], out: &mut String) {
    let header = Response::ok::<C>(&body).expect("encodes");
    let back = header.read::<C>().expect("decodes").expect("no refusal");
    assert_eq!(format!("{back:?}"), format!("{body:?}"));
    response::<C>(header, payload, out);
}

fn answer<C: Call>(body: C::Response, out: &mut String) {
    answer_with::<C>(body, b"", out);
}

fn refused<C: Call>(refusal: Refusal, out: &mut String) {
    let header = Response::refused(refusal).expect("encodes");
    assert_eq!(header.read::<C>().expect("decodes").expect_err("refused"), refusal);
    response::<C>(header, b"", out);
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
    mediate_responses(&mut text);
    lines("shard-request", shard_requests(), &mut text);
    shard_responses(&mut text);
    check("messages.txt", &text);
}

#[test]
fn releases_and_undos_are_what_the_fixture_says() {
    let mut text = String::new();
    let named = Released::Segments(vec![SEGMENT, SegmentId::from_bytes([3; 32])]);
    let (everything, some) = (release(Released::Everything), release(named));
    let asked = vec![
        mediate::ReleaseSegments { release: everything.clone() }.into(),
        mediate::UndoReleases { undo: undo() }.into(),
    ];
    lines::<mediate::Request>("mediate-request", asked, &mut text);
    let progress = mediate::ReleaseProgress { holders: 8, acknowledged: 7, due: Some(TIME) };
    answer::<mediate::ReleaseSegments>(progress, &mut text);
    answer::<mediate::UndoReleases>(mediate::Done {}, &mut text);
    refused::<mediate::ReleaseSegments>(Refusal::Guarded, &mut text);
    refused::<mediate::ReleaseSegments>(Refusal::Stale, &mut text);
    let asked = vec![
        shard::ReleaseSegments { release: everything }.into(),
        shard::ReleaseSegments { release: some }.into(),
        shard::UndoReleases { undo: undo() }.into(),
    ];
    lines::<shard::Request>("shard-request", asked, &mut text);
    answer::<shard::ReleaseSegments>(shard::ReleaseDue { due: TIME }, &mut text);
    answer::<shard::UndoReleases>(shard::ReleasesUndone { pending: true }, &mut text);
    check("release-messages.txt", &text);
}

#[test]
fn rewinds_are_what_the_fixture_says() {
    let mut text = String::new();
    let rewind = mediate::RewindAccount { rewound: rewound() };
    lines::<mediate::Request>("mediate-request", vec![rewind.into()], &mut text);
    answer::<mediate::RewindAccount>(mediate::Done {}, &mut text);
    refused::<mediate::RewindAccount>(Refusal::Rewound, &mut text);
    let rewind = shard::RewindAccount { rewound: rewound() };
    lines::<shard::Request>("shard-request", vec![rewind.into()], &mut text);
    answer::<shard::RewindAccount>(shard::Done {}, &mut text);
    let heads = shard::Heads { heads: vec![head()], rewound: Some(Box::new(rewound())) };
    answer::<shard::GetHeads>(heads, &mut text);
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
        mediate::GetDeposit {}.into(),
        mediate::GetBalance {}.into(),
        mediate::GetHistory { after: 7 }.into(),
        mediate::GetStatements { after: Some(ContractId::from_bytes([3; 32])) }.into(),
        mediate::Withdraw { withdrawal }.into(),
    ];
    lines::<mediate::Request>("mediate-request", asked, &mut text);
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
    answer::<mediate::GetDeposit>(to, &mut text);
    answer::<mediate::GetBalance>(balance, &mut text);
    answer::<mediate::GetHistory>(mediate::History { entries, more: true }, &mut text);
    let statements = mediate::Statements { statements: vec![stated()], more: false };
    answer::<mediate::GetStatements>(statements, &mut text);
    answer::<mediate::Withdraw>(payout(), &mut text);
    refused::<mediate::OpenSegment>(Refusal::Unpaid, &mut text);
    for refusal in [Refusal::NoWallet, Refusal::Destination, Refusal::Insufficient, Refusal::Used] {
        refused::<mediate::Withdraw>(refusal, &mut text);
    }
    let lightning = Some("02".repeat(33));
    let asked = vec![pay::GetDestination { lightning }.into(), pay::NotePayout { payout: payout() }.into()];
    lines::<pay::Request>("pay-request", asked, &mut text);
    answer::<pay::GetDestination>(pay::Destination { to: Some("lno1".to_owned()) }, &mut text);
    answer::<pay::GetDestination>(pay::Destination { to: None }, &mut text);
    answer::<pay::NotePayout>(pay::Done {}, &mut text);
    refused::<shard::PutShard>(Refusal::CreditBound, &mut text);
    check("money-messages.txt", &text);
}

fn bill() -> pay::Bill {
    let terms = stated().terms;
    let agreed = stated().statement.verify(NETWORK).expect("verifies");
    pay::Bill { terms, proposal: agreed.proposal().signed().clone(), newest: None }
}

#[test]
fn bills_and_what_is_said_to_them_are_what_the_fixture_says() {
    let mut text = String::new();
    let reminding = pay::Bill { newest: Some(stated().statement), ..bill() };
    let bills = pay::Countersign { bills: vec![bill(), reminding] };
    lines::<pay::Request>("pay-request", vec![bills.into()], &mut text);
    let refusal = Refusal::Misstated;
    let billed = vec![
        pay::Billed::Agreed(stated().statement),
        pay::Billed::Refused { refusal, newest: None },
        pay::Billed::Refused { refusal, newest: Some(Box::new(stated())) },
    ];
    answer::<pay::Countersign>(pay::Countersignatures { bills: billed }, &mut text);
    check("bill-messages.txt", &text);
}

#[test]
fn the_largest_answers_about_money_fit_their_limits() {
    let reminding = pay::Bill { newest: Some(stated().statement), ..bill() };
    let bills = pay::Request::from(pay::Countersign { bills: vec![reminding; MAX_BILLS] });
    let largest = crate::cbor::encode(&bills).expect("encodes");
    assert!(largest.len() <= MAX_REQUEST_HEADER as usize, "{}", largest.len());
    let refused = pay::Billed::Refused { refusal: Refusal::Misstated, newest: Some(Box::new(stated())) };
    let billed = pay::Countersignatures { bills: vec![refused; MAX_BILLS] };
    let largest = Response::ok::<pay::Countersign>(&billed).and_then(|of| of.to_cbor()).expect("encodes");
    assert!(largest.len() <= MAX_HEADER as usize, "{}", largest.len());
    let parts = vec![(ContractId::from_bytes([3; 32]), Msat::new(u64::MAX)); MAX_PARTS];
    let paid = pay::Request::from(pay::NotePayout { payout: Payout { parts, ..payout() } });
    let largest = crate::cbor::encode(&paid).expect("encodes");
    assert!(largest.len() <= MAX_REQUEST_HEADER as usize, "{}", largest.len());
    let statements = mediate::Statements { statements: vec![stated(); MAX_ENTRIES], more: true };
    let answer = Response::ok::<mediate::GetStatements>(&statements);
    let largest = answer.and_then(|of| of.to_cbor()).expect("encodes");
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
    let audited = Some(shard::Audited { epoch: Epoch::new(4), seconds: 3600 });
    let nonce = Nonce::from_bytes([7; 32]);
    let asked = vec![
        shard::Challenge { nonce, shards: shards.clone(), audited: None }.into(),
        shard::Challenge { nonce, shards, audited }.into(),
    ];
    lines::<shard::Request>("shard-request", asked, &mut text);
    let verdicts = vec![Verdict::Proved, Verdict::Missing, Verdict::Damaged, Verdict::Refused];
    let offer = offer().verify(NETWORK, UnixTime::from_secs(0)).expect("verifies").into_body();
    answer_with::<shard::Challenge>(shard::Proofs { verdicts }, b"proofs", &mut text);
    for condition in [Condition::Failing, Condition::Leaving] {
        let offer = StorageOffer { condition, free_bytes: 0, ..offer.clone() };
        answer::<shard::GetOffer>(seal(&offer), &mut text);
    }
    check("challenge-messages.txt", &text);
}

#[test]
fn limits_of_the_price_are_what_the_fixture_says() {
    let limit = Price::new(1500);
    let before = mandate().verify(NETWORK, UnixTime::from_secs(0)).expect("verifies").into_body();
    let limited = seal(&Mandate { max_price: Some(limit), ..before });
    let mut text = String::new();
    let asked = shard::RenewMandate { registration: registration(), mandate: limited };
    lines::<shard::Request>("shard-request", vec![asked.into()], &mut text);
    let quote = mediate::GetQuote { redundancy: Redundancy::MIN, max_price: Some(limit) };
    lines::<mediate::Request>("mediate-request", vec![quote.into()], &mut text);
    check("max-price.txt", &text);
}

#[test]
fn what_an_owner_gives_a_new_mediator_to_tell_is_what_the_fixture_says() {
    let mut text = String::new();
    let adoption = mediate::MigrateIn {
        adopt: adopt(),
        mandate: mandate(),
        keep: keep(),
        head: None,
        holders: Vec::new(),
        keeps: vec![keep()],
        releases: vec![release(Released::Segments(vec![SEGMENT]))],
        rewound: None,
    };
    lines::<mediate::Request>("mediate-request", vec![adoption.into()], &mut text);
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
    let adoption = mediate::MigrateIn {
        adopt: adopt(),
        mandate: mandate.clone(),
        keep: keep(),
        head,
        rewound: None,
        holders,
        keeps: Vec::new(),
        releases: Vec::new(),
    };
    let asked = vec![adoption.into(), mediate::MigrateOut { adopt: adopt() }.into()];
    lines::<mediate::Request>("mediate-request", asked, &mut text);
    let progress = mediate::MigrationProgress { segments: 1000, found: 8, acknowledged: 7, complete: false };
    answer::<mediate::MigrateIn>(progress, &mut text);
    answer::<mediate::MigrateOut>(mediate::Done {}, &mut text);
    refused::<mediate::GetHead>(Refusal::Dismissed, &mut text);
    let asked = shard::RenewMandate { registration: registration(), mandate: mandate.clone() };
    lines::<shard::Request>("shard-request", vec![asked.into()], &mut text);
    let tag = Tag::from_bytes([5; 32]);
    let released = shard::HeldSegment {
        manifest: manifest(),
        tag,
        run: RunId::from_bytes([4; 16]),
        held: vec![index(0)],
        holders: None,
        due: Some(TIME),
    };
    answer::<shard::RenewMandate>(shard::NewestMandate { mandate }, &mut text);
    answer::<shard::LocateSegments>(shard::HeldSegments { segments: vec![released] }, &mut text);
    check("adopt-messages.txt", &text);
}

#[test]
fn reports_of_missing_shards_are_what_the_fixture_says_and_as_many_as_may_be_fit() {
    let mut text = String::new();
    let report = |shards| mediate::Request::from(mediate::ReportMissing { shards });
    lines("mediate-request", vec![report(vec![(SEGMENT, index(0)), (SEGMENT, index(29))])], &mut text);
    answer::<mediate::ReportMissing>(mediate::Done {}, &mut text);
    check("missing-messages.txt", &text);
    let largest =
        crate::cbor::encode(&report(vec![(SEGMENT, index(29)); MAX_MISSING_REPORTED])).expect("encodes");
    assert!(largest.len() <= MAX_REQUEST_HEADER as usize);
}

#[test]
fn the_largest_challenge_and_its_answer_fit_their_limits() {
    let account = AccountId::from_bytes([8; 32]);
    let shards = vec![Challenged { account, segment: SEGMENT, index: index(29) }; MAX_CHALLENGE];
    let audited = Some(shard::Audited { epoch: Epoch::new(u64::MAX), seconds: u32::MAX });
    let challenge = shard::Challenge { nonce: Nonce::from_bytes([7; 32]), shards, audited };
    let asked = Frame::bare(shard::Request::from(challenge));
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
    let adoption = mediate::MigrateIn {
        adopt: adopt(),
        mandate: mandate(),
        keep: keep(),
        head: Some(head()),
        holders: (0..MAX_ADOPT_HINTS).map(hint).collect(),
        keeps: vec![keep(); MAX_ADOPT_KEEPS],
        releases: vec![release(Released::Segments(segments)); MAX_ADOPT_RELEASES],
        rewound: Some(rewound()),
    };
    let bytes = crate::cbor::encode(&mediate::Request::from(adoption)).expect("encodes");
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
        let _ = Frame::<shard::Request>::from_slice(&bytes);
        if let Ok(frame) = Frame::<Response>::from_slice(&bytes) {
            let _ = frame.header.read::<shard::Challenge>();
            let _ = frame.header.read::<mediate::LocateSegments>();
        }
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
