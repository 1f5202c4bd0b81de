use super::layout::{LENGTH_LEN, TAG_LEN};
use super::*;
use crate::blob::{Blob, BlobKind};
use crate::compress::BlobMaker;
use crate::root::Root;
use fincrypt_protocol::{Code, Redundancy, ShardIndex};
use fincrypt_shards::erasure::restore_data;
use proptest::prelude::*;
use zeroize::Zeroizing;

fn root() -> Root {
    Root::from_bytes(&Zeroizing::new([1; 32]))
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut out = vec![0; length];
    reader.fill(&mut out);
    out
}

fn maker() -> BlobMaker {
    BlobMaker::new(&root()).expect("a maker")
}

fn pack(code: Code, blobs: &[(&[u8], BlobKind)]) -> Vec<SealedSegment> {
    let mut packer = RunPacker::new(code, Redundancy::MIN, 1000);
    let mut sealer = Sealer::new(&root());
    let mut maker = maker();
    let mut unsealed = Vec::new();
    let mut keep = |segment| {
        unsealed.push(segment);
        Ok::<(), SegmentError>(())
    };
    for (plain, kind) in blobs {
        let id = maker.id(plain);
        packer.push(&maker.make(id, *kind, plain).expect("a blob"), &mut keep).expect("packs");
    }
    unsealed.extend(packer.finish());
    unsealed.into_iter().map(|segment| sealer.seal(segment).expect("seals")).collect()
}

fn data(plains: &[Vec<u8>]) -> Vec<(&[u8], BlobKind)> {
    plains.iter().map(|plain| (plain.as_slice(), BlobKind::Data)).collect()
}

/// Every blob that the segments hold, through directory, decryption and assembly.
fn unpack(segments: &[SealedSegment]) -> Vec<Vec<u8>> {
    let mut assembler = BlobAssembler::new(root().blob_id_key()).expect("an assembler");
    let mut plains = Vec::new();
    for segment in segments {
        let open = OpenSegment::open(&root(), segment.ciphertext.to_vec()).expect("opens");
        assert_eq!(open.directory(), &segment.directory);
        for entry in open.directory().entries() {
            let extent = open.extent(entry).expect("checked");
            plains.extend(assembler.add(entry, &extent).expect("fits"));
        }
    }
    assert_eq!(assembler.pending_bytes(), 0);
    plains
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn blobs_survive_packing_sealing_and_opening(
        lengths in proptest::collection::vec(0usize..3_000_000, 1..12), shards in 1u8..6, seed: u64,
    ) {
        let plains: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(at, length)| noise(*length, seed ^ at as u64)).collect();
        let segments = pack(Code::new(shards, shards)?, &data(&plains));
        for segment in &segments {
            prop_assert_eq!(segment.ciphertext.len(), segment.manifest.data_len());
        }
        prop_assert_eq!(unpack(&segments), plains);
    }

    #[test]
    fn any_directory_is_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Directory::decode(&bytes, 1 << 20);
    }

    #[test]
    fn any_bytes_are_opened_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(OpenSegment::open(&root(), bytes).is_err());
    }
}

#[test]
fn a_blob_larger_than_a_segment_is_split_and_joined() {
    let plain = noise(4 << 20, 1);
    let segments = pack(Code::new(1, 1).expect("valid"), &[(&plain, BlobKind::Data)]);
    assert!(segments.len() >= 4);
    assert_eq!(unpack(&segments), vec![plain]);
}

#[test]
fn a_small_run_is_one_small_segment_and_a_large_one_separates_trees() {
    let code = Code::new(4, 4).expect("valid");
    let (data, tree) = (noise(5000, 1), noise(300, 2));
    let (data, tree) = ((data.as_slice(), BlobKind::Data), (tree.as_slice(), BlobKind::Tree));
    let segments = pack(code, &[data, tree]);
    assert_eq!(segments.len(), 1);
    let manifest = &segments[0].manifest;
    assert_eq!((manifest.code().data(), manifest.code().total(), manifest.shard_len().get()), (1, 5, 8192));
    let large = noise(4 << 20, 3);
    for segment in pack(code, &[data, tree, (&large, BlobKind::Data)]) {
        let kinds: std::collections::HashSet<_> =
            segment.directory.entries().iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds.len(), 1);
    }
}

#[test]
fn the_segment_comes_back_from_any_k_shards() {
    let code = Code::new(3, 4).expect("valid");
    let plain = noise(200_000, 4);
    let segment = pack(code, &[(&plain, BlobKind::Data)]).remove(0);
    let code = segment.manifest.code();
    let shards: Vec<bytes::Bytes> =
        code.indices().take(code.data().into()).map(|index| segment.data_shard(index)).collect();
    let views: Vec<&[u8]> = shards.iter().map(AsRef::as_ref).collect();
    let parity = fincrypt_shards::erasure::Encoder::new().encode(code, &views).expect("encodes");
    for (shard, id) in
        shards.iter().map(AsRef::as_ref).chain(parity.iter().map(Vec::as_slice)).zip(segment.manifest.ids())
    {
        assert_eq!(fincrypt_shards::proof::shard_id(shard), *id);
    }
    let present: Vec<(ShardIndex, &[u8])> =
        code.indices().skip(code.data().into()).zip(parity.iter().map(Vec::as_slice)).collect();
    let restored = restore_data(code, &present[..code.data().into()]).expect("restores").concat();
    assert_eq!(restored, segment.ciphertext);
}

#[test]
fn an_altered_extent_or_directory_or_a_foreign_root_is_noticed() {
    let plain = noise(100_000, 5);
    let segment = pack(Code::new(2, 2).expect("valid"), &[(&plain, BlobKind::Data)]).remove(0);
    let mut altered = segment.ciphertext.to_vec();
    altered[5000] ^= 1;
    let open = OpenSegment::open(&root(), altered).expect("the directory is whole");
    assert!(matches!(open.extent(&open.directory().entries()[0]), Err(SegmentError::Extent)));
    let mut altered = segment.ciphertext.to_vec();
    let at = altered.len() - 10;
    altered[at] ^= 1;
    assert!(OpenSegment::open(&root(), altered).is_err());
    let stranger = Root::from_bytes(&Zeroizing::new([2; 32]));
    assert!(OpenSegment::open(&stranger, segment.ciphertext.to_vec()).is_err());
}

#[test]
fn the_index_is_rebuilt_from_the_segments_alone() {
    let plains: Vec<Vec<u8>> = (0..6).map(|at| noise(900_000, at)).collect();
    let segments = pack(Code::new(2, 2).expect("valid"), &data(&plains));
    assert!(segments.len() > 1);
    let index = crate::index::BlobIndex::new(fincrypt_state::kv::MemoryKv::default());
    for segment in &segments {
        let open = OpenSegment::open(&root(), segment.ciphertext.to_vec()).expect("opens");
        index.insert(&segment.manifest, open.directory()).expect("inserted");
    }
    for plain in &plains {
        assert!(index.contains(&maker().id(plain)).expect("reads"));
    }
}

#[test]
fn unfinished_blobs_are_held_up_to_a_bound_and_given_up_whole() {
    let plain = noise(4 << 20, 8);
    let code = Code::new(1, 1).expect("valid");
    let mut parts = Parts::default();
    let mut crowded = 0;
    for _ in 0..12 {
        // Each time another split of the same blob.
        let segments = pack(code, &[(&plain, BlobKind::Data)]);
        let last = segments.len() - 1;
        for segment in &segments[..last] {
            let open = OpenSegment::open(&root(), segment.ciphertext.to_vec()).expect("opens");
            let entry = &open.directory().entries()[0];
            match parts.add(entry, &open.extent(entry).expect("checked")) {
                Ok(whole) => assert_eq!(whole, None),
                Err(error) => {
                    assert!(matches!(error, SegmentError::Crowded));
                    crowded += 1;
                }
            }
        }
    }
    assert!(crowded > 0 && parts.bytes() <= 32 << 20, "{} bytes", parts.bytes());
}

#[test]
fn parts_of_different_splits_do_not_combine() {
    let plain = noise(3 << 20, 6);
    let code = Code::new(1, 1).expect("valid");
    let (first, second) = (pack(code, &[(&plain, BlobKind::Data)]), pack(code, &[(&plain, BlobKind::Data)]));
    let mut assembler = BlobAssembler::new(root().blob_id_key()).expect("an assembler");
    for (at, segment) in [&first[0], &second[1], &first[2]].into_iter().enumerate() {
        let open = OpenSegment::open(&root(), segment.ciphertext.to_vec()).expect("opens");
        let entry = &open.directory().entries()[0];
        assert_eq!(usize::from(entry.part), at);
        assert_eq!(assembler.add(entry, &open.extent(entry).expect("checked")).expect("fits"), None);
    }
}

#[test]
fn a_segment_of_known_nonce_and_contents_is_what_the_fixture_says() {
    let blob =
        Blob { id: root().blob_id_key().id(b"hello"), kind: BlobKind::Data, raw_len: 5, stored: b"hello" };
    let mut packer = RunPacker::new(Code::new(1, 1).expect("valid"), Redundancy::MIN, 2);
    packer.push(&blob, |_| Err(SegmentError::Layout)).expect("it fits");
    let mut unsealed = packer.finish().remove(0);
    unsealed.nonce = [7; NONCE_LEN];
    unsealed.buffer.bytes[..NONCE_LEN].copy_from_slice(&[7; NONCE_LEN]);
    unsealed.entries[0].split = [7; NONCE_LEN];
    let sealed = Sealer::new(&root()).seal(unsealed).expect("seals");
    let text = format!("segment {}\n{}", sealed.manifest.id(), fincrypt_vectors::hex(&sealed.ciphertext));
    fincrypt_vectors::check("segment.txt", &text);
}

#[test]
fn a_directory_is_read_from_the_end_of_its_segment_alone() {
    let code = Code::new(4, 8).expect("a code");
    let plains: Vec<_> = (0..300).map(|seed| noise(1000, seed)).collect();
    for segment in pack(code, &data(&plains)) {
        let cipher = SegmentCipher::new(&root(), segment.ciphertext.first_chunk().expect("a nonce"));
        let length = segment.ciphertext.len();
        let needed = segment.directory.encode().len() + TAG_LEN + LENGTH_LEN;
        for tail in [LENGTH_LEN, needed - 1, needed, needed + 1, length] {
            let read = cipher.directory(length, &segment.ciphertext[length - tail..]).expect("ours");
            assert_eq!(read, (tail >= needed).then(|| segment.directory.clone()), "{tail} of {needed}");
        }
        assert!(cipher.directory(length, &segment.ciphertext[..100]).is_err());
        assert!(cipher.directory(length, &[]).is_err());
    }
}
