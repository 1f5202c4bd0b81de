//! Shards that are read, listed and located.

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_accounts::releases::Releases;
use fincrypt_accounts::{Accounts, AccountsError};
use fincrypt_protocol::shard::HeldSegment;
use fincrypt_protocol::{AccountId, NodeId, SegmentId, ShardId, ShardIndex};
use fincrypt_shards::{ShardStore, StoreError};

use crate::Disk;
use crate::access::{Access, AccessError, Right};

/// Why nothing is read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The peer may not read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The shard is not held.
    #[error("the shard is not held")]
    NotHeld,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Holder lists or releases could not be read.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
}

/// A page of shards held for an account.
pub(crate) struct Page {
    pub(crate) shards: Vec<(SegmentId, ShardIndex, ShardId)>,
    /// Whether there are more after them.
    pub(crate) more: bool,
}

/// What [`ShardReads`] is made of.
pub(crate) struct ReadOptions {
    pub(crate) access: Access,
    pub(crate) accounts: Accounts,
    pub(crate) releases: Releases,
    pub(crate) store: ShardStore,
    pub(crate) disk: Arc<Disk>,
}

/// Serves shards and lists of them.
pub(crate) struct ShardReads(ReadOptions);

impl ShardReads {
    pub(crate) fn new(options: ReadOptions) -> Self {
        Self(options)
    }

    /// A shard's bytes.
    ///
    /// # Errors
    /// [`ReadError::NotHeld`] if the shard is not here.
    pub(crate) fn get(
        &self,
        from: NodeId,
        account: &AccountId,
        segment: &SegmentId,
        index: ShardIndex,
    ) -> Result<Bytes, ReadError> {
        self.0.access.authorize(from, account, Right::Read)?;
        let read = self.0.store.get(account, segment, index);
        if let Err(error) = &read {
            self.0.disk.note(error);
        }
        read?.ok_or(ReadError::NotHeld)
    }

    /// Up to `most` shards held for an account, after `after`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn list(
        &self,
        from: NodeId,
        account: &AccountId,
        after: Option<(SegmentId, ShardIndex)>,
        most: usize,
    ) -> Result<Page, ReadError> {
        self.0.access.authorize(from, account, Right::Read)?;
        let mut shards = self.0.store.list(account, after, most + 1)?;
        let more = shards.len() > most;
        shards.truncate(most);
        Ok(Page { shards, more })
    }

    /// What is held of some segments, and who holds the rest.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn locate(
        &self,
        from: NodeId,
        account: &AccountId,
        segments: &[SegmentId],
    ) -> Result<Vec<HeldSegment>, ReadError> {
        self.0.access.authorize(from, account, Right::Read)?;
        let mut known = Vec::new();
        for segment in segments {
            if let Some(held) = self.0.store.segment(account, segment)? {
                let holders = self.0.accounts.holders(account, segment)?.map(|list| list.signed().clone());
                let indices = held.shards.iter().map(|shard| shard.index).collect();
                let (manifest, tag, run) = (held.manifest, held.tag, held.run);
                let due = self.0.releases.due(account, segment)?;
                known.push(HeldSegment { manifest, tag, run, held: indices, holders, due });
            }
        }
        Ok(known)
    }
}
