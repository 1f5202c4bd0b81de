//! What a storage node or mediator knows about accounts: registrations, mandates, kept runs, holder
//! lists.
//!
//! All of it is committed durably before it is acknowledged.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fincrypt_protocol::limits::MAX_MANDATE_AHEAD;
use fincrypt_protocol::record::{HolderList, Keep, Mandate, Registration};
use fincrypt_protocol::{
    AccountId, Body, Network, NodeId, Refusal, RunId, SegmentId, Signed, UnixTime, Verified,
};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;

const REGISTRATIONS: Tree = Tree("registrations");
const MANDATES: Tree = Tree("mandates");
const KEPT: Tree = Tree("kept");
const HOLDERS: Tree = Tree("holders");

/// Keeps of one account, beyond those of runs of which something is held: as many as there may be
/// runs on their way. Each is 56 bytes.
pub const MAX_KEEPS: usize = 1024;
/// A keep may come so long before the first shard of its run, or the run's last one may go and come
/// again.
const KEEP_AHEAD: Duration = Duration::from_secs(24 * 3600);

/// The run of a key of [`KEPT`].
fn kept_run(key: &[u8]) -> Option<RunId> {
    key.get(32..)?.try_into().ok().map(RunId::from_bytes)
}

/// Accounts in durable state.
#[derive(Clone)]
pub struct Accounts {
    /// The open state.
    pub state: State,
    /// The network whose records count.
    pub network: Network,
    /// Held while a registration is compared with the known one and kept.
    registering: Arc<Mutex<()>>,
    /// Held while keeps are noted or forgotten: who brings a shard of a run tells afterwards that it is
    /// kept, so that a keep is either seen to be needed, or noted anew.
    keeping: Arc<Mutex<()>>,
}

fn key(account: &AccountId, rest: &[u8]) -> Vec<u8> {
    [account.as_bytes(), rest].concat()
}

/// Logs what the state said and refuses.
pub fn failed(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "local state failed");
    Refusal::Failed
}

impl Accounts {
    /// Accounts in an open state.
    #[must_use]
    pub fn new(state: State, network: Network) -> Self {
        Self { state, network, registering: Arc::default(), keeping: Arc::default() }
    }

    fn read<T: Body>(&self, tree: Tree, key: &[u8]) -> Result<Option<Signed<T>>, Refusal> {
        let bytes = self.state.get(tree, key).map_err(|error| failed(&error))?;
        bytes.map(|bytes| Signed::from_bytes(&bytes).map_err(|error| failed(&error))).transpose()
    }

    /// Makes a batch durable.
    ///
    /// # Errors
    /// [`Refusal::Failed`] if the state fails.
    pub fn commit(&self, batch: &Batch) -> Result<(), Refusal> {
        if batch.is_empty() { Ok(()) } else { self.state.commit(batch).map_err(|error| failed(&error)) }
    }

    /// The account's registration. It was verified before it was kept.
    pub fn registration(&self, account: &AccountId) -> Result<Option<Verified<Registration>>, Refusal> {
        let signed = self.read::<Registration>(REGISTRATIONS, account.as_bytes())?;
        signed
            .map(|signed| signed.verify(self.network, UnixTime::now()).map_err(|error| failed(&error)))
            .transpose()
    }

    /// Refuses another registration of a known account; a new one joins the batch.
    pub fn admit_registration(&self, new: &Verified<Registration>, batch: &mut Batch) -> Result<(), Refusal> {
        match self.registration(&new.account)? {
            Some(known) if *known == **new => Ok(()),
            Some(_) => Err(Refusal::OtherRegistration),
            None => {
                let bytes = new.signed().to_bytes().map_err(|error| failed(&error))?;
                batch.put(REGISTRATIONS, *new.account.as_bytes(), bytes);
                Ok(())
            }
        }
    }

    /// Keeps the registration of an account of which these runs are held: the state was lost, and with it
    /// what was kept of them, so that all of them count as kept.
    pub fn regain(
        &self,
        new: &Verified<Registration>,
        runs: impl IntoIterator<Item = RunId>,
        now: UnixTime,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        for run in runs {
            batch.put(KEPT, key(&new.account, run.as_bytes()), now.secs().to_le_bytes());
        }
        self.admit_registration(new, batch)
    }

    /// Keeps a registration, unless another of the same account came first.
    pub fn register(&self, new: &Verified<Registration>) -> Result<(), Refusal> {
        let _one = self.registering.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        self.admit_registration(new, &mut batch)?;
        self.commit(&batch)
    }

    /// The mandate an account gave to a mediator, if it still holds.
    pub fn mandate(
        &self,
        account: &AccountId,
        mediator: &NodeId,
    ) -> Result<Option<Verified<Mandate>>, Refusal> {
        let signed = self.read::<Mandate>(MANDATES, &key(account, mediator.as_bytes()))?;
        Ok(signed.and_then(|signed| signed.verify(self.network, UnixTime::now()).ok()))
    }

    /// The mandates kept for an account: of one sequence, and whether or not they have expired.
    fn mandates(&self, account: &AccountId) -> Result<Vec<Verified<Mandate>>, Refusal> {
        let entries =
            self.state.scan(MANDATES, account.as_bytes(), None, 64).map_err(|error| failed(&error))?;
        let signed = entries.iter().filter_map(|(_, bytes)| Signed::<Mandate>::from_bytes(bytes).ok());
        // They held when they were kept; as of the beginning of time none has expired.
        Ok(signed.filter_map(|signed| signed.verify(self.network, UnixTime::from_secs(0)).ok()).collect())
    }

    /// The mandate of the highest sequence that an account gave to anyone.
    pub fn newest_mandate(&self, account: &AccountId) -> Result<Option<Signed<Mandate>>, Refusal> {
        let now = UnixTime::now();
        let valid = self.mandates(account)?.into_iter().filter(|mandate| mandate.expiry > now);
        Ok(valid.max_by_key(|mandate| mandate.sequence).map(|mandate| mandate.signed().clone()))
    }

    /// Takes a mandate of at least the known sequence; an older one is refused. A newer one dismisses
    /// whoever had the older ones.
    pub fn admit_mandate(&self, new: &Verified<Mandate>, batch: &mut Batch) -> Result<(), Refusal> {
        let known = self.mandate(&new.account, &new.mediator)?;
        if known.is_some_and(|known| known.signed() == new.signed()) {
            return Ok(());
        }
        // A thief of the machine could use up all sequences otherwise.
        if new.sequence > UnixTime::now().secs().saturating_add(MAX_MANDATE_AHEAD) {
            return Err(Refusal::Invalid);
        }
        for old in self.mandates(&new.account)? {
            match old.sequence.cmp(&new.sequence) {
                Ordering::Greater => return Err(Refusal::NotMandated),
                Ordering::Less => batch.remove(MANDATES, key(&new.account, old.mediator.as_bytes())),
                Ordering::Equal => {}
            }
        }
        let bytes = new.signed().to_bytes().map_err(|error| failed(&error))?;
        batch.put(MANDATES, key(&new.account, new.mediator.as_bytes()), bytes);
        Ok(())
    }

    /// Remembers that a run is to be kept. `held` are the runs of what is held for the account: their
    /// keeps stay. Of others there are so many at most, and the others make room.
    pub fn keep(
        &self,
        keep: &Verified<Keep>,
        now: UnixTime,
        held: impl FnOnce() -> Result<BTreeSet<RunId>, Refusal>,
    ) -> Result<(), Refusal> {
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let at = key(&keep.account, keep.run.as_bytes());
        let failed = |error| failed(&error);
        if self.state.get(KEPT, &at).map_err(failed)?.is_some() {
            return Ok(());
        }
        let mut batch = Batch::default();
        let account = keep.account.as_bytes();
        if self.state.scan(KEPT, account, None, MAX_KEEPS).map_err(failed)?.len() >= MAX_KEEPS {
            let held = held()?;
            let (mut left, known) = (0, self.state.scan(KEPT, account, None, usize::MAX).map_err(failed)?);
            for (key, _) in known {
                if kept_run(&key).is_some_and(|run| held.contains(&run)) {
                    left += 1;
                } else {
                    batch.remove(KEPT, key);
                }
            }
            // What is held has used the room up: a run of which nothing is held has to do without.
            if left >= MAX_KEEPS && !held.contains(&keep.run) {
                return self.commit(&batch);
            }
        }
        batch.put(KEPT, at, now.secs().to_le_bytes());
        self.commit(&batch)
    }

    /// Forgets keeps that are not new and of whose run nothing is held.
    pub fn forget_keeps(
        &self,
        now: UnixTime,
        held: impl Fn(&AccountId) -> Result<BTreeSet<RunId>, Refusal>,
    ) -> Result<(), Refusal> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            // Of the account before; what it holds may change until the next page.
            let mut runs: Option<(AccountId, BTreeSet<RunId>)> = None;
            let page = self.state.scan(KEPT, &[], after.as_deref(), MAX_KEEPS);
            let page = page.map_err(|error| failed(&error))?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut batch = Batch::default();
            for (key, value) in page {
                let since = value.as_slice().try_into().map_or(0, u64::from_le_bytes);
                let Some((account, _)) = key.split_first_chunk::<32>() else { continue };
                let (account, Some(run)) = (AccountId::from_bytes(*account), kept_run(&key)) else {
                    continue;
                };
                if now.since(UnixTime::from_secs(since)) < KEEP_AHEAD {
                    continue;
                }
                let known = match runs.take() {
                    Some((known, runs)) if known == account => runs,
                    _ => held(&account)?,
                };
                if !known.contains(&run) {
                    batch.remove(KEPT, key);
                }
                runs = Some((account, known));
            }
            self.commit(&batch)?;
        }
    }

    /// Whether a run is to be kept. A state that cannot answer counts as yes: nothing is deleted on
    /// a doubt.
    pub fn is_kept(&self, account: &AccountId, run: &RunId) -> bool {
        self.state.get(KEPT, &key(account, run.as_bytes())).map_or(true, |value| value.is_some())
    }

    /// The newest holder list of a segment.
    pub fn holders(
        &self,
        account: &AccountId,
        segment: &SegmentId,
    ) -> Result<Option<Signed<HolderList>>, Refusal> {
        self.read(HOLDERS, &key(account, segment.as_bytes()))
    }

    /// Drops what is known about the holders of a segment that is deleted.
    pub fn forget_holders(
        &self,
        account: &AccountId,
        segment: &SegmentId,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        if self.holders(account, segment)?.is_some() {
            batch.remove(HOLDERS, key(account, segment.as_bytes()));
        }
        Ok(())
    }

    /// Takes a holder list that is newer than the known one.
    pub fn admit_holders(&self, new: &Verified<HolderList>, batch: &mut Batch) -> Result<(), Refusal> {
        let at = key(&new.account, new.segment.as_bytes());
        if let Some(known) = self.holders(&new.account, &new.segment)?
            && let Ok(known) = known.verify(self.network, UnixTime::now())
            && known.mediator == new.mediator
            && known.sequence >= new.sequence
        {
            return Ok(());
        }
        batch.put(HOLDERS, at, new.signed().to_bytes().map_err(|error| failed(&error))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{GuardKey, HeadKey, SigningKey};
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
        accounts.state.scan(KEPT, account.as_bytes(), None, usize::MAX).expect("reads").len()
    }

    #[test]
    fn keeps_of_runs_that_are_not_held_make_room_and_those_that_protect_shards_stay() {
        let (_dir, accounts) = accounts();
        let held = BTreeSet::from([run(0), run(500)]);
        let (account, most) = (owner().account(), MAX_KEEPS as u32);
        for number in 0..most + 10 {
            accounts.keep(&keep(number), NOW, || Ok(held.clone())).expect("no failure");
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
            accounts.keep(&keep(number), NOW, || Ok(held.clone())).expect("no failure");
        }
        assert!(held.iter().all(|run| accounts.is_kept(&account, run)));
        assert!(!accounts.is_kept(&account, &run(most + 1)), "nothing is held of it");
    }

    #[test]
    fn a_keep_without_shards_is_forgotten_after_a_day() {
        let (_dir, accounts) = accounts();
        let account = owner().account();
        for number in 0..2 {
            accounts.keep(&keep(number), NOW, || Ok(BTreeSet::new())).expect("no failure");
        }
        let held = |_: &AccountId| Ok(BTreeSet::from([run(1)]));
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

    #[test]
    fn of_two_registrations_the_first_stays() {
        let (_dir, accounts) = accounts();
        assert_eq!(accounts.register(&registration(1)), Ok(()));
        assert_eq!(accounts.register(&registration(2)), Err(Refusal::OtherRegistration));
        assert_eq!(accounts.register(&registration(1)), Ok(()));
    }
}
