//! Marked segments: which of them are due, and releasing these.

use std::collections::HashSet;
use std::time::Duration;

use fincrypt_protocol::limits::MAX_RELEASE_SEGMENTS;
use fincrypt_protocol::record::{Release, Released};
use fincrypt_protocol::{SegmentId, Signed, UnixTime};
use fincrypt_vault::marks::Mark;

use super::Rewriting;
use super::orphans::{Fate, Found};
use crate::error::ClientError;
use crate::mediator_client::Refused;
use crate::statements::{forget_releases, remember_release};
use crate::vault_state::IndexOrigin;

/// How long a segment is marked before it is released: a restore that goes by an older catalog has
/// ended by then.
const MARKED_AT_LEAST: Duration = Duration::from_secs(24 * 3600);

/// Marked segments by what is to become of them.
#[derive(Default)]
pub(super) struct Marked {
    /// To be released now.
    pub(super) due: Vec<Mark>,
    /// To be released later.
    pub(super) waiting: Vec<Mark>,
    /// Released, and not deleted everywhere.
    pub(super) released: Vec<Mark>,
}

impl Rewriting<'_> {
    /// The marked segments, and the orphans. One that is listed again, as after a recovery from an
    /// older head, is not among them any more.
    pub(super) async fn marked(
        &self,
        listed: &HashSet<SegmentId>,
        interrupted: &HashSet<SegmentId>,
    ) -> Result<(Marked, Vec<Mark>), ClientError> {
        let mut marks = self.vault.lifecycle.cache().tombstones()?;
        marks.retain(|mark| !listed.contains(&mark.segment));
        let mut marked = Marked::default();
        let Some(options) = self.task.prune else {
            (marked.released, marked.waiting) = marks.into_iter().partition(Mark::is_doomed);
            return Ok((marked, Vec::new()));
        };
        let (least, now) = (if options.now { Duration::ZERO } else { MARKED_AT_LEAST }, UnixTime::now());
        let found = Found::at_holders(&self.fetcher, listed).await;
        let mut orphans = found.orphans(&marks, now);
        orphans.retain(|orphan| !interrupted.contains(&orphan.segment));
        if self.vault.lifecycle.index_origin()? == IndexOrigin::Segments {
            // A part of the catalog cannot be read, perhaps: who knows what it lists.
            orphans.clear();
        }
        for mark in marks {
            match (mark.is_doomed(), found.fate(&mark.segment)) {
                (true, Fate::Gone) => {}
                (true, Fate::Pending) => marked.released.push(mark),
                (false, _) if now.since(mark.time) < least => marked.waiting.push(mark),
                _ => marked.due.push(mark),
            }
        }
        Ok((marked, orphans))
    }

    /// Signs releases of these segments; false if the vault's guard does not allow any.
    pub(super) async fn release(&self, marks: &[Mark]) -> Result<bool, ClientError> {
        for page in marks.chunks(MAX_RELEASE_SEGMENTS) {
            let mut tries = 0;
            loop {
                let slot = self.vault.slot()?;
                let key = self.vault.keys.head_key(slot);
                let release = Release {
                    network: self.vault.network(),
                    account: self.vault.keys.root.account(slot).account(),
                    head_key: key.head_key(),
                    what: Released::Segments(page.iter().map(|mark| mark.segment).collect()),
                    sequence: self.vault.lifecycle.account().reserve_release_sequence(UnixTime::now())?,
                };
                tries += 1;
                let signed = Signed::seal(&release, &key)?;
                match self.mediator.release(signed.clone()).await {
                    Ok(_) => {
                        remember_release(self.vault, release.sequence, &signed)?;
                        break;
                    }
                    Err(error) if error.refused() == Some(Refused::Guarded) => {
                        forget_releases(self.vault)?;
                        return Ok(false);
                    }
                    // Another device has released something in the same second.
                    Err(error) if error.refused() == Some(Refused::Stale) && tries < 3 => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(true)
    }
}
