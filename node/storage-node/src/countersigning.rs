//! What this node countersigns: statements that agree with its own counts, of contracts that it would
//! have made.
//!
//! A mediator is held to a contract until it has paid for it: were another one accepted before, its debt
//! would no longer count towards the bound. Whatever is refused is answered with the newest statement
//! that both have signed, so a mediator that has lost its own finds out where it was. A mediator does the
//! same for a node that has lost its own.

use std::time::Duration;

use fincrypt_billing::statement::Holding;
use fincrypt_protocol::amount::{Msat, Permille};
use fincrypt_protocol::limits::MAX_BILLS;
use fincrypt_protocol::money::Stated;
use fincrypt_protocol::shard::{Bill, Billed, Countersignatures};
use fincrypt_protocol::statement::{Contract, Terms};
use fincrypt_protocol::{Epoch, NodeId, Refusal, UnixTime};
use fincrypt_state::kv::Batch;

use super::earnings::Earning;
use super::{StorageRole, payouts};
use fincrypt_accounts::failed;

/// Of what was counted, so much may be missing from a statement, in permille: shards whose receipts were
/// lost.
const TOLERANCE: u64 = 10;
/// The longest epochs in which anything is billed, in seconds: a day. Of longer ones no statement would be
/// missed for years.
const LONGEST_EPOCH: u32 = 24 * 3600;
/// Less than this is never paid.
const SATOSHI: Msat = Msat::new(1000);

fn misstated(known: Option<&Holding>) -> Billed {
    let newest = known.and_then(|known| {
        let statement = known.agreed()?.countersigned().clone();
        Some(Box::new(Stated { terms: *known.contract().terms(), statement }))
    });
    Billed::Refused { refusal: Refusal::Misstated, newest }
}

/// How much may be missing of what was counted: what came shortly before the audits, and a little.
fn tolerance(earning: &Earning) -> Result<Permille, Refusal> {
    let missing = earning.fresh.saturating_mul(1000).div_ceil(earning.held.max(1)).saturating_add(TOLERANCE);
    Permille::new(u16::try_from(missing.min(1000)).unwrap_or(1000)).map_err(|error| failed(&error))
}

impl StorageRole {
    /// Countersigns what agrees with this node's own counts. What was countersigned is durable before
    /// it is told.
    pub(super) fn bill(&self, from: NodeId, bills: Vec<Bill>) -> Result<Countersignatures, Refusal> {
        if bills.len() > MAX_BILLS {
            return Err(Refusal::Invalid);
        }
        // Of two proposals at once, each would find the other's epoch free.
        let _one = self.counting.lock();
        let answer = |bill: Bill| match self.countersign(from, &bill) {
            Ok(billed) => billed,
            Err(refusal) => Billed::Refused { refusal, newest: None },
        };
        Ok(Countersignatures { bills: bills.into_iter().map(answer).collect() })
    }

    fn countersign(&self, from: NodeId, bill: &Bill) -> Result<Billed, Refusal> {
        let Bill { terms, proposal, newest } = bill;
        let account = terms.account;
        let ours = terms.mediator == from && terms.storage == self.net.own() && terms.network == self.network;
        if !ours || self.accounts.registration(&account)?.is_none() {
            return Err(Refusal::Invalid);
        }
        let contract = Contract::new(*terms).map_err(|_| Refusal::Invalid)?;
        let mut earning = self.earning(&from, &account)?;
        let known = earning.contract()?;
        let mut begins = known.as_ref().is_none_or(|known| *known.contract() != contract);
        let mut holding = match &known {
            Some(known) if !begins => known.clone(),
            Some(known) => Holding::with_counts(contract, known.uncharged()),
            None => Holding::with_counts(contract, earning.counts.iter().copied()),
        };
        let mut batch = Batch::default();
        // What is told of payouts meanwhile waits, as it may be forgotten.
        let _told = self.told.lock();
        if let Some(newest) = newest.as_ref().filter(|_| known.is_none() || !begins)
            && let Ok(true) = holding.recall(newest)
        {
            tracing::warn!(mediator = %from, %account, "a statement was forgotten here; the mediator shows it");
            begins = false;
            payouts::forget(&self.accounts.state, &from, &mut batch)?;
        }
        if begins && !self.accepts(terms, known.as_ref(), earning.seconds)? {
            return Ok(misstated(known.as_ref()));
        }
        let now = Epoch::at(UnixTime::now(), Duration::from_secs(terms.epoch_seconds.get().into()));
        let before = holding.agreed().map_or(Msat::ZERO, |agreed| agreed.earned);
        let answer = holding.countersign(proposal, tolerance(&earning)?, now, &self.key);
        let billed = match answer {
            Ok(answer) => {
                earning.keep(&holding);
                earning.fault = None;
                earning.fresh = 0;
                if let fincrypt_billing::statement::Answer::Countersigned { unpaid, .. } = &answer {
                    earning.unpaid = earning.unpaid.saturating_add(*unpaid);
                }
                let step = answer.newest().earned.checked_sub(before).unwrap_or(Msat::ZERO);
                let whose = (contract.id(), from, account);
                payouts::note_earned(&self.accounts.state, whose, step, UnixTime::now(), &mut batch)?;
                Billed::Agreed(answer.newest().countersigned().clone())
            }
            Err(fault) => {
                tracing::warn!(mediator = %from, %account, %fault, "a statement is refused");
                earning.fault = Some(fault.to_string());
                // A contract begins with its first statement: nothing follows from terms that were only stated.
                if !begins {
                    earning.keep(&holding);
                }
                misstated(known.as_ref().filter(|_| begins).or(Some(&holding)))
            }
        };
        self.put_earning_with(&from, &account, &earning, batch)?;
        Ok(billed)
    }

    /// Whether new terms are what this node offers, of epochs as long as those it was audited in, and
    /// nothing is owed by those before, nor left uncharged.
    fn accepts(&self, terms: &Terms, known: Option<&Holding>, seconds: u32) -> Result<bool, Refusal> {
        let good = terms.epoch_seconds.get() == seconds
            && seconds <= LONGEST_EPOCH
            && terms.price >= self.terms.price
            && terms.credit_bound <= self.terms.credit_limit
            && terms.grace_days <= self.terms.grace_days
            && terms.minimum_days >= self.terms.minimum_days;
        let Some(known) = known.filter(|_| good) else { return Ok(good) };
        let earned = known.agreed().map_or(Msat::ZERO, |agreed| agreed.earned);
        let paid = payouts::paid_of(&self.accounts.state, &known.contract().id())?.arrived;
        let settled = earned.checked_sub(paid).is_none_or(|owed| owed < SATOSHI);
        let left_out = known.uncharged().any(|(epoch, counted)| epoch < terms.first && counted.bytes > 0);
        Ok(settled && !left_out && terms.first > known.contract().terms().first)
    }
}
