//! Folders full of what real folders have, made from a seed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::random::SeededRandom;

/// Names that programs get wrong.
const ODD_NAMES: [&[u8]; 12] = [
    b" leading and trailing ",
    b"two\nlines",
    b"tab\tand \x1b[31mescape",
    b"-rf",
    b"quote'\"`$HOME",
    b"*?[a-z]",
    b"back\\slash",
    b".hidden",
    b"...",
    "Überraschung ☃ 雪".as_bytes(),
    b"latin-1 \xe9\xff",
    &[b'n'; 255],
];
const FILE_MODES: [u32; 8] = [0o644, 0o644, 0o644, 0o600, 0o755, 0o444, 0o640, 0o4755];
const DIR_MODES: [u32; 5] = [0o755, 0o755, 0o700, 0o1777, 0o555];
const WORDS: [&str; 32] = [
    "the",
    "of",
    "a",
    "and",
    "to",
    "in",
    "is",
    "it",
    "folder",
    "machine",
    "water",
    "between",
    "under",
    "light",
    "evening",
    "window",
    "harbour",
    "letter",
    "seventeen",
    "north",
    "paper",
    "without",
    "winter",
    "glass",
    "story",
    "return",
    "morning",
    "river",
    "quiet",
    "stone",
    "almost",
    "yesterday",
];

/// What a generated folder holds.
#[derive(Debug, Clone, Copy)]
pub struct TreePlan {
    /// Files of up to 8 KiB.
    pub small_files: u32,
    /// Bytes in larger files, about: half text, half random; a fifth of them edited copies.
    pub large_bytes: u64,
    /// Bytes of one large file, at most.
    pub largest: u64,
}

impl TreePlan {
    /// About 64 MB with 2,000 small files.
    pub const EXAMPLE: Self = Self { small_files: 2_000, large_bytes: 56 << 20, largest: 8 << 20 };
    /// About 6 MB: enough for more than one segment.
    pub const TEST: Self = Self { small_files: 150, large_bytes: 5 << 20, largest: 2 << 20 };
}

/// Fills `folder`, which is made if it is missing, with the tree of this plan and seed: nested
/// folders, text and random files, an empty one, one of one byte, one with a hole, odd names,
/// symlinks, hard links, modes, and times with nanoseconds.
///
/// # Errors
/// If something cannot be written. Names that the file system does not take are left out.
pub fn generate(folder: &Path, plan: &TreePlan, seed: u64) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut maker = Maker { random: SeededRandom::new(seed), folders: vec![folder.to_owned()] };
    maker.small_files(plan.small_files)?;
    maker.large_files(plan)?;
    maker.odd_names(folder)?;
    maker.special(folder)?;
    maker.close_folders()
}

struct Maker {
    random: SeededRandom,
    /// Every folder made, parents before children.
    folders: Vec<PathBuf>,
}

impl Maker {
    /// A folder: one of those there are or, now and then, a new one.
    fn folder(&mut self) -> io::Result<PathBuf> {
        let count = self.folders.len() as u64;
        let parent = self.folders[self.random.below(count) as usize].clone();
        if self.random.below(count / 2 + 4) > 3 || parent.components().count() > 64 {
            return Ok(parent);
        }
        let path = parent.join(format!("{}-{count}", self.word()));
        fs::create_dir(&path)?;
        self.folders.push(path.clone());
        Ok(path)
    }

    fn word(&mut self) -> &'static str {
        // The smaller of two draws: early words are common, as in any language.
        let at = self.random.below(32).min(self.random.below(32));
        WORDS[at as usize]
    }

    fn text(&mut self, length: u64) -> Vec<u8> {
        let mut text = Vec::with_capacity(length as usize + 16);
        while (text.len() as u64) < length {
            text.extend_from_slice(self.word().as_bytes());
            text.push(if self.random.below(12) == 0 { b'\n' } else { b' ' });
        }
        text.truncate(length as usize);
        text
    }

    fn noise(&mut self, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        self.random.fill(&mut bytes);
        bytes
    }

    fn content(&mut self, length: u64, text: bool) -> Vec<u8> {
        if text { self.text(length) } else { self.noise(length) }
    }

    fn time(&mut self) -> SystemTime {
        let seconds = 1_000_000_000 + self.random.below(700_000_000);
        SystemTime::UNIX_EPOCH + Duration::new(seconds, self.random.below(1_000_000_000) as u32)
    }

    /// Writes a file with a mode and a time of chance.
    fn file(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(content)?;
        let mode = FILE_MODES[self.random.below(FILE_MODES.len() as u64) as usize];
        file.set_permissions(Permissions::from_mode(mode))?;
        file.set_times(FileTimes::new().set_modified(self.time()))
    }

    fn small_files(&mut self, count: u32) -> io::Result<()> {
        for at in 0..count {
            let folder = self.folder()?;
            let length = self.random.below(8 << 10).min(self.random.below(8 << 10));
            let content = self.content(length, at % 2 == 0);
            let name = format!("{}-{at}.{}", self.word(), if at % 2 == 0 { "txt" } else { "bin" });
            self.file(&folder.join(name), &content)?;
        }
        Ok(())
    }

    fn large_files(&mut self, plan: &TreePlan) -> io::Result<()> {
        let mut left = plan.large_bytes;
        let mut last = Vec::new();
        for at in 0_u32.. {
            if left == 0 {
                break;
            }
            let folder = self.folder()?;
            let half = plan.largest / 2;
            let length = (half + self.random.below(half + 1)).clamp(1, left);
            let content = if at % 5 == 4 && last.len() as u64 <= left {
                // What was there before, with a line at its front: chunks must find their bounds again.
                [b"an edited copy\n".as_slice(), &last].concat()
            } else {
                self.content(length, at % 2 == 0)
            };
            left = left.saturating_sub(content.len() as u64);
            self.file(&folder.join(format!("large-{at}")), &content)?;
            last = content;
        }
        Ok(())
    }

    fn odd_names(&mut self, root: &Path) -> io::Result<()> {
        let folder = root.join("odd names");
        fs::create_dir(&folder)?;
        self.folders.push(folder.clone());
        for name in ODD_NAMES {
            let content = self.text(100);
            let made = self.file(&folder.join(OsString::from_vec(name.to_vec())), &content);
            // Some file systems take only UTF-8.
            match made {
                Err(error) if matches!(error.raw_os_error(), Some(22 | 84 | 92)) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn special(&mut self, root: &Path) -> io::Result<()> {
        let folder = root.join("special");
        for path in [folder.clone(), folder.join("empty folder"), folder.join("deep")] {
            fs::create_dir(&path)?;
            self.folders.push(path);
        }
        self.file(&folder.join("empty"), b"")?;
        self.file(&folder.join("one byte"), b"1")?;
        self.file(&folder.join("zeros"), &vec![0; 100_000])?;
        let mut sparse = File::create_new(folder.join("hole"))?;
        sparse.write_all(b"before")?;
        sparse.seek(SeekFrom::Start(3 << 20))?;
        sparse.write_all(b"after")?;
        sparse.set_times(FileTimes::new().set_modified(self.time()))?;
        let old = File::create_new(folder.join("before 1970"))?;
        old.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH - Duration::from_millis(1_500)))?;
        self.file(&folder.join("first name"), b"one file, two names")?;
        fs::hard_link(folder.join("first name"), folder.join("deep/second name"))?;
        let links = [
            ("relative", "one byte"),
            ("upwards", "../special/empty"),
            ("to a folder", "deep"),
            ("dangling", "nowhere/at all"),
            ("absolute", "/etc/hostname"),
            ("itself", "itself"),
        ];
        for (name, target) in links {
            self.link(&folder.join(name), OsStr::new(target))?;
        }
        self.link(&folder.join("not UTF-8"), &OsString::from_vec(b"\xff\xfe".to_vec()))
    }

    fn link(&mut self, path: &Path, target: &OsStr) -> io::Result<()> {
        symlink(target, path)?;
        let nanos = self.random.below(1_000_000_000) as i64;
        let time = Timespec { tv_sec: 1_234_567_890, tv_nsec: nanos as _ };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Modes and times of folders, from the innermost out: filling a folder changes its time, and
    /// some must not be written to any more.
    fn close_folders(&mut self) -> io::Result<()> {
        while let Some(path) = self.folders.pop() {
            let root = self.folders.is_empty();
            let mode = DIR_MODES[self.random.below(DIR_MODES.len() as u64) as usize];
            let folder = File::open(&path)?;
            // The outermost stays writable: tests change things in it.
            folder.set_permissions(Permissions::from_mode(if root { 0o755 } else { mode }))?;
            folder.set_times(FileTimes::new().set_modified(self.time()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scratch, compare};

    const TINY: TreePlan = TreePlan { small_files: 40, large_bytes: 300_000, largest: 90_000 };

    #[test]
    fn one_seed_makes_one_tree() {
        let scratch = Scratch::new("tree").expect("made");
        let [first, same, other] = ["first", "same", "other"].map(|name| scratch.path().join(name));
        generate(&first, &TINY, 1).expect("made");
        generate(&same, &TINY, 1).expect("made");
        generate(&other, &TINY, 2).expect("made");
        let comparison = compare(&first, &same).expect("compared");
        assert!(comparison.equal(), "{comparison}");
        assert!(comparison.files > 50 && comparison.bytes > 3 << 20);
        assert!(!compare(&first, &other).expect("compared").equal());
    }
}
