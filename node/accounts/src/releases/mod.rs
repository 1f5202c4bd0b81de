//! Releases that are pending, durably: when each segment goes, and what an undo or a new put saves.
//!
//! A storage node deletes shards when their release is due. A mediator forgets its records of them
//! after the same delay, and does not count a released segment as kept from the start, as storage
//! may delete it by another clock; it still tells where it lies.

mod carry_out;
mod deletion;

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::limits::MAX_RELEASE_SEGMENTS;
use fincrypt_protocol::record::{Release, Released, Undo};
use fincrypt_protocol::{AccountId, GuardKey, SegmentId, UnixTime, Verified};
use fincrypt_state::kv::Batch;
use fincrypt_state::state::State;
use fincrypt_state::table::{Prefix, Table};

use crate::error::{AccountsError, ReleaseError};
pub use carry_out::CarriedOut;
use deletion::{DeletionState, Verdict};

/// Entries read, and changed in one batch, at once: far below a batch's limit.
const PAGE: usize = 1024;

/// A segment of an account.
type Place = (AccountId, SegmentId);

/// Where a role keeps its releases: a node may be storage and mediator over one state.
#[derive(Debug)]
pub struct Tables {
    states: Table<AccountId, DeletionState>,
    /// When each marked segment goes; none if it was stored again after everything was released, and
    /// stays.
    marks: Table<Place, Option<UnixTime>>,
}

impl Tables {
    const fn new(states: &'static str, marks: &'static str) -> Self {
        Self { states: Table::new(states, 512), marks: Table::new(marks, 16) }
    }
}

/// A storage node's.
pub const AT_STORAGE: &Tables = &Tables::new("releases", "released");
/// A mediator's.
pub const AT_MEDIATOR: &Tables = &Tables::new("mediated_releases", "mediated_released");

/// What is deleted when a release is due.
pub trait Holdings {
    /// Why what is held could not be looked at or removed.
    type Error: From<AccountsError>;

    /// Whether anything is held of a segment.
    fn holds(&self, account: &AccountId, segment: &SegmentId) -> Result<bool, Self::Error>;
    /// Segments of which something is held for the account, in order, after `after`: a page of
    /// them; none if there are no more.
    fn segments(&self, account: &AccountId, after: Option<&SegmentId>)
    -> Result<Vec<SegmentId>, Self::Error>;
    /// Removes what is held of a segment; the bytes that became free.
    fn remove(&self, account: &AccountId, segment: &SegmentId) -> Result<u64, Self::Error>;
    /// Makes removals durable, before the releases that asked for them are forgotten.
    fn settle(&self) -> Result<(), Self::Error>;
}

/// What of an account is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    /// Everything but these segments.
    AllBut(Vec<SegmentId>),
    /// These segments.
    Some(Vec<SegmentId>),
}

/// Pending releases of all accounts; clones share them.
#[derive(Clone)]
pub struct Releases {
    state: State,
    tables: &'static Tables,
    delay: Duration,
    /// Held while a decision is taken and becomes durable, and while one segment is removed: a
    /// segment that is put again is either spared, or removed before and stored anew.
    deciding: Arc<Mutex<()>>,
}

impl Releases {
    /// The releases in `tables`, carried out `delay` after they came.
    pub fn new(state: State, tables: &'static Tables, delay: Duration) -> Self {
        Self { state, tables, delay, deciding: Arc::default() }
    }

    fn decide(&self) -> MutexGuard<'_, ()> {
        self.deciding.lock()
    }

    fn deletion(&self, account: &AccountId) -> Result<DeletionState, AccountsError> {
        Ok(self.tables.states.get(&self.state, account)?.unwrap_or_default())
    }

    fn put_deletion(
        &self,
        account: &AccountId,
        deletion: &DeletionState,
        mut batch: Batch,
    ) -> Result<(), AccountsError> {
        self.tables.states.put(&mut batch, account, deletion)?;
        self.commit(&batch)
    }

    fn commit(&self, batch: &Batch) -> Result<(), AccountsError> {
        if batch.is_empty() { Ok(()) } else { Ok(self.state.commit(batch)?) }
    }

    fn put_mark(&self, batch: &mut Batch, place: Place, mark: Option<UnixTime>) -> Result<(), AccountsError> {
        Ok(self.tables.marks.put(batch, &place, &mark)?)
    }

    /// Calls `each` with every mark of an account, or of all, and makes its changes durable.
    fn each_mark<E: From<AccountsError>>(
        &self,
        prefix: &impl Prefix<Place>,
        mut each: impl FnMut(Place, Option<UnixTime>, &mut Batch) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after: Option<Place> = None;
        loop {
            let page = self.tables.marks.scan(&self.state, prefix, after.as_ref(), PAGE);
            let page = page.map_err(AccountsError::from)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            let mut batch = Batch::default();
            for (place, mark) in page {
                each(place, mark, &mut batch)?;
            }
            self.commit(&batch)?;
        }
    }

    /// When a segment goes, if it was released.
    pub fn due(&self, account: &AccountId, segment: &SegmentId) -> Result<Option<UnixTime>, AccountsError> {
        match self.tables.marks.get(&self.state, &(*account, *segment))? {
            Some(due) => Ok(due),
            None => Ok(self.deletion(account)?.everything()),
        }
    }

    /// What of an account is to be deleted: all but what was stored again, or some segments.
    pub fn pending(&self, account: &AccountId) -> Result<Pending, AccountsError> {
        let (mut going, mut staying) = (Vec::new(), Vec::new());
        self.each_mark(account, |(_, segment), mark, _| {
            if mark.is_some() {
                going.push(segment)
            } else {
                staying.push(segment)
            }
            Ok::<_, AccountsError>(())
        })?;
        let everything = self.deletion(account)?.everything().is_some();
        Ok(if everything { Pending::AllBut(staying) } else { Pending::Some(going) })
    }

    /// Takes in a release, durably; when it is due.
    ///
    /// # Errors
    /// Those of [`ReleaseError`], or what `holdings` returns.
    pub fn release<H: Holdings>(
        &self,
        release: &Verified<Release>,
        now: UnixTime,
        holdings: &H,
    ) -> Result<UnixTime, H::Error> {
        let _one = self.decide();
        let account = &release.account;
        let mut deletion = self.deletion(account)?;
        let hash = release.signed().hash();
        let verdict = deletion.release(release.sequence, hash, now, self.delay);
        let due = match verdict.map_err(AccountsError::from)? {
            Verdict::Known(due) => return Ok(due),
            Verdict::New(due) => due,
        };
        let mut batch = Batch::default();
        match &release.what {
            Released::Segments(segments) if segments.len() > MAX_RELEASE_SEGMENTS => {
                return Err(AccountsError::from(ReleaseError::TooMany).into());
            }
            Released::Segments(segments) => {
                for segment in segments {
                    // What is not held is not marked: marks are bounded by what is stored.
                    if holdings.holds(account, segment)? && self.due(account, segment)?.is_none() {
                        self.put_mark(&mut batch, (*account, *segment), Some(due))?;
                    }
                }
            }
            Released::Everything => {
                deletion.release_everything(due);
                // What was stored again after an earlier release goes with this one.
                self.each_mark(account, |place, mark, batch| match mark {
                    Some(_) => Ok(()),
                    None => self.put_mark(batch, place, Some(due)),
                })?;
            }
        }
        self.put_deletion(account, &deletion, batch)?;
        Ok(due)
    }

    /// Takes in an undo, durably; whether it cancels anything. It comes too late for what is being deleted.
    ///
    /// # Errors
    /// [`ReleaseError::OtherGuard`], [`ReleaseError::Stale`], [`ReleaseError::TooFarAhead`].
    pub fn undo(
        &self,
        undo: &Verified<Undo>,
        guard: &GuardKey,
        now: UnixTime,
    ) -> Result<bool, AccountsError> {
        if undo.guard_key != *guard {
            return Err(ReleaseError::OtherGuard.into());
        }
        let _one = self.decide();
        let account = &undo.account;
        let mut deletion = self.deletion(account)?;
        let mut pending = deletion.everything().is_some_and(|due| !deletion.is_too_late(due));
        self.each_mark(account, |_, mark, _| {
            pending |= mark.is_some_and(|due| !deletion.is_too_late(due));
            Ok::<_, AccountsError>(())
        })?;
        match deletion.undo(undo.sequence, undo.signed().hash(), undo.guarded, pending, now)? {
            Verdict::Known(pending) => Ok(pending),
            Verdict::New(pending) => {
                self.cancel(account, &deletion)?;
                Ok(pending)
            }
        }
    }

    /// Cancels, durably, whatever is pending of an account and not being deleted: who signed it has lost
    /// its head key.
    pub fn void(&self, account: &AccountId) -> Result<(), AccountsError> {
        let _one = self.decide();
        let mut deletion = self.deletion(account)?;
        deletion.void();
        self.cancel(account, &deletion)
    }

    /// Cancels the marks that `deletion` cancels, and puts it. A crash in between cancels too much or
    /// leaves exceptions to nothing; whoever asked for it asks again.
    fn cancel(&self, account: &AccountId, deletion: &DeletionState) -> Result<(), AccountsError> {
        let everything = self.deletion(account)?.everything().is_some();
        self.each_mark(account, |place, mark, batch| {
            match mark.filter(|due| !deletion.is_too_late(*due)) {
                // It was stored again since everything was released, and stays.
                Some(_) if everything => self.put_mark(batch, place, None)?,
                Some(_) => self.tables.marks.remove(batch, &place),
                None => {}
            }
            Ok::<_, AccountsError>(())
        })?;
        self.put_deletion(account, deletion, Batch::default())?;
        if deletion.everything().is_some() { Ok(()) } else { self.forget_exceptions(account) }
    }

    /// Forgets what was stored again since everything was released, once that is over.
    fn forget_exceptions(&self, account: &AccountId) -> Result<(), AccountsError> {
        self.each_mark(account, |place, mark, batch| {
            if mark.is_none() {
                self.tables.marks.remove(batch, &place);
            }
            Ok(())
        })
    }

    /// A segment is stored again: no release that is pending now takes it away.
    pub fn want(&self, account: &AccountId, segment: &SegmentId) -> Result<(), AccountsError> {
        if self.due(account, segment)?.is_none() {
            return Ok(());
        }
        let _one = self.decide();
        let mut batch = Batch::default();
        let place = (*account, *segment);
        if self.deletion(account)?.everything().is_some() {
            self.put_mark(&mut batch, place, None)?;
        } else {
            self.tables.marks.remove(&mut batch, &place);
        }
        self.commit(&batch)
    }
}

#[cfg(test)]
mod tests;
