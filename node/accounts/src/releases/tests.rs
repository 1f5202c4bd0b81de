use parking_lot::Mutex;
use std::collections::BTreeMap;

use fincrypt_protocol::{Network, Refusal, Signed, SigningKey};
use fincrypt_state::table::Everything;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
const DELAY: Duration = Duration::from_secs(60);
const DUE: UnixTime = UnixTime::from_secs(1_700_000_060);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn segment(seed: u8) -> SegmentId {
    SegmentId::from_bytes([seed; 32])
}

fn sealed_release(what: Released, sequence: u64) -> Verified<Release> {
    let (account, head_key) = (key(1).account(), key(1).head_key());
    let body = Release { network: Network::Local, account, head_key, what, sequence };
    Signed::seal(&body, &key(1)).and_then(|signed| signed.verify(Network::Local, NOW)).expect("valid")
}

fn sealed_undo(sequence: u64, guarded: bool) -> Verified<Undo> {
    let (account, guard_key) = (key(1).account(), key(2).guard_key());
    let body = Undo { network: Network::Local, account, guard_key, sequence, guarded };
    Signed::seal(&body, &key(2)).and_then(|signed| signed.verify(Network::Local, NOW)).expect("valid")
}

/// Segments of ten bytes each.
#[derive(Default)]
struct Held(Mutex<BTreeMap<SegmentId, u64>>);

/// What happens in the middle of a deletion, or stops it there as a crash would.
type Event<'a> = dyn FnMut() -> Result<(), AccountsError> + 'a;

/// Holdings to which something happens: after some removals, and when these are made durable.
struct Eventful<'a> {
    held: &'a Held,
    /// The removals that succeed.
    removals: Mutex<usize>,
    at_settle: Mutex<Box<Event<'a>>>,
}

impl<'a> Eventful<'a> {
    fn new(
        held: &'a Held,
        removals: usize,
        at_settle: impl FnMut() -> Result<(), AccountsError> + 'a,
    ) -> Self {
        Self { held, removals: Mutex::new(removals), at_settle: Mutex::new(Box::new(at_settle)) }
    }
}

/// What a deletion returns that did not get to its end.
const CRASH: AccountsError = AccountsError::OtherAccount;

impl Holdings for Eventful<'_> {
    type Error = AccountsError;

    fn holds(&self, account: &AccountId, segment: &SegmentId) -> Result<bool, AccountsError> {
        self.held.holds(account, segment)
    }

    fn segments(
        &self,
        account: &AccountId,
        after: Option<&SegmentId>,
    ) -> Result<Vec<SegmentId>, AccountsError> {
        self.held.segments(account, after)
    }

    fn remove(&self, account: &AccountId, segment: &SegmentId) -> Result<u64, AccountsError> {
        let mut removals = self.removals.lock();
        *removals = removals.checked_sub(1).ok_or(CRASH)?;
        self.held.remove(account, segment)
    }

    fn settle(&self) -> Result<(), AccountsError> {
        (self.at_settle.lock())()
    }
}

impl Held {
    fn put(&self, seed: u8) {
        self.0.lock().insert(segment(seed), 10);
    }

    fn list(&self) -> Vec<u8> {
        self.0.lock().keys().map(|segment| segment.as_bytes()[0]).collect()
    }
}

impl Holdings for Held {
    type Error = AccountsError;

    fn holds(&self, _: &AccountId, segment: &SegmentId) -> Result<bool, AccountsError> {
        Ok(self.0.lock().contains_key(segment))
    }

    fn segments(
        &self,
        account: &AccountId,
        after: Option<&SegmentId>,
    ) -> Result<Vec<SegmentId>, AccountsError> {
        assert_eq!(*account, key(1).account(), "nobody else released anything");
        let held = self.0.lock();
        // Pages of two, so that there is more than one.
        Ok(held
            .keys()
            .filter(|segment| after.is_none_or(|after| *segment > after))
            .take(2)
            .copied()
            .collect())
    }

    fn remove(&self, _: &AccountId, segment: &SegmentId) -> Result<u64, AccountsError> {
        Ok(self.0.lock().remove(segment).unwrap_or_default())
    }

    fn settle(&self) -> Result<(), AccountsError> {
        Ok(())
    }
}

struct Setup {
    dir: tempfile::TempDir,
    held: Held,
}

impl Setup {
    fn new(segments: u8) -> Self {
        let held = Held::default();
        (1..=segments).for_each(|seed| held.put(seed));
        Self { dir: tempfile::tempdir().expect("a folder"), held }
    }

    /// As after a start: nothing but what is on disk.
    fn open(&self) -> Releases {
        let (state, _) = State::open(&self.dir.path().join("state")).expect("opens");
        Releases::new(state, AT_STORAGE, DELAY)
    }

    fn release(&self, releases: &Releases, segments: &[u8], sequence: u64) -> Result<UnixTime, Refusal> {
        let what = Released::Segments(segments.iter().copied().map(segment).collect());
        Ok(releases.release(&sealed_release(what, sequence), NOW, &self.held)?)
    }

    fn release_all(&self, releases: &Releases, sequence: u64) -> Result<UnixTime, Refusal> {
        Ok(releases.release(&sealed_release(Released::Everything, sequence), NOW, &self.held)?)
    }

    fn carry_out(&self, releases: &Releases, now: UnixTime) -> CarriedOut {
        releases.carry_out(now, &self.held).expect("carried out")
    }

    fn undo(&self, releases: &Releases, sequence: u64, guarded: bool) -> Result<bool, Refusal> {
        Ok(releases.undo(&sealed_undo(sequence, guarded), &key(2).guard_key(), NOW)?)
    }
}

#[test]
fn a_release_is_carried_out_when_it_is_due_and_not_before_even_over_a_restart() {
    let setup = Setup::new(4);
    assert_eq!(setup.release(&setup.open(), &[1, 3, 9], 5), Ok(DUE));
    let releases = setup.open();
    let early = setup.carry_out(&releases, UnixTime::from_secs(DUE.secs() - 1));
    assert_eq!(early, CarriedOut { freed: 0, next: Some(DUE) });
    assert_eq!(setup.held.list(), [1, 2, 3, 4]);
    assert_eq!(setup.carry_out(&releases, DUE), CarriedOut { freed: 20, next: None });
    assert_eq!(setup.held.list(), [2, 4]);
    // What is stored later under the same name is nobody's release any more.
    setup.held.put(1);
    assert_eq!(setup.carry_out(&releases, DUE), CarriedOut::default());
    assert_eq!(releases.due(&key(1).account(), &segment(1)).expect("reads"), None);
}

#[test]
fn everything_goes_but_what_was_stored_again_since() {
    let setup = Setup::new(5);
    let releases = setup.open();
    assert_eq!(setup.release_all(&releases, 5), Ok(DUE));
    for seed in [2, 7] {
        releases.want(&key(1).account(), &segment(seed)).expect("noted");
        setup.held.put(seed);
    }
    drop(releases);
    let releases = setup.open();
    assert_eq!(setup.carry_out(&releases, DUE), CarriedOut { freed: 40, next: None });
    assert_eq!(setup.held.list(), [2, 7]);
    // And it is over: what comes now stays, without having to be wanted.
    setup.held.put(8);
    assert_eq!(setup.carry_out(&releases, DUE.plus(DELAY)), CarriedOut::default());
    assert_eq!(setup.undo(&releases, 6, true), Ok(false), "nothing is pending");
}

#[test]
fn a_second_release_of_everything_takes_what_was_stored_since_the_first() {
    let setup = Setup::new(2);
    let releases = setup.open();
    setup.release_all(&releases, 5).expect("taken");
    releases.want(&key(1).account(), &segment(2)).expect("noted");
    let later = NOW.plus(DELAY / 2);
    let again = sealed_release(Released::Everything, 6);
    assert_eq!(releases.release(&again, later, &setup.held).expect("taken"), later.plus(DELAY));
    assert_eq!(setup.carry_out(&releases, DUE), CarriedOut { freed: 10, next: Some(later.plus(DELAY)) });
    assert_eq!(setup.held.list(), [2]);
    assert_eq!(setup.carry_out(&releases, later.plus(DELAY)).freed, 10);
    assert!(setup.held.list().is_empty());
}

#[test]
fn an_undo_saves_everything_and_lets_no_release_in_until_the_guard_lifts_it() {
    let setup = Setup::new(3);
    let releases = setup.open();
    setup.release(&releases, &[1], 5).expect("taken");
    setup.release_all(&releases, 6).expect("taken");
    assert_eq!(setup.undo(&releases, 7, true), Ok(true));
    drop(releases);
    let releases = setup.open();
    assert_eq!(setup.undo(&releases, 7, true), Ok(true), "repeated, with the same answer");
    assert_eq!(setup.carry_out(&releases, DUE), CarriedOut::default());
    assert_eq!(setup.held.list(), [1, 2, 3]);
    assert_eq!(setup.release(&releases, &[1], 8), Err(Refusal::Guarded));
    assert_eq!(setup.undo(&releases, 9, false), Ok(false));
    assert_eq!(setup.release_all(&releases, 6), Err(Refusal::Stale), "replayed");
    assert_eq!(setup.release(&releases, &[1], 10), Ok(DUE));
    assert_eq!(setup.carry_out(&releases, DUE).freed, 10);
}

#[test]
fn an_undo_by_another_key_is_refused() {
    let setup = Setup::new(1);
    let releases = setup.open();
    setup.release_all(&releases, 5).expect("taken");
    let undone = releases.undo(&sealed_undo(7, true), &key(3).guard_key(), NOW);
    assert!(matches!(undone, Err(AccountsError::Release(ReleaseError::OtherGuard))), "{undone:?}");
    assert_eq!(setup.carry_out(&releases, DUE).freed, 10);
}

#[test]
fn only_what_is_held_is_marked() {
    let setup = Setup::new(1);
    let releases = setup.open();
    setup.release(&releases, &[1, 2, 3], 5).expect("taken");
    let due = |seed| releases.due(&key(1).account(), &segment(seed)).expect("reads");
    assert_eq!((due(1), due(2), due(3)), (Some(DUE), None, None));
    assert_eq!(setup.release(&releases, &[7; MAX_RELEASE_SEGMENTS + 1], 6), Err(Refusal::Invalid));
}

#[test]
fn an_undo_while_a_release_is_carried_out_is_too_late_for_it() {
    for everything in [false, true] {
        let setup = Setup::new(3);
        let releases = setup.open();
        if everything {
            setup.release_all(&releases, 5).expect("taken");
        } else {
            setup.release(&releases, &[1, 2], 5).expect("taken");
        }
        let undone = Mutex::new(None);
        let holdings = Eventful::new(&setup.held, usize::MAX, || {
            *undone.lock() = Some(setup.undo(&releases, 7, true));
            Ok(())
        });
        releases.carry_out(DUE, &holdings).expect("carried out");
        assert_eq!(undone.lock().take(), Some(Ok(false)), "nothing that it could have cancelled");
        assert_eq!(setup.undo(&releases, 7, true), Ok(false), "repeated, with the same answer");
        assert_eq!(setup.release(&releases, &[3], 8), Err(Refusal::Guarded), "it is taken in all the same");
    }
}

#[test]
fn a_rewind_while_a_release_is_carried_out_is_too_late_for_it() {
    let setup = Setup::new(3);
    let releases = setup.open();
    setup.release_all(&releases, 5).expect("taken");
    releases.carry_out(DUE, &Eventful::new(&setup.held, 1, || Ok(()))).expect_err("crashed");
    releases.void(&key(1).account()).expect("voided");
    assert_eq!(setup.carry_out(&releases, DUE).freed, 20);
}

#[test]
fn what_was_begun_is_ended_though_the_clock_was_set_back() {
    let setup = Setup::new(3);
    let releases = setup.open();
    setup.release(&releases, &[1, 2], 5).expect("taken");
    releases.carry_out(DUE, &Eventful::new(&setup.held, 1, || Ok(()))).expect_err("crashed");
    drop(releases);
    assert_eq!(setup.carry_out(&setup.open(), NOW), CarriedOut { freed: 10, next: None });
    assert_eq!(setup.held.list(), [3]);
}

/// The numbers of the bits that are set: segments 1 to 6.
fn chosen(bits: u8) -> Vec<u8> {
    (1..=6).filter(|seed| bits >> (seed - 1) & 1 == 1).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A deletion crashes somewhere, or at its end; an undo comes before or after the start that follows.
    #[test]
    fn an_undo_saves_all_that_was_not_begun_and_nothing_that_was(
        (early, again, late) in (any::<u8>(), any::<u8>(), any::<u8>()),
        everything: bool,
        removals in 0..8_usize,
        restarted: bool,
    ) {
        let setup = Setup::new(6);
        let mut releases = setup.open();
        if everything {
            setup.release_all(&releases, 5).expect("taken");
        } else {
            setup.release(&releases, &chosen(early), 5).expect("taken");
        }
        for seed in chosen(again) {
            releases.want(&key(1).account(), &segment(seed)).expect("noted");
        }
        let soon = NOW.plus(DELAY / 2);
        let what = Released::Segments(chosen(late).into_iter().map(segment).collect());
        releases.release(&sealed_release(what, 6), soon, &setup.held).expect("taken");
        let begun = if everything { !again } else { early & !again };
        let cancelled = chosen(late & !begun);

        let crashing = Eventful::new(&setup.held, removals, || Err(CRASH));
        prop_assert_eq!(releases.carry_out(DUE, &crashing).is_err(), everything || !chosen(begun).is_empty());
        drop(crashing);
        if restarted {
            drop(releases);
            releases = setup.open();
        }
        prop_assert_eq!(setup.undo(&releases, 7, true), Ok(!cancelled.is_empty()));
        setup.carry_out(&releases, DUE.plus(DELAY));
        prop_assert_eq!(setup.held.list(), chosen(!begun));
        // And it is over.
        prop_assert_eq!(setup.carry_out(&releases, DUE.plus(DELAY)), CarriedOut::default());
        let left = releases.tables.marks.scan(&releases.state, &Everything, None, PAGE).expect("read");
        prop_assert!(left.is_empty(), "{:?}", left);
    }
}
