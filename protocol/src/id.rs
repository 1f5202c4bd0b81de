//! Fixed-length identifiers, each its own type.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hexadecimal id could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits")]
pub struct ParseIdError {
    /// Digits a valid id has.
    pub expected: usize,
}

pub(crate) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&hex::encode(bytes))
}

pub(crate) fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).map_err(|_| ParseIdError { expected: 2 * N })?;
    Ok(out)
}

pub(crate) struct ArrayVisitor<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for ArrayVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

/// Defines a newtype over `[u8; N]` that travels as a CBOR byte string and prints as hex.
macro_rules! byte_id {
    ($(#[$meta:meta])* $name:ident, $len:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Takes the bytes as they are.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The id's bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_bytes(ArrayVisitor).map(Self)
            }
        }
    };
}

byte_id!(
    /// A slot's account: an ed25519 public key.
    AccountId, 32
);
byte_id!(
    /// The ed25519 public key that signs a slot's heads.
    HeadKey, 32
);
byte_id!(
    /// The ed25519 public key whose secret comes back from the words alone.
    GuardKey, 32
);
byte_id!(
    /// A machine in the swarm: the ed25519 public key of its libp2p identity.
    NodeId, 32
);
byte_id!(
    /// BLAKE3 hash of a shard.
    ShardId, 32
);
byte_id!(
    /// SHA3-256 over a segment's manifest.
    SegmentId, 32
);
byte_id!(
    /// Keyed BLAKE3 over a segment id: the owner's proof to itself that a manifest is its own.
    Tag, 32
);
byte_id!(
    /// Hash of a signed mandate.
    MandateHash, 32
);
byte_id!(
    /// Hash of a signed head.
    HeadHash, 32
);
byte_id!(
    /// A single-use random challenge.
    Nonce, 32
);
byte_id!(
    /// Hash of the terms that a storage node and a mediator agreed on for one account.
    ContractId, 32
);
byte_id!(
    /// Hash of what a storage node answered to a challenge.
    AnswerDigest, 32
);
byte_id!(
    /// A payout, whatever it takes to make it arrive.
    PayoutId, 16
);
byte_id!(
    /// A Bitcoin transaction, its bytes in the order in which its id is printed.
    TxId, 32
);
byte_id!(
    /// A Lightning payment.
    PaymentHash, 32
);
byte_id!(
    /// One run of a backup: random, names the segments that a head will commit together.
    RunId, 16
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hex_round_trips(bytes: [u8; 32]) {
            let id = ShardId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<ShardId>(), Ok(id));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = text.parse::<ShardId>();
        }
    }

    #[test]
    fn a_short_id_is_refused() {
        assert_eq!("ab".parse::<RunId>(), Err(ParseIdError { expected: 32 }));
    }
}
