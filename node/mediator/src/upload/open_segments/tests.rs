use super::*;

use fincrypt_protocol::record::Rights;
use fincrypt_protocol::{
    Code, GuardKey, HeadKey, Manifest, Network, RunId, ShardId, ShardLen, SigningKey, Tag, UnixTime,
};
use zeroize::Zeroizing;

const LENGTH: usize = ShardLen::FULL.get() as usize;
const DATA: usize = 4;

fn segment(client: u8, number: u8) -> OpenSegment {
    let key = SigningKey::from_seed(&Zeroizing::new([client; 32]));
    let (account, network) = (key.account(), Network::Local);
    let registration = Registration {
        network,
        account,
        head_key: HeadKey::from_bytes([1; 32]),
        guard_key: GuardKey::from_bytes([2; 32]),
    };
    let mandate = Mandate {
        network,
        account,
        mediator: NodeId::from_bytes([3; 32]),
        rights: Rights { put: true, audit: true, get: true },
        byte_cap: 1 << 40,
        sequence: 1,
        expiry: UnixTime::from_secs(1 << 40),
        max_price: None,
    };
    let code = Code::new(DATA as u8, DATA as u8).expect("valid");
    let ids = (0..2 * DATA as u8)
        .map(|at| ShardId::from_bytes([client, number, at].repeat(11)[..32].try_into().expect("32")));
    let manifest = Manifest::new(code, ShardLen::FULL, ids.collect()).expect("valid");
    let placements = vec![ShardPlacement::planned(None); 2 * DATA];
    let (tag, run) = (Tag::from_bytes([4; 32]), RunId::from_bytes([5; 16]));
    let record = SegmentRecord::new(manifest, tag, run, placements);
    let (registration, mandate) = (Signed::seal(&registration, &key), Signed::seal(&mandate, &key));
    OpenSegment::new(account, registration.expect("seals"), mandate.expect("seals"), record)
}

fn open(all: &OpenSegments, client: u8, number: u8) -> Result<Arc<OpenSegment>, UploadError> {
    let made = segment(client, number);
    let (account, id) = (made.account, made.record().manifest.id());
    all.open(NodeId::from_bytes([client; 32]), id, || made, account)
}

/// How many data shards of a segment are remembered after all came.
fn fill(segment: &OpenSegment) -> usize {
    for at in 0..DATA {
        let index = ShardIndex::new(at as u8).expect("valid");
        segment.buffer(index, Bytes::from(vec![7; LENGTH]));
    }
    segment.data().iter().flatten().count()
}

fn free(all: &OpenSegments) -> usize {
    all.memory.free.load(Ordering::Acquire) / LENGTH
}

#[test]
fn four_clients_with_two_full_segments_each_are_served_at_once() {
    let all = OpenSegments::default();
    let most = MAX_OPEN_SEGMENTS as u8;
    // Of 15 data shards, as many as a segment can have.
    assert!(MAX_BUFFERED >= 4 * usize::from(most) * 15 * LENGTH);
    for client in 0..4 {
        for number in 0..most {
            assert_eq!(fill(&open(&all, client, number).expect("room")), DATA);
        }
        assert!(matches!(open(&all, client, most), Err(UploadError::TooManyOpen)));
    }
}

#[test]
fn memory_is_bounded_over_all_clients_and_comes_back() {
    let all = OpenSegments::new(10 * LENGTH, Duration::from_secs(60));
    let kept: Vec<_> = (0..2).map(|client| open(&all, client, 0).expect("room")).collect();
    let late = open(&all, 2, 0);
    assert!(late.is_ok(), "no shard has come yet");
    for segment in &kept {
        assert_eq!(fill(segment), DATA);
    }
    assert!(matches!(open(&all, 3, 0), Err(UploadError::TooManyOpen)));
    // The one that was opened in time remembers what fits; the rest is fetched again.
    assert_eq!(fill(&late.expect("opened")), 2);
    assert_eq!(free(&all), 0);
    kept[0].drop_buffers();
    assert_eq!(free(&all), DATA);
    assert!(open(&all, 3, 0).is_ok());
    for client in 0..4 {
        let made = segment(client, 0);
        all.close(made.account, made.record().manifest.id());
    }
    drop(kept);
    assert_eq!(free(&all), 10);
}

#[test]
fn a_segment_that_gets_no_shards_gives_its_memory_to_others() {
    let all = OpenSegments::new(DATA * LENGTH, Duration::ZERO);
    let idle = open(&all, 0, 0).expect("room");
    assert_eq!(fill(&idle), DATA);
    let next = open(&all, 1, 0).expect("the idle one has given way");
    assert_eq!(fill(&next), DATA);
    assert_eq!(idle.data().iter().flatten().count(), 0);
    assert!(all.get(idle.account, idle.record().manifest.id()).is_some(), "but it stays open");
}

#[test]
fn repeating_a_shard_neither_takes_memory_nor_keeps_a_segment_busy() {
    let all = OpenSegments::new(DATA * LENGTH, Duration::from_secs(60));
    let segment = open(&all, 0, 0).expect("room");
    assert_eq!(fill(&segment), DATA);
    let grown = *lock(&segment.grown);
    assert_eq!(fill(&segment), DATA);
    assert_eq!((free(&all), *lock(&segment.grown)), (0, grown));
}

#[test]
fn of_what_is_given_up_only_that_without_a_receipt_is_named() {
    let all = OpenSegments::new(DATA * LENGTH, Duration::ZERO);
    let (stored, empty) = (open(&all, 0, 0).expect("room"), open(&all, 0, 1).expect("room"));
    lock(&stored.record).placements[0] = ShardPlacement::listed(NodeId::from_bytes([9; 32]));
    assert_eq!(all.drop_abandoned(|_| true), [], "its client is there");
    assert_eq!(all.drop_abandoned(|_| false), [(empty.account, empty.record().manifest.id())]);
    assert!(!all.contains(stored.account, stored.record().manifest.id()));
}
