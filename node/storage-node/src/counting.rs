//! What mediators owe this node: its own counts of what it held when it was audited, and what the
//! statements have come to that it countersigned.
//!
//! A mediator's records lag behind what is stored by what is on its way, and it forgets released
//! segments before storage deletes them. So the node leaves out what is released, and tolerates that
//! as much is missing from a statement as was stored shortly before the audits it rests on.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;

use fincrypt_billing::earned as earned_by;
use fincrypt_billing::statement::{Counted, CreditStanding, Holding, SavedHolding};
use fincrypt_protocol::amount::{Msat, Price};
use fincrypt_protocol::shard::Audited;
use fincrypt_protocol::statement::{Contract, Terms};
use fincrypt_protocol::{AccountId, AnswerDigest, Epoch, NodeId, Refusal, SegmentId, UnixTime, cbor};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use serde::{Deserialize, Serialize};

use super::{StorageRole, credit, payouts};
use fincrypt_accounts::failed;
use fincrypt_accounts::releases::Pending;

/// `mediator ‖ account` → [`Earning`].
pub(super) const EARNINGS: Tree = Tree("earnings");
/// The most bytes of one: a year of counts.
const MAX_EARNING: usize = 2 << 20;
/// Counts kept before there is a contract.
const MAX_COUNTS: usize = 64;
/// Epochs by which an audit may be late or early by this node's clock.
const MAX_APART: u64 = 2;
/// What was stored for so long has been heard of by its mediator.
const HEARD: Duration = Duration::from_secs(60);

/// How one account at one mediator stands.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Earning {
    pub(super) terms: Option<Terms>,
    pub(super) holding: SavedHolding,
    /// Counts of epochs before there was a contract.
    pub(super) counts: Vec<(Epoch, Counted)>,
    /// Bytes at the last audit.
    pub(super) held: u64,
    /// How many of them, or of those at the audit before, had come shortly before it.
    pub(super) fresh: u64,
    /// Why the newest statement was refused, for the operator.
    pub(super) fault: Option<String>,
    /// How long the epochs of the counts are.
    pub(super) seconds: u32,
    /// Bytes of epochs that were answered for and not charged, added up.
    pub(super) unpaid: u64,
    /// When something was first counted without a contract.
    #[serde(default)]
    pub(super) unbilled: Option<UnixTime>,
}

impl Earning {
    /// The contract and what was agreed on by it; none before the first statement.
    pub(super) fn contract(&self) -> Result<Option<Holding>, Refusal> {
        let Some(terms) = self.terms else { return Ok(None) };
        let contract = Contract::new(terms).map_err(|error| failed(&error))?;
        Holding::restore(contract, &self.holding).map(Some).map_err(|error| failed(&error))
    }

    /// Goes on with a contract that it knew, or begins one.
    pub(super) fn keep(&mut self, holding: &Holding) {
        self.terms = Some(*holding.contract().terms());
        self.holding = holding.saved();
        self.counts.clear();
        self.unbilled = None;
    }
}

/// How an account at a mediator stands, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Earned {
    /// The mediator.
    pub mediator: String,
    /// The account.
    pub account: String,
    /// The newest epoch that was countersigned.
    pub epoch: u64,
    /// What it has come to, in msat.
    pub earned_msat: u64,
    /// The agreed price, in msat per GiB-month.
    pub price: u64,
    /// What the mediator says has arrived of it, and is on the way, in msat.
    pub paid_msat: u64,
    /// The same of what is on the way.
    pub coming_msat: u64,
    /// What is owed, and what may be.
    pub owed_msat: u64,
    /// What may be owed, in msat: from then on no shards are taken.
    pub credit_bound_msat: u64,
    /// `open`, `bound`, `uncharged` or `lapsed`: only if open are new shards taken.
    pub standing: &'static str,
    /// Until when what is there is kept, or since when it no longer is, in seconds since 1970.
    pub kept_until: Option<u64>,
    /// Why the newest statement was refused, if it was.
    pub refused: Option<String>,
    /// What epochs would have earned in which it answered and that the mediator does not charge, in msat.
    pub uncharged_msat: u64,
    /// Two different statements of one epoch that the mediator has signed, if it has, as anybody can
    /// check them: CBOR in hexadecimal.
    pub proof: Option<String>,
}

/// Shards that came lately: when, for whom, how long.
#[derive(Default)]
pub(super) struct Fresh(Mutex<VecDeque<(UnixTime, AccountId, u64)>>);

impl Fresh {
    /// Notes a shard that was stored.
    pub(super) fn note(&self, now: UnixTime, account: AccountId, bytes: u64) {
        let mut fresh = self.0.lock();
        fresh.push_back((now, account, bytes));
        while fresh.front().is_some_and(|(stored, ..)| now.since(*stored) > HEARD) {
            fresh.pop_front();
        }
    }

    fn of(&self, account: &AccountId, now: UnixTime, window: Duration) -> u64 {
        let fresh = self.0.lock();
        let counts =
            |(stored, of, _): &&(UnixTime, AccountId, u64)| of == account && now.since(*stored) <= window;
        fresh.iter().filter(counts).map(|(.., bytes)| bytes).sum()
    }
}

fn key(mediator: &NodeId, account: &AccountId) -> Vec<u8> {
    [mediator.as_bytes().as_slice(), account.as_bytes()].concat()
}

impl StorageRole {
    pub(super) fn earning(&self, mediator: &NodeId, account: &AccountId) -> Result<Earning, Refusal> {
        let bytes = self.accounts.state.get(EARNINGS, &key(mediator, account));
        let bytes = bytes.map_err(|error| failed(&error))?;
        let read = |bytes: Vec<u8>| cbor::decode(&bytes, MAX_EARNING).map_err(|error| failed(&error));
        bytes.map_or_else(|| Ok(Earning::default()), read)
    }

    /// Bytes held for an account that are not to be deleted.
    fn payable(&self, account: &AccountId) -> Result<u64, Refusal> {
        let sum = |segments: &[SegmentId]| {
            segments.iter().try_fold(0_u64, |sum, segment| {
                let held = self.store.segment(account, segment).map_err(|error| failed(&error))?;
                let bytes = held
                    .map_or(0, |held| held.shards.len() as u64 * u64::from(held.manifest.shard_len().get()));
                Ok::<_, Refusal>(sum.saturating_add(bytes))
            })
        };
        match self.releases.pending(account)? {
            Pending::AllBut(segments) => sum(&segments),
            Pending::Some(segments) => Ok(self.store.shard_bytes_of(account).saturating_sub(sum(&segments)?)),
        }
    }

    /// Notes, durably, what is held for each account of a mediator whose challenge was answered.
    pub(super) fn count(
        &self,
        mediator: NodeId,
        audited: Audited,
        answer: AnswerDigest,
    ) -> Result<(), Refusal> {
        if self.terms.price == Price::FREE {
            return Ok(());
        }
        let now = UnixTime::now();
        let length = Duration::from_secs(audited.seconds.into());
        let (since, ahead) = {
            let own = if length.is_zero() { Epoch::new(0) } else { Epoch::at(now, length) };
            (own.since(audited.epoch), audited.epoch.since(own))
        };
        if length.is_zero() || since.max(ahead) > MAX_APART {
            tracing::warn!(%mediator, epoch = audited.epoch.number(), "an audit of another time is not counted");
            return Ok(());
        }
        let _one = self.counting.lock();
        let window = HEARD.min(Duration::from_secs(audited.seconds.into()));
        for account in self.store.accounts() {
            if self.accounts.mandate(&account, &mediator, now)?.is_none_or(|mandate| !mandate.rights.audit) {
                continue;
            }
            let mut earning = self.earning(&mediator, &account)?;
            let held = self.payable(&account)?;
            let fresh = self.fresh.of(&account, now, window);
            let counted = Counted { bytes: held.min(earning.held), answer };
            earning.fresh = fresh.max(earning.fresh.min(earning.held));
            earning.held = held;
            let as_before = earning.seconds == audited.seconds;
            earning.seconds = audited.seconds;
            match earning.contract()? {
                Some(holding) if holding.contract().terms().epoch_seconds.get() != audited.seconds => {}
                Some(mut holding) => {
                    holding.counted(audited.epoch, counted);
                    earning.holding = holding.saved();
                }
                None => {
                    if !as_before {
                        earning.counts.clear();
                    }
                    if counted.bytes > 0 {
                        earning.unbilled.get_or_insert(now);
                    }
                    earning.counts.retain(|(epoch, _)| *epoch != audited.epoch);
                    earning.counts.push((audited.epoch, counted));
                    let superfluous = earning.counts.len().saturating_sub(MAX_COUNTS);
                    earning.counts.drain(..superfluous);
                }
            }
            self.put_earning(&mediator, &account, &earning)?;
        }
        Ok(())
    }

    /// The contract with a mediator for an account, and what it has come to.
    pub(super) fn contract_with(
        &self,
        mediator: &NodeId,
        account: &AccountId,
    ) -> Result<Option<Holding>, Refusal> {
        self.earning(mediator, account)?.contract()
    }

    fn put_earning(&self, mediator: &NodeId, account: &AccountId, earning: &Earning) -> Result<(), Refusal> {
        self.put_earning_with(mediator, account, earning, Batch::default())
    }

    pub(super) fn put_earning_with(
        &self,
        mediator: &NodeId,
        account: &AccountId,
        earning: &Earning,
        mut batch: Batch,
    ) -> Result<(), Refusal> {
        batch.put(EARNINGS, key(mediator, account), cbor::encode(earning).map_err(|error| failed(&error))?);
        Ok(self.accounts.commit(&batch)?)
    }

    /// What every mediator owes, for the operator.
    pub fn earned(state: &impl KeyValue) -> Vec<Earned> {
        let entries = state.scan(EARNINGS, &[], None, usize::MAX).unwrap_or_default();
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let (mediator, account) = key.split_first_chunk::<32>()?;
            let earning: Earning = cbor::decode(&value, MAX_EARNING).ok()?;
            let holding = earning.contract().ok()??;
            let (contract, agreed) = (holding.contract(), holding.agreed());
            let (terms, earned) = (contract.terms(), agreed.map_or(Msat::ZERO, |agreed| agreed.earned));
            let paid = payouts::paid_of(state, &contract.id()).ok()?;
            let stands = credit::standing(state, &holding, earning.held > 0, UnixTime::now());
            let (standing, kept_until) = match stands.ok()?.0 {
                CreditStanding::Open { .. } => ("open", None),
                CreditStanding::Bound { until, .. } => ("bound", Some(until)),
                CreditStanding::Uncharged { until, .. } => ("uncharged", Some(until)),
                CreditStanding::Lapsed { since, .. } => ("lapsed", Some(since)),
            };
            Some(Earned {
                mediator: fincrypt_net::shown(&NodeId::from_bytes(*mediator)),
                account: AccountId::from_bytes(account.try_into().ok()?).to_string(),
                epoch: agreed.map_or(0, |agreed| agreed.epoch.number()),
                earned_msat: earned.get(),
                price: terms.price.get(),
                paid_msat: paid.arrived.get(),
                coming_msat: paid.coming.get(),
                owed_msat: earned.get().saturating_sub(paid.arrived.get()),
                credit_bound_msat: terms.credit_bound.get(),
                standing,
                kept_until: kept_until.map(UnixTime::secs),
                refused: earning.fault,
                uncharged_msat: earned_by(terms.price, earning.unpaid, terms.epoch_seconds.get())
                    .map_or(u64::MAX, Msat::get),
                proof: holding.contradiction().and_then(|proof| proof.to_hex().ok()),
            })
        };
        entries.into_iter().filter_map(read).collect()
    }
}
