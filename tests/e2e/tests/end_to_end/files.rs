//! What comes back is what was there: files of every kind and size.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fincrypt_e2e::{Plan, seed};
use fincrypt_testkit::{TreePlan, compare, generate};

use crate::dedup::Watch;
use crate::{text, world};

const MIB: u64 = 1 << 20;
/// What files that grow begin with: enough to be read for a while.
const LENGTH: u64 = 64 * MIB;

/// A file of 64 MiB with holes at its begin and end and between its data.
fn write_sparse(path: &Path) {
    let mut file = File::create_new(path).expect("made");
    for at in [10, 11, 30] {
        file.seek(SeekFrom::Start(at * MIB)).expect("found");
        file.write_all(&vec![at as u8; 300_000]).expect("written");
    }
    file.set_len(64 * MIB).expect("set");
    file.sync_all().expect("synced");
}

#[test]
fn attributes_and_holes_come_back_with_everything_else() {
    let world = world("attributes", Plan::default());
    let folder = world.source.join("marked");
    fs::create_dir(&folder).expect("made");
    write_sparse(&folder.join("sparse"));
    File::create_new(folder.join("only a hole")).and_then(|file| file.set_len(9 * MIB)).expect("made");
    fs::write(folder.join("file"), "with attributes").expect("written");
    fs::hard_link(folder.join("file"), folder.join("second name")).expect("linked");
    let marks: [(&str, &[u8]); 3] =
        [("user.empty", b""), ("user.bytes", b"\x00\xff\n"), ("user.long", &[7; 1000])];
    for path in [&folder, &folder.join("file")] {
        for (name, value) in marks {
            xattr::set(path, name, value).expect("the file system takes attributes");
        }
    }
    let report = world.backup();
    assert_eq!(report["skipped"].as_array().map(Vec::len), Some(0), "{report}");
    assert!(report["bytes_new"].as_u64() < Some(16 * MIB), "holes are not read: {report}");
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
    assert_eq!(xattr::get(restored.join("marked"), "user.bytes").expect("read").as_deref(), Some(marks[1].1));
}

#[test]
fn twenty_thousand_small_files_come_back() {
    let tree = TreePlan { small_files: 20_000, large_bytes: 0, largest: 0 };
    let world = world("many", Plan { tree, ..Plan::default() });
    let report = world.backup();
    assert!(report["files"].as_u64() > Some(20_000), "{report}");
    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
    // What changed among them is found among them.
    generate(&world.source.join("more"), &TreePlan { small_files: 10, ..tree }, seed()).expect("made");
    let report = world.backup();
    assert!(report["bytes_uploaded"].as_u64() < Some(4 * MIB), "only the news are sent: {report}");
    let target = world.path("again");
    world.ok(&world.owner, &["restore", "latest", "--target", text(&target), "source/more"]);
    let comparison = compare(&world.source.join("more"), &target.join("source/more")).expect("compared");
    assert!(comparison.equal() && comparison.files > 10, "{comparison}");
}

#[test]
fn files_that_grow_faster_than_they_are_read_come_back_as_they_were_at_some_moment() {
    let world = world("growing", Plan::small());
    let (log, image) = (world.source.join("log"), world.source.join("image"));
    for path in [&log, &image] {
        fs::write(path, vec![b'a'; LENGTH as usize]).expect("written");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers = {
        let mut growing = File::options().append(true).open(&log).expect("opens");
        let grown = File::options().write(true).open(&image).expect("opens");
        let (stop, watch) = (Arc::clone(&stop), Watch::new(&world.source));
        std::thread::spawn(move || {
            let (mut opened, mut step) = (false, 0_u64);
            while !stop.load(Ordering::Relaxed) {
                writeln!(growing, "line {step}").expect("written");
                // From when it is read, it grows by more than any disk brings: whoever reads to its
                // end reads on and on.
                opened = opened || watch.touched().contains(&"image".to_owned());
                if opened && step < 1 << 18 {
                    step += 1;
                    grown.set_len(LENGTH + step * 16 * MIB).expect("set");
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            opened
        })
    };
    let limited = world.owner.with_limit(Duration::from_secs(30));
    let outcome = limited.run(["backup"]);
    stop.store(true, Ordering::Relaxed);
    assert!(writers.join().expect("no panic"), "it was read meanwhile");
    let outcome = outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(outcome.code, Some(0 | 3)), "{}", outcome.stderr);

    let restored = world.restore(&world.owner, "latest", "target");
    for path in [&log, &image] {
        let name = path.file_name().expect("a name");
        let length = fs::metadata(restored.join(name)).expect("restored").len();
        assert!((LENGTH..2 * LENGTH).contains(&length), "{length} bytes of {}", path.display());
        let got = fs::read(restored.join(name)).expect("restored");
        let mut now = vec![0; got.len()];
        File::open(path).expect("opens").read_exact(&mut now).expect("as long at least");
        assert!(got == now, "{} is no prefix of what it became", path.display());
    }
    // Once they rest, they are taken whole: what was read in between is not believed to be all.
    File::options().write(true).open(&image).and_then(|file| file.set_len(LENGTH + 1)).expect("cut");
    world.backup();
    let restored = world.restore(&world.owner, "latest", "at-rest");
    world.assert_equal(&restored);
}
