//! The only place that touches the CBOR library.
//!
//! The library is archived upstream and kept behind this module. Its reader recurses at most 128
//! levels and never allocates more than its input holds, so the caller's limit on the input's
//! length bounds what a decoder can take. Encodings are not canonical: sign and hash the bytes
//! that were received, never a re-encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CborError {
    /// The input is longer than the limit for its kind.
    #[error("{len} bytes are more than the limit of {limit}")]
    TooLong {
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The input is not a value of the expected type, or bytes follow it.
    #[error("malformed value")]
    Malformed(#[source] serde_cbor::Error),
}

/// Encodes a value. Fails only for types that CBOR cannot hold, which no type of ours is.
///
/// # Errors
/// [`CborError::Malformed`] if the value's `Serialize` refuses.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CborError> {
    let mut out = Vec::with_capacity(128);
    let mut serializer = serde_cbor::Serializer::new(serde_cbor::ser::IoWrite::new(&mut out));
    value.serialize(&mut serializer).map_err(CborError::Malformed)?;
    Ok(out)
}

/// Decodes one value that fills `bytes` entirely.
///
/// # Errors
/// [`CborError::TooLong`] past `limit` bytes, [`CborError::Malformed`] for anything else.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CborError> {
    if bytes.len() > limit {
        return Err(CborError::TooLong { len: bytes.len(), limit });
    }
    let mut deserializer =
        serde_cbor::Deserializer::from_slice(bytes).disable_packed_format().disable_legacy_enums();
    let value = T::deserialize(&mut deserializer).map_err(CborError::Malformed)?;
    deserializer.end().map_err(CborError::Malformed)?;
    Ok(value)
}

/// Whether `bytes` are exactly one well-formed value, of whichever type.
#[must_use]
pub fn is_well_formed(bytes: &[u8], limit: usize) -> bool {
    decode::<serde::de::IgnoredAny>(bytes, limit).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    enum Sample {
        Unit,
        Fields { a: u64, b: Option<String> },
        List(Vec<u32>),
    }

    proptest! {
        #[test]
        fn values_round_trip(a: u64, b: Option<String>, list: Vec<u32>) {
            for value in [Sample::Unit, Sample::Fields { a, b: b.clone() }, Sample::List(list.clone())] {
                let bytes = encode(&value)?;
                prop_assert_eq!(decode::<Sample>(&bytes, bytes.len())?, value);
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let _ = decode::<Sample>(&bytes, 1 << 16);
        }
    }

    #[test]
    fn trailing_and_excess_bytes_are_refused() {
        let mut bytes = encode(&Sample::Unit).expect("encodes");
        assert!(matches!(decode::<Sample>(&bytes, 2), Err(CborError::TooLong { .. })));
        bytes.push(0);
        assert!(matches!(decode::<Sample>(&bytes, 64), Err(CborError::Malformed(_))));
    }

    #[test]
    fn a_declared_length_beyond_the_input_allocates_nothing() {
        let huge = [0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(decode::<Vec<u32>>(&huge, 64).is_err());
        let huge_bytes = [0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(decode::<serde_bytes::ByteBuf>(&huge_bytes, 64).is_err());
    }
}
