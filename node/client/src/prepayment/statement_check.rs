//! What a client thinks of its statements, by what it knows itself: who its mediator is, what it pays
//! at most, and how much it has stored. Sans-IO.

use std::collections::BTreeMap;
use std::time::Duration;

use fincrypt_billing::statement::{Contradiction, Fault, Known, Paying, Payment, Signers};
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::money::Stated;
use fincrypt_protocol::statement::{Agreed, Contract, Countersigned, TermsError};
use fincrypt_protocol::{AccountId, Epoch, Network, NodeId, UnixTime};

/// What the client is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) network: Network,
    pub(crate) account: AccountId,
    pub(crate) mediator: NodeId,
    /// The most that it pays; any price if there is no limit.
    pub(crate) max_price: Option<Price>,
    pub(crate) now: UnixTime,
}

/// Why a statement is wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    /// The rules of statements are broken.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// One of the two has not signed it. The epoch is what it says, as far as its mediator has signed it.
    #[error("epoch {}: it is not signed by both its mediator and its storage node ({error})", epoch.number())]
    Unsigned {
        /// The epoch.
        epoch: Epoch,
        /// What is wrong with it.
        error: fincrypt_protocol::RecordError,
    },
    /// Nobody may agree on such terms.
    #[error("its terms are not allowed: {0}")]
    Terms(#[from] TermsError),
    /// It is of another network.
    #[error("it is of network {0}")]
    Network(Network),
    /// It is another account's.
    #[error("it is of another account")]
    Account,
    /// Another mediator has signed it.
    #[error("it is of mediator {0}, which is not the vault's")]
    Mediator(NodeId),
    /// All contracts together state more than was stored.
    #[error(
        "epoch {}: overbilled, all storage nodes together state {stated} bytes, and {held} at most were stored by what this machine knows",
        epoch.number()
    )]
    Together {
        /// The newest epoch.
        epoch: Epoch,
        /// Bytes, or bytes on average over several epochs.
        stated: u64,
        /// The most that is right.
        held: u64,
    },
}

impl From<fincrypt_protocol::RecordError> for Wrong {
    fn from(error: fincrypt_protocol::RecordError) -> Self {
        Self::Fault(error.into())
    }
}

/// A statement that is right.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) agreed: Agreed,
    /// What it adds to the newest one that was known; none if it is not newer.
    pub(crate) step: Option<Step>,
}

/// What a statement adds to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// When the first epoch begins that it charges.
    pub(crate) from: UnixTime,
    /// When the last one ends.
    pub(crate) to: UnixTime,
    /// Bytes times seconds.
    pub(crate) byte_seconds: u128,
}

fn begin(epoch: Epoch, length: Duration) -> UnixTime {
    UnixTime::from_secs(epoch.number().saturating_mul(length.as_secs()))
}

/// Judges a statement after the newest good one that is known of its contract, and beside the one
/// that is known of its epoch. `most` tells how many bytes one node can have held since a time.
pub(crate) fn check_statement(
    own: &Own,
    newest: Option<&Countersigned>,
    same: Option<&Countersigned>,
    stated: &Stated,
    most: impl Fn(UnixTime) -> u64,
) -> Result<Judged, Wrong> {
    let terms = &stated.terms;
    let contract = Contract::new(*terms)?;
    if terms.network != own.network {
        return Err(Wrong::Network(terms.network));
    }
    let agreed = stated.statement.verify(own.network)?;
    if terms.account != own.account {
        return Err(Wrong::Account);
    }
    if terms.mediator != own.mediator {
        return Err(Wrong::Mediator(terms.mediator));
    }
    if let Some(same) = same {
        let signers = Signers::Both(same.clone(), stated.statement.clone());
        if let Ok(proof) = Contradiction::new(signers, own.network) {
            return Err(Fault::Contradiction(Box::new(proof)).into());
        }
    }
    let mut paying = Paying::new(contract, newest)?;
    let length = Duration::from_secs(terms.epoch_seconds.get().into());
    let (first, before) =
        paying.agreed().map_or((terms.first, 0), |last| (last.epoch.plus(1), last.byte_epochs));
    let from = begin(first, length);
    let known = Known {
        most_bytes: most(from),
        // What was agreed to once goes on: a lower limit holds for what is stored from then on.
        max_price: match (own.max_price, newest) {
            (Some(limit), None) => limit,
            _ => terms.price,
        },
        now: Epoch::at(own.now, length),
    };
    let step = match paying.pay(&stated.statement, known)? {
        Payment::Nothing => None,
        Payment::Due { .. } => Some(Step {
            from,
            to: begin(agreed.epoch.plus(1), length),
            byte_seconds: u128::from(agreed.byte_epochs.saturating_sub(before))
                * u128::from(length.as_secs()),
        }),
    };
    Ok(Judged { agreed, step })
}

/// Judges statements of several contracts together: what is stated of one epoch, and what was added
/// since the last look. `most` tells how many bytes all nodes together can have held since a time.
pub(crate) fn together(
    judged: &[Judged],
    length: impl Fn(&Judged) -> Duration,
    most: impl Fn(UnixTime) -> u64,
) -> Result<(), Wrong> {
    let mut epochs: BTreeMap<(UnixTime, Epoch), u64> = BTreeMap::new();
    for one in judged {
        let epoch = one.agreed.epoch;
        let sum = epochs.entry((begin(epoch, length(one)), epoch)).or_default();
        *sum = sum.saturating_add(one.agreed.bytes);
    }
    for ((begin, epoch), stated) in epochs {
        let held = most(begin);
        if stated > held {
            return Err(Wrong::Together { epoch, stated, held });
        }
    }
    let steps = || judged.iter().filter_map(|one| one.step);
    let bounds = steps().map(|step| step.from).min().zip(steps().map(|step| step.to).max());
    let Some((from, to)) = bounds else { return Ok(()) };
    let (held, seconds) = (most(from), u128::from(to.since(from).as_secs().max(1)));
    let charged: u128 = steps().map(|step| step.byte_seconds).sum();
    if charged > u128::from(held) * seconds {
        let epoch = judged.iter().map(|one| one.agreed.epoch).max().unwrap_or(Epoch::new(0));
        let stated = u64::try_from(charged / seconds).unwrap_or(u64::MAX);
        return Err(Wrong::Together { epoch, stated, held });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
