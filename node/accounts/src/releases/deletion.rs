//! The rules of releases and undos for one account, free of I/O.

use std::time::Duration;

use fincrypt_protocol::UnixTime;
use fincrypt_protocol::limits::MAX_RELEASE_AHEAD;
use serde::{Deserialize, Serialize};

use crate::error::ReleaseError;

/// Releases and undos come with their hash: the same one may be repeated.
type Hash = [u8; 32];

/// What a node remembers of an account's releases.
///
/// Releases and undos are counted apart, so that a thief who has the account key, but not the
/// guard's, cannot use up the numbers of undos. A release's number is bound to the node's clock for
/// the same reason: it cannot use up those of later releases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeletionState {
    /// Releases up to this sequence are refused.
    floor: u64,
    /// The newest release, and when it is due.
    newest: Option<(Hash, UnixTime)>,
    /// The newest undo's sequence and hash, and whether it cancelled anything.
    undone: Option<(u64, Hash, bool)>,
    /// Whether further releases are refused.
    guarded: bool,
    /// When everything held now goes; segments stored again since are marked one by one.
    everything: Option<UnixTime>,
    /// Set before the first deletion and until after the last: what is due by this time is being
    /// deleted, and neither an undo nor a rewind cancels it any more.
    begun: Option<UnixTime>,
}

/// What is to be done about a release or an undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict<T> {
    /// It is known; the answer stays.
    Known(T),
    /// It is new.
    New(T),
}

impl DeletionState {
    /// Takes in a release; when it is due.
    pub(super) fn release(
        &mut self,
        sequence: u64,
        hash: Hash,
        now: UnixTime,
        delay: Duration,
    ) -> Result<Verdict<UnixTime>, ReleaseError> {
        match self.newest {
            Some((known, due)) if known == hash => return Ok(Verdict::Known(due)),
            _ if self.guarded => return Err(ReleaseError::Guarded),
            _ if sequence <= self.floor => return Err(ReleaseError::Stale),
            _ if sequence > furthest(now) => return Err(ReleaseError::TooFarAhead),
            _ => {}
        }
        // After what is being deleted: the end of that must not take this release for carried out.
        let after = self.begun.map_or(now, |begun| begun.plus(Duration::from_secs(1)));
        let due = now.plus(delay).max(after);
        self.floor = sequence;
        self.newest = Some((hash, due));
        Ok(Verdict::New(due))
    }

    /// Everything is released: what is due earlier stays so.
    pub(super) fn release_everything(&mut self, due: UnixTime) {
        self.everything = Some(self.everything.map_or(due, |known| known.min(due)));
    }

    /// When everything goes, if it was released.
    pub(super) fn everything(&self) -> Option<UnixTime> {
        self.everything
    }

    /// By which time a release must be due to be carried out now: a clock that was set back does not leave
    /// half done what was begun.
    pub(super) fn due_by(&self, now: UnixTime) -> UnixTime {
        self.begun.map_or(now, |begun| begun.max(now))
    }

    /// Whether a deletion was begun and has not ended.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Whether it is too late to cancel a release that is due then.
    pub(super) fn is_too_late(&self, due: UnixTime) -> bool {
        self.begun.is_some_and(|begun| due <= begun)
    }

    /// The deletion of what is due by then begins.
    pub(super) fn begin(&mut self, by: UnixTime) {
        self.begun = Some(by);
    }

    /// Everything is deleted, but for what was stored again.
    pub(super) fn everything_is_deleted(&mut self) {
        self.everything = None;
    }

    /// All that is due is deleted.
    pub(super) fn end(&mut self) {
        self.begun = None;
    }

    fn cancel(&mut self) {
        self.newest = None;
        self.everything = self.everything.filter(|due| self.is_too_late(*due));
    }

    /// Nothing is pending any more but what is being deleted. Sequences begin anew with another head key:
    /// what the old one signed is refused for that.
    pub(super) fn void(&mut self) {
        self.floor = 0;
        self.cancel();
    }

    /// Takes in an undo by the account's guard; whether releases were pending that it cancels.
    pub(super) fn undo(
        &mut self,
        sequence: u64,
        hash: Hash,
        guarded: bool,
        pending: bool,
        now: UnixTime,
    ) -> Result<Verdict<bool>, ReleaseError> {
        match self.undone {
            Some((_, known, pending)) if known == hash => return Ok(Verdict::Known(pending)),
            Some((known, ..)) if sequence <= known => return Err(ReleaseError::Stale),
            // The guard's machine may have a wrong clock, which must refuse neither undos nor releases for
            // years.
            _ if sequence > furthest(now) => return Err(ReleaseError::TooFarAhead),
            _ => {}
        }
        self.floor = self.floor.max(sequence);
        self.cancel();
        self.undone = Some((sequence, hash, pending));
        self.guarded = guarded;
        Ok(Verdict::New(pending))
    }
}

/// The highest sequence that a release or an undo may have now.
fn furthest(now: UnixTime) -> u64 {
    now.secs().saturating_add(MAX_RELEASE_AHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);
    const DELAY: Duration = Duration::from_secs(60);

    fn hash(seed: u8) -> Hash {
        [seed; 32]
    }

    fn due() -> UnixTime {
        NOW.plus(DELAY)
    }

    #[test]
    fn a_release_may_be_repeated_and_keeps_its_time() {
        let mut deletion = DeletionState::default();
        assert_eq!(deletion.release(5, hash(1), NOW, DELAY), Ok(Verdict::New(due())));
        let later = NOW.plus(DELAY / 2);
        assert_eq!(deletion.release(5, hash(1), later, DELAY), Ok(Verdict::Known(due())));
        assert_eq!(deletion.release(5, hash(2), later, DELAY), Err(ReleaseError::Stale));
        assert_eq!(deletion.release(4, hash(2), later, DELAY), Err(ReleaseError::Stale));
        assert!(deletion.release(6, hash(2), later, DELAY).is_ok());
    }

    #[test]
    fn an_undone_release_is_refused_for_good_even_after_the_guard_lifts() {
        let mut deletion = DeletionState::default();
        deletion.release(5, hash(1), NOW, DELAY).expect("taken");
        assert_eq!(deletion.undo(9, hash(8), true, true, NOW), Ok(Verdict::New(true)));
        assert_eq!(deletion.undo(9, hash(8), true, false, NOW), Ok(Verdict::Known(true)), "repeated");
        assert_eq!(deletion.release(5, hash(1), NOW, DELAY), Err(ReleaseError::Guarded));
        assert_eq!(deletion.release(20, hash(2), NOW, DELAY), Err(ReleaseError::Guarded));
        assert_eq!(deletion.undo(10, hash(9), false, false, NOW), Ok(Verdict::New(false)));
        assert_eq!(deletion.release(5, hash(1), NOW, DELAY), Err(ReleaseError::Stale));
        assert_eq!(
            deletion.release(10, hash(2), NOW, DELAY),
            Err(ReleaseError::Stale),
            "from before the undo"
        );
        assert!(deletion.release(11, hash(3), NOW, DELAY).is_ok());
        assert_eq!(deletion.undo(9, hash(8), true, true, NOW), Err(ReleaseError::Stale), "replayed");
    }

    #[test]
    fn a_release_that_comes_while_another_is_carried_out_is_due_after_that() {
        let mut deletion = DeletionState::default();
        deletion.begin(NOW);
        let due = NOW.plus(Duration::from_secs(1));
        assert_eq!(deletion.release(5, hash(1), NOW, Duration::ZERO), Ok(Verdict::New(due)));
        assert!(!deletion.is_too_late(due));
    }

    #[test]
    fn a_thief_cannot_use_up_sequences() {
        let mut deletion = DeletionState::default();
        assert_eq!(deletion.release(u64::MAX, hash(1), NOW, DELAY), Err(ReleaseError::TooFarAhead));
        let furthest = NOW.secs() + MAX_RELEASE_AHEAD;
        assert!(deletion.release(furthest, hash(1), NOW, DELAY).is_ok());
        assert_eq!(deletion.undo(1, hash(8), true, true, NOW), Ok(Verdict::New(true)), "counted apart");
    }

    #[test]
    fn an_undo_from_a_clock_far_ahead_is_refused_and_shuts_out_no_later_undo() {
        let mut deletion = DeletionState::default();
        let far = NOW.secs() + MAX_RELEASE_AHEAD + 1;
        for sequence in [far, u64::MAX] {
            let refused = deletion.undo(sequence, hash(8), true, true, NOW);
            assert_eq!(refused, Err(ReleaseError::TooFarAhead));
        }
        assert_eq!(deletion.undo(NOW.secs(), hash(9), true, true, NOW), Ok(Verdict::New(true)));
    }

    #[test]
    fn an_undo_from_a_clock_ahead_refuses_releases_and_undos_for_a_day_at_most() {
        let mut deletion = DeletionState::default();
        let furthest = NOW.secs() + MAX_RELEASE_AHEAD;
        deletion.undo(furthest - 1, hash(8), true, false, NOW).expect("taken");
        deletion.undo(furthest, hash(9), false, false, NOW).expect("taken");
        let tomorrow = UnixTime::from_secs(furthest + 1);
        assert!(deletion.release(tomorrow.secs(), hash(1), tomorrow, DELAY).is_ok());
        assert_eq!(deletion.undo(tomorrow.secs(), hash(7), true, true, tomorrow), Ok(Verdict::New(true)));
    }
}
