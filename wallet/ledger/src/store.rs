//! The ledger on the disk.
//!
//! ```text
//! <dir>/journal     every record, framed and checksummed, synced before it is acknowledged
//! <dir>/reads/      sled: records by number, numbers by account, and how far both go
//! ```
//!
//! The copies in sled carry the hash of all records up to the newest they have. When the journal does
//! not come to that hash, or sled does not open, they are made anew.

use parking_lot::{Mutex, MutexGuard};
use std::path::{Path, PathBuf};

use fincrypt_protocol::cbor::CborError;
use fincrypt_protocol::{UnixTime, domain};
use fincrypt_state::journal::{Journal, JournalError};
use fincrypt_state::kv::{Batch, KeyValue, KvError, Tree};
use fincrypt_state::state::State;
use fincrypt_state::sync::GroupSync;

use super::account::Account;
use super::audit::Audit;
use super::books::{Books, Problem};
use super::event::{Event, MAX_RECORD, Record};
use super::plan::{BooksError, Plan};

/// Records by number.
const RECORDS: Tree = Tree("records");
/// Accounts and numbers.
const BY_ACCOUNT: Tree = Tree("by-account");
/// How far the copies go: number and hash.
const MARK: Tree = Tree("mark");
const MARK_KEY: &[u8] = b"mark";
/// Changes of the copies that are made together when they are made anew.
const CHUNK: usize = 1024;

type Hash = [u8; 32];

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An entry did not reach the disk; nothing is recorded until the next start.
    #[error("the ledger's journal cannot be written: stop, and see to the disk")]
    Sync(#[source] std::io::Error),
    /// The copies for reading failed.
    #[error(transparent)]
    Reads(#[from] KvError),
    /// A record could not be encoded or decoded.
    #[error("record {number} of the ledger's journal is not one of this version")]
    Record {
        /// Its number.
        number: u64,
        /// Why.
        source: CborError,
    },
    /// The journal has a record that does not follow on those before.
    #[error("record {number} of the ledger's journal contradicts those before")]
    Contradicts {
        /// Its number.
        number: u64,
        /// How, if the books say it.
        source: Option<BooksError>,
    },
    /// The journal ends before entries that were written, and no crash explains it.
    #[error("the ledger's journal ends at entry {found}, and entry {written} was written")]
    Lost {
        /// The newest entry in the journal.
        found: u64,
        /// The newest entry written.
        written: u64,
    },
    /// The books do not hold together.
    #[error("the ledger does not hold together: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unsound(Vec<Problem>),
    /// The event was refused.
    #[error(transparent)]
    Books(#[from] BooksError),
}

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Entries in the journal.
    pub entries: u64,
    /// Bytes of a torn entry that were cut off its end; it was never acknowledged.
    pub cut: u64,
    /// Whether the copies for reading were made anew.
    pub rebuilt: bool,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// It is entry number so many.
    New(u64),
    /// It was recorded before; nothing changed.
    Known,
}

/// The ledger. One process has it open at a time.
pub struct Ledger {
    dir: PathBuf,
    inner: Mutex<Inner>,
    sync: GroupSync,
    reads: State,
}

struct Inner {
    books: Books,
    journal: Journal,
    newest: u64,
    hash: Hash,
}

/// Entries that a crash may lose with a torn one, as one sync is for many. Were more lost, or without a torn
/// one, the journal was emptied or is another's.
const MAX_TORN: u64 = 64;

enum Tried {
    Open(Box<Ledger>, Opened),
    /// The copies do not belong to the journal, of which so many bytes were cut off.
    Stale {
        cut: u64,
    },
}

fn chain(before: &Hash, record: &[u8]) -> Hash {
    domain::LEDGER.hash(&[before, record])
}

fn mark(number: u64, hash: &Hash) -> Vec<u8> {
    [number.to_le_bytes().as_slice(), hash].concat()
}

/// What a record adds to the copies.
fn copy(batch: &mut Batch, number: u64, bytes: &[u8], plan: &Plan) {
    batch.put(RECORDS, number.to_be_bytes(), bytes);
    for account in &plan.touches {
        batch.put(BY_ACCOUNT, [account.key().as_slice(), &number.to_be_bytes()].concat(), Vec::new());
    }
}

/// A journal that is read into books, and into copies from where they end.
pub(super) struct Replay {
    pub(super) books: Books,
    newest: u64,
    hash: Hash,
}

impl Replay {
    pub(super) fn new() -> Self {
        Self { books: Books::default(), newest: 0, hash: [0; 32] }
    }

    /// Takes the next record; what it touches.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Plan, LedgerError> {
        let number = self.newest + 1;
        let record = Record::from_bytes(bytes).map_err(|source| LedgerError::Record { number, source })?;
        let contradicts = |source| LedgerError::Contradicts { number, source };
        if record.number != number {
            return Err(contradicts(None));
        }
        let plan = self.books.plan(&record.event).map_err(|error| contradicts(Some(error)))?;
        let plan = plan.ok_or(contradicts(None))?;
        self.newest = number;
        self.hash = chain(&self.hash, bytes);
        Ok(plan)
    }
}

impl Ledger {
    /// Opens the ledger in `dir`, or begins one, and checks that it holds together.
    ///
    /// # Errors
    /// [`LedgerError`]: nothing may be paid or promised then.
    pub fn open(dir: &Path) -> Result<(Self, Opened), LedgerError> {
        std::fs::create_dir_all(dir).map_err(KvError::Io)?;
        let cut = match Self::try_open(dir)? {
            Tried::Open(ledger, opened) => return Ok((*ledger, opened)),
            Tried::Stale { cut } => cut,
        };
        // The copies are of another journal, or ahead of this one.
        std::fs::remove_dir_all(dir.join("reads")).map_err(KvError::Io)?;
        match Self::try_open(dir)? {
            Tried::Open(ledger, opened) => Ok((*ledger, Opened { cut, rebuilt: true, ..opened })),
            Tried::Stale { .. } => Err(KvError::Corrupt { tree: MARK.0 }.into()),
        }
    }

    /// Opens it, unless the copies have to go first.
    fn try_open(dir: &Path) -> Result<Tried, LedgerError> {
        let (reads, _) = State::open(&dir.join("reads"))?;
        let known = reads.get(MARK, MARK_KEY)?;
        let known_number =
            known.as_ref().and_then(|mark| mark.first_chunk().copied()).map_or(0, u64::from_le_bytes);
        let mut matches = known.as_ref().is_none_or(|known| *known == mark(0, &[0; 32]));
        let (mut replay, mut batch, mut failure) = (Replay::new(), Batch::default(), None);
        let mut take = |bytes: &[u8]| -> Result<(), LedgerError> {
            let plan = replay.take(bytes)?;
            if replay.newest > known_number && matches {
                copy(&mut batch, replay.newest, bytes, &plan);
                if batch.changes().len() >= CHUNK {
                    batch.put(MARK, MARK_KEY, mark(replay.newest, &replay.hash));
                    reads.apply(&std::mem::take(&mut batch))?;
                }
            } else if replay.newest == known_number {
                matches = known.as_deref() == Some(&mark(replay.newest, &replay.hash));
            }
            replay.books.apply(plan);
            Ok(())
        };
        let (journal, replayed) = Journal::open(&dir.join("journal"), MAX_RECORD, |bytes| {
            if failure.is_none() {
                failure = take(bytes).err();
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        let lost = known_number.saturating_sub(replay.newest);
        if lost > MAX_TORN || (lost > 0 && replayed.cut == 0) {
            return Err(LedgerError::Lost { found: replay.newest, written: known_number });
        }
        if !matches {
            return Ok(Tried::Stale { cut: replayed.cut });
        }
        let Replay { books, newest, hash } = replay;
        let problems = books.check();
        if !problems.is_empty() {
            return Err(LedgerError::Unsound(problems));
        }
        batch.put(MARK, MARK_KEY, mark(newest, &hash));
        reads.apply(&batch)?;
        let sync = GroupSync::new(journal.sync_handle()?);
        let inner = Mutex::new(Inner { books, journal, newest, hash });
        let rebuilt = newest > 0 && known.is_none();
        let opened = Opened { entries: newest, cut: replayed.cut, rebuilt };
        let ledger = Self { dir: dir.to_owned(), inner, sync, reads };
        Ok(Tried::Open(Box::new(ledger), opened))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Writes one event without waiting for the disk; the number to wait for.
    fn append(&self, time: UnixTime, event: &Event) -> Result<Option<(u64, u64)>, LedgerError> {
        let mut inner = self.inner();
        let Some(plan) = inner.books.plan(event)? else { return Ok(None) };
        let number = inner.newest + 1;
        let record = Record { number, time, event: event.clone() };
        let bytes = record.to_bytes().map_err(|source| LedgerError::Record { number, source })?;
        inner.journal.append(&bytes)?;
        let wait = self.sync.appended();
        inner.newest = number;
        inner.hash = chain(&inner.hash, &bytes);
        let mut batch = Batch::default();
        copy(&mut batch, number, &bytes, &plan);
        batch.put(MARK, MARK_KEY, mark(number, &inner.hash));
        inner.books.apply(plan);
        self.reads.apply(&batch)?;
        Ok(Some((number, wait)))
    }

    /// Records an event, durably when this returns. Callers at the same time share a sync.
    ///
    /// # Errors
    /// [`LedgerError::Books`] if it is refused; any other means that it may not be acted on.
    pub fn record(&self, time: UnixTime, event: &Event) -> Result<Posted, LedgerError> {
        match self.append(time, event)? {
            Some((number, wait)) => {
                self.sync.upto(wait).map_err(LedgerError::Sync)?;
                Ok(Posted::New(number))
            }
            None => Ok(self.known()?),
        }
    }

    /// Records events with one sync for all. Each is by itself: one that is refused leaves the
    /// others as they are.
    ///
    /// # Errors
    /// If the ledger failed: none of them may be acted on.
    pub fn record_all(
        &self,
        time: UnixTime,
        events: &[Event],
    ) -> Result<Vec<Result<Posted, BooksError>>, LedgerError> {
        let mut posted = Vec::with_capacity(events.len());
        for event in events {
            posted.push(match self.append(time, event) {
                Ok(Some((number, _))) => Ok(Posted::New(number)),
                Ok(None) => Ok(Posted::Known),
                Err(LedgerError::Books(refused)) => Err(refused),
                Err(failed) => return Err(failed),
            });
        }
        self.known()?;
        Ok(posted)
    }

    /// Waits for whatever was appended: an event is known durably only if its first record is.
    fn known(&self) -> Result<Posted, LedgerError> {
        self.sync.newest().map_err(LedgerError::Sync)?;
        Ok(Posted::Known)
    }

    /// Looks at the books.
    pub fn books<T>(&self, look: impl FnOnce(&Books) -> T) -> T {
        look(&self.inner().books)
    }

    /// An entry.
    ///
    /// # Errors
    /// If the copies for reading fail.
    pub fn entry(&self, number: u64) -> Result<Option<Record>, LedgerError> {
        let bytes = self.reads.get(RECORDS, &number.to_be_bytes())?;
        let record = bytes.map(|bytes| Record::from_bytes(&bytes)).transpose();
        record.map_err(|source| LedgerError::Record { number, source })
    }

    /// Up to `limit` entries that touch `account`, oldest first, after entry number `after`.
    ///
    /// # Errors
    /// If the copies for reading fail.
    pub fn history(&self, account: Account, after: u64, limit: usize) -> Result<Vec<Record>, LedgerError> {
        let prefix = account.key();
        let from = [prefix.as_slice(), &after.to_be_bytes()].concat();
        let found = self.reads.scan(BY_ACCOUNT, &prefix, Some(&from), limit)?;
        let numbers = found.iter().filter_map(|(key, _)| key.last_chunk().copied().map(u64::from_be_bytes));
        numbers.filter_map(|number| self.entry(number).transpose()).collect()
    }

    /// Reads the whole journal again and checks it, the books and the copies against each other.
    ///
    /// # Errors
    /// If one of them cannot be read at all. What does not hold together is in the report.
    pub fn audit(&self) -> Result<Audit, LedgerError> {
        // Recording waits meanwhile.
        let inner = self.inner();
        let mut replay = Replay::new();
        let mut problems = Vec::new();
        inner.journal.records().read(|bytes| {
            let plan = replay.take(bytes)?;
            replay.books.apply(plan);
            let number = replay.newest;
            if self.reads.get(RECORDS, &number.to_be_bytes())?.as_deref() != Some(bytes) {
                problems.push(Problem::Reads { number });
            }
            Ok::<(), LedgerError>(())
        })?;
        if replay.books != inner.books {
            problems.push(Problem::Journal);
        }
        problems.extend(inner.books.check());
        Ok(Audit::new(&inner.books, inner.newest, problems))
    }

    /// The folder it is in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
