//! The earnings as its operator reads it.

use std::cmp::Reverse;

use fincrypt_billing::earned as earned_by;
use fincrypt_billing::statement::CreditStanding;
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::{PayoutState, Sending};
use fincrypt_protocol::{NodeId, UnixTime};
use fincrypt_state::table::Everything;
use serde::Serialize;

use super::{DAY, DAYS, EARNINGS, Earning, Earnings, EarningsError, KnownPayout, PAYOUTS, Relation};

/// How an account at a mediator stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Earned {
    /// The mediator.
    pub mediator: String,
    /// The account.
    pub account: String,
    /// The newest epoch that was countersigned.
    pub epoch: u64,
    /// What the contract has earned by then, in msat.
    pub earned_msat: u64,
    /// The agreed price, in msat per GiB-month.
    pub price: u64,
    /// What the mediator says has arrived, in msat.
    pub paid_msat: u64,
    /// What the mediator says is on the way, in msat.
    pub coming_msat: u64,
    /// What is owed, in msat.
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

/// What was earned of a mediator on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarnedOnDay {
    /// The mediator.
    pub mediator: NodeId,
    /// Days since 1970 (UTC).
    pub day: u64,
    /// What was countersigned.
    pub earned: Msat,
}

/// A payout.
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

impl PaidView {
    fn of(mediator: &NodeId, KnownPayout { payout, since }: &KnownPayout) -> Self {
        let sum = payout.parts.iter().fold(0_u64, |sum, (_, amount)| sum.saturating_add(amount.get()));
        let (transaction, payment_hash) = match &payout.sending {
            Some(Sending::Transaction(id)) => (Some(id.to_string()), None),
            Some(Sending::Payment(hash)) => (None, Some(hash.to_string())),
            None => (None, None),
        };
        Self {
            mediator: fincrypt_net::shown(mediator),
            id: payout.id.to_string(),
            state: payout.state,
            msat: sum,
            arrives_msat: payout.arrives.get(),
            transaction,
            payment_hash,
            since: since.secs(),
        }
    }
}

impl Earnings {
    /// What every mediator owes by a contract.
    ///
    /// # Errors
    /// If the earnings cannot be read.
    pub fn earned(&self, now: UnixTime) -> Result<Vec<Earned>, EarningsError> {
        let mut all = Vec::new();
        EARNINGS.visit(&self.0.state, &Everything, |relation, earning| {
            all.extend(self.earned_of(&relation, earning, now)?);
            Ok::<_, EarningsError>(())
        })?;
        Ok(all)
    }

    fn earned_of(
        &self,
        (mediator, account): &Relation,
        earning: Earning,
        now: UnixTime,
    ) -> Result<Option<Earned>, EarningsError> {
        let Some((holding, debt)) = earning.contract()?.zip(self.debt_of(&earning)?) else { return Ok(None) };
        let (terms, paid) = (debt.contract.terms(), self.paid(&debt.contract.id())?);
        let earned = debt.agreed.map_or(Msat::ZERO, |(_, earned)| earned);
        let (standing, kept_until) = match debt.standing(earning.held > 0, now).0 {
            CreditStanding::Open { .. } => ("open", None),
            CreditStanding::Bound { until, .. } => ("bound", Some(until)),
            CreditStanding::Uncharged { until, .. } => ("uncharged", Some(until)),
            CreditStanding::Lapsed { since, .. } => ("lapsed", Some(since)),
        };
        Ok(Some(Earned {
            mediator: fincrypt_net::shown(mediator),
            account: account.to_string(),
            epoch: debt.agreed.map_or(0, |(epoch, _)| epoch.number()),
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
        }))
    }

    /// What was earned of each mediator on each of the last `days`, the newest first.
    ///
    /// # Errors
    /// If the earnings cannot be read.
    pub fn earned_days(&self, now: UnixTime, days: u64) -> Result<Vec<EarnedOnDay>, EarningsError> {
        let oldest = (now.secs() / DAY).saturating_sub(days.saturating_sub(1));
        let entries = DAYS.scan(&self.0.state, &Everything, None, usize::MAX)?;
        let mut days: Vec<_> = entries
            .into_iter()
            .filter(|((_, day), _)| *day >= oldest)
            .map(|((mediator, day), earned)| EarnedOnDay { mediator, day, earned })
            .collect();
        days.sort_unstable_by_key(|earned| (Reverse(earned.day), earned.mediator));
        Ok(days)
    }

    /// The newest payouts that mediators told of, at most `limit`.
    ///
    /// # Errors
    /// If the earnings cannot be read.
    pub fn paid_out(&self, limit: usize) -> Result<Vec<PaidView>, EarningsError> {
        let entries = PAYOUTS.scan(&self.0.state, &Everything, None, usize::MAX)?;
        let mut known: Vec<_> =
            entries.iter().map(|((mediator, _), payout)| PaidView::of(mediator, payout)).collect();
        known.sort_unstable_by(|a, b| (b.since, &b.id).cmp(&(a.since, &a.id)));
        known.truncate(limit);
        Ok(known)
    }
}
