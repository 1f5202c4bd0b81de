//! Releases that are pending, durably: when each segment goes, and what an undo or a new put saves.
//!
//! A storage node deletes shards when their release is due. A mediator forgets its records of them
//! after the same delay, and does not count a released segment as kept from the start, as storage
//! may delete it by another clock; it still tells where it lies.

mod standing;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fincrypt_protocol::limits::MAX_RELEASE_SEGMENTS;
use fincrypt_protocol::record::{Release, Released, Undo};
use fincrypt_protocol::{AccountId, GuardKey, Refusal, SegmentId, UnixTime, Verified, cbor};
use fincrypt_state::kv::{Batch, Entries, KeyValue, Tree};
use fincrypt_state::state::State;

use crate::accounts::failed;
use standing::{Standing, Verdict};

/// The most bytes of a [`Standing`].
const MAX_STANDING: usize = 512;
/// Entries read, and changed in one batch, at once: far below a batch's limit.
const PAGE: usize = 1024;

/// Where a role keeps its releases: a node may be storage and mediator over one state.
#[derive(Debug, Clone, Copy)]
pub struct Trees {
    /// `account` → [`Standing`].
    standings: Tree,
    /// `account ‖ segment` → when it goes, `u64le`; 0 if it was stored again after everything was
    /// released, and stays.
    marks: Tree,
}

/// A storage node's.
pub const AT_STORAGE: Trees = Trees { standings: Tree("releases"), marks: Tree("released") };
/// A mediator's.
pub const AT_MEDIATOR: Trees =
    Trees { standings: Tree("mediated_releases"), marks: Tree("mediated_released") };

/// What is deleted when a release is due.
pub trait Holdings {
    /// Whether anything is held of a segment.
    fn holds(&self, account: &AccountId, segment: &SegmentId) -> Result<bool, Refusal>;
    /// Segments of which something is held for the account, in order, after `after`: a page of
    /// them; none if there are no more.
    fn segments(&self, account: &AccountId, after: Option<&SegmentId>) -> Result<Vec<SegmentId>, Refusal>;
    /// Removes what is held of a segment; the bytes that became free.
    fn remove(&self, account: &AccountId, segment: &SegmentId) -> Result<u64, Refusal>;
    /// Makes removals durable, before the releases that asked for them are forgotten.
    fn settle(&self) -> Result<(), Refusal>;
}

/// What of an account is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    /// Everything but these segments.
    AllBut(Vec<SegmentId>),
    /// These segments.
    Some(Vec<SegmentId>),
}

/// What carrying out what is due came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CarriedOut {
    /// Bytes that became free.
    pub freed: u64,
    /// When the next release is due, if one is pending.
    pub next: Option<UnixTime>,
}

impl CarriedOut {
    fn later(&mut self, due: UnixTime) {
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }
}

/// Pending releases of all accounts; clones share them.
#[derive(Clone)]
pub struct Releases {
    state: State,
    trees: Trees,
    delay: Duration,
    /// Held while a decision is taken and becomes durable, and while one segment is removed: a
    /// segment that is put again is either spared, or removed before and stored anew.
    deciding: Arc<Mutex<()>>,
}

fn mark_key(account: &AccountId, segment: &SegmentId) -> Vec<u8> {
    [account.as_bytes().as_slice(), segment.as_bytes()].concat()
}

fn parse_key(key: &[u8]) -> Option<(AccountId, SegmentId)> {
    let (account, segment) = key.split_first_chunk::<32>()?;
    Some((AccountId::from_bytes(*account), SegmentId::from_bytes(segment.try_into().ok()?)))
}

/// When a marked segment goes; none if it stays.
fn parse_mark(value: &[u8]) -> Result<Option<UnixTime>, Refusal> {
    let secs =
        value.try_into().map(u64::from_le_bytes).map_err(|_| failed(&"a release's mark is damaged"))?;
    Ok((secs != 0).then_some(UnixTime::from_secs(secs)))
}

impl Releases {
    /// The releases in `trees`, carried out `delay` after they came.
    pub fn new(state: State, trees: Trees, delay: Duration) -> Self {
        Self { state, trees, delay, deciding: Arc::default() }
    }

    fn decide(&self) -> MutexGuard<'_, ()> {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing(&self, account: &AccountId) -> Result<Standing, Refusal> {
        let bytes = self.state.get(self.trees.standings, account.as_bytes()).map_err(|e| failed(&e))?;
        let read = |bytes: Vec<u8>| cbor::decode(&bytes, MAX_STANDING).map_err(|error| failed(&error));
        bytes.map_or_else(|| Ok(Standing::default()), read)
    }

    fn put_standing(
        &self,
        account: &AccountId,
        standing: &Standing,
        mut batch: Batch,
    ) -> Result<(), Refusal> {
        let bytes = cbor::encode(standing).map_err(|error| failed(&error))?;
        batch.put(self.trees.standings, *account.as_bytes(), bytes);
        self.commit(&batch)
    }

    fn commit(&self, batch: &Batch) -> Result<(), Refusal> {
        if batch.is_empty() { Ok(()) } else { self.state.commit(batch).map_err(|error| failed(&error)) }
    }

    fn mark(&self, key: &[u8]) -> Result<Option<Option<UnixTime>>, Refusal> {
        let value = self.state.get(self.trees.marks, key).map_err(|error| failed(&error))?;
        value.map(|value| parse_mark(&value)).transpose()
    }

    fn page(&self, tree: Tree, prefix: &[u8], after: Option<&[u8]>) -> Result<Entries, Refusal> {
        self.state.scan(tree, prefix, after, PAGE).map_err(|error| failed(&error))
    }

    /// Calls `each` with every mark of an account, or of all, and makes its changes durable.
    fn each_mark(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(Vec<u8>, Option<UnixTime>, &mut Batch),
    ) -> Result<(), Refusal> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.page(self.trees.marks, prefix, after.as_deref())?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut batch = Batch::default();
            for (key, value) in page {
                each(key, parse_mark(&value)?, &mut batch);
            }
            self.commit(&batch)?;
        }
    }

    /// When a segment goes, if it was released.
    pub fn due(&self, account: &AccountId, segment: &SegmentId) -> Result<Option<UnixTime>, Refusal> {
        match self.mark(&mark_key(account, segment))? {
            Some(due) => Ok(due),
            None => Ok(self.standing(account)?.everything),
        }
    }

    /// What of an account is to be deleted: all but what was stored again, or some segments.
    pub fn pending(&self, account: &AccountId) -> Result<Pending, Refusal> {
        let (mut going, mut staying) = (Vec::new(), Vec::new());
        self.each_mark(account.as_bytes(), |key, mark, _| {
            if let Some((_, segment)) = parse_key(&key) {
                if mark.is_some() { going.push(segment) } else { staying.push(segment) }
            }
        })?;
        let everything = self.standing(account)?.everything.is_some();
        Ok(if everything { Pending::AllBut(staying) } else { Pending::Some(going) })
    }

    /// Takes in a release, durably; when it is due.
    ///
    /// # Errors
    /// [`Refusal::Guarded`], [`Refusal::Stale`], or [`Refusal::Invalid`] if its sequence lies too far
    /// ahead or it names too many segments.
    pub fn release(
        &self,
        release: &Verified<Release>,
        now: UnixTime,
        holdings: &dyn Holdings,
    ) -> Result<UnixTime, Refusal> {
        let _one = self.decide();
        let account = &release.account;
        let mut standing = self.standing(account)?;
        let hash = release.signed().hash();
        let due = match standing.release(release.sequence, hash, now, self.delay)? {
            Verdict::Known(due) => return Ok(due),
            Verdict::New(due) => due,
        };
        let mut batch = Batch::default();
        match &release.what {
            Released::Segments(segments) if segments.len() > MAX_RELEASE_SEGMENTS => {
                return Err(Refusal::Invalid);
            }
            Released::Segments(segments) => {
                for segment in segments {
                    // What is not held is not marked: marks are bounded by what is stored.
                    if holdings.holds(account, segment)? && self.due(account, segment)?.is_none() {
                        batch.put(self.trees.marks, mark_key(account, segment), due.secs().to_le_bytes());
                    }
                }
            }
            Released::Everything => {
                standing.release_everything(due);
                // What was stored again after an earlier release goes with this one.
                self.each_mark(account.as_bytes(), |key, mark, batch| {
                    if mark.is_none() {
                        batch.put(self.trees.marks, key, due.secs().to_le_bytes());
                    }
                })?;
            }
        }
        self.put_standing(account, &standing, batch)?;
        Ok(due)
    }

    /// Takes in an undo, durably; whether releases were pending.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] if it is not by the account's guard, [`Refusal::Stale`].
    pub fn undo(&self, undo: &Verified<Undo>, guard: &GuardKey, now: UnixTime) -> Result<bool, Refusal> {
        if undo.guard_key != *guard {
            return Err(Refusal::Invalid);
        }
        let _one = self.decide();
        let account = &undo.account;
        let mut standing = self.standing(account)?;
        let mut pending = standing.everything.is_some();
        for (_, value) in self.page(self.trees.marks, account.as_bytes(), None)? {
            pending |= parse_mark(&value)?.is_some();
        }
        match standing.undo(undo.sequence, undo.signed().hash(), undo.guarded, pending, now)? {
            Verdict::Known(pending) => Ok(pending),
            Verdict::New(pending) => {
                // The standing comes last: an undo that a crash cuts short is taken in anew.
                let trees = self.trees;
                self.each_mark(account.as_bytes(), |key, _, batch| batch.remove(trees.marks, key))?;
                self.put_standing(account, &standing, Batch::default())?;
                Ok(pending)
            }
        }
    }

    /// Cancels, durably, whatever is pending of an account: who signed it has lost its head key.
    pub fn void(&self, account: &AccountId) -> Result<(), Refusal> {
        let _one = self.decide();
        let mut standing = self.standing(account)?;
        standing.void();
        let trees = self.trees;
        self.each_mark(account.as_bytes(), |key, _, batch| batch.remove(trees.marks, key))?;
        self.put_standing(account, &standing, Batch::default())
    }

    /// A segment is stored again: no release that is pending now takes it away.
    pub fn want(&self, account: &AccountId, segment: &SegmentId) -> Result<(), Refusal> {
        if self.due(account, segment)?.is_none() {
            return Ok(());
        }
        let _one = self.decide();
        let mut batch = Batch::default();
        let key = mark_key(account, segment);
        if self.standing(account)?.everything.is_some() {
            batch.put(self.trees.marks, key, 0_u64.to_le_bytes());
        } else {
            batch.remove(self.trees.marks, key);
        }
        self.commit(&batch)
    }

    /// Removes a segment if it still is due; the bytes that became free.
    fn remove_due(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        now: UnixTime,
        holdings: &dyn Holdings,
    ) -> Result<u64, Refusal> {
        let _one = self.decide();
        match self.due(account, segment)? {
            Some(due) if due <= now => holdings.remove(account, segment),
            _ => Ok(0),
        }
    }

    /// Removes everything that is due. What a crash cuts short is gone on with.
    pub fn carry_out(&self, now: UnixTime, holdings: &dyn Holdings) -> Result<CarriedOut, Refusal> {
        let mut done = CarriedOut::default();
        self.carry_out_marked(now, holdings, &mut done)?;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.page(self.trees.standings, &[], after.as_deref())?;
            let Some((last, _)) = page.last() else { return Ok(done) };
            after = Some(last.clone());
            for (key, _) in page {
                let account = key.try_into().map(AccountId::from_bytes);
                let account = account.map_err(|_| failed(&"an account's releases are damaged"))?;
                match self.standing(&account)?.everything {
                    Some(due) if due <= now => self.carry_out_all(&account, now, holdings, &mut done)?,
                    Some(due) => done.later(due),
                    None => {}
                }
            }
        }
    }

    fn carry_out_marked(
        &self,
        now: UnixTime,
        holdings: &dyn Holdings,
        done: &mut CarriedOut,
    ) -> Result<(), Refusal> {
        let mut removed = 0;
        let mut problem = None;
        self.each_mark(&[], |key, mark, _| match (mark, parse_key(&key)) {
            (Some(due), Some((account, segment))) if due <= now => {
                match self.remove_due(&account, &segment, now, holdings) {
                    Ok(freed) => (done.freed, removed) = (done.freed + freed, removed + 1),
                    Err(refusal) => problem = Some(refusal),
                }
            }
            (Some(due), _) => done.later(due),
            (None, _) => {}
        })?;
        if let Some(refusal) = problem {
            return Err(refusal);
        }
        if removed == 0 {
            return Ok(());
        }
        holdings.settle()?;
        let _one = self.decide();
        self.each_mark(&[], |key, mark, batch| {
            if mark.is_some_and(|due| due <= now) {
                batch.remove(self.trees.marks, key);
            }
        })
    }

    fn carry_out_all(
        &self,
        account: &AccountId,
        now: UnixTime,
        holdings: &dyn Holdings,
        done: &mut CarriedOut,
    ) -> Result<(), Refusal> {
        let mut after = None;
        loop {
            let page = holdings.segments(account, after.as_ref())?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            for segment in &page {
                done.freed += self.remove_due(account, segment, now, holdings)?;
            }
        }
        holdings.settle()?;
        let _one = self.decide();
        let mut standing = self.standing(account)?;
        if standing.everything.is_some_and(|due| due <= now) {
            standing.everything = None;
            self.put_standing(account, &standing, Batch::default())?;
            self.each_mark(account.as_bytes(), |key, mark, batch| {
                if mark.is_none() {
                    batch.remove(self.trees.marks, key);
                }
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
