//! The mediator's side: from passed audits to proposals.

use std::collections::BTreeMap;

use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::Stated;
use fincrypt_protocol::statement::{Agreed, Contract, Countersigned, Statement, Terms};
use fincrypt_protocol::{AnswerDigest, Epoch, Signed, SigningKey, Verified};
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::rules::{MAX_STEP, check_sum};
use crate::accrual;

/// What one contract has come to, as its mediator sees it.
#[derive(Debug, Clone)]
pub struct Billing {
    contract: Contract,
    /// The newest statement with both signatures.
    agreed: Option<Agreed>,
    /// Passed epochs after that.
    passed: BTreeMap<Epoch, (u64, AnswerDigest)>,
    /// The newest proposal. For its epoch nothing else is ever signed.
    proposed: Option<Proposed>,
}

#[derive(Debug, Clone)]
struct Proposed {
    epoch: Epoch,
    earned: Msat,
    statement: Signed<Statement>,
}

/// A [`Billing`] as it is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SavedBilling {
    agreed: Option<Countersigned>,
    passed: Vec<(Epoch, u64, AnswerDigest)>,
    proposed: Option<Signed<Statement>>,
}

/// What a countersigned statement changed.
#[derive(Debug, Clone)]
pub enum Absorbed {
    /// It is the newest now: to be recorded in the ledger and told to the client.
    Newest(Box<Agreed>),
    /// It was known, or superseded.
    Old,
}

impl Billing {
    /// A contract of which nothing was billed yet.
    #[must_use]
    pub fn new(contract: Contract) -> Self {
        Self { contract, agreed: None, passed: BTreeMap::new(), proposed: None }
    }

    /// What was saved, checked.
    ///
    /// # Errors
    /// If a signature in it does not verify or is of another contract.
    pub fn restore(contract: Contract, saved: &SavedBilling) -> Result<Self, Fault> {
        let network = contract.terms().network;
        let agreed = saved.agreed.as_ref().map(|agreed| agreed.verify(network)).transpose()?;
        let proposed = saved.proposed.as_ref().map(|proposed| proposed.verify_proposal(network));
        Self::assemble(contract, agreed, proposed.transpose()?, saved)
    }

    /// What was saved by a [`Billing`], whose statements were verified before: their signatures are not
    /// checked again.
    ///
    /// # Errors
    /// If something in it cannot be read or is of another contract.
    pub fn verified_before(contract: Contract, saved: &SavedBilling) -> Result<Self, Fault> {
        let agreed = saved.agreed.as_ref().map(Countersigned::verified_before).transpose()?;
        let proposed = saved.proposed.clone().map(Signed::verified_before).transpose()?;
        Self::assemble(contract, agreed, proposed, saved)
    }

    fn assemble(
        contract: Contract,
        agreed: Option<Agreed>,
        proposed: Option<Verified<Statement>>,
        saved: &SavedBilling,
    ) -> Result<Self, Fault> {
        if let Some(agreed) = &agreed {
            check_sum(&contract, agreed)?;
        }
        if let Some(proposed) = &proposed {
            check_sum(&contract, proposed)?;
        }
        let proposed = proposed.map(|proposed| Proposed {
            epoch: proposed.epoch,
            earned: proposed.earned,
            statement: proposed.signed().clone(),
        });
        let passed = saved.passed.iter().map(|(epoch, bytes, answer)| (*epoch, (*bytes, *answer))).collect();
        Ok(Self { contract, agreed, passed, proposed })
    }

    /// What to keep. It must be durable before a proposal leaves, so that no second one is signed
    /// for the same epoch.
    #[must_use]
    pub fn saved(&self) -> SavedBilling {
        SavedBilling {
            agreed: self.agreed.as_ref().map(|agreed| agreed.countersigned().clone()),
            passed: self.passed.iter().map(|(epoch, (bytes, answer))| (*epoch, *bytes, *answer)).collect(),
            proposed: self.proposed.as_ref().map(|proposed| proposed.statement.clone()),
        }
    }

    /// The contract.
    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The epoch that was proposed last.
    #[must_use]
    pub fn proposed(&self) -> Option<Epoch> {
        self.proposed.as_ref().map(|proposed| proposed.epoch)
    }

    /// The largest sum that stands in the newest statements that the mediator has signed.
    #[must_use]
    pub fn promised(&self) -> Msat {
        let agreed = self.agreed.as_ref().map(|agreed| agreed.earned);
        self.proposed.as_ref().map(|proposed| proposed.earned).max(agreed).unwrap_or_default()
    }

    /// What all passed epochs have come to.
    ///
    /// # Errors
    /// [`Fault::Overflow`] if the sums do not fit.
    pub fn due(&self) -> Result<Msat, Fault> {
        Ok(self.sum()?.1)
    }

    /// Whether there are passed epochs that no statement was signed for.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.passed.keys().next_back().copied() > self.proposed()
    }

    /// Byte-epochs and money of all passed epochs.
    fn sum(&self) -> Result<(u64, Msat), Fault> {
        let agreed = self.agreed.as_ref();
        let newest = self.passed.keys().next_back().copied().or(agreed.map(|agreed| agreed.epoch));
        let epoch = newest.unwrap_or(self.contract.terms().first);
        let terms = self.contract.terms();
        let before = agreed.map_or(0, |agreed| agreed.byte_epochs);
        let sum = |sum: u64, (bytes, _): &(u64, AnswerDigest)| sum.checked_add(*bytes);
        let byte_epochs = self.passed.values().try_fold(before, sum).ok_or(Fault::Overflow { epoch })?;
        let earned = accrual::earned(terms.price, byte_epochs, terms.epoch_seconds.get())
            .map_err(|_| Fault::Overflow { epoch })?;
        Ok((byte_epochs, earned))
    }

    /// The newest statement that both have signed.
    #[must_use]
    pub fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_ref()
    }

    /// Notes that the node passed the audit of `epoch` and held `bytes` at both of its ends. An
    /// epoch that is not later than all that were noted, proposed and agreed on changes nothing, and
    /// neither does one more than [`MAX_STEP`] after what was agreed on; whether it counted.
    pub fn passed(&mut self, epoch: Epoch, bytes: u64, answer: AnswerDigest) -> bool {
        let proposed = self.proposed();
        let agreed = self.agreed.as_ref().map(|agreed| agreed.epoch);
        let newest = self.passed.keys().next_back().copied().max(proposed).max(agreed);
        let first = self.contract.terms().first;
        // No statement may add more: what nobody pays for so long is not kept count of.
        let from = agreed.unwrap_or(first);
        let counts =
            epoch >= first && epoch.since(from) < MAX_STEP && newest.is_none_or(|newest| epoch > newest);
        if counts {
            self.passed.insert(epoch, (bytes, answer));
        }
        counts
    }

    /// The statement to send, if there is anything that storage has not countersigned: the sum of
    /// all passed epochs. Until a further one passes it is the same, to the byte.
    ///
    /// # Errors
    /// [`Fault::Overflow`] if the sums do not fit.
    pub fn propose(&mut self, key: &SigningKey) -> Result<Option<Signed<Statement>>, Fault> {
        let Some((&epoch, &(bytes, answer))) = self.passed.last_key_value() else { return Ok(None) };
        if let Some(proposed) = self.proposed.as_ref().filter(|proposed| proposed.epoch >= epoch) {
            return Ok(Some(proposed.statement.clone()));
        }
        let terms = *self.contract.terms();
        let (byte_epochs, earned) = self.sum()?;
        let statement = Statement {
            network: terms.network,
            contract: self.contract.id(),
            storage: terms.storage,
            mediator: terms.mediator,
            account: terms.account,
            epoch,
            bytes,
            byte_epochs,
            earned,
            answer,
        };
        let proposal = Signed::seal(&statement, key)?;
        self.proposed = Some(Proposed { epoch, earned, statement: proposal.clone() });
        Ok(Some(proposal))
    }

    /// The newest proposal again, if storage has not answered it: what was signed once may be sent at
    /// any time.
    #[must_use]
    pub fn repeat(&self) -> Option<Signed<Statement>> {
        let covers = |proposed: &&Proposed| self.passed.keys().next().is_some_and(|at| *at <= proposed.epoch);
        self.proposed.as_ref().filter(covers).map(|proposed| proposed.statement.clone())
    }

    /// Takes a statement that storage countersigned.
    ///
    /// # Errors
    /// [`Fault`] if its signatures do not verify or it is of another contract.
    pub fn absorb(&mut self, countersigned: &Countersigned) -> Result<Absorbed, Fault> {
        let agreed = countersigned.verify(self.contract.terms().network)?;
        check_sum(&self.contract, &agreed)?;
        if self.agreed.as_ref().is_some_and(|known| known.epoch >= agreed.epoch) {
            return Ok(Absorbed::Old);
        }
        self.passed = self.passed.split_off(&agreed.epoch.plus(1));
        self.agreed = Some(agreed.clone());
        Ok(Absorbed::Newest(Box::new(agreed)))
    }

    /// Takes the newest statement that storage shows with a refusal. A mediator that has lost its records
    /// goes on from there, with the contract that it is of: what passed after it is still to be billed.
    ///
    /// # Errors
    /// [`Fault`] if its signatures do not verify, or it is of another contract although statements of
    /// this one were agreed on.
    pub fn catch_up(&mut self, newest: &Stated) -> Result<Absorbed, Fault> {
        let (ours, theirs) = (*self.contract.terms(), newest.terms);
        if theirs == ours {
            return self.absorb(&newest.statement);
        }
        let parties = |terms: &Terms| (terms.network, terms.storage, terms.mediator, terms.account);
        if self.agreed.is_some() || parties(&theirs) != parties(&ours) {
            return Err(Fault::OtherContract);
        }
        let mut other = Self::new(Contract::new(theirs).map_err(|_| Fault::OtherContract)?);
        let absorbed = other.absorb(&newest.statement)?;
        for (epoch, (bytes, answer)) in &self.passed {
            other.passed(*epoch, *bytes, *answer);
        }
        *self = other;
        Ok(absorbed)
    }

    /// Storage refuses the proposal of `epoch`: the epochs in it that it never countersigned are
    /// given up, unpaid. What came with the refusal as storage's newest statement is absorbed first.
    /// Refusals of any but the newest proposal change nothing. How many epochs were given up.
    pub fn refused(&mut self, epoch: Epoch) -> usize {
        if self.proposed() != Some(epoch) {
            return 0;
        }
        let later = self.passed.split_off(&epoch.plus(1));
        std::mem::replace(&mut self.passed, later).len()
    }
}
