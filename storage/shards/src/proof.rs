//! Shard ids and proofs of single leaves.
//!
//! A shard's id is its plain BLAKE3 hash. BLAKE3 is a binary tree over 1 KiB chunks in which the
//! left half is the largest power of two that leaves something to the right, so a leaf of 1 KiB
//! can be proved against the id by its chunk and the sibling chaining values up to the root. A
//! keeper stores the chaining values of each 16 KiB group beside the data and reads one group to
//! answer; they also give the id, so what arrives is hashed once.
//!
//! Which leaf a challenge asks for follows from its nonce and the shard's id. On the wire a proof is
//! the leaf's 1,024 bytes and its siblings, 32 bytes each, from the leaf up.

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use fincrypt_protocol::domain::{ANSWER, CHALLENGED_LEAF};
use fincrypt_protocol::{Nonce, ShardId, ShardLen};
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

/// How many of `count` subtrees of equal size stand on the left of their common root: the largest
/// power of two below `count`. `count` is at least 2.
fn left_of(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

/// The chaining value of the tree over `level`, which is not empty.
fn tree(level: &[ChainingValue]) -> ChainingValue {
    match level {
        [] => ChainingValue::default(),
        [one] => *one,
        _ => {
            let (left, right) = level.split_at(left_of(level.len()));
            merge(&tree(left), &tree(right))
        }
    }
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

/// The id and the group values of a shard, in one pass over it.
#[must_use]
pub fn shard_tree(shard: &[u8]) -> (ShardId, Vec<ChainingValue>) {
    let groups = groups(shard);
    if groups.len() < 2 {
        return (shard_id(shard), groups);
    }
    let (left, right) = groups.split_at(left_of(groups.len()));
    let root = merge_subtrees_root(&tree(left), &tree(right), Mode::Hash);
    (ShardId::from_bytes(*root.as_bytes()), groups)
}

/// One leaf of a shard and what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafProof {
    /// The leaf's 1 KiB.
    pub leaf: ByteBuf,
    /// Sibling chaining values, from the leaf up.
    pub siblings: Vec<[u8; 32]>,
}

/// The leaf of a shard that a challenge asks for: SHA3-256 over nonce and shard id, its first eight
/// bytes as a little-endian number, modulo the leaves. The modulus favours no leaf by more than
/// 2^-53.
#[must_use]
pub fn challenged_leaf(nonce: &Nonce, id: &ShardId, length: ShardLen) -> u32 {
    let hash = CHALLENGED_LEAF.hash(&[nonce.as_bytes(), id.as_bytes()]);
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    let leaves = u64::from(length.get()) / LEAF as u64;
    // Below 1,024.
    (u64::from_le_bytes(first) % leaves) as u32
}

/// The digest of a whole answer: SHA3-256 over the nonce and the proofs as they travel.
#[must_use]
pub fn answer_digest(nonce: &Nonce, proofs: &[u8]) -> [u8; 32] {
    ANSWER.hash(&[nonce.as_bytes(), proofs])
}

/// Siblings of position `at` in the tree over `level`, from the root's children down.
fn siblings(mut level: &[ChainingValue], mut at: usize, out: &mut Vec<[u8; 32]>) {
    while level.len() > 1 {
        let (left, right) = level.split_at(left_of(level.len()));
        if at < left.len() {
            out.push(tree(right));
            level = left;
        } else {
            out.push(tree(left));
            at -= left.len();
            level = right;
        }
    }
}

/// Whether a path goes to the right, at each step from the root to leaf `at` of `count`.
fn turns(mut count: usize, mut at: usize) -> Vec<bool> {
    let mut turns = Vec::new();
    while count > 1 {
        let left = left_of(count);
        let right = at >= left;
        turns.push(right);
        (count, at) = if right { (count - left, at - left) } else { (left, at) };
    }
    turns
}

/// Proves leaf `leaf` of a shard, given the group of 16 KiB (or the whole shorter shard) that the
/// leaf lies in, and the shard's group values as [`groups`] gave them. `None` if they do not fit.
#[must_use]
pub fn prove(length: ShardLen, leaf: u32, group: &[u8], groups: &[ChainingValue]) -> Option<LeafProof> {
    let total = length.get() as usize;
    let offset = (leaf as usize).checked_mul(LEAF).filter(|offset| *offset < total)?;
    let group_at = offset / GROUP;
    let start = group_at * GROUP;
    let whole = if total <= GROUP { groups.is_empty() } else { groups.len() == total.div_ceil(GROUP) };
    if group.len() != GROUP.min(total - start) || !whole {
        return None;
    }
    let within = (offset - start) / LEAF;
    let leaves: Vec<ChainingValue> =
        group.chunks_exact(LEAF).enumerate().map(|(at, bytes)| subtree(bytes, start + at * LEAF)).collect();
    let mut path = Vec::new();
    siblings(groups, group_at, &mut path);
    siblings(&leaves, within, &mut path);
    path.reverse();
    Some(LeafProof { leaf: ByteBuf::from(&group[within * LEAF..(within + 1) * LEAF]), siblings: path })
}

impl LeafProof {
    /// Appends the proof's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.leaf);
        self.siblings.iter().for_each(|sibling| out.extend_from_slice(sibling));
    }

    /// Takes the proof of leaf `leaf` of a shard of `length` off the front of `bytes`.
    #[must_use]
    pub fn read(bytes: &mut &[u8], length: ShardLen, leaf: u32) -> Option<Self> {
        let leaves = length.get() as usize / LEAF;
        let count = turns(leaves, (leaf as usize).min(leaves - 1)).len();
        let (content, rest) = bytes.split_at_checked(LEAF)?;
        let (path, rest) = rest.split_at_checked(count * 32)?;
        let siblings = path.as_chunks().0.to_vec();
        *bytes = rest;
        Some(Self { leaf: ByteBuf::from(content), siblings })
    }

    /// Whether this is leaf `leaf` of the shard with this id and length.
    #[must_use]
    pub fn verify(&self, id: &ShardId, length: ShardLen, leaf: u32) -> bool {
        let leaves = length.get() as usize / LEAF;
        let at = leaf as usize;
        if self.leaf.len() != LEAF || at >= leaves {
            return false;
        }
        // From the leaf up; the last step ends in the root. A shard has at least four leaves.
        let turns = turns(leaves, at);
        let steps = turns.iter().rev().zip(&self.siblings);
        let Some((root, below)) = self.siblings.split_last().filter(|_| self.siblings.len() == turns.len())
        else {
            return false;
        };
        let mut value = subtree(&self.leaf, at * LEAF);
        for (right, sibling) in steps.take(below.len()) {
            value = if *right { merge(sibling, &value) } else { merge(&value, sibling) };
        }
        let (left, right) = if turns[0] { (root, &value) } else { (&value, root) };
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
        fn every_leaf_of_every_length_is_proved(bytes in 1u64..=1 << 20, pick: u32) {
            let length = ShardLen::fitting(bytes);
            let shard = shard(length.get() as usize);
            let leaf = pick % (length.get() / LEAF as u32);
            let proof = proof(&shard, leaf);
            prop_assert_eq!(shard_tree(&shard), (shard_id(&shard), groups(&shard)));
            prop_assert!(proof.verify(&shard_id(&shard), length, leaf));
            let mut bytes = Vec::new();
            proof.write(&mut bytes);
            prop_assert_eq!(LeafProof::read(&mut &bytes[..bytes.len() - 1], length, leaf), None);
            bytes.push(7);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(LeafProof::read(&mut rest, length, leaf), Some(proof.clone()));
            prop_assert_eq!(rest, [7]);
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

    #[test]
    fn which_leaf_is_asked_for_is_what_the_fixture_says() {
        use std::fmt::Write;
        let mut text = String::new();
        for (number, length) in [(0u8, 4 << 10), (1, 20 << 10), (2, 1 << 20), (3, 1 << 20)] {
            let (nonce, id) = (Nonce::from_bytes([number; 32]), ShardId::from_bytes([number ^ 9; 32]));
            let leaf = challenged_leaf(&nonce, &id, ShardLen::new(length).expect("valid"));
            writeln!(text, "{number} {length} {leaf}").expect("written");
        }
        let digest = answer_digest(&Nonce::from_bytes([1; 32]), &[[2; LEAF], [3; LEAF]].concat());
        text.push_str(&hex::encode(digest));
        fincrypt_vectors::check("challenge.txt", &text);
    }
}
