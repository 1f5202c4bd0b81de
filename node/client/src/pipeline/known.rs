//! Which blobs need not be stored again.

use parking_lot::Mutex;
use std::collections::HashSet;

use fincrypt_state::kv::KvError;
use fincrypt_state::state::State;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::index::BlobIndex;
use fincrypt_vault::tree::{Content, Piece};

/// Blobs that are stored, and those that this run is about to store.
pub(super) struct Known {
    index: BlobIndex<State>,
    /// Blobs of an interrupted run's segments.
    resumed: BlobIndex<State>,
    /// An id is 32 bytes, so the blobs of a terabyte take about 50 MiB.
    claimed: Mutex<HashSet<BlobId>>,
}

impl Known {
    pub(super) fn new(state: State) -> Self {
        let resumed = BlobIndex::pending(state.clone());
        Self { index: BlobIndex::new(state), resumed, claimed: Mutex::default() }
    }

    /// Whether a blob is new; whoever is told so stores it, and is the only one.
    pub(super) fn claim(&self, id: &BlobId) -> Result<bool, KvError> {
        if self.index.contains(id)? || self.resumed.contains(id)? {
            return Ok(false);
        }
        Ok(self.claimed.lock().insert(*id))
    }

    fn contains(&self, id: &BlobId) -> Result<bool, KvError> {
        let claimed = self.claimed.lock().contains(id);
        Ok(claimed || self.index.contains(id)? || self.resumed.contains(id)?)
    }

    /// Whether everything that a remembered content refers to is stored.
    pub(super) fn is_stored(&self, content: &Content) -> Result<bool, KvError> {
        match content {
            Content::Inline(pieces) => {
                for piece in pieces {
                    if let Piece::Data { blob, .. } = piece
                        && !self.contains(blob)?
                    {
                        return Ok(false);
                    }
                }
            }
            // A list that a head refers to was committed with its data; one of an interrupted run
            // may be stored without it.
            Content::Lists(lists) => {
                for list in lists {
                    if !self.index.contains(list)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}
