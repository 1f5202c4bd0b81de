//! What each stage of writing, keeping and reading a vault costs on one core.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fincrypt_protocol::{Code, Redundancy};
use fincrypt_shards::erasure::{Encoder, restore_data};
use fincrypt_shards::proof::{groups, prove, shard_id, shard_tree};
use fincrypt_vault::Root;
use fincrypt_vault::blob::{Blob, BlobKind};
use fincrypt_vault::chunk::cut;
use fincrypt_vault::compress::{BlobMaker, Unpacker};
use fincrypt_vault::segment::{
    BlobOpener, OpenSegment, RunPacker, SealedSegment, Sealer, SegmentError, Unsealed,
};
use zeroize::Zeroizing;

const MIB: usize = 1 << 20;

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut out = vec![0; length];
    reader.fill(&mut out);
    out
}

/// Lines of this crate's own sources in an order of chance: compresses as source text does.
fn text(length: usize) -> Vec<u8> {
    let sources = [
        include_str!("../../state/src/state.rs"),
        include_str!("../src/index.rs"),
        include_str!("../../state/src/journal.rs"),
        include_str!("../src/head.rs"),
        include_str!("../src/keyfile.rs"),
        include_str!("../src/snapshot.rs"),
        include_str!("../src/scan/walk.rs"),
        include_str!("../src/tree/codec.rs"),
        include_str!("../src/target/dir.rs"),
    ];
    let lines: Vec<&str> = sources.iter().flat_map(|source| source.lines()).collect();
    let mut state = 1_u64;
    let mut out = Vec::with_capacity(length + 200);
    while out.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.extend_from_slice(lines[(state >> 33) as usize % lines.len()].as_bytes());
        out.push(b'\n');
    }
    out.truncate(length);
    out
}

fn root() -> Root {
    Root::from_bytes(&Zeroizing::new([1; 32]))
}

/// A full segment of one code, packed.
fn packed(code: Code) -> Unsealed {
    let mut packer = RunPacker::new(code, Redundancy::MIN, 2);
    let key = root().blob_id_key();
    let mut full = None;
    for seed in 0.. {
        let plain = noise(MIB, seed);
        let blob = Blob { id: key.id(&plain), kind: BlobKind::Data, raw_len: MIB as u32, stored: &plain };
        let pushed = packer.push(&blob, |segment| {
            full = Some(segment);
            Ok::<(), SegmentError>(())
        });
        pushed.expect("packs");
        if let Some(segment) = full {
            return segment;
        }
    }
    unreachable!("a segment is full at some time")
}

fn sealed(code: Code) -> SealedSegment {
    Sealer::new(&root()).seal(packed(code)).expect("seals")
}

fn writing(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    let (text, random) = (text(4 * MIB), noise(4 * MIB, 9));
    group.throughput(Throughput::Bytes(4 * MIB as u64));
    group.bench_function("chunk", |b| b.iter(|| cut(black_box(&random))));
    let mut maker = BlobMaker::new(&root()).expect("a maker");
    group.bench_function("blob id", |b| b.iter(|| maker.id(black_box(&random))));
    let mut out = Vec::new();
    for (name, plain) in [("compress text", &text[..MIB]), ("compress random", &random[..MIB])] {
        group.throughput(Throughput::Bytes(MIB as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                maker.pack(black_box(plain), &mut out).expect("packs")
            });
        });
    }
    for (data, parity) in [(4, 4), (10, 10), (15, 15)] {
        let code = Code::new(data, parity).expect("valid");
        let bytes = usize::from(data) * MIB;
        group.throughput(Throughput::Bytes(bytes as u64));
        let mut sealer = Sealer::new(&root());
        group.bench_function(format!("seal {data}/{}", data + parity), |b| {
            b.iter_batched(
                || packed(code),
                |segment| sealer.seal(segment).expect("seals"),
                BatchSize::PerIteration,
            );
        });
        let shards: Vec<Vec<u8>> = (0..data).map(|seed| noise(MIB, seed.into())).collect();
        let views: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
        let mut encoder = Encoder::new();
        group.bench_function(format!("encode {data}/{}", data + parity), |b| {
            b.iter(|| {
                encoder.encode_stripes(code, black_box(&views), |_, stripe| {
                    black_box(stripe.len());
                })
            });
        });
    }
    group.finish();
}

fn keeping(c: &mut Criterion) {
    let mut group = c.benchmark_group("keep");
    let shard = noise(MIB, 3);
    group.throughput(Throughput::Bytes(MIB as u64));
    group.bench_function("shard id", |b| b.iter(|| shard_id(black_box(&shard))));
    group.bench_function("shard id and tree", |b| b.iter(|| shard_tree(black_box(&shard))));
    let tree = groups(&shard);
    let length = fincrypt_protocol::ShardLen::FULL;
    group.throughput(Throughput::Elements(1));
    group.bench_function("prove a leaf", |b| {
        b.iter(|| prove(length, 37, black_box(&shard[2 * 16384..3 * 16384]), &tree).expect("proves"));
    });
    let (id, proof) =
        (shard_id(&shard), prove(length, 37, &shard[2 * 16384..3 * 16384], &tree).expect("proves"));
    group.bench_function("verify a proof", |b| b.iter(|| proof.verify(black_box(&id), length, 37)));
    group.finish();
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    let code = Code::new(4, 4).expect("valid");
    let segment = sealed(code);
    group.throughput(Throughput::Bytes(segment.ciphertext.len() as u64));
    group.bench_function("open and check a segment", |b| {
        let mut opener = BlobOpener::new(root().blob_id_key()).expect("an opener");
        b.iter_batched(
            || segment.ciphertext.to_vec(),
            |ciphertext| {
                let open = OpenSegment::open(&root(), ciphertext).expect("opens");
                for entry in open.directory().entries().iter().filter(|entry| entry.parts == 1) {
                    let extent = open.extent(entry).expect("checked");
                    black_box(opener.open(entry, &extent).expect("right"));
                }
            },
            BatchSize::PerIteration,
        );
    });
    let data: Vec<Vec<u8>> = segment.ciphertext.chunks(MIB).map(<[u8]>::to_vec).collect();
    let views: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let parity = Encoder::new().encode(code, &views).expect("encodes");
    let present: Vec<_> = code.indices().skip(4).zip(parity.iter().map(Vec::as_slice)).collect();
    group.bench_function("rebuild 4 of 8 from parity", |b| {
        b.iter(|| restore_data(code, black_box(&present)).expect("restores"));
    });
    let plain = text(MIB);
    let (mut maker, mut stored) = (BlobMaker::new(&root()).expect("a maker"), Vec::new());
    maker.pack(&plain, &mut stored).expect("packs");
    let mut unpacker = Unpacker::new().expect("an unpacker");
    group.throughput(Throughput::Bytes(MIB as u64));
    group.bench_function("decompress text", |b| {
        b.iter(|| unpacker.unpack(black_box(&stored), MIB as u32).expect("unpacks").len());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500)).sample_size(20);
    targets = writing, keeping, reading
}
criterion_main!(benches);
