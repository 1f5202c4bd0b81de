use super::announced::MAX_ANNOUNCED;
use super::*;

use std::time::Duration;

use fincrypt_accounts::releases::Holdings;
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::record::Receipt;
use fincrypt_protocol::shard::HeldSegment;
use fincrypt_protocol::{
    Code, MandateHash, Manifest, Network, NodeId, RunId, SegmentId, ShardId, ShardIndex, ShardLen, Signed,
    SigningKey, Tag, UnixTime,
};
use zeroize::Zeroizing;

const ACCOUNT: AccountId = AccountId::from_bytes([5; 32]);

/// A segment of two shards without holders.
pub(crate) fn record(seed: u8) -> SegmentRecord {
    let ids = vec![ShardId::from_bytes([seed; 32]), ShardId::from_bytes([255; 32])];
    let manifest = Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::FULL, ids).expect("valid");
    let placements = vec![ShardPlacement::planned(None); 2];
    SegmentRecord::new(manifest, Tag::from_bytes([3; 32]), RunId::from_bytes([4; 16]), placements)
}

fn opened() -> (tempfile::TempDir, State, Stores) {
    let dir = tempfile::tempdir().expect("a folder");
    let state = State::open(dir.path()).expect("opens").0;
    let stores = Stores::open(state.clone(), Clock::system()).expect("reads");
    (dir, state, stores)
}

#[tokio::test]
async fn a_record_is_read_once_until_it_is_written_again() {
    let (_dir, state, Stores { segments, .. }) = opened();
    let of_sequence = |sequence| SegmentRecord { sequence, ..record(1) };
    let id = record(1).manifest.id();
    let sequence = async || {
        let found = segments.find(ACCOUNT, id).await.expect("no failure");
        found.map(|record| record.sequence)
    };
    assert_eq!(sequence().await, None);
    segments.put(&ACCOUNT, &of_sequence(1)).expect("written");
    assert_eq!(sequence().await, Some(1));
    // Gone from the disk, it still comes from memory.
    let mut gone = Batch::default();
    segments::SEGMENTS.remove(&mut gone, &(ACCOUNT, id));
    state.commit(&gone).expect("removed");
    assert_eq!(sequence().await, Some(1));
    segments.put(&ACCOUNT, &of_sequence(2)).expect("written");
    assert_eq!(sequence().await, Some(2));
    let all = segments.find_all(ACCOUNT, vec![id, SegmentId::from_bytes([9; 32])]).await;
    assert_eq!(all.expect("no failure").len(), 1);
}

/// A shard for which a node has signed.
fn receipted(node: u8, index: u8, record: &SegmentRecord) -> ShardPlacement {
    let key = SigningKey::from_seed(&Zeroizing::new([node; 32]));
    let index = ShardIndex::new(index).expect("valid");
    let receipt = Receipt {
        network: Network::Local,
        node: key.node(),
        account: ACCOUNT,
        mandate: MandateHash::from_bytes([6; 32]),
        segment: record.manifest.id(),
        index,
        shard: record.manifest.shard(index).expect("there"),
        length: record.manifest.shard_len().get(),
        price: Price::FREE,
        time: UnixTime::from_secs(1),
        paid_until: UnixTime::from_secs(2),
    };
    let signed = Signed::seal(&receipt, &key).expect("seals");
    ShardPlacement::receipted(signed.verify(Network::Local, UnixTime::from_secs(1)).expect("verifies"))
}

#[test]
fn what_nodes_hold_and_what_lacks_holders_follows_every_change() {
    let (_dir, state, stores) = opened();
    let Stores { segments, held, .. } = &stores;
    let mut record = record(1);
    let id = record.manifest.id();
    let lacking = || segments.lacking(None, 10).expect("no failure");
    segments.put(&ACCOUNT, &record).expect("written");
    assert_eq!(lacking(), [], "it was only announced");
    record.placements[0] = receipted(1, 0, &record);
    let node = record.placements[0].node.expect("a holder");
    assert_eq!(segments.put(&ACCOUNT, &record).expect("written"), [node]);
    assert_eq!(lacking(), [(ACCOUNT, id)]);
    record.placements[1] = receipted(2, 1, &record);
    segments.put(&ACCOUNT, &record).expect("written");
    assert_eq!(lacking(), []);
    let shard = HeldShard { segment: id, account: ACCOUNT, index: ShardIndex::new(0).expect("valid") };
    assert_eq!(held.of(&node, None, 10).expect("no failure"), [shard]);
    let one = Load { shards: 1, bytes: 1 << 20 };
    assert_eq!(held.loads().get(&node), Some(&one));
    assert_eq!(Stores::open(state, Clock::system()).expect("reads").held.loads(), held.loads());
    let lose = |record: &mut SegmentRecord| record.placements[0].evidence.take().is_some();
    let (changed, _) = segments.change(&ACCOUNT, &id, lose).expect("no failure").expect("changed");
    assert_eq!((changed.sequence, changed.holders().count()), (4, 1));
    assert!(segments.change(&ACCOUNT, &id, lose).expect("no failure").is_none(), "nothing to change");
    assert_eq!(held.of(&node, None, 10).expect("no failure"), []);
    assert_eq!(lacking(), [(ACCOUNT, id)]);
    segments.remove(&ACCOUNT, &id).expect("removed");
    let other = record.placements[1].node.expect("a holder");
    assert_eq!((lacking(), held.of(&other, None, 10).expect("no failure")), (vec![], vec![]));
    assert!(held.loads().is_empty());
}

#[test]
fn what_holders_list_counts_as_held_but_not_as_signed_for() {
    let (_dir, _, stores) = opened();
    let (run, manifest) = (RunId::from_bytes([4; 16]), record(1).manifest);
    let id: SegmentId = manifest.id();
    let lists = |held: &[u8]| HeldSegment {
        manifest: manifest.clone(),
        tag: Tag::from_bytes([3; 32]),
        run,
        held: held.iter().map(|at| ShardIndex::new(*at).expect("valid")).collect(),
        holders: None,
        due: None,
    };
    let [one, other] = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
    let segments = &stores.segments;
    let put = |node, held: &[u8]| segments.put_listed(&ACCOUNT, node, run, &lists(held)).expect("no failure");
    // It claims both; one node counts for one shard.
    assert!(put(one, &[0, 1]));
    assert!(!put(one, &[0, 1]));
    assert_eq!(segments.lacking(None, 10).expect("no failure"), [(ACCOUNT, id)]);
    assert!(!put(other, &[0, 1, 29]));
    assert_eq!(segments.lacking(None, 10).expect("no failure"), []);
    let record = segments.get(&ACCOUNT, &id).expect("no failure").expect("known");
    assert_eq!((record.holders().count(), record.receipts().count()), (2, 0));
    assert_eq!(record.with_receipts_only().holders().count(), 0);
    stores.remove_account(&ACCOUNT).expect("removed");
    assert_eq!(segments.get(&ACCOUNT, &id).expect("no failure"), None);
    assert_eq!(stores.held.of(&one, None, 10).expect("no failure"), []);
    assert_eq!(stores.holders.of(&ACCOUNT, 10).expect("no failure"), []);
}

#[test]
fn an_account_has_a_bounded_number_of_announced_segments_of_which_open_ones_stay() {
    let (_dir, _, Stores { segments, .. }) = opened();
    let all: Vec<_> = (0..MAX_ANNOUNCED as u8 + 8).map(record).collect();
    let first = all[0].manifest.id();
    for record in &all {
        segments.make_room(&ACCOUNT, |_, segment| segment == first).expect("the oldest is removed");
        segments.put(&ACCOUNT, record).expect("written");
    }
    assert_eq!(segments.segments(&ACCOUNT, None).expect("no failure").len(), MAX_ANNOUNCED);
    assert!(segments.get(&ACCOUNT, &first).expect("no failure").is_some(), "it is open");
    assert!(matches!(segments.make_room(&ACCOUNT, |_, _| true), Err(AnnounceError::AllOpen)));
    let another = AccountId::from_bytes([6; 32]);
    assert!(segments.make_room(&another, |_, _| true).is_ok(), "another account");
}

#[test]
fn what_was_announced_lasts_a_day_also_over_a_restart_and_what_is_held_lasts() {
    let (_dir, state, Stores { segments, .. }) = opened();
    let (idle, open, mut held) = (record(1), record(2), record(3));
    for record in [&idle, &open, &held] {
        segments.put(&ACCOUNT, record).expect("written");
    }
    held.placements[0] = ShardPlacement::listed(NodeId::from_bytes([7; 32]));
    segments.put(&ACCOUNT, &held).expect("written");
    let segments = Stores::open(state, Clock::system()).expect("reads").segments;
    let is_open = |_, segment| segment == open.manifest.id();
    let (now, day) = (UnixTime::now(), Duration::from_secs(24 * 3600));
    segments.sweep_announced(now.plus(day / 2), is_open).expect("no failure");
    assert_eq!(segments.segments(&ACCOUNT, None).expect("no failure").len(), 3, "it is young");
    segments.sweep_announced(now.plus(day * 2), is_open).expect("no failure");
    let known =
        |record: &SegmentRecord| segments.get(&ACCOUNT, &record.manifest.id()).expect("no failure").is_some();
    assert_eq!([known(&idle), known(&open), known(&held)], [false, true, true]);
    segments.remove_announced(&ACCOUNT, &held.manifest.id()).expect("no failure");
    assert!(known(&held), "it found a holder");
}
