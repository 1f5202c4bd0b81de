//! A segment's manifest: its geometry and the ids of all its shards.
//!
//! ```text
//! segment_id = SHA3-256(label ‖ 0 ‖ u8 k ‖ u8 n ‖ u32le shard_len ‖ n × 32-byte shard id)
//! ```

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::domain;
use crate::geometry::{Code, GeometryError, ShardIndex, ShardLen};
use crate::id::{SegmentId, ShardId};

/// A manifest that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Its geometry is not allowed.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// It does not have one id for each shard.
    #[error("a manifest for {expected} shards lists {found} bytes of ids")]
    Ids {
        /// Shards of the code.
        expected: u8,
        /// Bytes of ids found.
        found: usize,
    },
}

/// A segment's geometry and shard ids, consistent by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Manifest {
    code: Code,
    shard_len: ShardLen,
    ids: Vec<ShardId>,
}

#[derive(Serialize, Deserialize)]
struct Wire(u8, u8, u32, ByteBuf);

impl Manifest {
    /// A manifest over `ids`, data shards first.
    ///
    /// # Errors
    /// [`ManifestError::Ids`] if there is not one id for each shard.
    pub fn new(code: Code, shard_len: ShardLen, ids: Vec<ShardId>) -> Result<Self, ManifestError> {
        if ids.len() != usize::from(code.total()) {
            let found = ids.len() * ShardId::LEN;
            return Err(ManifestError::Ids { expected: code.total(), found });
        }
        Ok(Self { code, shard_len, ids })
    }

    /// The segment's id.
    #[must_use]
    pub fn id(&self) -> SegmentId {
        let head = [self.code.data(), self.code.total()];
        let len = self.shard_len.get().to_le_bytes();
        let mut parts: Vec<&[u8]> = vec![&head, &len];
        parts.extend(self.ids.iter().map(AsRef::as_ref));
        SegmentId::from_bytes(domain::SEGMENT_ID.hash(&parts))
    }

    /// The segment's code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Length of each shard.
    #[must_use]
    pub const fn shard_len(&self) -> ShardLen {
        self.shard_len
    }

    /// Ids of all shards, data first.
    #[must_use]
    pub fn ids(&self) -> &[ShardId] {
        &self.ids
    }

    /// The id of shard `index`, if the segment has so many.
    #[must_use]
    pub fn shard(&self, index: ShardIndex) -> Option<ShardId> {
        self.ids.get(index.get()).copied()
    }

    /// Bytes of ciphertext in the data shards: `k × shard_len`.
    #[must_use]
    pub fn data_len(&self) -> usize {
        usize::from(self.code.data()) * self.shard_len.get() as usize
    }
}

impl TryFrom<Wire> for Manifest {
    type Error = ManifestError;
    fn try_from(Wire(data, total, len, ids): Wire) -> Result<Self, ManifestError> {
        let code = Code::new(data, total.saturating_sub(data))?;
        let shard_len = ShardLen::new(len)?;
        let (chunks, rest) = ids.as_chunks::<{ ShardId::LEN }>();
        if !rest.is_empty() {
            return Err(ManifestError::Ids { expected: total, found: ids.len() });
        }
        Self::new(code, shard_len, chunks.iter().copied().map(ShardId::from_bytes).collect())
    }
}

impl From<Manifest> for Wire {
    fn from(manifest: Manifest) -> Self {
        let ids: Vec<u8> = manifest.ids.iter().flat_map(|id| *id.as_bytes()).collect();
        let code = manifest.code;
        Self(code.data(), code.total(), manifest.shard_len.get(), ByteBuf::from(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor;
    use proptest::prelude::*;

    fn manifest(data: u8, parity: u8, class: u8, seed: u8) -> Manifest {
        let code = Code::new(data, parity).expect("valid code");
        let ids = (0..code.total()).map(|i| ShardId::from_bytes([i ^ seed; 32])).collect();
        Manifest::new(code, ShardLen::from_class(class).expect("valid class"), ids).expect("valid")
    }

    proptest! {
        #[test]
        fn manifests_round_trip(data in 1u8..15, parity in 1u8..15, class in 0u8..9, seed: u8) {
            let manifest = manifest(data, parity, class, seed);
            let bytes = cbor::encode(&manifest)?;
            let back: Manifest = cbor::decode(&bytes, 2048)?;
            prop_assert_eq!(back.id(), manifest.id());
            prop_assert_eq!(back, manifest);
        }
    }

    #[test]
    fn a_missing_id_is_refused() {
        let code = Code::new(1, 1).expect("valid");
        let error = Manifest::new(code, ShardLen::FULL, vec![ShardId::from_bytes([0; 32])]);
        assert_eq!(error, Err(ManifestError::Ids { expected: 2, found: 32 }));
    }

    #[test]
    fn geometry_is_part_of_the_id() {
        assert_ne!(manifest(2, 2, 0, 0).id(), manifest(1, 3, 0, 0).id());
        assert_ne!(manifest(2, 2, 0, 0).id(), manifest(2, 2, 1, 0).id());
    }
}
