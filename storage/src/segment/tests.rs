use super::*;
use crate::blob::{Blob, BlobKind};
use crate::compress::BlobMaker;
use crate::erasure::restore_data;
use crate::root::Root;
use fincrypt_protocol::{Code, Redundancy, ShardIndex};
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

fn blob(plain: &[u8], kind: BlobKind) -> Blob {
    let mut maker = BlobMaker::new(&root()).expect("a maker");
    maker.make(maker.id(plain), kind, plain).expect("a blob")
}

fn pack(code: Code, blobs: &[Blob]) -> Vec<SealedSegment> {
    let mut packer = RunPacker::new(code, Redundancy::MIN);
    let mut sealer = Sealer::new(&root());
    let mut unsealed = Vec::new();
    for blob in blobs {
        unsealed.extend(packer.push(blob).expect("packs"));
    }
    unsealed.extend(packer.finish());
    unsealed.into_iter().map(|segment| sealer.seal(segment).expect("seals")).collect()
}

/// Every blob that the segments hold, through directory, decryption and assembly.
fn unpack(segments: &[SealedSegment]) -> Vec<Vec<u8>> {
    let mut assembler = BlobAssembler::new(root().blob_id_key());
    let mut plains = Vec::new();
    for segment in segments {
        let open = OpenSegment::open(&root(), segment.ciphertext.to_vec()).expect("opens");
        assert_eq!(open.directory(), &segment.directory);
        for entry in open.directory().entries() {
            let extent = open.extent(entry).expect("checked");
            plains.extend(assembler.add(entry, extent).expect("fits"));
        }
    }
    assert_eq!(assembler.pending_bytes(), 0);
    plains
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn blobs_survive_packing_sealing_and_opening(
        lengths in proptest::collection::vec(0usize..3_000_000, 1..12), data in 1u8..6, seed: u64,
    ) {
        let plains: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(at, length)| noise(*length, seed ^ at as u64)).collect();
        let blobs: Vec<Blob> = plains.iter().map(|plain| blob(plain, BlobKind::Data)).collect();
        let segments = pack(Code::new(data, data)?, &blobs);
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
    let segments = pack(Code::new(1, 1).expect("valid"), &[blob(&plain, BlobKind::Data)]);
    assert!(segments.len() >= 4);
    assert_eq!(unpack(&segments), vec![plain]);
}

#[test]
fn a_small_run_is_one_small_segment_and_a_large_one_separates_trees() {
    let code = Code::new(4, 4).expect("valid");
    let (data, tree) = (blob(&noise(5000, 1), BlobKind::Data), blob(&noise(300, 2), BlobKind::Tree));
    let segments = pack(code, &[data.clone(), tree.clone()]);
    assert_eq!(segments.len(), 1);
    let manifest = &segments[0].manifest;
    assert_eq!((manifest.code().data(), manifest.code().total(), manifest.shard_len().get()), (1, 5, 8192));
    let large = blob(&noise(4 << 20, 3), BlobKind::Data);
    for segment in pack(code, &[data, tree, large]) {
        let kinds: std::collections::HashSet<_> =
            segment.directory.entries().iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds.len(), 1);
    }
}

#[test]
fn the_segment_comes_back_from_any_k_shards() {
    let code = Code::new(3, 4).expect("valid");
    let plain = noise(200_000, 4);
    let segment = pack(code, &[blob(&plain, BlobKind::Data)]).remove(0);
    let code = segment.manifest.code();
    let data: Vec<bytes::Bytes> =
        code.indices().take(code.data().into()).map(|index| segment.data_shard(index)).collect();
    let views: Vec<&[u8]> = data.iter().map(AsRef::as_ref).collect();
    let parity = crate::erasure::Encoder::new().encode(code, &views).expect("encodes");
    for (shard, id) in
        data.iter().map(AsRef::as_ref).chain(parity.iter().map(Vec::as_slice)).zip(segment.manifest.ids())
    {
        assert_eq!(crate::proof::shard_id(shard), *id);
    }
    let present: Vec<(ShardIndex, &[u8])> =
        code.indices().skip(code.data().into()).zip(parity.iter().map(Vec::as_slice)).collect();
    let restored = restore_data(code, &present[..code.data().into()]).expect("restores").concat();
    assert_eq!(restored, segment.ciphertext);
}

#[test]
fn an_altered_extent_or_directory_or_a_foreign_root_is_noticed() {
    let plain = noise(100_000, 5);
    let segment = pack(Code::new(2, 2).expect("valid"), &[blob(&plain, BlobKind::Data)]).remove(0);
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
    let blobs: Vec<Blob> = plains.iter().map(|plain| blob(plain, BlobKind::Data)).collect();
    let segments = pack(Code::new(2, 2).expect("valid"), &blobs);
    assert!(segments.len() > 1);
    let index = crate::index::BlobIndex::new(crate::kv::MemoryKv::default());
    for segment in &segments {
        let open = OpenSegment::open(&root(), segment.ciphertext.to_vec()).expect("opens");
        index.insert(&segment.manifest, open.directory()).expect("inserted");
    }
    for blob in &blobs {
        assert!(index.contains(&blob.id).expect("reads"));
    }
}

#[test]
fn parts_of_different_splits_do_not_combine() {
    let plain = noise(3 << 20, 6);
    let code = Code::new(1, 1).expect("valid");
    let (first, second) =
        (pack(code, &[blob(&plain, BlobKind::Data)]), pack(code, &[blob(&plain, BlobKind::Data)]));
    let mut assembler = BlobAssembler::new(root().blob_id_key());
    for (at, segment) in [&first[0], &second[1], &first[2]].into_iter().enumerate() {
        let open = OpenSegment::open(&root(), segment.ciphertext.to_vec()).expect("opens");
        let entry = &open.directory().entries()[0];
        assert_eq!(usize::from(entry.part), at);
        assert_eq!(assembler.add(entry, open.extent(entry).expect("checked")).expect("fits"), None);
    }
}

#[test]
fn a_segment_of_known_nonce_and_contents_is_what_the_fixture_says() {
    let blob = Blob {
        id: root().blob_id_key().id(b"hello"),
        kind: BlobKind::Data,
        raw_len: 5,
        stored: b"hello".to_vec(),
    };
    let mut packer = RunPacker::new(Code::new(1, 1).expect("valid"), Redundancy::MIN);
    assert!(packer.push(&blob).expect("packs").is_empty());
    let mut unsealed = packer.finish().remove(0);
    unsealed.nonce = [7; NONCE_LEN];
    unsealed.buffer[..NONCE_LEN].copy_from_slice(&[7; NONCE_LEN]);
    unsealed.entries[0].split = [7; NONCE_LEN];
    let sealed = Sealer::new(&root()).seal(unsealed).expect("seals");
    let text = format!("segment {}\n{}", sealed.manifest.id(), crate::vectors::hex(&sealed.ciphertext));
    crate::vectors::check("segment.txt", &text);
}
