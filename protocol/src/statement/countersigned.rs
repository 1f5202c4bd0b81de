//! A statement, and the pair of signatures that makes it one of both parties.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::Contract;
use crate::amount::Msat;
use crate::cbor;
use crate::domain::{self, Domain};
use crate::epoch::Epoch;
use crate::id::{AccountId, AnswerDigest, ContractId, NodeId};
use crate::key::{PublicKey, Signature, SigningKey};
use crate::network::Network;
use crate::signed::{Body, RecordError, Signed, Verified};
use crate::time::UnixTime;

/// What a contract has come to by the end of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Network of the contract.
    pub network: Network,
    /// The contract.
    pub contract: ContractId,
    /// Its storage node, which countersigns this.
    pub storage: NodeId,
    /// Its mediator, which signs this.
    pub mediator: NodeId,
    /// The owner of the shards.
    pub account: AccountId,
    /// The newest epoch that is charged. It grows from statement to statement.
    pub epoch: Epoch,
    /// Bytes of the account that the node held at both ends of that epoch.
    pub bytes: u64,
    /// The bytes of all epochs charged so far, added up; the sum that the money follows from.
    pub byte_epochs: u64,
    /// All that the contract has earned its storage node: `byte_epochs` at the price, rounded down.
    pub earned: Msat,
    /// What the node answered to that epoch's challenge.
    pub answer: AnswerDigest,
}

impl Body for Statement {
    const DOMAIN: Domain = domain::STATEMENT;
    const MAX_LEN: usize = 512;
    type Signer = NodeId;

    fn signer(&self) -> NodeId {
        self.mediator
    }

    fn network(&self) -> Network {
        self.network
    }
}

impl Statement {
    /// Whether it names the contract and the contract's parties.
    #[must_use]
    pub fn is_of(&self, contract: &Contract) -> bool {
        let terms = contract.terms();
        self.contract == contract.id()
            && self.network == terms.network
            && self.storage == terms.storage
            && self.mediator == terms.mediator
            && self.account == terms.account
    }
}

impl Signed<Statement> {
    /// Checks form, signature and network. A statement does not expire.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify_proposal(&self, network: Network) -> Result<Verified<Statement>, RecordError> {
        self.verify(network, UnixTime::from_secs(0))
    }
}

/// A statement with both signatures as it travels: unchecked until [`Countersigned::verify`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Countersigned {
    #[serde(rename = "p")]
    proposal: Signed<Statement>,
    #[serde(rename = "c")]
    countersignature: Signature,
}

impl Countersigned {
    /// Adds storage's signature. The key must be that of the storage node which the statement
    /// names; any other's is refused by everyone who checks it.
    #[must_use]
    pub fn seal(proposal: &Verified<Statement>, key: &SigningKey) -> Self {
        let proposal = proposal.signed().clone();
        let countersignature = key.sign(domain::COUNTERSIGNATURE, proposal.body());
        Self { proposal, countersignature }
    }

    /// Checks form, network and both signatures.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(&self, network: Network) -> Result<Agreed, RecordError> {
        let statement = self.proposal.verify_proposal(network)?;
        let storage = statement.storage;
        if !storage.verifies(domain::COUNTERSIGNATURE, self.proposal.body(), &self.countersignature) {
            return Err(RecordError::Signature);
        }
        Ok(Agreed { statement, countersigned: self.clone() })
    }

    /// A statement that was verified before it was stored: its form is read, its signatures are not
    /// checked again.
    ///
    /// # Errors
    /// If the form is wrong: it was not stored by this program.
    pub fn verified_before(&self) -> Result<Agreed, RecordError> {
        let statement = self.proposal.clone().verified_before()?;
        Ok(Agreed { statement, countersigned: self.clone() })
    }

    /// The mediator's half, unchecked.
    #[must_use]
    pub fn proposal(&self) -> &Signed<Statement> {
        &self.proposal
    }

    /// The statement as bytes, for a place that holds one and nothing else.
    ///
    /// # Errors
    /// Never for one of ours; the encoder's refusal otherwise.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        Ok(cbor::encode(self)?)
    }

    /// Reads what [`Countersigned::to_bytes`] wrote.
    ///
    /// # Errors
    /// If the bytes are too long or malformed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        Ok(cbor::decode(bytes, Statement::MAX_LEN + 256)?)
    }
}

/// A statement that carries both parties' signatures, checked.
#[derive(Debug, Clone)]
pub struct Agreed {
    statement: Verified<Statement>,
    countersigned: Countersigned,
}

impl Agreed {
    /// The statement as it travelled.
    #[must_use]
    pub fn countersigned(&self) -> &Countersigned {
        &self.countersigned
    }

    /// The mediator's half.
    #[must_use]
    pub fn proposal(&self) -> &Verified<Statement> {
        &self.statement
    }
}

impl Deref for Agreed {
    type Target = Statement;
    fn deref(&self) -> &Statement {
        &self.statement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::{Permille, Price};
    use crate::statement::{Terms, TermsError};
    use proptest::prelude::*;
    use std::num::NonZeroU32;
    use zeroize::Zeroizing;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([seed; 32]))
    }

    fn terms() -> Terms {
        Terms {
            network: Network::Test,
            storage: key(1).node(),
            mediator: key(2).node(),
            account: key(3).account(),
            price: Price::new(1500),
            fee: Permille::new(25).expect("a share"),
            first: Epoch::new(480_000),
            epoch_seconds: NonZeroU32::new(3600).expect("not zero"),
            credit_bound: Msat::new(200_000),
            payout_threshold: Msat::new(100_000),
            grace_days: 90,
            minimum_days: 30,
        }
    }

    fn statement(contract: &Contract) -> Statement {
        let Terms { network, storage, mediator, account, .. } = *contract.terms();
        Statement {
            network,
            contract: contract.id(),
            storage,
            mediator,
            account,
            epoch: Epoch::new(480_007),
            bytes: 5 << 30,
            byte_epochs: 35 << 30,
            earned: Msat::new(72),
            answer: AnswerDigest::from_bytes([4; 32]),
        }
    }

    fn countersigned(mediator: u8, storage: u8) -> Countersigned {
        let contract = Contract::new(terms()).expect("good terms");
        let proposal = Signed::seal(&statement(&contract), &key(mediator)).expect("seals");
        let body = cbor::decode(proposal.body(), 512).expect("decodes");
        assert_eq!(statement(&contract), body);
        let countersignature = key(storage).sign(domain::COUNTERSIGNATURE, proposal.body());
        Countersigned { proposal, countersignature }
    }

    #[test]
    fn contracts_and_statements_are_what_the_fixture_says() {
        let contract = Contract::new(terms()).expect("good terms");
        let proposal = Signed::seal(&statement(&contract), &key(2)).expect("seals");
        let hex = |bytes: Vec<u8>| hex::encode(bytes);
        let text = format!(
            "terms {}\ncontract {}\nproposal {}\ncountersigned {}\n",
            hex(cbor::encode(&terms()).expect("encodes")),
            contract.id(),
            hex(proposal.to_bytes().expect("encodes")),
            hex(countersigned(2, 1).to_bytes().expect("encodes")),
        );
        fincrypt_vectors::check("statement.txt", &text);
    }

    #[test]
    fn a_statement_needs_both_signatures() {
        let agreed = countersigned(2, 1).verify(Network::Test).expect("verifies");
        assert!(agreed.is_of(&Contract::new(terms()).expect("good terms")));
        assert!(matches!(countersigned(1, 1).verify(Network::Test), Err(RecordError::Signature)));
        assert!(matches!(countersigned(2, 2).verify(Network::Test), Err(RecordError::Signature)));
        assert!(matches!(countersigned(2, 1).verify(Network::Main), Err(RecordError::Network(_))));
        let mut swapped = countersigned(2, 1);
        swapped.countersignature = key(1).sign(domain::STATEMENT, swapped.proposal.body());
        assert!(matches!(swapped.verify(Network::Test), Err(RecordError::Signature)));
    }

    #[test]
    fn terms_without_credit_or_grace_are_refused() {
        let bound = Msat::new(199_999);
        let refused = Contract::new(Terms { credit_bound: bound, ..terms() });
        assert!(matches!(refused, Err(TermsError::CreditBound { .. })));
        let refused = Contract::new(Terms { grace_days: 29, ..terms() });
        assert_eq!(refused, Err(TermsError::Grace { days: 29 }));
    }

    #[test]
    fn every_term_is_in_the_id() {
        let id = |terms| Contract::new(terms).expect("good terms").id();
        let others = [
            Terms { network: Network::Main, ..terms() },
            Terms { storage: key(9).node(), ..terms() },
            Terms { mediator: key(9).node(), ..terms() },
            Terms { account: key(9).account(), ..terms() },
            Terms { price: Price::new(1501), ..terms() },
            Terms { fee: Permille::NONE, ..terms() },
            Terms { first: Epoch::new(480_001), ..terms() },
            Terms { epoch_seconds: NonZeroU32::MIN, ..terms() },
            Terms { credit_bound: Msat::new(200_001), ..terms() },
            Terms { payout_threshold: Msat::new(99_999), ..terms() },
            Terms { grace_days: 91, ..terms() },
            Terms { minimum_days: 31, ..terms() },
        ];
        for other in others {
            assert_ne!(id(other), id(terms()), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_statement_or_refused(bytes: Vec<u8>) {
            let _ = Countersigned::from_bytes(&bytes);
        }

        #[test]
        fn a_flipped_bit_anywhere_is_refused_or_changes_nothing(at: prop::sample::Index, bit in 0u8..8) {
            let whole = countersigned(2, 1);
            let mut bytes = whole.to_bytes()?;
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let read = Countersigned::from_bytes(&bytes).and_then(|read| read.verify(Network::Test));
            // The envelope's own encoding is not signed: a name in it may be written otherwise.
            prop_assert!(read.is_err() || read.is_ok_and(|read| *read.countersigned() == whole));
        }
    }
}
