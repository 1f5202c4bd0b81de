//! Verified records in the state: written only as verified, and read back without their signature
//! being checked again.

use fincrypt_protocol::{Body, Signed, Verified};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that a stored record has beside its body: the signature and CBOR's headers.
const AROUND: usize = 128;

/// The most bytes that a record of this kind takes as a table's value.
#[must_use]
pub const fn stored_limit<T: Body>() -> usize {
    T::MAX_LEN + AROUND
}

/// The value of a table of verified records. It is encoded like the record itself.
#[derive(Debug, Clone)]
pub struct Stored<T>(pub Verified<T>);

impl<T> PartialEq for Stored<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.signed() == other.0.signed()
    }
}

impl<T: Body> Serialize for Stored<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.signed().serialize(serializer)
    }
}

impl<'de, T: Body> Deserialize<'de> for Stored<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let signed = Signed::<T>::deserialize(deserializer)?;
        signed.verified_before().map(Self).map_err(D::Error::custom)
    }
}
