//! Ed25519 keys and signatures (RFC 8032), always under a [`Domain`].

use std::fmt;

use ed25519_dalek::{Signer as _, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::domain::Domain;
use crate::id::{AccountId, ArrayVisitor, GuardKey, HeadKey, NodeId, write_hex};

/// A 64-byte ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Takes the bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The signature's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(")?;
        write_hex(&self.0[..4], f)?;
        f.write_str("…)")
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(ArrayVisitor).map(Self)
    }
}

/// A public key that can check signatures.
pub trait PublicKey {
    /// The compressed point.
    fn point(&self) -> &[u8; 32];

    /// Whether `signature` is this key's over `domain ‖ 0 ‖ body`. Weak keys and malleable
    /// signatures do not verify.
    fn verifies(&self, domain: Domain, body: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
        VerifyingKey::from_bytes(self.point())
            .is_ok_and(|key| key.verify_strict(&domain.message(body), &signature).is_ok())
    }
}

macro_rules! public_key {
    ($($name:ident),*) => {$(
        impl PublicKey for $name {
            fn point(&self) -> &[u8; 32] {
                self.as_bytes()
            }
        }
    )*};
}
public_key!(AccountId, HeadKey, GuardKey, NodeId);

/// A secret signing key, wiped when dropped. It has no `Debug` and is never written anywhere.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key whose RFC 8032 seed is `seed`.
    #[must_use]
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, for a caller that stores it in a file only its owner can read.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Signs `domain ‖ 0 ‖ body`.
    #[must_use]
    pub fn sign(&self, domain: Domain, body: &[u8]) -> Signature {
        Signature(self.0.sign(&domain.message(body)).to_bytes())
    }

    fn point(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The public half, read as an account.
    #[must_use]
    pub fn account(&self) -> AccountId {
        AccountId::from_bytes(self.point())
    }

    /// The public half, read as a head key.
    #[must_use]
    pub fn head_key(&self) -> HeadKey {
        HeadKey::from_bytes(self.point())
    }

    /// The public half, read as a guard key.
    #[must_use]
    pub fn guard_key(&self) -> GuardKey {
        GuardKey::from_bytes(self.point())
    }

    /// The public half, read as a node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId::from_bytes(self.point())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain;

    #[test]
    fn a_signature_holds_for_its_own_domain_and_body_only() {
        let key = SigningKey::from_seed(&Zeroizing::new([7; 32]));
        let signature = key.sign(domain::LOGIN, b"body");
        assert!(key.account().verifies(domain::LOGIN, b"body", &signature));
        assert!(!key.account().verifies(domain::MANDATE, b"body", &signature));
        assert!(!key.account().verifies(domain::LOGIN, b"b0dy", &signature));
    }

    #[test]
    fn the_neutral_point_verifies_nothing() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(!NodeId::from_bytes(neutral).verifies(domain::LOGIN, b"", &Signature::from_bytes([0; 64])));
    }
}
