use super::memory::{Fault, Memory, id, manifests, noise, places, root, seal, wanted};
use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fincrypt_protocol::Code;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::index::Location;
use fincrypt_vault::segment::{Entry, SealedSegment, SegmentError};
use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::sample::Index;

/// Notes everything, and says stop at its last call.
#[derive(Default)]
struct Notes {
    blobs: Mutex<Vec<(BlobId, Vec<u8>)>>,
    failures: Mutex<Vec<Failure>>,
    calls: AtomicUsize,
    most: Option<usize>,
}

impl Notes {
    fn flow(&self) -> ControlFlow<()> {
        let calls = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if self.most.is_some_and(|most| calls >= most) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// How often each blob came or was lost.
    fn times(&self) -> BTreeMap<BlobId, usize> {
        let mut times = BTreeMap::new();
        for (blob, _) in self.blobs.lock().iter() {
            *times.entry(*blob).or_default() += 1;
        }
        for blob in self.failures.lock().iter().flat_map(|failure| &failure.blobs) {
            *times.entry(*blob).or_default() += 1;
        }
        times
    }

    fn came(&self) -> BTreeSet<BlobId> {
        self.blobs.lock().iter().map(|(blob, _)| *blob).collect()
    }
}

impl Sink for Notes {
    fn blob(&self, entry: &Entry, plain: &[u8]) -> ControlFlow<()> {
        self.blobs.lock().push((entry.blob, plain.to_vec()));
        self.flow()
    }

    fn failure(&self, failure: Failure) -> ControlFlow<()> {
        self.failures.lock().push(failure);
        self.flow()
    }
}

async fn read(
    source: &Memory,
    segments: &[SealedSegment],
    wanted: Vec<Wanted>,
    limits: Limits,
    sink: Notes,
) -> (Arc<Notes>, End) {
    let sink = Arc::new(sink);
    let reader = SegmentReader::new(root(), source, manifests(segments));
    let end = tokio::time::timeout(Duration::from_secs(120), reader.read(wanted, limits, &sink));
    let end = end.await.expect("ends in time").expect("no thread stops");
    (sink, end)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}

fn plains(lengths: &[usize], seed: u64) -> Vec<Vec<u8>> {
    lengths.iter().zip(0..).map(|(length, at)| noise(*length, seed.wrapping_add(at))).collect()
}

fn faults() -> impl Strategy<Value = Vec<Option<Fault>>> {
    let fault = prop_oneof![
        6 => Just(None),
        2 => Just(Some(Fault::Missing)),
        1 => Just(Some(Fault::Wrong)),
        1 => Just(Some(Fault::Late)),
        1 => Just(Some(Fault::Silent)),
    ];
    proptest::collection::vec(fault, 40)
}

fn limits() -> impl Strategy<Value = Limits> {
    let limits = (0usize..8 << 20, 1usize..5, 1usize..4, any::<bool>());
    limits.prop_map(|(bytes, ahead, takers, in_order)| Limits { bytes, ahead, takers, in_order })
}

/// Segments with some shards at fault, and which of them can be read all the same.
fn swarm(
    code: Code,
    plains: &[Vec<u8>],
    faults: &[Option<Fault>],
) -> (Vec<SealedSegment>, Memory, BTreeSet<SegmentId>) {
    let segments = seal(code, plains);
    let mut memory = Memory::new(&segments);
    let mut faults = faults.iter().cycle();
    let mut readable = BTreeSet::new();
    for sealed in &segments {
        let (segment, code) = (sealed.manifest.id(), sealed.manifest.code());
        let mut good = 0;
        for index in code.indices() {
            let fault = *faults.next().expect("a cycle");
            good += u8::from(!fault.is_some_and(Fault::is_fatal));
            memory.faults.extend(fault.map(|fault| ((segment, index), fault)));
        }
        if good >= code.data() {
            readable.insert(segment);
        }
    }
    (segments, memory, readable)
}

/// Blobs of which every part lies in a readable segment.
fn whole(segments: &[SealedSegment], readable: &BTreeSet<SegmentId>) -> BTreeSet<BlobId> {
    let whole = |places: &Vec<Location>| places.iter().all(|place| readable.contains(&place.segment));
    places(segments).into_iter().filter(|(_, places)| whole(places)).map(|(blob, _)| blob).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_wanted_blob_comes_once_or_its_error_does(
        lengths in proptest::collection::vec(1usize..900_000, 1..14),
        chosen in proptest::collection::vec(any::<Index>(), 1..14),
        (data, parity) in (1u8..4, 1u8..4),
        faults in faults(),
        limits in limits(),
        seed: u64,
    ) {
        let plains = plains(&lengths, seed);
        let (segments, memory, readable) = swarm(Code::new(data, parity)?, &plains, &faults);
        let chosen: Vec<&Vec<u8>> = chosen.iter().map(|at| at.get(&plains)).collect();
        let expected: BTreeSet<BlobId> = chosen.iter().map(|plain| id(plain)).collect();
        let wanted = wanted(&segments, chosen.iter().map(|plain| id(plain)));
        let (notes, end) =
            runtime().block_on(read(&memory, &segments, wanted, limits, Notes::default()));
        prop_assert_eq!(end, End::Complete);
        let times = notes.times();
        prop_assert_eq!(times.keys().copied().collect::<BTreeSet<_>>(), expected.clone());
        prop_assert!(times.values().all(|times| *times == 1), "{:?}", times);
        let whole = whole(&segments, &readable);
        prop_assert_eq!(notes.came(), expected.intersection(&whole).copied().collect::<BTreeSet<_>>());
        for (blob, plain) in notes.blobs.lock().iter() {
            prop_assert_eq!(*blob, id(plain));
        }
        for failure in notes.failures.lock().iter() {
            prop_assert!(matches!(failure.error, SegmentReadError::Unavailable { .. }), "{failure:?}");
            prop_assert!(!readable.contains(&failure.segment));
        }
    }

    #[test]
    fn whole_segments_bring_all_that_they_list_or_one_error(
        lengths in proptest::collection::vec(1usize..900_000, 1..14),
        (data, parity) in (1u8..4, 1u8..4),
        faults in faults(),
        limits in limits(),
        seed: u64,
    ) {
        let plains = plains(&lengths, seed);
        let (segments, memory, readable) = swarm(Code::new(data, parity)?, &plains, &faults);
        let all = |sealed: &SealedSegment| Wanted { segment: sealed.manifest.id(), extents: Extents::All };
        let wanted = segments.iter().map(all).collect();
        let (notes, end) =
            runtime().block_on(read(&memory, &segments, wanted, limits, Notes::default()));
        prop_assert_eq!(end, End::Complete);
        prop_assert!(notes.times().values().all(|times| *times == 1));
        prop_assert_eq!(notes.came(), whole(&segments, &readable));
        let failed: Vec<SegmentId> = notes.failures.lock().iter().map(|failure| failure.segment).collect();
        let unreadable = segments.len() - readable.len();
        prop_assert_eq!(failed.len(), unreadable);
        prop_assert!(failed.iter().all(|segment| !readable.contains(segment)));
    }

    #[test]
    fn a_sink_that_says_stop_is_called_no_more(
        lengths in proptest::collection::vec(1usize..900_000, 4..14),
        faults in faults(),
        limits in limits(),
        most in 1usize..6,
        seed: u64,
    ) {
        let plains = plains(&lengths, seed);
        let (segments, memory, _) = swarm(Code::new(1, 1)?, &plains, &faults);
        let wanted = wanted(&segments, plains.iter().map(|plain| id(plain)));
        let sink = Notes { most: Some(most), ..Notes::default() };
        let (notes, end) = runtime().block_on(read(&memory, &segments, wanted, limits, sink));
        let calls = notes.calls.load(Ordering::SeqCst);
        // Other threads may have begun a call meanwhile.
        prop_assert!(calls < most + limits.takers, "{calls} calls of {most}");
        prop_assert_eq!(end == End::Stopped, calls >= most);
        prop_assert!(notes.times().values().all(|times| *times == 1));
    }
}

#[tokio::test]
async fn nothing_more_is_fetched_for_a_sink_that_has_stopped() {
    let plains = plains(&[900_000; 20], 3);
    let segments = seal(Code::new(1, 1).expect("valid"), &plains);
    let memory = Memory::new(&segments);
    let wanted = wanted(&segments, plains.iter().map(|plain| id(plain)));
    let limits = Limits { bytes: 2 << 20, ahead: 2, takers: 1, in_order: true };
    let sink = Notes { most: Some(1), ..Notes::default() };
    let (notes, end) = read(&memory, &segments, wanted, limits, sink).await;
    assert_eq!((end, notes.calls.load(Ordering::SeqCst)), (End::Stopped, 1));
    assert!(segments.len() > 15);
    let begun = memory.begun.lock().len();
    assert!(begun <= 4, "{begun} segments were begun");
}

#[tokio::test]
async fn in_order_means_the_order_in_which_blobs_are_wanted() {
    let plains = plains(&[700_000; 12], 5);
    let segments = seal(Code::new(1, 1).expect("valid"), &plains);
    let mut memory = Memory::new(&segments);
    // The first segments come last.
    for sealed in &segments[..3] {
        for index in sealed.manifest.code().indices() {
            memory.faults.insert((sealed.manifest.id(), index), Fault::Late);
        }
    }
    let wanted = wanted(&segments, plains.iter().map(|plain| id(plain)));
    let (notes, end) = read(&memory, &segments, wanted, Limits::in_order(), Notes::default()).await;
    assert_eq!(end, End::Complete);
    let came: Vec<BlobId> = notes.blobs.lock().iter().map(|(blob, _)| *blob).collect();
    assert_eq!(came, plains.iter().map(|plain| id(plain)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_slow_shard_does_not_hold_a_segment_up() {
    let plains = plains(&[1_900_000], 7);
    let segments = seal(Code::new(2, 1).expect("valid"), &plains);
    let mut memory = Memory::new(&segments);
    let first = &segments[0].manifest;
    memory.faults.insert((first.id(), first.code().indices().next().expect("one")), Fault::Never);
    let wanted = wanted(&segments, plains.iter().map(|plain| id(plain)));
    let (notes, _) = read(&memory, &segments, wanted, Limits::parallel(2), Notes::default()).await;
    assert_eq!(notes.came().len(), 1);
    assert_eq!(memory.asked.load(Ordering::Relaxed), 3, "the third beside the slow one");
}

#[tokio::test]
async fn shards_that_are_not_needed_are_not_asked_for() {
    let plains = plains(&[1_900_000], 8);
    let segments = seal(Code::new(2, 3).expect("valid"), &plains);
    let mut memory = Memory::new(&segments);
    memory.patience = Duration::from_secs(60);
    let wanted = wanted(&segments, plains.iter().map(|plain| id(plain)));
    let (notes, _) = read(&memory, &segments, wanted, Limits::parallel(2), Notes::default()).await;
    assert_eq!(notes.came().len(), 1);
    assert_eq!(memory.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_altered_extent_loses_its_blob_alone() {
    let plains = plains(&[5_000, 6_000, 7_000], 9);
    let segments = seal(Code::new(1, 1).expect("valid"), &plains);
    let mut wanted = wanted(&segments, plains.iter().map(|plain| id(plain)));
    let Extents::Some(entries) = &mut wanted[0].extents else { panic!("some") };
    entries[1].check[0] ^= 1;
    let altered = entries[1].blob;
    let (notes, _) =
        read(&Memory::new(&segments), &segments, wanted, Limits::parallel(2), Notes::default()).await;
    let failures = notes.failures.lock();
    assert_eq!(notes.came().len(), 2);
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].blobs, [altered]);
    assert!(matches!(failures[0].error, SegmentReadError::Segment(SegmentError::Extent)), "{failures:?}");
}

#[tokio::test]
async fn a_segment_that_is_not_in_the_index_is_an_error_of_all_its_blobs() {
    let plains = plains(&[5_000, 6_000], 10);
    let segments = seal(Code::new(1, 1).expect("valid"), &plains);
    let wanted = wanted(&segments, plains.iter().map(|plain| id(plain)));
    let (notes, end) = read(&Memory::new(&segments), &[], wanted, Limits::in_order(), Notes::default()).await;
    let failures = notes.failures.lock();
    assert_eq!((end, failures.len()), (End::Complete, 1));
    assert_eq!(failures[0].blobs.len(), 2);
    assert!(
        matches!(failures[0].error, SegmentReadError::Unknown(segment) if segment == segments[0].manifest.id())
    );
}

#[tokio::test]
async fn a_part_that_nobody_asked_for_is_an_error_of_its_blob() {
    let plains = plains(&[1_500_000], 11);
    let segments = seal(Code::new(1, 1).expect("valid"), &plains);
    let mut wanted = wanted(&segments, plains.iter().map(|plain| id(plain)));
    assert_eq!(wanted.len(), 2);
    wanted.pop();
    let (notes, _) =
        read(&Memory::new(&segments), &segments, wanted, Limits::in_order(), Notes::default()).await;
    let failures = notes.failures.lock();
    assert_eq!(failures.len(), 1);
    assert!(matches!(failures[0].error, SegmentReadError::Segment(SegmentError::Parts)), "{failures:?}");
}

/// Twelve blobs of 4 MiB over 48 segments of 1 MiB, read so that the last part of each comes after
/// all others: that is more than is held of unfinished blobs.
#[tokio::test]
async fn blobs_whose_parts_lie_far_apart_are_read_in_the_end() {
    let plains = plains(&[4 << 20; 12], 12);
    let segments = seal(Code::new(1, 1).expect("valid"), &plains);
    let mut wanted = wanted(&segments, plains.iter().map(|plain| id(plain)));
    let ends = |wanted: &Wanted| match &wanted.extents {
        Extents::Some(entries) => entries.iter().any(|entry| entry.part + 1 == entry.parts),
        Extents::All => false,
    };
    wanted.sort_by_key(ends);
    let all = wanted.iter().map(|wanted| Wanted { segment: wanted.segment, extents: Extents::All }).collect();
    for wanted in [wanted, all] {
        let memory = Memory::new(&segments);
        let (notes, end) = read(&memory, &segments, wanted, Limits::in_order(), Notes::default()).await;
        assert_eq!(end, End::Complete);
        assert!(notes.failures.lock().is_empty(), "{:?}", notes.failures.lock());
        assert!(notes.times().values().all(|times| *times == 1));
        assert_eq!(notes.came().len(), plains.len());
        assert!(memory.begun.lock().len() > segments.len(), "some were read again");
    }
}
