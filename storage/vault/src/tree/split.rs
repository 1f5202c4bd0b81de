//! Where a folder's entries are cut into Tree blobs.

use super::node::{Content, Node, NodeKind};

/// A Tree blob has at least so many nodes, unless it is the last or they are large.
pub const MIN_NODES: usize = 256;
/// A Tree blob has at most so many nodes.
pub const MAX_NODES: usize = 4096;
/// A Tree blob of more than one node has at most about so many bytes.
const MAX_LEN: usize = 1 << 20;
/// A name whose hash ends in so many zero bits ends a blob: on average, one in 1,024.
const CUT_BITS: u32 = 10;

/// Cuts a folder's nodes, sorted by name, into the nodes of its Tree blobs.
///
/// Where to cut depends on the names nearby and not on how many came before, so one entry more or
/// less changes the blob it is in and seldom the next. No nodes make no blobs.
#[must_use]
pub fn split(nodes: &[Node]) -> Vec<&[Node]> {
    let mut parts = Vec::new();
    // All slices hold: `start` is at most `end`, and `end` is an index of `nodes`.
    let (mut start, mut len) = (0, 0);
    for (end, node) in nodes.iter().enumerate() {
        let node_len = encoded_len(node);
        if end > start && len + node_len > MAX_LEN {
            parts.push(&nodes[start..end]);
            (start, len) = (end, 0);
        }
        len += node_len;
        let count = end + 1 - start;
        if count == MAX_NODES || (count >= MIN_NODES && ends_blob(node)) {
            parts.push(&nodes[start..=end]);
            (start, len) = (end + 1, 0);
        }
    }
    if start < nodes.len() {
        parts.push(&nodes[start..]);
    }
    parts
}

fn ends_blob(node: &Node) -> bool {
    let hash = blake3::hash(node.name.as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d]).trailing_zeros() >= CUT_BITS
}

/// An upper bound of the node's encoded length in bytes, from the sizes of CBOR's headers.
fn encoded_len(node: &Node) -> usize {
    const FIXED: usize = 64;
    const HEADER: usize = 5;
    const ID: usize = 34;
    const PIECE: usize = ID + 9;
    let xattrs: usize = node.xattrs.iter().map(|(name, value)| name.len() + value.len() + 3 * HEADER).sum();
    let kind = match &node.kind {
        NodeKind::File { content: Content::Inline(pieces), .. } => pieces.len() * PIECE,
        NodeKind::File { content: Content::Lists(ids), .. } | NodeKind::Dir { tree: ids } => ids.len() * ID,
        NodeKind::Symlink { target } => target.len(),
    };
    FIXED + node.name.as_bytes().len() + xattrs + kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::node;
    use crate::tree::{NodeKind, encode_tree};
    use proptest::prelude::*;

    fn empty_dirs(names: impl Iterator<Item = usize>) -> Vec<Node> {
        names.map(|i| node(format!("{i:08}").as_bytes(), NodeKind::Dir { tree: vec![] })).collect()
    }

    #[test]
    fn one_insertion_changes_at_most_two_blobs() {
        let before = empty_dirs((0..40_000).map(|i| 2 * i));
        let parts = split(&before);
        assert!(parts.len() > 20);
        assert!(parts[..parts.len() - 1].iter().all(|p| (MIN_NODES..=MAX_NODES).contains(&p.len())));
        for inserted in [1, 20_001, 39_999, 79_999] {
            let mut after = before.clone();
            let at = after.partition_point(|n| n.name.as_bytes() < format!("{inserted:08}").as_bytes());
            after.insert(at, empty_dirs([inserted].into_iter()).remove(0));
            let changed = split(&after).iter().filter(|part| !parts.contains(part)).count();
            assert!(changed <= 2, "{changed} blobs changed");
        }
    }

    #[test]
    fn large_nodes_are_cut_by_length() {
        let mut nodes = empty_dirs(0..100);
        for node in &mut nodes {
            node.xattrs = vec![(b"user.a".to_vec(), vec![0; 60 << 10])];
        }
        let parts = split(&nodes);
        assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), 100);
        for part in parts {
            assert!(encode_tree(part).expect("encodes").len() <= MAX_LEN);
        }
    }

    proptest! {
        #[test]
        fn parts_join_to_the_whole_and_the_estimate_is_an_upper_bound(
            nodes in crate::tree::tests::nodes(40)
        ) {
            let parts = split(&nodes);
            prop_assert_eq!(parts.concat(), nodes.clone());
            for node in &nodes {
                prop_assert!(encode_tree(std::slice::from_ref(node))?.len() <= encoded_len(node));
            }
        }
    }
}
