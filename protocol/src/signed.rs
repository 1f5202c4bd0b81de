//! Signed records: the signature covers the bytes that travelled, never a re-encoding.
//!
//! ```text
//! signature = ed25519(label ‖ 0 ‖ body)        hash = SHA3-256("record-hash" ‖ 0 ‖ label ‖ 0 ‖ body)
//! ```

use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::cbor;
use crate::domain::{self, Domain};
use crate::key::{PublicKey, Signature, SigningKey};
use crate::network::Network;
use crate::time::UnixTime;

/// Why a record was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The body is too long or not of the expected form.
    #[error("malformed record")]
    Malformed(#[from] cbor::CborError),
    /// The signature is not the stated signer's.
    #[error("the signature is not the signer's")]
    Signature,
    /// The record belongs to another network.
    #[error("the record belongs to network {0}")]
    Network(Network),
    /// The record's time is over.
    #[error("the record expired")]
    Expired,
    /// The record claims to live longer than its kind may.
    #[error("the record's expiry lies too far ahead")]
    ExpiryTooFar,
    /// The record is not newer than the one already known.
    #[error("a record of sequence {known} is already known")]
    Stale {
        /// The sequence known.
        known: u64,
    },
    /// The record is signed by, or names, another key than it must.
    #[error("the record is bound to another key")]
    WrongKey,
    /// Its contents contradict each other.
    #[error("the record contradicts itself")]
    Inconsistent,
}

/// The contents of a signed record. Each names its own signer, so that a signature is bound to a
/// key and the key to what it says.
pub trait Body: Serialize + DeserializeOwned {
    /// Separates this record's signatures from all others.
    const DOMAIN: Domain;
    /// The most bytes an encoded body has.
    const MAX_LEN: usize;
    /// The key type that signs.
    type Signer: PublicKey;

    /// The key that must have signed.
    fn signer(&self) -> Self::Signer;
    /// The network it belongs to.
    fn network(&self) -> Network;
    /// When it ends, if it ends.
    fn expiry(&self) -> Option<UnixTime> {
        None
    }
}

/// A record as it travels: unchecked until [`Signed::verify`].
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    #[serde(rename = "b")]
    body: ByteBuf,
    #[serde(rename = "s")]
    signature: Signature,
    #[serde(skip)]
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self { body: self.body.clone(), signature: self.signature, kind: PhantomData }
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.body == other.body && self.signature == other.signature
    }
}

impl<T> std::fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signed({} bytes, {:?})", self.body.len(), self.signature)
    }
}

impl<T: Body> Signed<T> {
    /// Signs `body`. The key must be the one that the body names; a record signed by any other is
    /// refused by everyone who checks it.
    ///
    /// # Errors
    /// If the body cannot be encoded or is longer than its kind may be.
    pub fn seal(body: &T, key: &SigningKey) -> Result<Self, RecordError> {
        let bytes = cbor::encode(body)?;
        if bytes.len() > T::MAX_LEN {
            return Err(cbor::CborError::TooLong { len: bytes.len(), limit: T::MAX_LEN }.into());
        }
        let signature = key.sign(T::DOMAIN, &bytes);
        Ok(Self { body: ByteBuf::from(bytes), signature, kind: PhantomData })
    }

    /// Checks size, form, signature, network and expiry.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(&self, network: Network, now: UnixTime) -> Result<Verified<T>, RecordError> {
        let body: T = cbor::decode(&self.body, T::MAX_LEN)?;
        if body.network() != network {
            return Err(RecordError::Network(body.network()));
        }
        if body.expiry().is_some_and(|expiry| expiry <= now) {
            return Err(RecordError::Expired);
        }
        if !body.signer().verifies(T::DOMAIN, &self.body, &self.signature) {
            return Err(RecordError::Signature);
        }
        Ok(Verified { body, signed: self.clone() })
    }

    /// Reads a record that was verified before this process stored it. The signature, the network and
    /// the expiry are not checked: never for bytes that came from a peer.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] if the body cannot be read.
    pub fn verified_before(self) -> Result<Verified<T>, RecordError> {
        let body = cbor::decode(&self.body, T::MAX_LEN)?;
        Ok(Verified { body, signed: self })
    }

    /// The bytes that the signature covers.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The record's hash: its identity, whatever its signature's encoding.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        domain::RECORD_HASH.hash(&[T::DOMAIN.label(), &[0], &self.body])
    }

    /// The record as bytes, for a place that holds one record and nothing else.
    ///
    /// # Errors
    /// Never for a record of ours; the encoder's refusal otherwise.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        Ok(cbor::encode(self)?)
    }

    /// Reads what [`Signed::to_bytes`] wrote.
    ///
    /// # Errors
    /// If the bytes are too long for this kind or malformed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        Ok(cbor::decode(bytes, T::MAX_LEN + 128)?)
    }
}

/// A record whose signature, network and expiry were checked.
#[derive(Debug, Clone)]
pub struct Verified<T> {
    body: T,
    signed: Signed<T>,
}

impl<T> Verified<T> {
    /// The record as it travelled.
    #[must_use]
    pub fn signed(&self) -> &Signed<T> {
        &self.signed
    }

    /// The record's contents.
    #[must_use]
    pub fn into_body(self) -> T {
        self.body
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.body
    }
}
