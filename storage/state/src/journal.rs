//! An append-only log of records: checksummed, and durable when synced.
//!
//! ```text
//! file:    magic 8 │ record │ record │ …
//! record:  length u32le │ checksum 8 (BLAKE3 of length ‖ bytes) │ bytes
//! ```
//!
//! A record that a crash cut short at the end is dropped on opening, with a warning. Damage before the end
//! is an error: records after it exist, so something acknowledged would be lost. They are looked for behind
//! a length that reaches to the end or beyond it, too: the length itself may be damaged.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::durable;

mod replay;

const MAGIC: &[u8; 8] = b"FINLOG\x00\x01";
const CHECKSUM: usize = 8;
const HEAD: usize = 4 + CHECKSUM;

/// A journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused.
    #[error("cannot read or write the journal {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{0} is not a journal of this version")]
    Format(PathBuf),
    /// A record before the end was altered.
    #[error("the journal {path} is damaged at byte {offset}, with records after it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
    },
    /// A record longer than the journal takes.
    #[error("a record of {0} bytes is too long for the journal")]
    TooLong(usize),
}

/// What opening found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Whole records.
    pub records: u64,
    /// Bytes of a torn record that were cut off the end.
    pub cut: u64,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    max_record: u32,
}

fn checksum(length: [u8; 4], bytes: &[u8]) -> [u8; CHECKSUM] {
    let hash = blake3::Hasher::new().update(&length).update(bytes).finalize();
    let mut out = [0; CHECKSUM];
    out.copy_from_slice(&hash.as_bytes()[..CHECKSUM]);
    out
}

/// One record as it stands in the file.
fn framed(record: &[u8], max_record: u32) -> Result<Vec<u8>, JournalError> {
    let length = u32::try_from(record.len()).ok().filter(|length| *length <= max_record);
    let length = length.ok_or(JournalError::TooLong(record.len()))?.to_le_bytes();
    Ok([length.as_slice(), &checksum(length, record), record].concat())
}

/// Where a journal is written anew.
fn new_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

impl Journal {
    /// Opens or makes the journal at `path` and calls `replay` with every whole record.
    ///
    /// # Errors
    /// [`JournalError`] if the file cannot be used.
    pub fn open(
        path: &Path,
        max_record: u32,
        mut replay: impl FnMut(&[u8]),
    ) -> Result<(Self, Replayed), JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        match std::fs::remove_file(new_path(path)) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "a rewriting that a crash interrupted is dropped")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let end = file.metadata().map_err(io)?.len();
        let mut journal = Self { path: path.to_owned(), file, length: 0, max_record };
        if end < MAGIC.len() as u64 {
            // New, or torn while it was made.
            journal.warn_of_cut(end);
            journal.begin()?;
            return Ok((journal, Replayed::default()));
        }
        let replayed = journal.replay(end, &mut replay)?;
        journal.warn_of_cut(replayed.cut);
        journal.cut(end - replayed.cut, end)?;
        Ok((journal, replayed))
    }

    fn warn_of_cut(&self, bytes: u64) {
        if bytes > 0 {
            tracing::warn!(path = %self.path.display(), bytes, "journal_cut");
        }
    }

    /// Makes an empty journal of the file, durably.
    fn begin(&mut self) -> Result<(), JournalError> {
        self.file.set_len(0).map_err(|source| self.io(source))?;
        self.write(MAGIC)?;
        self.sync()?;
        let Some(parent) = self.path.parent() else { return Ok(()) };
        durable::sync_dir(parent).map_err(|source| self.io(source))
    }

    /// Cuts the file, which ends at `end`, off at `length`, durably, and goes on there.
    fn cut(&mut self, length: u64, end: u64) -> Result<(), JournalError> {
        let cut = || {
            if length < end {
                self.file.set_len(length)?;
                self.file.sync_data()?;
            }
            (&self.file).seek(SeekFrom::Start(length))
        };
        cut().map_err(|source| self.io(source))?;
        self.length = length;
        Ok(())
    }

    /// Where the records so far can be read again.
    #[must_use]
    pub fn records(&self) -> Records {
        Records { path: self.path.clone(), length: self.length, max_record: self.max_record }
    }

    /// What the system said of this journal's file.
    fn io(&self, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), source }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        if let Err(error) = self.file.write_all(bytes) {
            // What was written of it must not stand before the next record.
            self.file.set_len(self.length).map_err(io)?;
            self.file.seek(SeekFrom::Start(self.length)).map_err(io)?;
            return Err(io(error));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Appends a record. It is durable after the next [`Journal::sync`].
    ///
    /// # Errors
    /// If it is too long or cannot be written; the journal is as before then.
    pub fn append(&mut self, record: &[u8]) -> Result<(), JournalError> {
        let framed = framed(record, self.max_record)?;
        self.write(&framed)
    }

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|source| self.io(source))
    }

    /// Another handle to the file, for syncing without holding up writers.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync_handle(&self) -> Result<File, JournalError> {
        self.file.try_clone().map_err(|source| self.io(source))
    }

    /// Bytes in the file.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Replaces all records by these, which are written as they come. Before the new journal is whole
    /// and synced the old one stays in its place; [`Journal::sync_name`] must follow.
    ///
    /// # Errors
    /// If a record is an error or too long, or the file cannot be written; the journal is as before then.
    pub fn rewrite<E: From<JournalError>>(
        &mut self,
        records: impl Iterator<Item = Result<Vec<u8>, E>>,
    ) -> Result<(), E> {
        let new = new_path(&self.path);
        let io = |source| JournalError::Io { path: new.clone(), source };
        let write = || -> Result<(File, u64), E> {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true).mode(0o600);
            let mut out = BufWriter::new(options.open(&new).map_err(io)?);
            out.write_all(MAGIC).map_err(io)?;
            let mut length = MAGIC.len() as u64;
            for record in records {
                let framed = framed(&record?, self.max_record)?;
                out.write_all(&framed).map_err(io)?;
                length += framed.len() as u64;
            }
            let file = out.into_inner().map_err(|error| io(error.into_error()))?;
            file.sync_all().map_err(io)?;
            std::fs::rename(&new, &self.path).map_err(io)?;
            Ok((file, length))
        };
        match write() {
            Ok((file, length)) => {
                (self.file, self.length) = (file, length);
                Ok(())
            }
            Err(error) => {
                // What was written of it is of no use; that it may stay behind does no harm.
                let _ = std::fs::remove_file(&new);
                Err(error)
            }
        }
    }

    /// Makes it durable that a rewritten journal has taken the old one's place. Until then a power cut
    /// may bring the old one back.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync_name(&self) -> Result<(), JournalError> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        durable::sync_dir(parent.unwrap_or(Path::new("."))).map_err(|source| self.io(source))
    }
}

/// The records that a journal had at some time.
#[derive(Debug, Clone)]
pub struct Records {
    path: PathBuf,
    length: u64,
    max_record: u32,
}

impl Records {
    /// Calls `each` with every record, in order.
    ///
    /// # Errors
    /// If the file cannot be read or was altered, or what `each` returns.
    pub fn read<E: From<JournalError>>(&self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        let mut reader = BufReader::new(File::open(&self.path).map_err(io)?);
        reader.seek(SeekFrom::Start(MAGIC.len() as u64)).map_err(io)?;
        let mut offset = MAGIC.len() as u64;
        let mut bytes = Vec::new();
        while offset < self.length {
            let damaged = JournalError::Damaged { path: self.path.clone(), offset };
            let mut head = [0; HEAD];
            reader.read_exact(&mut head).map_err(io)?;
            let mut stated = [0; 4];
            stated.copy_from_slice(&head[..4]);
            let length = u32::from_le_bytes(stated);
            if length > self.max_record {
                return Err(damaged.into());
            }
            bytes.resize(length as usize, 0);
            reader.read_exact(&mut bytes).map_err(io)?;
            if checksum(stated, &bytes) != head[4..] {
                return Err(damaged.into());
            }
            each(&bytes)?;
            offset += HEAD as u64 + u64::from(length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(path: &Path) -> Result<(Journal, Replayed, Vec<Vec<u8>>), JournalError> {
        let mut records = Vec::new();
        let (journal, replayed) = Journal::open(path, 1 << 16, |record| records.push(record.to_vec()))?;
        Ok((journal, replayed, records))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_journal_cut_anywhere_keeps_its_whole_records(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..10), cut: u64,
        ) {
            let dir = tempfile::tempdir()?;
            let path = dir.path().join("log");
            let (mut journal, ..) = open(&path)?;
            let mut ends = vec![journal.length()];
            for record in &records {
                journal.append(record)?;
                ends.push(journal.length());
            }
            journal.sync()?;
            let cut = MAGIC.len() as u64 + cut % (journal.length() - MAGIC.len() as u64 + 1);
            journal.file.set_len(cut)?;
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            let (mut journal, _, back) = open(&path)?;
            prop_assert_eq!(&back[..], &records[..whole]);
            let mut again = Vec::new();
            journal.records().read(|record| {
                again.push(record.to_vec());
                Ok::<(), JournalError>(())
            })?;
            prop_assert_eq!(&again, &back);
            journal.append(b"after")?;
            drop(journal);
            let (_, replayed, back) = open(&path)?;
            prop_assert_eq!(back.last().map(Vec::as_slice), Some(b"after".as_slice()));
            prop_assert_eq!(replayed.cut, 0);
        }
    }

    #[test]
    fn the_file_is_what_the_fixture_says() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log");
        let (mut journal, ..) = open(&path).expect("opens");
        journal.append(b"first").expect("appends");
        journal.append(b"").expect("appends");
        fincrypt_vectors::check("journal.txt", &fincrypt_vectors::hex(&std::fs::read(&path).expect("reads")));
    }

    #[test]
    fn damage_before_the_end_is_an_error_and_at_the_end_a_torn_record() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log");
        let (mut journal, ..) = open(&path).expect("opens");
        journal.append(b"first").expect("appends");
        journal.append(b"second").expect("appends");
        drop(journal);
        let good = std::fs::read(&path).expect("reads");
        let mut bad = good.clone();
        bad[MAGIC.len() + HEAD] ^= 1;
        std::fs::write(&path, &bad).expect("writes");
        assert!(matches!(open(&path), Err(JournalError::Damaged { offset: 8, .. })));
        let mut torn = good;
        if let Some(last) = torn.last_mut() {
            *last ^= 1;
        }
        std::fs::write(&path, &torn).expect("writes");
        assert_eq!(open(&path).expect("opens").2, vec![b"first".to_vec()]);
    }

    #[test]
    fn a_damaged_length_with_records_behind_it_is_an_error_and_cuts_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log");
        let (mut journal, ..) = open(&path).expect("opens");
        for record in [&b"first"[..], b"second", b"third"] {
            journal.append(record).expect("appends");
        }
        drop(journal);
        let good = std::fs::read(&path).expect("reads");
        let second = MAGIC.len() + HEAD + b"first".len();
        let to_the_end = (good.len() - second - HEAD) as u8;
        // Beyond the end, and to it exactly.
        for (at, byte) in [(second + 1, 0x40), (second, to_the_end)] {
            let mut bad = good.clone();
            bad[at] = byte;
            std::fs::write(&path, &bad).expect("writes");
            let opened = open(&path).map(drop);
            let here = matches!(opened, Err(JournalError::Damaged { offset, .. }) if offset == second as u64);
            assert!(here, "{opened:?}");
            assert_eq!(std::fs::read(&path).expect("reads"), bad, "a copy may still mend it");
        }
    }

    #[test]
    fn zeros_that_a_power_cut_left_at_the_end_are_cut_off() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log");
        let (mut journal, ..) = open(&path).expect("opens");
        journal.append(b"first").expect("appends");
        let length = journal.length();
        journal.file.set_len(length + 5000).expect("grows");
        drop(journal);
        let (_, replayed, back) = open(&path).expect("opens");
        assert_eq!((back, replayed.cut), (vec![b"first".to_vec()], 5000));
    }

    #[test]
    fn a_rewritten_journal_has_the_new_records_and_takes_more() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log");
        let (mut journal, ..) = open(&path).expect("opens");
        journal.append(b"old").expect("appends");
        let new = || std::iter::once(Ok::<_, JournalError>(b"new".to_vec()));
        journal.rewrite(new()).expect("rewrites");
        journal.sync_name().expect("syncs");
        journal.append(b"more").expect("appends");
        assert!(journal.append(&vec![0; 1 << 17]).is_err());
        drop(journal);
        assert_eq!(open(&path).expect("opens").2, vec![b"new".to_vec(), b"more".to_vec()]);
    }
    #[test]
    fn a_rewriting_that_fails_or_is_cut_short_leaves_the_old_journal() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log");
        let (mut journal, ..) = open(&path).expect("opens");
        journal.append(b"old").expect("appends");
        let stop = [Ok(b"new".to_vec()), Err(JournalError::TooLong(0)), Ok(b"never".to_vec())];
        assert!(matches!(journal.rewrite(stop.into_iter()), Err(JournalError::TooLong(0))));
        journal.append(b"more").expect("appends");
        drop(journal);
        // A crash leaves what was written so far, whole records or not.
        let whole = std::fs::read(&path).expect("reads");
        for torn in [0, 3, MAGIC.len(), whole.len() - 1] {
            std::fs::write(new_path(&path), &whole[..torn]).expect("writes");
            assert_eq!(open(&path).expect("opens").2, vec![b"old".to_vec(), b"more".to_vec()]);
            assert!(!new_path(&path).exists(), "nothing stays behind");
        }
    }
}
