//! The storage node's side: its own counts, and what it countersigns.

use std::collections::BTreeMap;

use fincrypt_protocol::amount::Permille;
use fincrypt_protocol::statement::{Agreed, Contract, Countersigned, Statement};
use fincrypt_protocol::{AnswerDigest, Epoch, Signed, SigningKey, Verified};
use serde::{Deserialize, Serialize};

use super::contradiction::{Contradiction, Signers};
use super::fault::Fault;
use super::rules::{MAX_STEP, check_sum, step};

/// What a storage node itself knows of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Bytes of the account that it held at both ends.
    pub bytes: u64,
    /// What it answered to the epoch's challenge.
    pub answer: AnswerDigest,
}

/// What one contract has come to, as its storage node sees it.
#[derive(Debug, Clone)]
pub struct Holding {
    contract: Contract,
    agreed: Option<Agreed>,
    /// Own counts of the epochs after that in which it answered; at most [`MAX_STEP`].
    counted: BTreeMap<Epoch, Counted>,
    /// The newest proposal seen, countersigned or not.
    seen: Option<Verified<Statement>>,
    contradiction: Option<Box<Contradiction>>,
}

/// A [`Holding`] as it is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SavedHolding {
    agreed: Option<Countersigned>,
    counted: Vec<(Epoch, Counted)>,
    seen: Option<Signed<Statement>>,
    contradiction: Option<Signers>,
}

/// What a proposal was answered with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Countersigned now.
    Countersigned {
        /// With both signatures.
        statement: Box<Agreed>,
        /// Byte-epochs that it answered for since the statement before and is not paid for: epochs
        /// that were not passed by the mediator's count.
        unpaid: u64,
    },
    /// Nothing new: the newest statement that it has countersigned, which is this one or a later.
    Known(Box<Agreed>),
}

impl Answer {
    /// The newest statement, to be sent back in any case.
    #[must_use]
    pub fn newest(&self) -> &Agreed {
        match self {
            Self::Countersigned { statement, .. } | Self::Known(statement) => statement,
        }
    }
}

impl Holding {
    /// A contract of which nothing was billed yet.
    #[must_use]
    pub fn new(contract: Contract) -> Self {
        Self { contract, agreed: None, counted: BTreeMap::new(), seen: None, contradiction: None }
    }

    /// A contract of which nothing was billed yet, in whose epochs so much was counted.
    #[must_use]
    pub fn with_counts(contract: Contract, counts: impl IntoIterator<Item = (Epoch, Counted)>) -> Self {
        let mut holding = Self::new(contract);
        let first = contract.terms().first;
        let ours = counts.into_iter().filter(|(epoch, _)| *epoch >= first);
        ours.for_each(|(epoch, counted)| holding.counted(epoch, counted));
        holding
    }

    /// Its own counts of epochs that are not charged yet.
    pub fn uncharged(&self) -> impl Iterator<Item = (Epoch, Counted)> + '_ {
        self.counted.iter().map(|(epoch, counted)| (*epoch, *counted))
    }

    /// The contract.
    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// What was saved, checked.
    ///
    /// # Errors
    /// If a signature in it does not verify.
    pub fn restore(contract: Contract, saved: &SavedHolding) -> Result<Self, Fault> {
        let network = contract.terms().network;
        let agreed = saved.agreed.as_ref().map(|agreed| agreed.verify(network)).transpose()?;
        let seen = saved.seen.as_ref().map(|seen| seen.verify_proposal(network)).transpose()?;
        let contradiction = saved.contradiction.clone();
        let contradiction = contradiction.and_then(|proof| Contradiction::new(proof, network).ok());
        let (counted, contradiction) = (saved.counted.iter().copied().collect(), contradiction.map(Box::new));
        Ok(Self { contract, agreed, counted, seen, contradiction })
    }

    /// What to keep. It must be durable before a countersignature leaves.
    #[must_use]
    pub fn saved(&self) -> SavedHolding {
        SavedHolding {
            agreed: self.agreed.as_ref().map(|agreed| agreed.countersigned().clone()),
            counted: self.counted.iter().map(|(epoch, counted)| (*epoch, *counted)).collect(),
            seen: self.seen.as_ref().map(|seen| seen.signed().clone()),
            contradiction: self.contradiction.as_ref().map(|proof| proof.signers().clone()),
        }
    }

    /// The newest statement that it has countersigned.
    #[must_use]
    pub fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_ref()
    }

    /// Proof that the mediator signed two statements of one epoch, if it did.
    #[must_use]
    pub fn contradiction(&self) -> Option<&Contradiction> {
        self.contradiction.as_deref()
    }

    /// Takes the newest statement that its mediator shows, as far as it has lost it itself: nobody else
    /// can have signed it. What was counted after it is still to be charged. Whether it was news.
    ///
    /// # Errors
    /// [`Fault`] if a signature in it does not verify or it is of another contract.
    pub fn recall(&mut self, newest: &Countersigned) -> Result<bool, Fault> {
        let agreed = newest.verify(self.contract.terms().network)?;
        check_sum(&self.contract, &agreed)?;
        if self.agreed.as_ref().is_some_and(|known| known.epoch >= agreed.epoch) {
            return Ok(false);
        }
        self.counted = self.counted.split_off(&agreed.epoch.plus(1));
        self.agreed = Some(agreed);
        Ok(true)
    }

    /// Notes its own count of an epoch whose challenge it answered. The oldest counts give way when
    /// there are more than one statement can cover.
    pub fn counted(&mut self, epoch: Epoch, counted: Counted) {
        if self.agreed.as_ref().is_some_and(|agreed| epoch <= agreed.epoch) {
            return;
        }
        self.counted.insert(epoch, counted);
        while self.counted.len() as u64 > MAX_STEP {
            self.counted.pop_first();
        }
    }

    /// Checks a proposal against its own counts and countersigns it. Of its own count of bytes
    /// `tolerance` may be missing: the mediator may not have heard yet of all that is held.
    ///
    /// # Errors
    /// [`Fault`], which names the epoch: the proposal is not countersigned then.
    pub fn countersign(
        &mut self,
        proposal: &Signed<Statement>,
        tolerance: Permille,
        now: Epoch,
        key: &SigningKey,
    ) -> Result<Answer, Fault> {
        let proposal = proposal.verify_proposal(self.contract.terms().network)?;
        if !proposal.is_of(&self.contract) {
            return Err(Fault::OtherContract);
        }
        self.compare(&proposal)?;
        if let Some(agreed) = &self.agreed
            && proposal.epoch <= agreed.epoch
        {
            return Ok(Answer::Known(Box::new(agreed.clone())));
        }
        check_sum(&self.contract, &proposal)?;
        let unpaid = self.check(&proposal, tolerance, now)?;
        let agreed = Countersigned::seal(&proposal, key).verify(self.contract.terms().network)?;
        self.counted = self.counted.split_off(&agreed.epoch.plus(1));
        self.agreed = Some(agreed.clone());
        Ok(Answer::Countersigned { statement: Box::new(agreed), unpaid })
    }

    /// Keeps a proposal, and the proof if it contradicts one that was kept.
    fn compare(&mut self, proposal: &Verified<Statement>) -> Result<(), Fault> {
        let agreed = self.agreed.as_ref().map(Agreed::proposal);
        let known = agreed.into_iter().chain(&self.seen);
        if let Some(proof) = known.filter_map(|known| Contradiction::between(known, proposal)).next() {
            self.contradiction.get_or_insert_with(|| proof.clone());
            return Err(proof.into());
        }
        if self.seen.as_ref().is_none_or(|seen| seen.epoch < proposal.epoch) {
            self.seen = Some(proposal.clone());
        }
        Ok(())
    }

    fn check(&self, statement: &Statement, tolerance: Permille, now: Epoch) -> Result<u64, Fault> {
        let (epoch, stated) = (statement.epoch, statement.bytes);
        let own = self.counted.get(&epoch).ok_or(Fault::OtherAnswer { epoch })?;
        if statement.answer != own.answer {
            return Err(Fault::OtherAnswer { epoch });
        }
        if stated > own.bytes {
            return Err(Fault::Overbilled { epoch, stated, held: own.bytes });
        }
        let missing = u128::from(own.bytes - stated) * 1000;
        if missing > u128::from(own.bytes) * u128::from(tolerance.get()) {
            return Err(Fault::Underpaid { epoch, stated, held: own.bytes });
        }
        let step = step(&self.contract, self.agreed.as_deref(), statement, now)?;
        let sum = |sum: u64, (_, counted): (&Epoch, &Counted)| sum.checked_add(counted.bytes);
        let held = self.counted.range(..=epoch).try_fold(0, sum).ok_or(Fault::Overflow { epoch })?;
        held.checked_sub(step.byte_epochs).ok_or(Fault::Overbilled { epoch, stated: step.byte_epochs, held })
    }
}
