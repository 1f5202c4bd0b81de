//! Challenges that storage nodes have not answered, durably.

use fincrypt_protocol::limits::MAX_CHALLENGE;
use fincrypt_protocol::shard::Challenged;
use fincrypt_protocol::{Epoch, NodeId};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::Table;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;

/// `node` → the challenge that it has not answered: shards of three ids each.
const OPEN: Table<NodeId, OpenChallenge> = Table::new("open_challenges", MAX_CHALLENGE * 220 + 64);

/// A challenge that was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenChallenge {
    /// The epoch in which it was drawn.
    pub(super) since: Epoch,
    pub(super) shards: Vec<Challenged>,
}

/// Open challenges. Cheap to clone.
#[derive(Clone)]
pub(super) struct Challenges(State);

impl Challenges {
    pub(super) fn new(state: State) -> Self {
        Self(state)
    }

    /// The challenge that a node has not answered. One that cannot be read counts as none: another is
    /// drawn.
    pub(super) fn open(&self, node: &NodeId) -> Result<Option<OpenChallenge>, StoreError> {
        match OPEN.get(&self.0, node) {
            Err(KvError::Corrupt { tree }) => {
                tracing::error!(%node, tree, "open_challenge_unreadable");
                Ok(None)
            }
            read => Ok(read?),
        }
    }

    /// Records a challenge before it is sent: after a crash, the same is sent again.
    pub(super) fn put(&self, node: &NodeId, open: &OpenChallenge) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        OPEN.put(&mut batch, node, open)?;
        Ok(self.0.commit(&batch)?)
    }

    /// Records that a node has nothing left to answer.
    pub(super) fn remove(&self, node: &NodeId) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        OPEN.remove(&mut batch, node);
        Ok(self.0.commit(&batch)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::{AccountId, SegmentId, ShardIndex};

    #[test]
    fn the_largest_challenge_is_kept_until_it_is_answered() {
        let dir = tempfile::tempdir().expect("a folder");
        let challenges = Challenges::new(State::open(dir.path()).expect("opens").0);
        let (account, segment) = (AccountId::from_bytes([255; 32]), SegmentId::from_bytes([255; 32]));
        let shard = Challenged { account, segment, index: ShardIndex::new(29).expect("valid") };
        let open = OpenChallenge { since: Epoch::new(u64::MAX), shards: vec![shard; MAX_CHALLENGE] };
        let node = NodeId::from_bytes([4; 32]);
        challenges.put(&node, &open).expect("it fits");
        assert_eq!(challenges.open(&node).expect("reads"), Some(open));
        challenges.remove(&node).expect("removed");
        assert_eq!(challenges.open(&node).expect("reads"), None);
    }
}
