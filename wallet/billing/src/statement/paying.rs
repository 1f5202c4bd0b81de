//! The client's side: it pays for what both parties have signed and it knows to be its own.

use fincrypt_protocol::Epoch;
use fincrypt_protocol::amount::{Msat, Price};
use fincrypt_protocol::statement::{Agreed, Contract, Countersigned};

use super::contradiction::{Contradiction, Signers};
use super::fault::Fault;
use super::rules::{check_sum, step};

/// What a client knows itself when it judges a statement.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The most bytes of its own segments that the storage node had at any time since the last
    /// statement, by the receipts the client holds.
    pub most_bytes: u64,
    /// The most that it pays.
    pub max_price: Price,
    /// The epoch by its own clock.
    pub now: Epoch,
}

/// What a statement costs the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payment {
    /// It is the newest now, and this is due for the step to it.
    Due {
        /// For the storage node.
        earned: Msat,
        /// For the mediator.
        fee: Msat,
    },
    /// It was known, or superseded.
    Nothing,
}

/// What one contract has come to, as its client sees it.
#[derive(Debug, Clone)]
pub struct Paying {
    contract: Contract,
    agreed: Option<Agreed>,
}

impl Paying {
    /// A contract for which nothing was paid yet, or the newest statement that was.
    ///
    /// # Errors
    /// If the statement's signatures do not verify or it is of another contract.
    pub fn new(contract: Contract, saved: Option<&Countersigned>) -> Result<Self, Fault> {
        let agreed = saved.map(|saved| saved.verify(contract.terms().network)).transpose()?;
        agreed.as_ref().map_or(Ok(()), |agreed| check_sum(&contract, agreed))?;
        Ok(Self { contract, agreed })
    }

    /// The newest statement that was paid for: what to keep, before the payment counts.
    #[must_use]
    pub fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_ref()
    }

    /// All that was paid so far, for storage and as a fee.
    #[must_use]
    pub fn paid(&self) -> (Msat, Msat) {
        let earned = self.agreed.as_ref().map_or(Msat::ZERO, |agreed| agreed.earned);
        (earned, self.contract.terms().fee.of(earned))
    }

    /// Judges a statement, and pays for the step from the one before.
    ///
    /// # Errors
    /// [`Fault`], which names the epoch: nothing is paid then.
    pub fn pay(&mut self, statement: &Countersigned, known: Known) -> Result<Payment, Fault> {
        let terms = *self.contract.terms();
        let next = statement.verify(terms.network)?;
        check_sum(&self.contract, &next)?;
        if terms.price > known.max_price {
            return Err(Fault::Price { price: terms.price, most: known.max_price });
        }
        if let Some(last) = &self.agreed
            && next.epoch <= last.epoch
        {
            let signers = Signers::Both(last.countersigned().clone(), statement.clone());
            return match Contradiction::new(signers, terms.network) {
                Ok(proof) => Err(Box::new(proof).into()),
                Err(_) => Ok(Payment::Nothing),
            };
        }
        let epoch = next.epoch;
        if next.bytes > known.most_bytes {
            return Err(Fault::Overbilled { epoch, stated: next.bytes, held: known.most_bytes });
        }
        let step = step(&self.contract, self.agreed.as_deref(), &next, known.now)?;
        let held = known.most_bytes.saturating_mul(step.epochs);
        if step.byte_epochs > held {
            return Err(Fault::Overbilled { epoch, stated: step.byte_epochs, held });
        }
        let ((earned, fee), overflow) = (self.paid(), Fault::Overflow { epoch });
        let due = next.earned.checked_sub(earned).zip(terms.fee.of(next.earned).checked_sub(fee));
        let (earned, fee) = due.ok_or(overflow)?;
        self.agreed = Some(next);
        Ok(Payment::Due { earned, fee })
    }
}
