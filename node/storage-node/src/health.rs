//! How the node is, by its own word: serving, failing or leaving.

use std::sync::Arc;

use fincrypt_protocol::record::Condition;

use crate::{Disk, Drain};

/// What decides whether new shards are taken; clones share it.
#[derive(Clone)]
pub struct Health {
    /// The disk beneath the shards.
    pub disk: Arc<Disk>,
    /// Whether the node is to be switched off.
    pub drain: Arc<Drain>,
}

impl Health {
    /// How the node is. A wish to leave is said even if the disk fails.
    #[must_use]
    pub fn condition(&self) -> Condition {
        match (self.drain.is_wished(), self.disk.is_failing()) {
            (true, _) => Condition::Leaving,
            (false, true) => Condition::Failing,
            (false, false) => Condition::Serving,
        }
    }
}
