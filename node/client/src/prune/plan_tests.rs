use fincrypt_protocol::{ShardId, ShardLen};
use proptest::collection::{hash_set, vec};
use proptest::prelude::*;

use super::*;

const LIMITS: fn() -> Limits = || Limits {
    max_unused: Some(50),
    max_repack: u64::MAX,
    code: Code::new(4, 4).expect("valid"),
    redundancy: Redundancy::from_permille(2000).expect("valid"),
};

fn manifest(number: u16, shard_len: u32) -> Manifest {
    let ids = (0..8).map(|at| {
        let mut id = [at; 32];
        id[..2].copy_from_slice(&number.to_le_bytes());
        ShardId::from_bytes(id)
    });
    let shard_len = ShardLen::new(shard_len).expect("valid");
    Manifest::new(Code::new(4, 4).expect("valid"), shard_len, ids.collect()).expect("valid")
}

fn blob(number: u16) -> BlobId {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&number.to_le_bytes());
    BlobId::from_bytes(id)
}

fn entry(number: u16, split: u16, part: u16, parts: u16, length: u32) -> Entry {
    let mut name = [0; 24];
    name[..2].copy_from_slice(&split.to_le_bytes());
    let (total, raw_len) = (length * u32::from(parts), length * u32::from(parts));
    let (blob, kind) = (blob(number), BlobKind::Data);
    Entry { blob, kind, split: name, part, parts, total, offset: 0, length, raw_len, check: [0; 16] }
}

/// Segments in a row, each with blobs of its own, and perhaps one that goes on in the next.
fn segments(sizes: &[(Vec<u32>, bool, bool, bool)]) -> Vec<Segment> {
    let mut made: Vec<Vec<Entry>> = vec![Vec::new(); sizes.len()];
    let mut number = 0;
    for (at, (lengths, goes_on, again, _)) in sizes.iter().enumerate() {
        for length in lengths {
            made[at].push(entry(number, at as u16, 0, 1, *length));
            if *again && at + 1 < sizes.len() {
                made[at + 1].push(entry(number, at as u16 + 1, 0, 1, *length));
            }
            number += 1;
        }
        if *goes_on && at + 1 < sizes.len() {
            made[at].push(entry(number, at as u16, 0, 2, 1000));
            made[at + 1].push(entry(number, at as u16, 1, 2, 1000));
            number += 1;
        }
    }
    let made = made.into_iter().zip(sizes).enumerate().map(|(at, (mut entries, (.., small)))| {
        let mut offset = 24;
        for entry in &mut entries {
            entry.offset = offset;
            offset += entry.length;
        }
        let manifest = manifest(at as u16, if *small { 64 << 10 } else { 1 << 20 });
        Segment { manifest, directory: Directory::new(entries), fresh: false }
    });
    made.collect()
}

/// The blobs that are there as a whole in these segments.
fn whole(segments: &[(Manifest, Directory)]) -> HashSet<BlobId> {
    let mut parts: BTreeMap<(BlobId, SplitId), BTreeSet<u16>> = BTreeMap::new();
    let mut all = HashSet::new();
    for entry in segments.iter().flat_map(|(_, directory)| directory.entries()) {
        let found = parts.entry((entry.blob, entry.split)).or_default();
        found.insert(entry.part);
        if found.len() == usize::from(entry.parts) {
            all.insert(entry.blob);
        }
    }
    all
}

proptest! {
    #[test]
    fn no_used_blob_is_in_a_released_segment_unless_it_is_packed_anew(
        sizes in vec((vec(1_u32..60_000, 0..8), any::<bool>(), any::<bool>(), any::<bool>()), 0..90),
        unused in hash_set(0_u16..400, 0..300),
        max_unused in proptest::option::of(0_u64..1001), max_repack in 0_u64..10_000_000,
    ) {
        let segments = segments(&sizes);
        let used: HashSet<_> = everything(&segments, &unused.into_iter().map(blob).collect());
        let limits = Limits { max_unused, max_repack, ..LIMITS() };
        let plan = plan(&segments, &used, &limits).expect("everything is whole");

        let repacked: HashSet<_> = plan.repack.iter().map(|(blob, _)| *blob).collect();
        let kept = whole(&plan.keep);
        prop_assert!(used.iter().all(|blob| kept.contains(blob) || repacked.contains(blob)), "a blob is lost");
        prop_assert!(repacked.is_subset(&used) && kept.is_subset(&used));
        prop_assert!(repacked.is_disjoint(&kept));
        prop_assert!(plan.keep.iter().flat_map(|(_, d)| d.entries()).all(|e| kept.contains(&e.blob)));
        let keep: BTreeSet<_> = plan.keep.iter().map(|(manifest, _)| manifest.id()).collect();
        let release: BTreeSet<_> = plan.release.iter().map(Manifest::id).collect();
        let all: BTreeSet<_> = segments.iter().map(|segment| segment.manifest.id()).collect();
        prop_assert!(keep.is_disjoint(&release));
        prop_assert_eq!(&(&keep | &release), &all);
    }

    #[test]
    fn what_an_interrupted_prune_packed_is_not_packed_again(
        lengths in vec(1_u32..50_000, 1..40),
    ) {
        let mut segments = segments(&[(lengths.clone(), false, true, false), (vec![], false, false, false)]);
        segments[1].fresh = true;
        let used = everything(&segments, &HashSet::new());
        let plan = plan(&segments, &used, &Limits { max_unused: Some(0), ..LIMITS() }).expect("whole");
        prop_assert!(plan.repack.is_empty());
        prop_assert_eq!(plan.release.iter().map(Manifest::id).collect::<Vec<_>>(), [segments[0].manifest.id()]);
    }
}

#[test]
fn a_mostly_used_segment_stays_and_a_little_used_one_is_packed_anew() {
    let mostly: Vec<u32> = vec![100_000; 40];
    let segments = segments(&[(mostly.clone(), false, false, false), (mostly, false, false, false)]);
    let used: HashSet<_> = (0..40).chain(40..42).map(blob).collect();
    let plan = plan(&segments, &used, &LIMITS()).expect("whole");
    assert_eq!(plan.repack.len(), 2);
    assert_eq!(plan.release.iter().map(Manifest::id).collect::<Vec<_>>(), [segments[1].manifest.id()]);
    let limits = Limits { max_repack: 100_000, ..LIMITS() };
    assert!(super::plan(&segments, &used, &limits).expect("whole").repack.is_empty(), "more than allowed");
}

#[test]
fn sixty_four_small_segments_are_merged_and_sixty_three_are_not() {
    let small = (vec![20_000], false, false, true);
    let limits = Limits { max_unused: None, ..LIMITS() };
    for (count, repacked) in [(63, 0), (64, 64)] {
        let segments = segments(&vec![small.clone(); count]);
        let used = everything(&segments, &HashSet::new());
        assert_eq!(plan(&segments, &used, &limits).expect("whole").repack.len(), repacked);
        assert_eq!(merge_is_due(segments.iter().map(|segment| &segment.manifest)), repacked > 0);
    }
}

#[test]
fn a_blob_that_is_not_whole_stops_everything() {
    let mut segments = segments(&[(vec![], true, false, false), (vec![], false, false, false)]);
    let used = everything(&segments, &HashSet::new());
    segments.pop();
    assert_eq!(plan(&segments, &used, &LIMITS()).map(|_| ()), Err(Incomplete(blob(0))));
}
