//! What an interrupted run must not go on from: segments that another device took for orphans.

use std::collections::HashSet;

use fincrypt_protocol::SegmentId;
use futures::StreamExt;

use super::error::ClientError;
use super::mediator_client::{MediatorClient, Refused};
use super::pipeline::PipelineError;
use super::run_journal::StoredSegments;
use super::vault::Vault;
use super::vault_state::RunState;

/// Segments asked for at once.
const ASKED_AT_ONCE: usize = 8;

/// Segments that a run has stored and must not count on: those that the catalog says are doomed, and
/// after another device has rewritten it those that the mediator does not count as stored any more.
pub(super) async fn invalidated(
    vault: &Vault,
    mediator: &MediatorClient,
    stored: &StoredSegments,
) -> Result<Vec<SegmentId>, ClientError> {
    let mut segments = Vec::new();
    let noted = stored.read(|manifest, _| {
        segments.push(manifest.id());
        Ok::<(), PipelineError>(())
    });
    noted.map_err(ClientError::from)?;
    let tombstones = vault.lifecycle.cache().tombstones()?;
    let doomed: HashSet<_> = tombstones.iter().filter(|m| m.is_doomed()).map(|m| m.segment).collect();
    let (mut invalidated, left): (Vec<_>, Vec<_>) = segments.into_iter().partition(|id| doomed.contains(id));
    if vault.lifecycle.run()? != (RunState::Idle { recheck: true }) {
        return Ok(invalidated);
    }
    let asking = left.into_iter().map(|segment| async move { (segment, mediator.commit(segment).await) });
    let mut answers = futures::stream::iter(asking).buffer_unordered(ASKED_AT_ONCE);
    while let Some((segment, answer)) = answers.next().await {
        match answer {
            Ok(_) => {}
            // Released, or not known any more.
            Err(error) if error.refused() == Some(Refused::UnknownSegment) => {
                invalidated.push(segment);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(invalidated)
}
