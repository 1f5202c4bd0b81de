//! Extended attributes, which travel as `[[name, value], …]` of byte strings.

use serde::{Deserialize, Deserializer, Serializer};
use serde_bytes::{ByteBuf, Bytes};

/// Extended attributes: names and values, in the order of the names.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) fn serialize<S: Serializer>(xattrs: &Xattrs, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(xattrs.iter().map(|(name, value)| (Bytes::new(name), Bytes::new(value))))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Xattrs, D::Error> {
    let pairs = Vec::<(ByteBuf, ByteBuf)>::deserialize(from)?;
    Ok(pairs.into_iter().map(|(name, value)| (name.into_vec(), value.into_vec())).collect())
}
