//! What a storage node or mediator knows about accounts: registrations, mandates, kept runs, holder
//! lists.
//!
//! All of it is committed durably before it is acknowledged.

use std::cmp::Ordering;

use fincrypt_protocol::limits::MAX_MANDATE_AHEAD;
use fincrypt_protocol::record::{HolderList, Keep, Mandate, Registration};
use fincrypt_protocol::{
    AccountId, Body, Network, NodeId, Refusal, RunId, SegmentId, Signed, UnixTime, Verified,
};
use fincrypt_storage::kv::{Batch, KeyValue, Tree};
use fincrypt_storage::state::State;

const REGISTRATIONS: Tree = Tree("registrations");
const MANDATES: Tree = Tree("mandates");
const KEPT: Tree = Tree("kept");
const HOLDERS: Tree = Tree("holders");

/// Accounts in durable state.
#[derive(Clone)]
pub(crate) struct Accounts {
    pub(crate) state: State,
    pub(crate) network: Network,
}

fn key(account: &AccountId, rest: &[u8]) -> Vec<u8> {
    [account.as_bytes(), rest].concat()
}

/// Logs what the state said and refuses.
pub(crate) fn failed(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "local state failed");
    Refusal::Failed
}

impl Accounts {
    pub(crate) fn new(state: State, network: Network) -> Self {
        Self { state, network }
    }

    fn read<T: Body>(&self, tree: Tree, key: &[u8]) -> Result<Option<Signed<T>>, Refusal> {
        let bytes = self.state.get(tree, key).map_err(|error| failed(&error))?;
        bytes.map(|bytes| Signed::from_bytes(&bytes).map_err(|error| failed(&error))).transpose()
    }

    pub(crate) fn commit(&self, batch: &Batch) -> Result<(), Refusal> {
        if batch.is_empty() { Ok(()) } else { self.state.commit(batch).map_err(|error| failed(&error)) }
    }

    /// The account's registration. It was verified before it was kept.
    pub(crate) fn registration(
        &self,
        account: &AccountId,
    ) -> Result<Option<Verified<Registration>>, Refusal> {
        let signed = self.read::<Registration>(REGISTRATIONS, account.as_bytes())?;
        signed
            .map(|signed| signed.verify(self.network, UnixTime::now()).map_err(|error| failed(&error)))
            .transpose()
    }

    /// Refuses another registration of a known account; a new one joins the batch.
    pub(crate) fn admit_registration(
        &self,
        new: &Verified<Registration>,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
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

    /// The mandate an account gave to a mediator, if it still holds.
    pub(crate) fn mandate(
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
    pub(crate) fn newest_mandate(&self, account: &AccountId) -> Result<Option<Signed<Mandate>>, Refusal> {
        let now = UnixTime::now();
        let valid = self.mandates(account)?.into_iter().filter(|mandate| mandate.expiry > now);
        Ok(valid.max_by_key(|mandate| mandate.sequence).map(|mandate| mandate.signed().clone()))
    }

    /// Takes a mandate of at least the known sequence; an older one is refused. A newer one dismisses
    /// whoever had the older ones.
    pub(crate) fn admit_mandate(&self, new: &Verified<Mandate>, batch: &mut Batch) -> Result<(), Refusal> {
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

    /// Remembers that a run is to be kept.
    pub(crate) fn keep(&self, keep: &Verified<Keep>) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.put(KEPT, key(&keep.account, keep.run.as_bytes()), Vec::new());
        self.commit(&batch)
    }

    /// Whether a run is to be kept. A state that cannot answer counts as yes: nothing is deleted on
    /// a doubt.
    pub(crate) fn is_kept(&self, account: &AccountId, run: &RunId) -> bool {
        self.state.get(KEPT, &key(account, run.as_bytes())).map_or(true, |value| value.is_some())
    }

    /// The newest holder list of a segment.
    pub(crate) fn holders(
        &self,
        account: &AccountId,
        segment: &SegmentId,
    ) -> Result<Option<Signed<HolderList>>, Refusal> {
        self.read(HOLDERS, &key(account, segment.as_bytes()))
    }

    /// Drops what is known about the holders of a segment that is deleted.
    pub(crate) fn forget_holders(
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
    pub(crate) fn admit_holders(&self, new: &Verified<HolderList>, batch: &mut Batch) -> Result<(), Refusal> {
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
