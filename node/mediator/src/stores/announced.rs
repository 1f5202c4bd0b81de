//! Segments that were announced and of which no holder has signed for anything yet: they cost nothing to
//! make, so they are few and do not last.

use std::time::Duration;

use fincrypt_protocol::{AccountId, SegmentId, UnixTime};
use fincrypt_state::kv::KvError;
use fincrypt_state::table::Everything;

use super::segments::{ANNOUNCED, SegmentStore};
use crate::error::StoreError;

/// Announced segments of one account. Sixteen devices with two open segments each; what a mediator's
/// end interrupts is among them until its client comes again.
pub(crate) const MAX_ANNOUNCED: usize = 32;
/// Life of one that is not open any more: its client comes again within a day, and finds the nodes that
/// may have its shards already.
const ANNOUNCED_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Announced segments read at once.
const PAGE: usize = 1024;

/// Why there is no room for one more announced segment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnounceError {
    /// As many as an account may announce are open.
    #[error("all announced segments of the account are open")]
    AllOpen,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<KvError> for AnnounceError {
    fn from(error: KvError) -> Self {
        Self::Store(error.into())
    }
}

impl SegmentStore {
    /// Removes an announced segment, unless a shard of it has found a holder meanwhile.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn remove_announced(
        &self,
        account: &AccountId,
        segment: &SegmentId,
    ) -> Result<(), StoreError> {
        let _turn = self.turn(segment);
        if ANNOUNCED.contains(&self.state, &(*account, *segment))? {
            self.remove_record(account, segment)?;
        }
        Ok(())
    }

    /// Makes room for one more announced segment of an account: the oldest that is not open is removed.
    ///
    /// # Errors
    /// [`AnnounceError::AllOpen`] if all are open.
    pub(crate) fn make_room(
        &self,
        account: &AccountId,
        is_open: impl Fn(AccountId, SegmentId) -> bool,
    ) -> Result<(), AnnounceError> {
        let announced = ANNOUNCED.scan(&self.state, account, None, MAX_ANNOUNCED)?;
        if announced.len() < MAX_ANNOUNCED {
            return Ok(());
        }
        let idle = announced.into_iter().filter(|((account, segment), _)| !is_open(*account, *segment));
        let oldest = idle.min_by_key(|(_, since)| *since);
        let ((account, segment), _) = oldest.ok_or(AnnounceError::AllOpen)?;
        Ok(self.remove_announced(&account, &segment)?)
    }

    /// Removes announced segments that are neither open nor younger than a day.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn sweep_announced(
        &self,
        now: UnixTime,
        is_open: impl Fn(AccountId, SegmentId) -> bool,
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = ANNOUNCED.scan(&self.state, &Everything, after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            for ((account, segment), since) in page {
                if now.since(since) >= ANNOUNCED_LIFE && !is_open(account, segment) {
                    self.remove_announced(&account, &segment)?;
                }
            }
        }
    }
}
