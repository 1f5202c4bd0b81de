//! Statements as the client keeps them, durably, by contract and epoch: what it found right, what it
//! found wrong, and proofs.
//!
//! * Tree `prepayment_contracts`: contract → CBOR of [`Kept`].
//! * Tree `prepayment_statements`: contract ‖ epoch u64be → CBOR of the statement with both signatures.
//! * Tree `prepayment_faults`: epoch u64be ‖ contract, or 32 zeros for all together → CBOR of [`Found`].
//! * Tree `prepayment_proofs`: epoch u64be ‖ contract → CBOR of two statements that contradict each other.

use std::time::Duration;

use fincrypt_billing::statement::{Contradiction, Fault};
use fincrypt_protocol::money::Stated;
use fincrypt_protocol::statement::{Contract, Countersigned, Terms};
use fincrypt_protocol::{ContractId, Epoch, UnixTime, cbor};
use fincrypt_state::kv::{Batch, KeyValue, KvError, Tree};
use fincrypt_state::state::State;
use serde::{Deserialize, Serialize};

use super::statement_check::{Judged, Own, Wrong, check_statement, together};
use super::stored::Looks;

const CONTRACTS: Tree = Tree("prepayment_contracts");
const STATEMENTS: Tree = Tree("prepayment_statements");
const FAULTS: Tree = Tree("prepayment_faults");
const PROOFS: Tree = Tree("prepayment_proofs");
/// The most bytes of a value: a proof is two statements.
const MAX_VALUE: usize = 4 << 10;
/// Statements kept of one contract: each holds the sum of all before.
const MOST_STATEMENTS: usize = 256;
/// Faults kept.
const MOST_FAULTS: usize = 1024;

/// A contract, and the newest of its statements that is right.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) terms: Terms,
    pub(crate) newest: Option<Countersigned>,
}

/// What was found wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// When it was found first.
    pub(crate) time: UnixTime,
    /// What it is, for people.
    pub(crate) reason: String,
}

/// A statement to show.
pub(crate) struct Shown {
    pub(crate) contract: ContractId,
    pub(crate) terms: Terms,
    pub(crate) statement: Countersigned,
    pub(crate) fault: Option<Found>,
}

/// A fault to show.
#[derive(Debug)]
pub(crate) struct KnownFault {
    pub(crate) epoch: Epoch,
    /// None if it is about all contracts together.
    pub(crate) contract: Option<ContractId>,
    pub(crate) found: Found,
    /// Whether two signed statements prove it.
    pub(crate) proved: bool,
}

/// All that is kept.
#[derive(Clone)]
pub(crate) struct Statements(State);

fn corrupt(tree: Tree) -> KvError {
    KvError::Corrupt { tree: tree.0 }
}

fn by_contract(contract: &ContractId, epoch: Epoch) -> Vec<u8> {
    [contract.as_bytes().as_slice(), &epoch.number().to_be_bytes()].concat()
}

fn by_epoch(epoch: Epoch, contract: Option<&ContractId>) -> Vec<u8> {
    let contract = contract.map_or([0; 32], |contract| *contract.as_bytes());
    [epoch.number().to_be_bytes().as_slice(), &contract].concat()
}

fn epoch_of(key: &[u8]) -> Option<Epoch> {
    key.first_chunk::<8>().map(|bytes| Epoch::new(u64::from_be_bytes(*bytes)))
}

fn contract_of(key: &[u8]) -> Option<ContractId> {
    key.get(8..40)?.try_into().ok().map(ContractId::from_bytes)
}

impl Statements {
    pub(crate) fn new(state: State) -> Self {
        Self(state)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, tree: Tree, key: &[u8]) -> Result<Option<T>, KvError> {
        let bytes = self.0.get(tree, key)?;
        bytes.map(|bytes| cbor::decode(&bytes, MAX_VALUE).map_err(|_| corrupt(tree))).transpose()
    }

    fn put<T: Serialize>(batch: &mut Batch, tree: Tree, key: Vec<u8>, value: &T) -> Result<(), KvError> {
        batch.put(tree, key, cbor::encode(value).map_err(|_| corrupt(tree))?);
        Ok(())
    }

    /// Judges a round of statements, and keeps them and whatever was found.
    pub(crate) fn take(&self, own: &Own, round: &[Stated], looks: &Looks) -> Result<(), KvError> {
        let (mut right, mut lengths) = (Vec::new(), Vec::new());
        for stated in round {
            match self.take_one(own, stated, looks)? {
                Some(judged) => {
                    lengths.push((judged.agreed.contract, stated.terms.epoch_seconds));
                    right.push(judged);
                }
                None => continue,
            }
        }
        let length = |one: &Judged| {
            let known = lengths.iter().find(|(contract, _)| *contract == one.agreed.contract);
            Duration::from_secs(known.map_or(1, |(_, seconds)| seconds.get()).into())
        };
        if let Err(wrong @ Wrong::Together { epoch, .. }) =
            together(&right, length, |since| looks.most_since(since).all)
        {
            let mut batch = Batch::default();
            self.found(&mut batch, by_epoch(epoch, None), &wrong, own.now)?;
            self.0.commit(&batch)?;
        }
        Ok(())
    }

    fn take_one(&self, own: &Own, stated: &Stated, looks: &Looks) -> Result<Option<Judged>, KvError> {
        // What does not even have its own contract's form is nobody's statement in particular.
        let contract = Contract::new(stated.terms).map(|contract| contract.id());
        let contract = contract.unwrap_or(ContractId::from_bytes([0; 32]));
        let epoch = stated.statement.verify(own.network).map(|agreed| agreed.epoch);
        // Others' statements are not worth their room.
        let ours =
            epoch.is_ok() && (stated.terms.account, stated.terms.mediator) == (own.account, own.mediator);
        // What storage has not signed, its mediator may have.
        let stated_epoch =
            || stated.statement.proposal().verify_proposal(own.network).map(|known| known.epoch);
        let at = epoch.or_else(|_| stated_epoch());
        let at = at.unwrap_or(Epoch::at(own.now, length_of(&stated.terms)));
        let known: Option<Kept> = self.read(CONTRACTS, contract.as_bytes())?;
        let newest = known.and_then(|known| known.newest);
        let same: Option<Countersigned> = self.read(STATEMENTS, &by_contract(&contract, at))?;
        let most = |since| looks.most_since(since).node;
        let mut batch = Batch::default();
        let judged = match check_statement(own, newest.as_ref(), same.as_ref(), stated, most) {
            Ok(judged) => {
                if judged.step.is_some() {
                    let kept = Kept { terms: stated.terms, newest: Some(stated.statement.clone()) };
                    Self::put(&mut batch, CONTRACTS, contract.as_bytes().to_vec(), &kept)?;
                }
                Some(judged)
            }
            Err(wrong) => {
                let wrong = match wrong {
                    Wrong::Fault(Fault::Record(error)) => Wrong::Unsigned { epoch: at, error },
                    other => other,
                };
                if let Wrong::Fault(Fault::Contradiction(proof)) = &wrong {
                    Self::put(&mut batch, PROOFS, by_epoch(at, Some(&contract)), proof.signers())?;
                }
                self.found(&mut batch, by_epoch(at, Some(&contract)), &wrong, own.now)?;
                if newest.is_none() && ours {
                    let kept = Kept { terms: stated.terms, newest: None };
                    Self::put(&mut batch, CONTRACTS, contract.as_bytes().to_vec(), &kept)?;
                }
                None
            }
        };
        if same.is_none() && ours {
            self.make_room(&mut batch, &contract)?;
            Self::put(&mut batch, STATEMENTS, by_contract(&contract, at), &stated.statement)?;
        }
        if !batch.is_empty() {
            self.0.commit(&batch)?;
        }
        Ok(judged)
    }

    fn make_room(&self, batch: &mut Batch, contract: &ContractId) -> Result<(), KvError> {
        let known = self.0.scan(STATEMENTS, contract.as_bytes(), None, usize::MAX)?;
        let superfluous = (known.len() + 1).saturating_sub(MOST_STATEMENTS);
        known.into_iter().take(superfluous).for_each(|(key, _)| batch.remove(STATEMENTS, key));
        Ok(())
    }

    /// Notes a fault, unless it is known.
    fn found(&self, batch: &mut Batch, key: Vec<u8>, wrong: &Wrong, now: UnixTime) -> Result<(), KvError> {
        if self.0.get(FAULTS, &key)?.is_some() {
            return Ok(());
        }
        tracing::warn!(%wrong, "statement_wrong");
        let known = self.0.scan(FAULTS, &[], None, usize::MAX)?;
        let superfluous = (known.len() + 1).saturating_sub(MOST_FAULTS);
        known.into_iter().take(superfluous).for_each(|(key, _)| batch.remove(FAULTS, key));
        Self::put(batch, FAULTS, key, &Found { time: now, reason: wrong.to_string() })
    }

    /// The newest statement of each contract, or those of one epoch.
    pub(crate) fn shown(&self, epoch: Option<Epoch>) -> Result<Vec<Shown>, KvError> {
        let mut shown = Vec::new();
        for (key, value) in self.0.scan(CONTRACTS, &[], None, usize::MAX)? {
            let Ok(id) = <[u8; 32]>::try_from(key.as_slice()) else { return Err(corrupt(CONTRACTS)) };
            let contract = ContractId::from_bytes(id);
            let kept: Kept = cbor::decode(&value, MAX_VALUE).map_err(|_| corrupt(CONTRACTS))?;
            let of = match epoch {
                Some(epoch) => self.0.scan(STATEMENTS, &by_contract(&contract, epoch), None, 1)?,
                None => self.0.scan(STATEMENTS, &id, None, usize::MAX)?,
            };
            let Some((key, value)) = of.into_iter().next_back() else { continue };
            let statement = cbor::decode(&value, MAX_VALUE).map_err(|_| corrupt(STATEMENTS))?;
            let at = key.get(32..).and_then(epoch_of).ok_or(corrupt(STATEMENTS))?;
            let fault = self.read(FAULTS, &by_epoch(at, Some(&contract)))?;
            shown.push(Shown { contract, terms: kept.terms, statement, fault });
        }
        Ok(shown)
    }

    /// Everything that was found wrong, the newest epoch first.
    pub(crate) fn faults(&self) -> Result<Vec<KnownFault>, KvError> {
        let mut faults = Vec::new();
        for (key, value) in self.0.scan(FAULTS, &[], None, usize::MAX)?.into_iter().rev() {
            let found = cbor::decode(&value, MAX_VALUE).map_err(|_| corrupt(FAULTS))?;
            let proved = self.0.get(PROOFS, &key)?.is_some();
            let epoch = epoch_of(&key).ok_or(corrupt(FAULTS))?;
            let contract = contract_of(&key).filter(|contract| *contract.as_bytes() != [0; 32]);
            faults.push(KnownFault { epoch, contract, found, proved });
        }
        Ok(faults)
    }

    /// The proofs, checked again, as CBOR in hex.
    pub(crate) fn proofs(&self, own: &Own) -> Result<Vec<String>, KvError> {
        let proofs = self.0.scan(PROOFS, &[], None, usize::MAX)?.into_iter().filter_map(|(_, value)| {
            let signers = cbor::decode(&value, MAX_VALUE).ok()?;
            Contradiction::new(signers, own.network).ok()?.to_hex().ok()
        });
        Ok(proofs.collect())
    }
}

fn length_of(terms: &Terms) -> Duration {
    Duration::from_secs(terms.epoch_seconds.get().into())
}

#[cfg(test)]
mod tests;
