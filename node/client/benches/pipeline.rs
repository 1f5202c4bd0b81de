//! The client's pipeline into nothing, against what its stages cost by themselves, on one core and
//! on two; and what a second core can add at most on this machine.
//!
//! Criterion shows the times; the two ratios at the end are those of the fastest runs of each.

use parking_lot::Mutex;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fincrypt_client::pipeline::Pipeline;
use fincrypt_client::progress::Progress;
use fincrypt_protocol::{Code, Redundancy, UnixTime};
use fincrypt_state::state::State;
use fincrypt_vault::Root;
use fincrypt_vault::blob::{Blob, BlobKind};
use fincrypt_vault::chunk::cut;
use fincrypt_vault::compress::BlobMaker;
use fincrypt_vault::scan::Scanner;
use fincrypt_vault::segment::{RunPacker, Sealer};
use rustix::thread::{CpuSet, sched_setaffinity};
use zeroize::Zeroizing;

/// Bytes of the set: half text, half random.
const SET: usize = 512 << 20;
/// Bytes of one file.
const FILE: usize = 8 << 20;

fn code() -> Code {
    Code::new(4, 4).expect("valid")
}

fn root() -> Root {
    Root::from_bytes(&Zeroizing::new([1; 32]))
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Lines of the node's sources in an order of chance: compresses as source text does.
fn text(state: &mut u64) -> Vec<u8> {
    let sources = [
        include_str!("../src/backup.rs"),
        include_str!("../src/restore/write.rs"),
        include_str!("../src/vault.rs"),
        include_str!("../../net/src/engine/run.rs"),
        include_str!("../../net/src/engine/handle.rs"),
        include_str!("../../mediator/src/handle.rs"),
        include_str!("../../storage-node/src/handle.rs"),
        include_str!("../../fincrypt/src/config/settings.rs"),
        include_str!("../../fincrypt/src/cli/client.rs"),
    ];
    let lines: Vec<&str> = sources.iter().flat_map(|source| source.lines()).collect();
    let mut out = Vec::with_capacity(FILE + 200);
    while out.len() < FILE {
        out.extend_from_slice(lines[random(state) as usize % lines.len()].as_bytes());
        out.push(b'\n');
    }
    out
}

fn make_set(folder: &Path) {
    let mut state = 1;
    for at in 0..SET / FILE {
        let bytes = if at % 2 == 0 {
            text(&mut state)
        } else {
            (0..FILE / 4).flat_map(|_| (random(&mut state) as u32).to_le_bytes()).collect()
        };
        std::fs::write(folder.join(format!("{at}")), bytes).expect("written");
    }
}

/// Runs `work` on a thread, and all that it starts, on these processors.
fn on_cores<T: Send>(cores: std::ops::Range<usize>, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut set = CpuSet::new();
            cores.for_each(|core| set.set(core));
            sched_setaffinity(None, &set).expect("processors can be chosen");
            work()
        });
        thread.join().expect("ends")
    })
}

fn pipeline(source: &Path, cores: usize) -> Duration {
    let home = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open(home.path()).expect("opens");
    let setup = Pipeline {
        root: root(),
        state,
        code: code(),
        redundancy: Redundancy::MIN,
        started: (UnixTime::from_secs(1_000_000_000), 0),
        host: String::new(),
        workers: cores,
        progress: Progress::new("", false),
    };
    let scanner = Scanner::new(vec![source.to_owned()], &[]).expect("valid");
    on_cores(0..cores, move || {
        let begun = Instant::now();
        setup.run(&scanner, &|_| true).expect("runs");
        begun.elapsed()
    })
}

/// All stages one after the other, in one thread, each for the whole of what it has to do.
fn stages(source: &Path, core: usize) -> Duration {
    on_cores(core..core + 1, move || {
        let begun = Instant::now();
        let mut maker = BlobMaker::new(&root()).expect("a maker");
        let mut packer = RunPacker::new(code(), Redundancy::MIN, 2);
        let mut sealer = Sealer::new(&root());
        let mut file = Vec::new();
        for entry in std::fs::read_dir(source).expect("lists") {
            use std::io::Read;
            file.clear();
            let mut opened = std::fs::File::open(entry.expect("there").path()).expect("opens");
            opened.read_to_end(&mut file).expect("reads");
            let mut rest = file.as_slice();
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at(cut(rest));
                rest = tail;
                let id = maker.id(chunk);
                let blob: Blob<'_> = maker.make(id, BlobKind::Data, chunk).expect("made");
                packer.push(&blob, |segment| sealer.seal(segment).map(drop)).expect("packs");
            }
        }
        packer.finish().into_iter().for_each(|segment| drop(sealer.seal(segment).expect("seals")));
        begun.elapsed()
    })
}

/// The same twice at once, on two cores that share nothing but the machine: what a second core can
/// add here at most.
fn stages_twice(source: &Path) -> Duration {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| stages(source, 0));
        scope.spawn(|| stages(source, 1));
    });
    begun.elapsed()
}

fn into_nothing(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    make_set(folder.path());
    let fastest = Mutex::new([Duration::MAX; 4]);
    let measure = |which: usize, work: &dyn Fn() -> Duration, rounds: u64| {
        let mut total = Duration::ZERO;
        for _ in 0..rounds {
            let took = work();
            total += took;
            let mut fastest = fastest.lock();
            fastest[which] = fastest[which].min(took);
        }
        total
    };
    let mut group = c.benchmark_group("into nothing");
    group.throughput(Throughput::Bytes(SET as u64));
    let path = folder.path();
    group.bench_function("stages by themselves, one core", |b| {
        b.iter_custom(|rounds| measure(0, &|| stages(path, 0), rounds));
    });
    group.bench_function("pipeline, one core", |b| {
        b.iter_custom(|rounds| measure(1, &|| pipeline(path, 1), rounds))
    });
    group.bench_function("pipeline, two cores", |b| {
        b.iter_custom(|rounds| measure(2, &|| pipeline(path, 2), rounds))
    });
    group.bench_function("stages by themselves, twice at once", |b| {
        b.iter_custom(|rounds| measure(3, &|| stages_twice(path), rounds));
    });
    group.finish();
    let [stages, one, two, twice] = fastest.into_inner().map(|time| time.as_secs_f64());
    let speed = |seconds: f64| SET as f64 / 1e6 / seconds;
    println!(
        "stages {:.0} MB/s; pipeline on one core {:.0} MB/s, {:.2} of them; on two {:.0} MB/s, {:.2} of one; \
         a second core adds at most {:.2}",
        speed(stages),
        speed(one),
        stages / one,
        speed(two),
        one / two,
        2.0 * stages / twice
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(5)).sample_size(10);
    targets = into_nothing
}
criterion_main!(benches);
