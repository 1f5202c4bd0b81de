//! What is stored already is not read or sent again.

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use fincrypt_e2e::{DEADLINE, Plan, seed};
use fincrypt_testkit::{SeededRandom, wait_until};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::world;

const LARGE: usize = 100_000_000;

/// Notices when files of one folder are opened or read.
pub(crate) struct Watch(OwnedFd);

impl Watch {
    pub(crate) fn new(folder: &Path) -> Self {
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).expect("starts");
        let events = WatchFlags::OPEN | WatchFlags::ACCESS;
        inotify::add_watch(&watch, folder, events).expect("watches");
        Self(watch)
    }

    /// Files that were opened or read since the last call, by name.
    pub(crate) fn touched(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        while let Ok(event) = reader.next() {
            // The folder itself is listed every time.
            if !event.events().contains(ReadFlags::ISDIR)
                && let Some(name) = event.file_name()
            {
                names.push(name.to_string_lossy().into_owned());
            }
        }
        names.sort();
        names.dedup();
        names
    }
}

/// Waits until a change of a file would show in its times: only then is it remembered.
fn wait_until_rested(path: &Path) {
    let changed = fs::metadata(path).expect("there").ctime();
    let rested = wait_until(DEADLINE, || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        now.as_secs() as i64 > changed + 2
    });
    assert!(rested);
}

#[test]
fn only_what_is_new_is_read_and_sent() {
    let world = world("dedup", Plan::small());
    let folder = world.source.join("large");
    fs::create_dir(&folder).expect("made");
    let (file, copy) = (folder.join("file"), folder.join("copy"));
    let mut noise = vec![0; LARGE];
    SeededRandom::new(seed()).fill(&mut noise);
    fs::write(&file, &noise).expect("written");
    drop(noise);
    wait_until_rested(&file);
    let uploaded = |report: &serde_json::Value| report["bytes_uploaded"].as_u64().expect("a number");

    let watch = Watch::new(&folder);
    let first = world.backup();
    assert!(uploaded(&first) >= LARGE as u64, "{first}");
    assert_eq!(watch.touched(), ["file"], "it is seen when a file is read");
    let second = world.backup();
    assert!(uploaded(&second) < 64 << 10, "nothing had changed: {second}");
    assert_eq!(watch.touched(), [""; 0], "what has not changed is not even opened");
    assert_eq!((&second["files"], &second["bytes_in"]), (&first["files"], &first["bytes_in"]));

    fs::copy(&file, &copy).expect("copied");
    let third = world.backup();
    assert!(uploaded(&third) < 1_000_000, "it was stored under another name: {third}");

    let changed = File::options().read(true).write(true).open(&copy).expect("opens");
    let mut byte = [0];
    changed.read_exact_at(&mut byte, LARGE as u64 / 2).expect("read");
    changed.write_all_at(&[!byte[0]], LARGE as u64 / 2).expect("written");
    drop(changed);
    let fourth = world.backup();
    assert!(uploaded(&fourth) < 9_000_000, "one byte had changed: {fourth}");
    assert!(uploaded(&fourth) > 0, "{fourth}");

    let (_, restored) = world.bring_back("new-machine");
    world.assert_equal(&restored);
}
