//! Shard ids and proofs of single leaves.
//!
//! A shard's id is its plain BLAKE3 hash. BLAKE3 is a binary tree over 1 KiB chunks, so a leaf of
//! 1 KiB can be proved against the id by its chunk and the sibling chaining values up to the root.
//! Shards are 4 KiB to 1 MiB long, powers of two, so the tree is complete. A keeper stores the
//! chaining values of each 16 KiB group beside the data and reads one group to answer.

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use fincrypt_protocol::{ShardId, ShardLen};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Bytes of a leaf.
pub const LEAF: usize = 1 << 10;
/// Bytes of a group, whose chaining value is kept.
pub const GROUP: usize = 16 << 10;

/// The id of a shard: its BLAKE3 hash.
#[must_use]
pub fn shard_id(shard: &[u8]) -> ShardId {
    ShardId::from_bytes(*blake3::hash(shard).as_bytes())
}

/// The chaining value of a subtree that begins at `offset`.
fn subtree(bytes: &[u8], offset: usize) -> ChainingValue {
    Hasher::new().set_input_offset(offset as u64).update(bytes).finalize_non_root()
}

fn merge(left: &ChainingValue, right: &ChainingValue) -> ChainingValue {
    merge_subtrees_non_root(left, right, Mode::Hash)
}

/// Chaining values of each 16 KiB group, left to right; none for a shard of one group or less,
/// whose tree is made from the data itself.
#[must_use]
pub fn groups(shard: &[u8]) -> Vec<ChainingValue> {
    if shard.len() <= GROUP {
        return Vec::new();
    }
    shard.chunks(GROUP).enumerate().map(|(at, group)| subtree(group, at * GROUP)).collect()
}

/// One leaf of a shard and what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafProof {
    /// The leaf's 1 KiB.
    pub leaf: ByteBuf,
    /// Sibling chaining values, from the leaf up.
    pub siblings: Vec<[u8; 32]>,
}

/// Siblings of `at` in a complete tree over `level`, bottom up, to the root's children.
fn siblings(mut level: Vec<ChainingValue>, mut at: usize, out: &mut Vec<[u8; 32]>) {
    while level.len() > 1 {
        out.push(level[at ^ 1]);
        if level.len() > 2 {
            level = level.chunks_exact(2).map(|pair| merge(&pair[0], &pair[1])).collect();
            at /= 2;
        } else {
            return;
        }
    }
}

/// Proves leaf `leaf` of a shard, given the group of 16 KiB (or the whole shorter shard) that the
/// leaf lies in, and the shard's group values as [`groups`] gave them. `None` if they do not fit.
#[must_use]
pub fn prove(length: ShardLen, leaf: u32, group: &[u8], groups: &[ChainingValue]) -> Option<LeafProof> {
    let total = length.get() as usize;
    let offset = (leaf as usize).checked_mul(LEAF).filter(|offset| *offset < total)?;
    let group_at = offset / GROUP;
    let expected = if total <= GROUP { total } else { GROUP };
    let whole = if total <= GROUP { groups.is_empty() } else { groups.len() == total / GROUP };
    if group.len() != expected || !whole {
        return None;
    }
    let start = group_at * GROUP;
    let within = (offset - start) / LEAF;
    let leaves: Vec<ChainingValue> =
        group.chunks_exact(LEAF).enumerate().map(|(at, bytes)| subtree(bytes, start + at * LEAF)).collect();
    let mut path = Vec::new();
    siblings(leaves, within, &mut path);
    if !groups.is_empty() {
        siblings(groups.to_vec(), group_at, &mut path);
    }
    Some(LeafProof { leaf: ByteBuf::from(&group[within * LEAF..(within + 1) * LEAF]), siblings: path })
}

impl LeafProof {
    /// Whether this is leaf `leaf` of the shard with this id and length.
    #[must_use]
    pub fn verify(&self, id: &ShardId, length: ShardLen, leaf: u32) -> bool {
        let leaves = length.get() as usize / LEAF;
        // Powers of two: as many siblings as the tree has levels.
        let levels = leaves.trailing_zeros() as usize;
        let Some((root, below)) = self.siblings.split_last() else { return false };
        if self.leaf.len() != LEAF || self.siblings.len() != levels || leaf as usize >= leaves {
            return false;
        }
        let mut at = leaf as usize;
        let mut value = subtree(&self.leaf, at * LEAF);
        for sibling in below {
            value = if at & 1 == 0 { merge(&value, sibling) } else { merge(sibling, &value) };
            at /= 2;
        }
        let (left, right) = if at & 1 == 0 { (&value, root) } else { (root, &value) };
        merge_subtrees_root(left, right, Mode::Hash).as_bytes() == id.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shard(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
    }

    fn proof(shard: &[u8], leaf: u32) -> LeafProof {
        let length = ShardLen::new(shard.len() as u32).expect("valid");
        let start = leaf as usize * LEAF / GROUP * GROUP;
        let group = &shard[start..(start + GROUP).min(shard.len())];
        prove(length, leaf, group, &groups(shard)).expect("proves")
    }

    proptest! {
        #[test]
        fn every_leaf_of_every_length_is_proved(class in 0u8..9, pick: u32) {
            let length = ShardLen::from_class(class)?;
            let shard = shard(length.get() as usize);
            let leaf = pick % (length.get() / LEAF as u32);
            let proof = proof(&shard, leaf);
            prop_assert!(proof.verify(&shard_id(&shard), length, leaf));
            let other = (leaf + 1) % (length.get() / LEAF as u32);
            prop_assert!(!proof.verify(&shard_id(&shard), length, other));
        }

        #[test]
        fn an_altered_proof_is_refused(flip in 0usize..4096, leaf in 0u32..64) {
            let shard = shard(64 << 10);
            let length = ShardLen::new(64 << 10)?;
            let mut proof = proof(&shard, leaf);
            if flip < LEAF {
                proof.leaf[flip] ^= 1;
            } else {
                let at = flip % proof.siblings.len();
                proof.siblings[at][flip % 32] ^= 1;
            }
            prop_assert!(!proof.verify(&shard_id(&shard), length, leaf));
        }
    }
}
