//! Where earnings go, and what mediators say they have paid.
//!
//! A mediator's word is kept, and shown with the transaction or payment hash by which an operator finds
//! the money in its own wallet; it counts against what the mediator owes.
//!
//! ```text
//! contracts     contract → mediator ‖ account                    of every statement countersigned
//! payouts       mediator ‖ payout → what it said last
//! paid          contract → sums of what has arrived and of what is on the way
//! earned_days   mediator ‖ day u64be → what was countersigned on that day (UTC)
//! ```

use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::limits::MAX_PARTS;
use fincrypt_protocol::money::{Payout, PayoutState, Sending};
use fincrypt_protocol::shard::Done;
use fincrypt_protocol::{AccountId, ContractId, NodeId, PayoutId, Refusal, UnixTime, cbor};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use serde::{Deserialize, Serialize};

use super::StorageRole;
use crate::PayoutTo;
use fincrypt_accounts::failed;

const CONTRACTS: Tree = Tree("contracts");
const PAYOUTS: Tree = Tree("payouts");
const PAID: Tree = Tree("paid");
const DAYS: Tree = Tree("earned_days");

/// Payouts that are over and remembered, of one mediator.
const REMEMBERED: usize = 1000;
/// Payouts under way that one mediator may tell of.
const UNDER_WAY: usize = 100;
/// The most bytes of what is kept of a payout.
const MAX_HEARD: usize = 128 << 10;
/// A mediator's Lightning node, as it names it.
const MAX_NODE: usize = 66;
const DAY: u64 = 24 * 3600;

/// A payout, and when it was first heard of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Heard {
    payout: Payout,
    since: UnixTime,
}

/// What mediators say they have paid of a contract.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Paid {
    /// What has arrived, the network's fees included.
    pub arrived: Msat,
    /// What is on the way.
    pub coming: Msat,
}

impl Paid {
    /// Counts a payout's part, or takes it back.
    fn count(&mut self, state: PayoutState, amount: Msat, add: bool) {
        let sum = match state {
            PayoutState::Arrived => &mut self.arrived,
            PayoutState::OnTheWay => &mut self.coming,
            PayoutState::Failed => return,
        };
        let changed = if add { sum.checked_add(amount) } else { sum.checked_sub(amount) };
        *sum = changed.unwrap_or(*sum);
    }
}

/// A payout, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PaidView {
    /// The mediator that pays.
    pub mediator: String,
    /// The payout.
    pub id: String,
    /// `on_the_way`, `arrived` or `failed`.
    pub state: PayoutState,
    /// What of the earnings is settled by it.
    pub msat: u64,
    /// What of that arrives at the destination.
    pub arrives_msat: u64,
    /// The transaction's id.
    pub transaction: Option<String>,
    /// Or the Lightning payment's hash.
    pub payment_hash: Option<String>,
    /// When it was first heard of, in seconds since 1970.
    pub since: u64,
}

fn payout_key(mediator: &NodeId, payout: &PayoutId) -> Vec<u8> {
    [mediator.as_bytes().as_slice(), payout.as_bytes()].concat()
}

fn day_key(mediator: &NodeId, day: u64) -> Vec<u8> {
    [mediator.as_bytes().as_slice(), &day.to_be_bytes()].concat()
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    cbor::decode(bytes, MAX_HEARD).map_err(|error| failed(&error))
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Refusal> {
    cbor::encode(value).map_err(|error| failed(&error))
}

/// What is said to be paid of a contract.
pub(super) fn paid_of(state: &impl KeyValue, contract: &ContractId) -> Result<Paid, Refusal> {
    let bytes = state.get(PAID, contract.as_bytes()).map_err(|error| failed(&error))?;
    bytes.map_or_else(|| Ok(Paid::default()), |bytes| decode(&bytes))
}

/// Notes what a statement added to a contract's earnings.
pub(super) fn note_earned(
    state: &impl KeyValue,
    (contract, mediator, account): (ContractId, NodeId, AccountId),
    step: Msat,
    now: UnixTime,
    batch: &mut Batch,
) -> Result<(), Refusal> {
    let whose = [mediator.as_bytes().as_slice(), account.as_bytes()].concat();
    batch.put(CONTRACTS, *contract.as_bytes(), whose);
    let key = day_key(&mediator, now.secs() / DAY);
    let known = state.get(DAYS, &key).map_err(|error| failed(&error))?;
    let known: Msat = known.map_or_else(|| Ok(Msat::ZERO), |bytes| decode(&bytes))?;
    batch.put(DAYS, key, encode(&known.checked_add(step).unwrap_or(known))?);
    Ok(())
}

/// Forgets what a mediator told of payouts, which it tells again: what is left of it after a loss would be
/// counted twice.
pub(super) fn forget(state: &impl KeyValue, mediator: &NodeId, batch: &mut Batch) -> Result<(), Refusal> {
    let scan =
        |tree, prefix: &[u8]| state.scan(tree, prefix, None, usize::MAX).map_err(|error| failed(&error));
    for (key, _) in scan(PAYOUTS, mediator.as_bytes())? {
        batch.remove(PAYOUTS, key);
    }
    let theirs =
        scan(CONTRACTS, &[])?.into_iter().filter(|(_, whose)| whose.starts_with(mediator.as_bytes()));
    theirs.for_each(|(contract, _)| batch.remove(PAID, contract));
    Ok(())
}

/// What was earned of each mediator on each of the last days, the newest first.
pub fn days(state: &impl KeyValue, now: UnixTime, days: u64) -> Vec<(NodeId, u64, Msat)> {
    let oldest = (now.secs() / DAY).saturating_sub(days.saturating_sub(1));
    let read = |(key, value): (Vec<u8>, Vec<u8>)| {
        let (mediator, day) = key.split_first_chunk::<32>()?;
        let day = u64::from_be_bytes(day.try_into().ok()?);
        (day >= oldest).then_some((NodeId::from_bytes(*mediator), day, decode(&value).ok()?))
    };
    let entries = state.scan(DAYS, &[], None, usize::MAX).unwrap_or_default();
    let mut days: Vec<(NodeId, u64, Msat)> = entries.into_iter().filter_map(read).collect();
    days.sort_unstable_by_key(|(mediator, day, _)| (std::cmp::Reverse(*day), *mediator));
    days
}

/// The newest payouts that mediators told of.
pub fn told(state: &impl KeyValue, limit: usize) -> Vec<PaidView> {
    let entries = state.scan(PAYOUTS, &[], None, usize::MAX).unwrap_or_default();
    let read = |(key, value): (Vec<u8>, Vec<u8>)| {
        let mediator = NodeId::from_bytes(*key.first_chunk::<32>()?);
        let Heard { payout, since } = decode(&value).ok()?;
        let sum = payout.parts.iter().fold(0_u64, |sum, (_, amount)| sum.saturating_add(amount.get()));
        let (transaction, payment_hash) = match payout.sending {
            Some(Sending::Transaction(id)) => (Some(id.to_string()), None),
            Some(Sending::Payment(hash)) => (None, Some(hash.to_string())),
            None => (None, None),
        };
        Some(PaidView {
            mediator: fincrypt_net::shown(&mediator),
            id: payout.id.to_string(),
            state: payout.state,
            msat: sum,
            arrives_msat: payout.arrives.get(),
            transaction,
            payment_hash,
            since: since.secs(),
        })
    };
    let mut told: Vec<PaidView> = entries.into_iter().filter_map(read).collect();
    told.sort_unstable_by(|a, b| (b.since, &b.id).cmp(&(a.since, &a.id)));
    told.truncate(limit);
    told
}

impl StorageRole {
    /// Where the operator wants its earnings. A mediator with a contract here may open channels to a
    /// Lightning node of this one's own, which counts them at once.
    pub(super) fn pay_to(&self, from: NodeId, lightning: Option<String>) -> Result<Option<String>, Refusal> {
        let own = match (&self.terms.payout, &self.lightning) {
            (PayoutTo::Destination(text), _) => return Ok(Some(text.clone())),
            (PayoutTo::Own, Some(own)) => own,
            _ => return Ok(None),
        };
        if let Some(node) = lightning.filter(|node| node.len() == MAX_NODE)
            && self.has_contract_with(&from)?
        {
            own.trust(&node);
        }
        Ok(own.address())
    }

    fn has_contract_with(&self, mediator: &NodeId) -> Result<bool, Refusal> {
        let state = &self.accounts.state;
        let found = state.scan(super::earnings::EARNINGS, mediator.as_bytes(), None, 1);
        Ok(!found.map_err(|error| failed(&error))?.is_empty())
    }

    /// Whether a contract is one that this node has, or had, with a mediator.
    fn is_contract_with(&self, contract: &ContractId, mediator: &NodeId) -> Result<bool, Refusal> {
        let known = self.accounts.state.get(CONTRACTS, contract.as_bytes());
        let known = known.map_err(|error| failed(&error))?;
        Ok(known.is_some_and(|whose| whose.starts_with(mediator.as_bytes())))
    }

    /// Takes in what a mediator says of a payout, durably. Its newest word replaces those before.
    ///
    /// Of contracts that this node does not know, or not any more, nothing is counted.
    pub(super) fn paid(&self, from: NodeId, mut payout: Payout) -> Result<Done, Refusal> {
        if payout.parts.is_empty() || payout.parts.len() > MAX_PARTS {
            return Err(Refusal::Invalid);
        }
        let mut contracts: Vec<&ContractId> = payout.parts.iter().map(|(contract, _)| contract).collect();
        contracts.sort_unstable();
        contracts.dedup();
        if contracts.len() < payout.parts.len() {
            return Err(Refusal::Invalid);
        }
        let mut known = Vec::with_capacity(payout.parts.len());
        for part in payout.parts {
            if self.is_contract_with(&part.0, &from)? {
                known.push(part);
            }
        }
        if known.is_empty() {
            return Err(Refusal::Invalid);
        }
        payout.parts = known;
        let _one = self.told.lock();
        let state = &self.accounts.state;
        let key = payout_key(&from, &payout.id);
        let before: Option<Heard> = match state.get(PAYOUTS, &key).map_err(|error| failed(&error))? {
            Some(bytes) => Some(decode(&bytes)?),
            None => None,
        };
        let since = before.as_ref().map_or_else(UnixTime::now, |before| before.since);
        let mut sums = std::collections::BTreeMap::new();
        let said = before.iter().map(|before| (&before.payout, false)).chain([(&payout, true)]);
        for (said, add) in said {
            for (contract, amount) in &said.parts {
                if !sums.contains_key(contract) {
                    sums.insert(*contract, paid_of(state, contract)?);
                }
                if let Some(sum) = sums.get_mut(contract) {
                    sum.count(said.state, *amount, add);
                }
            }
        }
        let mut batch = Batch::default();
        for (contract, sum) in sums {
            batch.put(PAID, *contract.as_bytes(), encode(&sum)?);
        }
        if before.is_none() {
            self.forget_payouts(&from, &mut batch)?;
        }
        batch.put(PAYOUTS, key, encode(&Heard { payout, since })?);
        self.accounts.commit(&batch)?;
        Ok(Done {})
    }

    /// Makes room for one more payout of a mediator. What the forgotten ones paid stays counted.
    fn forget_payouts(&self, mediator: &NodeId, batch: &mut Batch) -> Result<(), Refusal> {
        let known = self.accounts.state.scan(PAYOUTS, mediator.as_bytes(), None, usize::MAX);
        let known = known.map_err(|error| failed(&error))?;
        if known.len() < UNDER_WAY {
            return Ok(());
        }
        let (mut over, mut under_way) = (Vec::new(), 0);
        for (key, value) in known {
            let heard: Heard = decode(&value)?;
            match heard.payout.state {
                PayoutState::OnTheWay => under_way += 1,
                PayoutState::Arrived | PayoutState::Failed => over.push((heard.since, key)),
            }
        }
        if under_way >= UNDER_WAY {
            return Err(Refusal::Busy);
        }
        over.sort_unstable();
        let superfluous = (over.len() + 1).saturating_sub(REMEMBERED);
        for (_, key) in over.into_iter().take(superfluous) {
            batch.remove(PAYOUTS, key);
        }
        Ok(())
    }
}
