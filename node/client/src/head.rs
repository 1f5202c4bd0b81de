//! The vault's head and catalog: reading what the head refers to, and writing the next one.

use std::collections::HashMap;

use fincrypt_protocol::record::Head;
use fincrypt_protocol::{HeadHash, Manifest, SegmentId, Signed, UnixTime, Verified};
use fincrypt_vault::Root;
use fincrypt_vault::blob::BlobKind;
use fincrypt_vault::head::{CatalogRef, HeadBody, open_head, seal_head};
use fincrypt_vault::index::{BlobIndex, IndexPiece};
use fincrypt_vault::lists::{LIST, decode_list};
use fincrypt_vault::marks::{Mark, decode_marks};
use fincrypt_vault::segment::{BlobAssembler, Directory, OpenSegment};

use super::error::ClientError;
use super::fetch::Fetcher;
use super::mediator_client::MediatorClient;
use super::pipeline::PipelineError;
use super::run_journal::RunJournal;
use super::vault::Vault;
use super::vault_state::{Followed, IndexOrigin, RunState};

/// What some catalog segments hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pieces {
    /// Segments with what counts of them.
    pub(crate) segments: Vec<(Manifest, Directory)>,
    /// Segments that wait to be released.
    pub(crate) marks: Vec<Mark>,
    /// References to further segments of the catalog.
    pub(crate) lists: Vec<CatalogRef>,
}

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

impl OpenHead {
    /// Opens a head of slot `slot` of the vault with this root.
    pub(crate) fn unseal(root: &Root, slot: u32, head: Verified<Head>) -> Result<Self, ClientError> {
        let body = open_head(root, slot, &head)?;
        Ok(Self { head, body })
    }
}

impl Vault {
    /// Verifies and opens a head: of the slot's head key, or the one that a rewind named.
    pub(crate) fn open_head(&self, slot: u32, head: &Signed<Head>) -> Result<OpenHead, ClientError> {
        let head = head.verify(self.network(), UnixTime::now())?;
        if head.account != self.keys.root.account(slot).account() {
            return Err(fincrypt_protocol::RecordError::WrongKey.into());
        }
        if head.head_key != self.keys.head_key(slot).head_key()
            && self.lifecycle.rewound()?.is_none_or(|known| known.base != *head.signed())
        {
            return Err(ClientError::Rewound);
        }
        OpenHead::unseal(&self.keys.root, slot, head)
    }

    /// The head that this machine goes by.
    pub(crate) fn known_head(&self) -> Result<Option<OpenHead>, ClientError> {
        let slot = self.slot()?;
        self.lifecycle.head()?.map(|head| self.open_head(slot, &head)).transpose()
    }

    /// The mediator's head, refused if it is older than one seen before, or does not follow it.
    pub(crate) async fn current_head(&self, link: &MediatorClient) -> Result<Option<OpenHead>, ClientError> {
        let slot = self.slot()?;
        let known = self.known_head()?;
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

    /// Brings the index up to a head.
    pub(crate) async fn follow(&self, fetcher: &Fetcher, head: &OpenHead) -> Result<Followed, ClientError> {
        let followed = self.lifecycle.follow(&head.body.releases)?;
        if self.lifecycle.is_rebuild_due()? {
            tracing::warn!("the rebuilt index was lost with its database; reading every segment again");
            self.rebuild_index(fetcher).await?;
        }
        self.load_catalog(fetcher, &head.body.refs).await?;
        Ok(followed)
    }

    /// Ends a run that was interrupted when its head may have been committed already: if it was, it is
    /// kept, and nothing goes on from what it noted.
    pub(crate) async fn settle(&self, link: &MediatorClient) -> Result<(), ClientError> {
        let (run, committed) = match self.lifecycle.run()? {
            RunState::Idle { .. } => return Ok(()),
            RunState::Keeping { run } => (run, true),
            RunState::Committing { run } => (run, self.was_committed()?),
        };
        if !committed {
            return Ok(self.lifecycle.undo_commit(run)?);
        }
        link.keep(self.keep(run)?).await?;
        Ok(self.lifecycle.finish_commit(run)?)
    }

    /// Whether the head of the interrupted run came to be, by an index that follows the newest one. A
    /// run without a journal counts as committed: to keep one that is not does no harm.
    fn was_committed(&self) -> Result<bool, ClientError> {
        let path = self.home.run_journal();
        if !path.exists() {
            return Ok(true);
        }
        let account = self.keys.root.account(self.slot()?).account();
        let pending = BlobIndex::pending(self.state.clone());
        let journal = RunJournal::open(&path, &account, UnixTime::now(), &pending)?;
        let mut committed = false;
        journal
            .segments()
            .read(|manifest, _| {
                committed |= self.index.manifest(&manifest.id())?.is_some();
                Ok::<(), PipelineError>(())
            })
            .map_err(ClientError::from)?;
        for segment in journal.abandoned.iter().flat_map(|(_, segments)| segments) {
            committed |= self.index.manifest(segment)?.is_some();
        }
        Ok(committed)
    }

    /// Fetches the catalog segments of a head that are not in the index yet. Those that can be read
    /// are in it afterwards, whatever becomes of the others.
    pub(crate) async fn load_catalog(
        &self,
        fetcher: &Fetcher,
        refs: &[CatalogRef],
    ) -> Result<(), ClientError> {
        let mut failed = None;
        let mut waiting: Vec<CatalogRef> = refs.iter().rev().copied().collect();
        // A list is loaded when all that it refers to is.
        let mut lists: Vec<(SegmentId, Vec<SegmentId>)> = Vec::new();
        while let Some(reference) = waiting.pop() {
            if self.lifecycle.is_loaded(&reference.segment)? {
                continue;
            }
            match self.read_pieces(fetcher, std::slice::from_ref(&reference)).await {
                Ok(pieces) => {
                    let loaded: &[SegmentId] = match reference.level {
                        LIST => &[],
                        _ => std::slice::from_ref(&reference.segment),
                    };
                    self.lifecycle.take_in(&pieces.segments, &pieces.marks, loaded)?;
                    if reference.level == LIST {
                        lists.push((reference.segment, pieces.lists.iter().map(|r| r.segment).collect()));
                        waiting.extend(pieces.lists.iter().rev());
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        for (list, listed) in lists {
            let mut all = true;
            for segment in &listed {
                all &= self.lifecycle.is_loaded(segment)?;
            }
            if all {
                self.lifecycle.take_in(&[], &[], &[list])?;
            }
        }
        match failed {
            // The index was rebuilt because the catalog cannot be read; the next backup writes it anew.
            Some(error) if self.lifecycle.index_origin()? == IndexOrigin::Segments => {
                tracing::warn!(%error, "a part of the catalog cannot be read; the rebuilt index is used");
                Ok(())
            }
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// All segments of the catalog that a head names: those in its lists, too, which are fetched.
    pub(crate) async fn whole_catalog(
        &self,
        fetcher: &Fetcher,
        refs: &[CatalogRef],
    ) -> Result<Vec<CatalogRef>, ClientError> {
        let lists: Vec<CatalogRef> = refs.iter().filter(|r| r.level == LIST).copied().collect();
        let listed = self.read_pieces(fetcher, &lists).await?.lists;
        Ok(refs.iter().copied().chain(listed).collect())
    }

    /// Fetches and decodes the index pieces and marks in some catalog segments.
    pub(crate) async fn read_pieces(
        &self,
        fetcher: &Fetcher,
        refs: &[CatalogRef],
    ) -> Result<Pieces, ClientError> {
        let ids: Vec<SegmentId> = refs.iter().map(|reference| reference.segment).collect();
        let manifests: HashMap<_, _> = fetcher.manifests(&ids).await?;
        let damaged = |error: &dyn std::fmt::Display| ClientError::Damaged(error.to_string());
        let mut assembler =
            BlobAssembler::new(self.keys.root.blob_id_key()).map_err(|error| damaged(&error))?;
        let mut pieces = Pieces::default();
        for id in ids {
            let manifest =
                manifests.get(&id).ok_or(ClientError::Unavailable { segment: id, found: 0, needed: 1 })?;
            let ciphertext = fetcher.segment(manifest).await?;
            let open = OpenSegment::open(&self.keys.root, ciphertext).map_err(|error| damaged(&error))?;
            for entry in open.directory().entries() {
                if !entry.kind.is_catalog() {
                    continue;
                }
                let stored = open.extent(entry).map_err(|error| damaged(&error))?;
                let Some(plain) = assembler.add(entry, &stored).map_err(|error| damaged(&error))? else {
                    continue;
                };
                match entry.kind {
                    BlobKind::Marks => {
                        let malformed = || ClientError::Damaged("a list of marks is malformed".to_owned());
                        pieces.marks.extend(decode_marks(&plain).ok_or_else(malformed)?);
                    }
                    BlobKind::Refs => {
                        let malformed =
                            || ClientError::Damaged("a list of the catalog is malformed".to_owned());
                        pieces.lists.extend(decode_list(&plain).ok_or_else(malformed)?);
                    }
                    _ => {
                        let piece = IndexPiece::decode(&plain).map_err(|error| damaged(&error))?;
                        pieces.segments.extend(piece.segments);
                    }
                }
            }
        }
        // A piece of which a part is missing would be lost without a word when it is merged.
        match assembler.pending_bytes() {
            0 => Ok(pieces),
            _ => Err(ClientError::Damaged("a part of an index piece is missing".to_owned())),
        }
    }

    /// Seals the head that follows `previous`.
    pub(crate) fn next_head(
        &self,
        previous: Option<&OpenHead>,
        body: &HeadBody,
    ) -> Result<Signed<Head>, ClientError> {
        let sequence = previous.map_or(0, |previous| previous.head.sequence).saturating_add(1);
        let hash = previous.map(OpenHead::hash);
        Ok(seal_head(&self.keys, self.slot()?, self.network(), sequence, hash, body)?)
    }
}
