//! Nodes and libp2p peers are the same ed25519 keys under two names.

use libp2p::PeerId;
use libp2p::identity::{PublicKey, ed25519};

use fincrypt_protocol::NodeId;

/// The peer's identity is not an ed25519 key, which every Fincrypt node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer's identity is not an ed25519 key")]
pub struct NotAnEd25519Peer;

/// The node behind a peer id. Ed25519 peer ids carry their key inline.
///
/// # Errors
/// [`NotAnEd25519Peer`] for hashed and for other keys.
pub fn node_of(peer: &PeerId) -> Result<NodeId, NotAnEd25519Peer> {
    let multihash = peer.as_ref();
    if multihash.code() != 0 {
        return Err(NotAnEd25519Peer);
    }
    let key = PublicKey::try_decode_protobuf(multihash.digest()).map_err(|_| NotAnEd25519Peer)?;
    let key = key.try_into_ed25519().map_err(|_| NotAnEd25519Peer)?;
    Ok(NodeId::from_bytes(key.to_bytes()))
}

/// The peer id of a node.
///
/// # Errors
/// [`NotAnEd25519Peer`] if the node's bytes are no point of the curve.
pub fn peer_of(node: &NodeId) -> Result<PeerId, NotAnEd25519Peer> {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).map_err(|_| NotAnEd25519Peer)?;
    Ok(PublicKey::from(key).to_peer_id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    #[test]
    fn nodes_and_peers_convert_both_ways() {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        assert_eq!(node_of(&peer).and_then(|node| peer_of(&node)), Ok(peer));
    }

    #[test]
    fn a_random_peer_id_is_no_node() {
        assert_eq!(node_of(&PeerId::random()), Err(NotAnEd25519Peer));
    }
}
