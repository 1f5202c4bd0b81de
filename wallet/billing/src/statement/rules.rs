//! What holds for every statement, whoever looks at it.

use fincrypt_protocol::Epoch;
use fincrypt_protocol::statement::{Contract, Statement};

use super::fault::Fault;
use crate::accrual;

/// Epochs that one statement may add: a year of hours. A longer gap needs a new contract.
pub const MAX_STEP: u64 = 366 * 24;
/// Epochs by which a mediator's clock may be ahead.
pub const MAX_AHEAD: u64 = 1;

/// Checks what a statement says by itself: contract, first epoch, and that the money follows.
pub(super) fn check_sum(contract: &Contract, statement: &Statement) -> Result<(), Fault> {
    let (epoch, terms) = (statement.epoch, contract.terms());
    if !statement.is_of(contract) {
        return Err(Fault::OtherContract);
    }
    if epoch < terms.first {
        return Err(Fault::BeforeContract { epoch, first: terms.first });
    }
    let due = accrual::earned(terms.price, statement.byte_epochs, terms.epoch_seconds.get())
        .map_err(|_| Fault::Overflow { epoch })?;
    if statement.earned != due {
        return Err(Fault::Sum { epoch, stated: statement.earned, due });
    }
    Ok(())
}

/// What a statement adds to the one before.
pub(super) struct Step {
    /// Epochs that it covers.
    pub(super) epochs: u64,
    /// Byte-epochs that it charges.
    pub(super) byte_epochs: u64,
}

/// Checks that a statement follows on `last`, and by how much. Its epoch must be the later one.
pub(super) fn step(
    contract: &Contract,
    last: Option<&Statement>,
    next: &Statement,
    now: Epoch,
) -> Result<Step, Fault> {
    let epoch = next.epoch;
    if epoch > now.plus(MAX_AHEAD) {
        return Err(Fault::TooFar { epoch, from: now });
    }
    let epochs = match last {
        Some(last) => epoch.since(last.epoch),
        None => epoch.since(contract.terms().first).saturating_add(1),
    };
    if epochs > MAX_STEP {
        let from = last.map_or(contract.terms().first, |last| last.epoch);
        return Err(Fault::TooFar { epoch, from });
    }
    let before = last.map_or(0, |last| last.byte_epochs);
    let least = before.checked_add(next.bytes).ok_or(Fault::Overflow { epoch })?;
    if next.byte_epochs < least {
        return Err(Fault::Falls { epoch, stated: next.byte_epochs, least });
    }
    Ok(Step { epochs, byte_epochs: next.byte_epochs - before })
}
