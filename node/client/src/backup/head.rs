//! The head of a backup: committed, and then made known to this machine.

use fincrypt_protocol::UnixTime;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::head::{CatalogRef, HeadBody};

use super::REBASES;
use crate::commit::Run;
use crate::error::ClientError;
use crate::head::{HeadError, OpenHead, follow};
use crate::index_maker::without_other_snapshots;
use crate::pipeline::PipelineError;
use crate::run_journal::StoredSegments;
use crate::vault_state::Followed;

impl Run<'_> {
    /// Commits a new head over `base`, or over whatever another device made of it meanwhile.
    pub(super) async fn commit(
        &mut self,
        mut base: Option<OpenHead>,
        new: Vec<CatalogRef>,
        started: UnixTime,
        rebuilt: bool,
    ) -> Result<OpenHead, ClientError> {
        let slot = self.vault.slot()?;
        for attempt in 0..REBASES {
            // New pieces of a rebuilt index list all that is in it: they take the place of what it was
            // loaded from, unless another device has written to it meanwhile. What could not be read
            // stays: perhaps it can be another time.
            let replaced = rebuilt && attempt == 0;
            let before = base.as_ref().map(|head| &head.body);
            let mut old = before.map(|body| body.refs.clone()).unwrap_or_default();
            if replaced {
                let unread =
                    |r: &CatalogRef| self.vault.lifecycle.cache().is_loaded(&r.segment).map(|loaded| !loaded);
                let unread: Vec<bool> = old.iter().map(unread).collect::<Result<_, _>>()?;
                let mut unread = unread.into_iter();
                old.retain(|_| unread.next().unwrap_or(true));
            }
            let (slots, releases) =
                before.map(|body| (body.slots, body.releases.clone())).unwrap_or_default();
            self.marks.clear();
            self.listed.clear();
            let (full, small): (Vec<CatalogRef>, _) = new.iter().partition(|r| self.listable(r).is_fixed());
            let mut refs = self.list([old, full].concat()).await?;
            if !replaced {
                refs = self.merge(refs, small.len()).await?;
            }
            let refs = self.list([refs, small].concat()).await?;
            let body = HeadBody {
                refs,
                slots: slots | 1_u32.checked_shl(slot).unwrap_or(0),
                time: started,
                releases,
            };
            let head = self.vault.next_head(base.as_ref(), &body)?;
            // Before the head: what it refers to must not lapse if this is cut off right after it.
            self.keep().await?;
            self.keep_found().await?;
            self.vault.lifecycle.begin_commit(self.upload.run)?;
            if self.mediator.swap_head(base.as_ref().map(OpenHead::hash), head.clone()).await? {
                return self.vault.open_head(slot, &head);
            }
            self.vault.lifecycle.undo_commit(self.upload.run)?;
            base = self.vault.current_head(&self.mediator).await?;
            if let Some(base) = &base {
                match follow(self.vault, &self.fetcher, base).await? {
                    Followed::Grew => {}
                    Followed::Rewritten => return Err(HeadError::Rewritten.into()),
                    // Another device has released what this run stored, too.
                    Followed::Released => return Err(HeadError::Contended.into()),
                }
            }
        }
        Err(HeadError::Contended.into())
    }

    /// Takes what the committed head lists into the index.
    pub(super) async fn enter_into_index(
        &mut self,
        stored: StoredSegments,
        snapshot: BlobId,
        head: &OpenHead,
    ) -> Result<(), ClientError> {
        let index = self.vault.index.clone();
        let insert = move || {
            stored.read(|manifest, directory| {
                let directory = without_other_snapshots(directory, &snapshot);
                Ok::<(), PipelineError>(index.insert(manifest, &directory)?)
            })
        };
        tokio::task::spawn_blocking(insert).await.map_err(|_| ClientError::Inner)??;
        let marks = std::mem::take(&mut self.marks);
        let refs = head.body.refs.iter().map(|reference| reference.segment);
        let loaded: Vec<_> = refs.chain(std::mem::take(&mut self.listed)).collect();
        Ok(self.vault.lifecycle.cache().take_in(&[], &marks, &loaded)?)
    }
}
