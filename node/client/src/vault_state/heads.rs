//! Heads, and what they say of the index.

use fincrypt_protocol::record::Head;
use fincrypt_protocol::{RunId, Signed, Verified};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::table::Everything;
use fincrypt_vault::head::is_rewriting;

use super::cache::{IndexCache, Stamp};
use super::error::VaultStateError;
use super::medium::Medium;
use super::record::{IndexOrigin, Record, RunState};
use super::{FOUND_PAGE, FOUND_RUNS, VaultState};

/// Outcome of following a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The index has everything that it had, and perhaps more.
    Grew,
    /// Another device has rewritten the catalog: what nothing used is not in the index any more.
    Rewritten,
    /// Everything known before is forgotten, because the head's writer has released it.
    Released,
}

/// Records a head, unless a newer one was seen.
pub(super) fn see_head(record: &mut Record, head: &Verified<Head>) -> Result<(), VaultStateError> {
    if let Some((known, _)) = &record.head
        && head.sequence < *known
    {
        return Err(VaultStateError::OlderHead { found: head.sequence, known: *known });
    }
    record.head = Some((head.sequence, head.signed().clone()));
    Ok(())
}

impl<M: Medium> VaultState<M> {
    /// The newest head this machine has seen.
    pub(crate) fn head(&self) -> Result<Option<Signed<Head>>, KvError> {
        Ok(self.record()?.head.map(|(_, head)| head))
    }

    /// Records a head that this machine has seen.
    ///
    /// # Errors
    /// [`VaultStateError::OlderHead`] if a newer one was seen before.
    pub(crate) fn saw_head(&self, head: &Verified<Head>) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| see_head(record, head))
    }

    /// Follows a head that names these releases: what they delete or leave out counts no longer.
    pub(crate) fn follow(&self, releases: &[[u8; 32]]) -> Result<Followed, VaultStateError> {
        self.change(Batch::default(), |record| {
            let known = &record.index.releases;
            let new: Vec<_> = releases.iter().filter(|release| !known.contains(release)).collect();
            if new.is_empty() {
                return Ok(Followed::Grew);
            }
            if !new.into_iter().all(is_rewriting) {
                record.forget_stored(releases);
                return Ok(Followed::Released);
            }
            // Segments of a head that was perhaps committed are perhaps pruned since.
            record.keep_unsettled();
            // Segments of a run that took very long were perhaps taken for orphans.
            if let RunState::Idle { recheck } = &mut record.run {
                *recheck = true;
            }
            record.void.prune = true;
            record.next_generation(releases);
            Ok(Followed::Rewritten)
        })
    }

    /// This machine has put a head that names these releases in the place of another, outside a run.
    ///
    /// # Errors
    /// [`VaultStateError::OlderHead`] if a newer one was seen before.
    pub(crate) fn replaced_head(
        &self,
        head: &Verified<Head>,
        releases: &[[u8; 32]],
    ) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            see_head(record, head)?;
            if releases.iter().all(|release| record.index.releases.contains(release)) {
                record.index.releases = releases.to_vec();
            } else {
                record.forget_stored(releases);
            }
            Ok(())
        })
    }

    /// This machine has rewritten the catalog: the index is empty now, to be filled from the new one.
    ///
    /// # Errors
    /// [`VaultStateError::OlderHead`] if a newer head was seen before, [`VaultStateError::Unsettled`] if
    /// a backup's commit is.
    pub(crate) fn catalog_rewritten(
        &self,
        head: &Verified<Head>,
        releases: &[[u8; 32]],
    ) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            if let RunState::Committing { run } | RunState::Keeping { run } = record.run {
                return Err(VaultStateError::Unsettled { run });
            }
            see_head(record, head)?;
            // The rewriting may have released segments of an interrupted backup, which another device had
            // marked as orphans.
            record.run = RunState::Idle { recheck: true };
            record.void.prune = true;
            record.index.origin = IndexOrigin::Catalog;
            record.next_generation(releases);
            Ok(())
        })
    }

    /// Where the contents of the index come from.
    pub(crate) fn index_origin(&self) -> Result<IndexOrigin, KvError> {
        Ok(self.record()?.index.origin)
    }

    /// Whether the index that was read from the segments was lost since, with the database it was in.
    pub(crate) fn is_rebuild_due(&self) -> Result<bool, KvError> {
        let index = self.record()?.index;
        Ok(index.origin == IndexOrigin::Segments && self.cache.stamp()?.rebuilds != index.rebuilds)
    }

    /// The index was read from the segments, which are of these runs.
    pub(crate) fn index_rebuilt(&self, runs: &[RunId]) -> Result<(), VaultStateError> {
        let mut batch = Batch::default();
        for (at, run) in runs.iter().enumerate() {
            FOUND_RUNS.put(&mut batch, run, &())?;
            // To keep a run twice does no harm: pages before the last may be durable alone.
            if at % FOUND_PAGE == FOUND_PAGE - 1 {
                self.medium.commit(&std::mem::take(&mut batch))?;
            }
        }
        let rebuilds = self.change(batch, |record| {
            record.index.origin = IndexOrigin::Segments;
            record.index.rebuilds = record.index.rebuilds.saturating_add(1);
            Ok(record.index.rebuilds)
        })?;
        let stamp = self.cache.stamp()?;
        Ok(self.cache.set_stamp(&Stamp { rebuilds, ..stamp })?)
    }

    /// Some found runs that have to be kept before the next head; none if all are.
    pub(crate) fn found_runs(&self) -> Result<Vec<RunId>, KvError> {
        let runs = FOUND_RUNS.scan(self.medium.kv(), &Everything, None, FOUND_PAGE)?;
        Ok(runs.into_iter().map(|(run, ())| run).collect())
    }

    /// These found runs are kept.
    pub(crate) fn found_runs_kept(&self, runs: &[RunId]) -> Result<(), VaultStateError> {
        let mut batch = Batch::default();
        runs.iter().for_each(|run| FOUND_RUNS.remove(&mut batch, run));
        Ok(self.medium.commit(&batch)?)
    }

    /// The index and what belongs to it.
    pub(crate) fn cache(&self) -> &IndexCache<M::Kv> {
        &self.cache
    }
}
