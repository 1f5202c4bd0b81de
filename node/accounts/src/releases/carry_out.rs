//! Releases that are due: begun, carried out and ended, over crashes.
//!
//! ```text
//! pending ── due ──▶ begun (durable) ── everything removed (durable) ──▶ ended
//!    └── undo, rewind: cancelled        └── undo, rewind: too late
//! ```

use fincrypt_protocol::{AccountId, SegmentId, UnixTime};
use fincrypt_state::kv::Batch;
use fincrypt_state::table::Everything;

use super::{Holdings, PAGE, Releases};
use crate::error::AccountsError;

/// The outcome of carrying out what is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CarriedOut {
    /// Bytes that became free.
    pub freed: u64,
    /// When the next release is due, if one is pending.
    pub next: Option<UnixTime>,
}

impl CarriedOut {
    fn note_later(&mut self, due: UnixTime) {
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }
}

impl Releases {
    /// Deletes everything that is due. What a crash cuts short, the next call ends, whatever was undone
    /// in between.
    ///
    /// # Errors
    /// The first of what `holdings` returns, after the releases of all accounts were tried.
    pub fn carry_out<H: Holdings>(&self, now: UnixTime, holdings: &H) -> Result<CarriedOut, H::Error> {
        let mut done = CarriedOut::default();
        let mut problem = None;
        let mut after: Option<AccountId> = None;
        loop {
            let page = self.tables.states.scan(&self.state, &Everything, after.as_ref(), PAGE);
            let page = page.map_err(AccountsError::from)?;
            let Some((last, _)) = page.last() else { return problem.map_or(Ok(done), Err) };
            after = Some(*last);
            for (account, _) in page {
                if let Err(error) = self.carry_out_of(&account, now, holdings, &mut done) {
                    problem.get_or_insert(error);
                }
            }
        }
    }

    fn carry_out_of<H: Holdings>(
        &self,
        account: &AccountId,
        now: UnixTime,
        holdings: &H,
        done: &mut CarriedOut,
    ) -> Result<(), H::Error> {
        let Some(by) = self.begin(account, now, done)? else { return Ok(()) };
        self.delete_due(account, by, holdings, done)?;
        holdings.settle()?;
        Ok(self.end(account, by)?)
    }

    /// Records, before anything is deleted, that it is too late to cancel what is due; by when that is
    /// due, if anything is.
    fn begin(
        &self,
        account: &AccountId,
        now: UnixTime,
        done: &mut CarriedOut,
    ) -> Result<Option<UnixTime>, AccountsError> {
        let _one = self.decide();
        let mut deletion = self.deletion(account)?;
        let by = deletion.due_by(now);
        let mut begun = deletion.has_begun();
        let mut see = |due: UnixTime| if due <= by { begun = true } else { done.note_later(due) };
        deletion.everything().into_iter().for_each(&mut see);
        self.each_mark(account, |_, mark, _| {
            mark.into_iter().for_each(&mut see);
            Ok::<_, AccountsError>(())
        })?;
        if !begun {
            return Ok(None);
        }
        deletion.begin(by);
        self.put_deletion(account, &deletion, Batch::default())?;
        Ok(Some(by))
    }

    fn delete_due<H: Holdings>(
        &self,
        account: &AccountId,
        by: UnixTime,
        holdings: &H,
        done: &mut CarriedOut,
    ) -> Result<(), H::Error> {
        self.each_mark(account, |(_, segment), mark, _| {
            if mark.is_some() {
                done.freed += self.remove_due(account, &segment, by, holdings)?;
            }
            Ok::<_, H::Error>(())
        })?;
        if self.deletion(account)?.everything().is_none_or(|due| due > by) {
            return Ok(());
        }
        let mut after = None;
        loop {
            let page = holdings.segments(account, after.as_ref())?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(*last);
            for segment in &page {
                done.freed += self.remove_due(account, segment, by, holdings)?;
            }
        }
    }

    /// Removes a segment if it still is due by then; the bytes that became free.
    fn remove_due<H: Holdings>(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        by: UnixTime,
        holdings: &H,
    ) -> Result<u64, H::Error> {
        let _one = self.decide();
        match self.due(account, segment)? {
            Some(due) if due <= by => holdings.remove(account, segment),
            _ => Ok(0),
        }
    }

    /// Forgets what is deleted. That everything was released goes before the exceptions to it, and that
    /// the deletion was begun goes last: so a crash in between neither deletes what was stored again nor
    /// leaves anything behind.
    fn end(&self, account: &AccountId, by: UnixTime) -> Result<(), AccountsError> {
        let _one = self.decide();
        let mut deletion = self.deletion(account)?;
        if deletion.everything().is_some_and(|due| due <= by) {
            deletion.everything_is_deleted();
            self.put_deletion(account, &deletion, Batch::default())?;
        }
        self.each_mark(account, |place, mark, batch| {
            if mark.is_some_and(|due| due <= by) {
                self.tables.marks.remove(batch, &place);
            }
            Ok::<_, AccountsError>(())
        })?;
        if deletion.everything().is_none() {
            self.forget_exceptions(account)?;
        }
        deletion.end();
        self.put_deletion(account, &deletion, Batch::default())
    }
}
