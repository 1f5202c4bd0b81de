//! The vault's head and catalog: reading what the head refers to, and writing the next one.

use std::collections::HashMap;

use fincrypt_protocol::record::{Head, Keep};
use fincrypt_protocol::{HeadHash, RunId, SegmentId, Signed, UnixTime, Verified};
use fincrypt_storage::blob::BlobKind;
use fincrypt_storage::head::{CatalogRef, HeadBody, open_head, seal_head, supersedes};
use fincrypt_storage::index::IndexPiece;
use fincrypt_storage::kv::{Batch, KeyValue, Tree};
use fincrypt_storage::segment::{BlobAssembler, OpenSegment};

use super::error::ClientError;
use super::fetch::Fetcher;
use super::holders::Holders;
use super::link::Link;
use super::vault::Vault;

/// Catalog segments whose pieces are in the index: segment id → nothing. Rebuildable.
const LOADED: Tree = Tree("catalog_loaded");

/// A head that was verified, with its contents.
pub(crate) struct OpenHead {
    pub(crate) head: Verified<Head>,
    pub(crate) body: HeadBody,
}

impl OpenHead {
    pub(crate) fn hash(&self) -> HeadHash {
        self.head.signed().head_hash()
    }
}

impl Vault {
    /// Verifies and opens a head of slot `slot`.
    pub(crate) fn open_head(&self, slot: u32, head: &Signed<Head>) -> Result<OpenHead, ClientError> {
        let head = head.verify(self.network(), UnixTime::now())?;
        let expected = self.keys.root.head_key(slot).head_key();
        if head.head_key != expected || head.account != self.keys.root.account(slot).account() {
            return Err(fincrypt_protocol::RecordError::WrongKey.into());
        }
        let body = open_head(&self.keys.root, slot, &head)?;
        Ok(OpenHead { head, body })
    }

    /// The mediator's head, refused if it is older than one seen before, or does not follow it.
    pub(crate) async fn current_head(&self, link: &Link) -> Result<Option<OpenHead>, ClientError> {
        let slot = self.slot()?;
        let known = self.head()?.map(|head| self.open_head(slot, &head)).transpose()?;
        let found = link.head().await?.map(|head| self.open_head(slot, &head)).transpose()?;
        if let Some(known) = known {
            let sequence = known.head.sequence;
            match &found {
                Some(found) if found.head.sequence >= sequence => {
                    let same = found.hash() == known.hash();
                    let next = found.head.previous == Some(known.hash());
                    // What lies between heads further apart is not known here.
                    let follows = match found.head.sequence - sequence {
                        0 => same,
                        1 => next,
                        _ => true,
                    };
                    if !follows {
                        return Err(ClientError::Forked { sequence });
                    }
                }
                _ => {
                    let found = found.map_or(0, |found| found.head.sequence);
                    return Err(ClientError::RolledBack { found, known: sequence });
                }
            }
        }
        Ok(found)
    }

    /// The newest valid head that the holders have, if it is newer than the one known.
    pub(crate) async fn newest_head_at_holders(
        &self,
        fetcher: &Fetcher,
    ) -> Result<Option<OpenHead>, ClientError> {
        let slot = self.slot()?;
        let known = self.head()?.map(|head| self.open_head(slot, &head)).transpose()?;
        let found = self.best_head(slot, fetcher.holders().await).await;
        let rank = |open: &OpenHead| (open.head.sequence, open.hash());
        Ok(found.filter(|found| known.is_none_or(|known| supersedes(rank(found), rank(&known)))))
    }

    /// The newest head of a slot that any holder has and that opens.
    pub(crate) async fn best_head(&self, slot: u32, holders: &Holders) -> Option<OpenHead> {
        let heads = holders.heads(self.keys.root.head_key(slot).head_key()).await;
        let opened = heads.iter().filter_map(|head| self.open_head(slot, head.signed()).ok());
        let rank = |open: &OpenHead| (open.head.sequence, open.hash());
        opened.reduce(|best, next| if supersedes(rank(&next), rank(&best)) { next } else { best })
    }

    /// Brings the index up to a head: fetches the catalog segments that are not in it yet.
    pub(crate) async fn load_catalog(
        &self,
        fetcher: &Fetcher,
        refs: &[CatalogRef],
    ) -> Result<(), ClientError> {
        let mut new = Vec::new();
        for reference in refs {
            if self.state.get(LOADED, reference.segment.as_bytes())?.is_none() {
                new.push(*reference);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let pieces = match self.read_pieces(fetcher, &new).await {
            // The index was rebuilt because the catalog cannot be read; the next backup replaces it.
            Err(error) if self.is_rebuilt()? => {
                tracing::warn!(%error, "the catalog cannot be read; the rebuilt index is used");
                return Ok(());
            }
            other => other?,
        };
        for piece in pieces {
            for (manifest, directory) in &piece.segments {
                self.index.insert(manifest, directory)?;
            }
        }
        let ids: Vec<SegmentId> = new.iter().map(|reference| reference.segment).collect();
        self.mark_loaded(&ids)
    }

    /// Rebuilds the index from the segments alone, for a vault whose heads or catalog are lost: every
    /// segment that any holder lists is opened, and its directory taken. Segments of other vaults
    /// or without enough shards are left out; how many could be read.
    pub(crate) async fn rebuild_index(&self, fetcher: &Fetcher) -> Result<usize, ClientError> {
        let mut read = 0;
        for segment in fetcher.holders().await.segments().await {
            let Ok(manifests) = fetcher.manifests(&[segment]).await else { continue };
            let Some(manifest) = manifests.get(&segment) else { continue };
            let Ok(ciphertext) = fetcher.segment(manifest).await else { continue };
            let Ok(open) = OpenSegment::open(&self.keys.root, ciphertext) else { continue };
            self.index.insert(manifest, open.directory())?;
            read += 1;
        }
        Ok(read)
    }

    /// Notes that catalog segments' contents are in the index.
    pub(crate) fn mark_loaded(&self, segments: &[SegmentId]) -> Result<(), ClientError> {
        let mut batch = Batch::default();
        for segment in segments {
            batch.put(LOADED, *segment.as_bytes(), Vec::new());
        }
        Ok(self.state.apply(&batch)?)
    }

    /// Fetches and decodes the index pieces in some catalog segments.
    pub(crate) async fn read_pieces(
        &self,
        fetcher: &Fetcher,
        refs: &[CatalogRef],
    ) -> Result<Vec<IndexPiece>, ClientError> {
        let ids: Vec<SegmentId> = refs.iter().map(|reference| reference.segment).collect();
        let manifests: HashMap<_, _> = fetcher.manifests(&ids).await?;
        let damaged = |error: &dyn std::fmt::Display| ClientError::Damaged(error.to_string());
        let mut assembler =
            BlobAssembler::new(self.keys.root.blob_id_key()).map_err(|error| damaged(&error))?;
        let mut pieces = Vec::new();
        for id in ids {
            let manifest =
                manifests.get(&id).ok_or(ClientError::Unavailable { segment: id, found: 0, needed: 1 })?;
            let ciphertext = fetcher.segment(manifest).await?;
            let open = OpenSegment::open(&self.keys.root, ciphertext).map_err(|error| damaged(&error))?;
            for entry in open.directory().entries().iter().filter(|entry| entry.kind == BlobKind::Index) {
                let stored = open.extent(entry).map_err(|error| damaged(&error))?;
                if let Some(plain) = assembler.add(entry, &stored).map_err(|error| damaged(&error))? {
                    pieces.push(IndexPiece::decode(&plain).map_err(|error| damaged(&error))?);
                }
            }
        }
        Ok(pieces)
    }

    /// Seals the head that follows `previous`.
    pub(crate) fn next_head(
        &self,
        previous: Option<&OpenHead>,
        body: &HeadBody,
    ) -> Result<Signed<Head>, ClientError> {
        let sequence = previous.map_or(1, |previous| previous.head.sequence + 1);
        let hash = previous.map(OpenHead::hash);
        Ok(seal_head(&self.keys.root, self.slot()?, self.network(), sequence, hash, body)?)
    }

    /// The owner's statement that a run is to be kept.
    pub(crate) fn keep(&self, run: RunId) -> Result<Signed<Keep>, ClientError> {
        let account = self.keys.root.account(self.slot()?);
        Ok(Signed::seal(&Keep { network: self.network(), account: account.account(), run }, &account)?)
    }
}
