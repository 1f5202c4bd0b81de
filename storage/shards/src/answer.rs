//! What a storage node's answer to a challenge shows, shard by shard. Free of I/O.

use crate::proof::{LeafProof, challenged_leaf};
use fincrypt_protocol::shard::Verdict;
use fincrypt_protocol::{Nonce, ShardId, ShardLen};

/// What an answer shows of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofVerdict {
    /// The node has it.
    Proved,
    /// The proof is none.
    Wrong,
    /// The node says that it does not have it.
    Missing,
    /// The node says that it cannot read it any more.
    Damaged,
}

/// What an answer shows of each shard asked for. One that does not fit the question shows nothing
/// good.
#[must_use]
pub fn check_proofs(
    nonce: &Nonce,
    shards: &[(ShardId, ShardLen)],
    verdicts: &[Verdict],
    mut payload: &[u8],
) -> Vec<ProofVerdict> {
    if verdicts.len() != shards.len() {
        return vec![ProofVerdict::Wrong; shards.len()];
    }
    let one = |((id, length), verdict): (&(ShardId, ShardLen), &Verdict)| match verdict {
        Verdict::Missing | Verdict::Refused => ProofVerdict::Missing,
        Verdict::Damaged => ProofVerdict::Damaged,
        Verdict::Proved => {
            let leaf = challenged_leaf(nonce, id, *length);
            let proof = LeafProof::read(&mut payload, *length, leaf);
            let good = proof.is_some_and(|proof| proof.verify(id, *length, leaf));
            if good { ProofVerdict::Proved } else { ProofVerdict::Wrong }
        }
    };
    shards.iter().zip(verdicts).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::{GROUP, LEAF, groups, prove, shard_id};

    #[test]
    fn only_the_leaf_that_was_asked_for_of_the_very_shard_is_a_proof() {
        let length = ShardLen::new(64 << 10).expect("valid");
        let data: [Vec<u8>; 2] = [1, 2].map(|seed| {
            let bytes = blake3::Hasher::new().update(&[seed]).finalize_xof();
            let (mut bytes, mut out) = (bytes, vec![0; length.get() as usize]);
            bytes.fill(&mut out);
            out
        });
        let ids: Vec<ShardId> = data.iter().map(|shard| shard_id(shard)).collect();
        let shards: Vec<_> = ids.iter().map(|id| (*id, length)).collect();
        let nonce = Nonce::from_bytes([7; 32]);
        let proof = |of: usize, nonce: &Nonce| {
            let id = ids[of];
            let leaf = challenged_leaf(nonce, &id, length);
            let start = leaf as usize * LEAF / GROUP * GROUP;
            let mut out = Vec::new();
            let shard = &data[of];
            prove(length, leaf, &shard[start..start + GROUP], &groups(shard)).expect("fits").write(&mut out);
            out
        };
        let proved = [Verdict::Proved, Verdict::Proved];
        let judged =
            |verdicts: &[Verdict], payload: Vec<u8>| check_proofs(&nonce, &shards, verdicts, &payload);
        let both = [proof(0, &nonce), proof(1, &nonce)].concat();
        assert_eq!(judged(&proved, both.clone()), [ProofVerdict::Proved, ProofVerdict::Proved]);
        let second = judged(&[Verdict::Missing, Verdict::Proved], proof(1, &nonce));
        assert_eq!(second, [ProofVerdict::Missing, ProofVerdict::Proved]);
        let stale = Nonce::from_bytes([8; 32]);
        let other = judged(&proved, [proof(0, &stale), proof(1, &nonce)].concat());
        assert_eq!(other[0], ProofVerdict::Wrong, "a leaf of an older challenge");
        let swapped = judged(&proved, [proof(1, &nonce), proof(0, &nonce)].concat());
        assert_eq!(swapped, [ProofVerdict::Wrong, ProofVerdict::Wrong]);
        assert_eq!(judged(&proved, both[..both.len() - 1].to_vec())[1], ProofVerdict::Wrong);
        assert_eq!(judged(&proved[..1], both), [ProofVerdict::Wrong, ProofVerdict::Wrong]);
    }
}
