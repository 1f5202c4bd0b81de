//! What a storage node or mediator knows about accounts: registrations, mandates, kept runs, holder
//! lists.
//!
//! All of it is committed durably before it is acknowledged.

use parking_lot::Mutex;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::record::{HolderList, Keep, Mandate, Registration, is_too_far_ahead};
use fincrypt_protocol::{AccountId, Network, NodeId, RunId, SegmentId, Signed, UnixTime, Verified};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::{Everything, Table};

use crate::error::AccountsError;
use crate::stored::{Stored, stored_limit};

/// `account` → its registration.
const REGISTRATIONS: Table<AccountId, Stored<Registration>> =
    Table::new("registrations", stored_limit::<Registration>());
/// `(account, mediator)` → the mandate; those of one account have one sequence.
const MANDATES: Table<(AccountId, NodeId), Stored<Mandate>> =
    Table::new("mandates", stored_limit::<Mandate>());
/// `(account, run)` → when the run was first said to be kept.
const KEPT: Table<(AccountId, RunId), UnixTime> = Table::new("kept", 9);
/// `(account, segment)` → the newest holder list.
const HOLDERS: Table<(AccountId, SegmentId), Stored<HolderList>> =
    Table::new("holders", stored_limit::<HolderList>());

/// Keeps of one account, beyond those of runs of which something is held: as many as there may be
/// runs on their way. Each is about 60 bytes.
pub const MAX_KEEPS: usize = 1024;
/// Mandates of one sequence, of one account, to as many mediators.
const MAX_MANDATES: usize = 64;
/// A keep may come so long before the first shard of its run, or the run's last one may go and come
/// again.
const KEEP_AHEAD: Duration = Duration::from_secs(24 * 3600);

/// Accounts in durable state.
#[derive(Clone)]
pub struct Accounts {
    /// The open state.
    pub state: State,
    /// The network whose records count.
    pub network: Network,
    /// Held while a registration is compared with the known one and recorded.
    registering: Arc<Mutex<()>>,
    /// Held while keeps are recorded or forgotten: a mediator sends a run's keep after its shards, so
    /// that a keep is either seen to be needed, or recorded again.
    keeping: Arc<Mutex<()>>,
}

impl Accounts {
    /// Accounts in an open state.
    #[must_use]
    pub fn new(state: State, network: Network) -> Self {
        Self { state, network, registering: Arc::default(), keeping: Arc::default() }
    }

    /// Makes a batch durable.
    ///
    /// # Errors
    /// [`KvError`] if the state fails.
    pub fn commit(&self, batch: &Batch) -> Result<(), AccountsError> {
        if batch.is_empty() { Ok(()) } else { Ok(self.state.commit(batch)?) }
    }

    /// The account's registration.
    ///
    /// # Errors
    /// [`AccountsError::State`].
    pub fn registration(&self, account: &AccountId) -> Result<Option<Verified<Registration>>, AccountsError> {
        Ok(REGISTRATIONS.get(&self.state, account)?.map(|Stored(known)| known))
    }

    /// Adds a new registration to the batch, unless the same one is known.
    ///
    /// # Errors
    /// [`AccountsError::OtherRegistration`] if another of the account is known.
    pub fn admit_registration(
        &self,
        new: &Verified<Registration>,
        batch: &mut Batch,
    ) -> Result<(), AccountsError> {
        match self.registration(&new.account)? {
            Some(known) if *known == **new => Ok(()),
            Some(_) => Err(AccountsError::OtherRegistration),
            None => Ok(REGISTRATIONS.put(batch, &new.account, &Stored(new.clone()))?),
        }
    }

    /// Records the registration of an account of which these runs are held: the state was lost, and with
    /// it the keeps of these runs, so that all of them count as kept.
    ///
    /// # Errors
    /// Those of [`Self::admit_registration`].
    pub fn regain(
        &self,
        new: &Verified<Registration>,
        runs: impl IntoIterator<Item = RunId>,
        now: UnixTime,
        batch: &mut Batch,
    ) -> Result<(), AccountsError> {
        for run in runs {
            KEPT.put(batch, &(new.account, run), &now)?;
        }
        self.admit_registration(new, batch)
    }

    /// Records a registration, unless another of the same account came first.
    ///
    /// # Errors
    /// Those of [`Self::admit_registration`].
    pub fn register(&self, new: &Verified<Registration>) -> Result<(), AccountsError> {
        let _one = self.registering.lock();
        let mut batch = Batch::default();
        self.admit_registration(new, &mut batch)?;
        self.commit(&batch)
    }

    /// The mandate an account gave to a mediator, unless it has expired.
    ///
    /// # Errors
    /// [`AccountsError::State`].
    pub fn mandate(
        &self,
        account: &AccountId,
        mediator: &NodeId,
        now: UnixTime,
    ) -> Result<Option<Verified<Mandate>>, AccountsError> {
        let known = MANDATES.get(&self.state, &(*account, *mediator))?;
        Ok(known.map(|Stored(known)| known).filter(|known| known.expiry > now))
    }

    /// The mandates known of an account: of one sequence, and whether or not they have expired.
    fn mandates(&self, account: &AccountId) -> Result<Vec<Verified<Mandate>>, KvError> {
        let known = MANDATES.scan(&self.state, account, None, usize::MAX)?;
        Ok(known.into_iter().map(|(_, Stored(mandate))| mandate).collect())
    }

    /// The mandate of the highest sequence that an account gave to anyone, whether or not it has expired.
    ///
    /// # Errors
    /// [`AccountsError::State`].
    pub fn newest_mandate(&self, account: &AccountId) -> Result<Option<Verified<Mandate>>, AccountsError> {
        Ok(self.mandates(account)?.into_iter().max_by_key(|mandate| mandate.sequence))
    }

    /// The mandate of the highest sequence that an account gave to anyone, of those that have not expired.
    ///
    /// # Errors
    /// [`AccountsError::State`].
    pub fn current_mandate(
        &self,
        account: &AccountId,
        now: UnixTime,
    ) -> Result<Option<Signed<Mandate>>, AccountsError> {
        let valid = self.mandates(account)?.into_iter().filter(|mandate| mandate.expiry > now);
        Ok(valid.max_by_key(|mandate| mandate.sequence).map(|mandate| mandate.signed().clone()))
    }

    /// Adds a mandate of at least the known sequence to the batch. A newer one removes the older ones of
    /// the account, whichever mediator they name.
    ///
    /// # Errors
    /// [`AccountsError::Superseded`] for an older one, [`AccountsError::TooFarAhead`],
    /// [`AccountsError::TooManyMandates`] for one to yet another mediator.
    pub fn admit_mandate(
        &self,
        new: &Verified<Mandate>,
        now: UnixTime,
        batch: &mut Batch,
    ) -> Result<(), AccountsError> {
        let known = self.mandate(&new.account, &new.mediator, now)?;
        if known.is_some_and(|known| known.signed() == new.signed()) {
            return Ok(());
        }
        if is_too_far_ahead(new.sequence, now) {
            return Err(AccountsError::TooFarAhead);
        }
        let mut equal = 0;
        for old in self.mandates(&new.account)? {
            match old.sequence.cmp(&new.sequence) {
                Ordering::Greater => return Err(AccountsError::Superseded),
                Ordering::Less => MANDATES.remove(batch, &(new.account, old.mediator)),
                Ordering::Equal => equal += usize::from(old.mediator != new.mediator),
            }
        }
        if equal >= MAX_MANDATES {
            return Err(AccountsError::TooManyMandates);
        }
        Ok(MANDATES.put(batch, &(new.account, new.mediator), &Stored(new.clone()))?)
    }

    /// Records that a run is to be kept. `held` are the runs of what is held for the account, whose keeps
    /// stay. Of others there are [`MAX_KEEPS`] at most; all of them are evicted when there is no room.
    ///
    /// # Errors
    /// What `held` returns, or [`AccountsError::State`].
    pub fn keep<E: From<AccountsError>>(
        &self,
        keep: &Verified<Keep>,
        now: UnixTime,
        held: impl FnOnce() -> Result<BTreeSet<RunId>, E>,
    ) -> Result<(), E> {
        let _one = self.keeping.lock();
        let (account, run) = (keep.account, keep.run);
        let known = |most| KEPT.scan(&self.state, &account, None, most).map_err(AccountsError::from);
        if KEPT.contains(&self.state, &(account, run)).map_err(AccountsError::from)? {
            return Ok(());
        }
        let mut batch = Batch::default();
        if known(MAX_KEEPS)?.len() >= MAX_KEEPS {
            let held = held()?;
            let mut left = 0;
            for (key, _) in known(usize::MAX)? {
                if held.contains(&key.1) {
                    left += 1;
                } else {
                    KEPT.remove(&mut batch, &key);
                }
            }
            // What is held has used the room up: a run of which nothing is held has to do without.
            if left >= MAX_KEEPS && !held.contains(&run) {
                return Ok(self.commit(&batch)?);
            }
        }
        KEPT.put(&mut batch, &(account, run), &now).map_err(AccountsError::from)?;
        Ok(self.commit(&batch)?)
    }

    /// Forgets keeps that are not new and of whose run nothing is held.
    ///
    /// # Errors
    /// What `held` returns, or [`AccountsError::State`].
    pub fn forget_keeps<E: From<AccountsError>>(
        &self,
        now: UnixTime,
        held: impl Fn(&AccountId) -> Result<BTreeSet<RunId>, E>,
    ) -> Result<(), E> {
        let mut after: Option<(AccountId, RunId)> = None;
        loop {
            let _one = self.keeping.lock();
            // Of the account before; what it holds may change until the next page.
            let mut runs: Option<(AccountId, BTreeSet<RunId>)> = None;
            let page = KEPT.scan(&self.state, &Everything, after.as_ref(), MAX_KEEPS);
            let page = page.map_err(AccountsError::from)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            let mut batch = Batch::default();
            for (key, since) in page {
                let (account, run) = key;
                if now.since(since) < KEEP_AHEAD {
                    continue;
                }
                let known = match runs.take() {
                    Some((known, runs)) if known == account => runs,
                    _ => held(&account)?,
                };
                if !known.contains(&run) {
                    KEPT.remove(&mut batch, &key);
                }
                runs = Some((account, known));
            }
            self.commit(&batch)?;
        }
    }

    /// Whether a run is to be kept. A state that cannot answer counts as yes: nothing is deleted on
    /// a doubt.
    pub fn is_kept(&self, account: &AccountId, run: &RunId) -> bool {
        KEPT.contains(&self.state, &(*account, *run)).unwrap_or(true)
    }

    /// The newest holder list of a segment.
    ///
    /// # Errors
    /// [`AccountsError::State`].
    pub fn holders(
        &self,
        account: &AccountId,
        segment: &SegmentId,
    ) -> Result<Option<Verified<HolderList>>, AccountsError> {
        Ok(HOLDERS.get(&self.state, &(*account, *segment))?.map(|Stored(list)| list))
    }

    /// Adds the removal of a deleted segment's holder list to the batch.
    ///
    /// # Errors
    /// [`AccountsError::State`].
    pub fn forget_holders(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        batch: &mut Batch,
    ) -> Result<(), AccountsError> {
        let key = (*account, *segment);
        if HOLDERS.contains(&self.state, &key)? {
            HOLDERS.remove(batch, &key);
        }
        Ok(())
    }

    /// Adds a holder list to the batch, unless the known one is of the same mediator and as new.
    ///
    /// # Errors
    /// [`AccountsError::State`].
    pub fn admit_holders(&self, new: &Verified<HolderList>, batch: &mut Batch) -> Result<(), AccountsError> {
        if let Some(known) = self.holders(&new.account, &new.segment)?
            && known.mediator == new.mediator
            && known.sequence >= new.sequence
        {
            return Ok(());
        }
        Ok(HOLDERS.put(batch, &(new.account, new.segment), &Stored(new.clone()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::record::Rights;
    use fincrypt_protocol::{GuardKey, HeadKey, Refusal, SigningKey};
    use zeroize::Zeroizing;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn accounts() -> (tempfile::TempDir, Accounts) {
        let dir = tempfile::tempdir().expect("a folder");
        let state = State::open(dir.path()).expect("opens").0;
        (dir, Accounts::new(state, Network::Local))
    }

    fn owner() -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([1; 32]))
    }

    fn run(number: u32) -> RunId {
        let mut run = [0; 16];
        run[..4].copy_from_slice(&number.to_le_bytes());
        RunId::from_bytes(run)
    }

    fn keep(number: u32) -> Verified<Keep> {
        let body = Keep { network: Network::Local, account: owner().account(), run: run(number) };
        let signed = Signed::seal(&body, &owner()).expect("seals");
        signed.verify(Network::Local, NOW).expect("valid")
    }

    fn registration(seed: u8) -> Verified<Registration> {
        let body = Registration {
            network: Network::Local,
            account: owner().account(),
            head_key: HeadKey::from_bytes([1; 32]),
            guard_key: GuardKey::from_bytes([seed; 32]),
        };
        Signed::seal(&body, &owner()).expect("seals").verify(Network::Local, NOW).expect("valid")
    }

    fn kept(accounts: &Accounts) -> usize {
        let account = owner().account();
        KEPT.scan(&accounts.state, &account, None, usize::MAX).expect("reads").len()
    }

    #[test]
    fn keeps_of_runs_that_are_not_held_make_room_and_those_that_protect_shards_stay() {
        let (_dir, accounts) = accounts();
        let held = BTreeSet::from([run(0), run(500)]);
        let (account, most) = (owner().account(), MAX_KEEPS as u32);
        for number in 0..most + 10 {
            accounts.keep(&keep(number), NOW, || Ok::<_, AccountsError>(held.clone())).expect("no failure");
        }
        assert!(kept(&accounts) <= MAX_KEEPS, "{}", kept(&accounts));
        assert!(held.iter().all(|run| accounts.is_kept(&account, run)));
        assert!(accounts.is_kept(&account, &run(most + 9)), "the newest");
        assert!(!accounts.is_kept(&account, &run(1)));
    }

    #[test]
    fn what_is_held_may_have_more_keeps_than_there_is_room_for_others() {
        let (_dir, accounts) = accounts();
        let (account, most) = (owner().account(), MAX_KEEPS as u32);
        let held: BTreeSet<_> = (0..=most).map(run).collect();
        for number in 0..=most + 1 {
            accounts.keep(&keep(number), NOW, || Ok::<_, AccountsError>(held.clone())).expect("no failure");
        }
        assert!(held.iter().all(|run| accounts.is_kept(&account, run)));
        assert!(!accounts.is_kept(&account, &run(most + 1)), "nothing is held of it");
    }

    #[test]
    fn a_keep_without_shards_is_forgotten_after_a_day() {
        let (_dir, accounts) = accounts();
        let account = owner().account();
        for number in 0..2 {
            accounts
                .keep(&keep(number), NOW, || Ok::<_, AccountsError>(BTreeSet::new()))
                .expect("no failure");
        }
        let held = |_: &AccountId| Ok::<_, AccountsError>(BTreeSet::from([run(1)]));
        accounts.forget_keeps(NOW.plus(KEEP_AHEAD / 2), held).expect("no failure");
        assert_eq!(kept(&accounts), 2, "its shards may be on their way");
        accounts.forget_keeps(NOW.plus(KEEP_AHEAD), held).expect("no failure");
        assert_eq!((kept(&accounts), accounts.is_kept(&account, &run(1))), (1, true));
    }

    #[test]
    fn all_that_is_held_of_an_account_that_was_lost_counts_as_kept() {
        let (_dir, accounts) = accounts();
        let registration = registration(1);
        let (account, mut batch) = (registration.account, Batch::default());
        accounts.regain(&registration, (0..3).map(run), NOW, &mut batch).expect("no failure");
        accounts.commit(&batch).expect("written");
        assert!(accounts.registration(&account).expect("reads").is_some());
        assert!((0..3).all(|number| accounts.is_kept(&account, &run(number))));
        assert!(!accounts.is_kept(&account, &run(3)));
    }

    fn mandate(mediator: u8, sequence: u64) -> Verified<Mandate> {
        let body = Mandate {
            network: Network::Local,
            account: owner().account(),
            mediator: NodeId::from_bytes([mediator; 32]),
            rights: Rights { put: true, audit: true, get: true },
            byte_cap: 1,
            sequence,
            expiry: NOW.plus(Duration::from_secs(3600)),
            max_price: None,
        };
        Signed::seal(&body, &owner()).expect("seals").verify(Network::Local, NOW).expect("valid")
    }

    fn admit(accounts: &Accounts, mediator: u8, sequence: u64) -> Result<(), AccountsError> {
        let mut batch = Batch::default();
        accounts.admit_mandate(&mandate(mediator, sequence), NOW, &mut batch)?;
        accounts.commit(&batch)
    }

    #[test]
    fn mandates_of_one_sequence_are_bounded_and_a_newer_one_ends_all_of_them() {
        let (_dir, accounts) = accounts();
        let most = MAX_MANDATES as u8;
        for mediator in 0..most {
            admit(&accounts, mediator, 5).expect("room");
        }
        let refused = admit(&accounts, most, 5);
        assert!(matches!(refused, Err(AccountsError::TooManyMandates)), "{refused:?}");
        admit(&accounts, 0, 5).expect("it is known");
        admit(&accounts, most, 6).expect("newer");
        let known = accounts.mandates(&owner().account()).expect("reads");
        assert_eq!(known.iter().map(|mandate| mandate.sequence).collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn a_newer_mandate_ends_older_ones_beyond_the_bound() {
        let (_dir, accounts) = accounts();
        let mut batch = Batch::default();
        for mediator in 0..=MAX_MANDATES as u8 {
            // As a state has them that was written without the bound.
            let mandate = mandate(mediator, 5);
            MANDATES
                .put(&mut batch, &(mandate.account, mandate.mediator), &Stored(mandate))
                .expect("encodes");
        }
        accounts.commit(&batch).expect("written");
        admit(&accounts, 200, 6).expect("newer");
        let left = MANDATES.scan(&accounts.state, &owner().account(), None, usize::MAX).expect("reads");
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn of_two_registrations_the_first_stays() {
        let (_dir, accounts) = accounts();
        let register = |seed| accounts.register(&registration(seed)).map_err(Refusal::from);
        assert_eq!(register(1), Ok(()));
        assert_eq!(register(2), Err(Refusal::OtherRegistration));
        assert_eq!(register(1), Ok(()));
    }
}
