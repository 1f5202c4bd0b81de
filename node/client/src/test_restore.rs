//! A restore to nowhere: everything that a snapshot needs is fetched, decrypted, decompressed and
//! compared with its ids, and nothing is written.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use fincrypt_protocol::SegmentId;
use fincrypt_vault::segment::Entry;
use parking_lot::Mutex;

use super::error::ClientError;
use super::pipeline::workers;
use super::reader::{BlobReader, ReadError};
use super::restore::{Failed, RestoreReport};
use super::segment_reader::{Extents, Failure, Limits, SegmentReader, Sink, Wanted};
use super::session::Session;
use super::vault::Vault;

/// Tests whether a snapshot could be restored: `latest`, or the beginning of its id. It counts as a
/// test restore if all of it could.
///
/// # Errors
/// [`ClientError`] if there is no such snapshot or its folders cannot be read; segments that do not
/// come back are in the report.
pub async fn test_restore(vault: &Vault, snapshot: &str, direct: bool) -> Result<RestoreReport, ClientError> {
    let session = Session::open(&vault.options).await?;
    let result = test_in(&session, vault, snapshot, direct).await;
    session.close().await;
    result
}

async fn test_in(
    session: &Session,
    vault: &Vault,
    name: &str,
    direct: bool,
) -> Result<RestoreReport, ClientError> {
    let begun = Instant::now();
    let fetcher = vault.read_from(session, direct).await?;
    let reader = BlobReader::new(vault, Arc::clone(&fetcher))?;
    let (id, snapshot) = reader.snapshot(name).await?;
    let references = vault.find_references(&reader, &id).await?;
    let wanted = |segment| Wanted { segment, extents: Extents::All };
    let wanted = references.segments.into_iter().map(wanted).collect();
    let checked = Arc::new(Checked::default());
    SegmentReader::new(vault.keys.root.clone(), &*fetcher, vault.index.clone())
        .read(wanted, Limits::parallel(workers()), &checked)
        .await?;
    let failed = checked.failed();
    if failed.is_empty() {
        vault.notes().note_restore(&id)?;
    }
    let (files, bytes) = if failed.is_empty() { (snapshot.files, snapshot.bytes) } else { (0, 0) };
    let seconds = begun.elapsed().as_secs_f64();
    Ok(RestoreReport { snapshot: id.to_string(), files, bytes, seconds, failed, warnings: Vec::new() })
}

/// Segments that are not as they should be, each with the first reason.
#[derive(Default)]
struct Checked(Mutex<BTreeMap<SegmentId, ReadError>>);

impl Checked {
    fn failed(&self) -> Vec<Failed> {
        let failed = self.0.lock();
        let failed = failed.iter();
        failed
            .map(|(segment, error)| Failed {
                path: format!("segment {segment}"),
                reason: error.to_string().into(),
            })
            .collect()
    }
}

impl Sink for Checked {
    /// The reader has checked it.
    fn blob(&self, _: &Entry, _: &[u8]) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn failure(&self, failure: Failure) -> ControlFlow<()> {
        self.0.lock().entry(failure.segment).or_insert_with(|| failure.error.into());
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment_reader::memory::{Fault, Memory, manifests, noise, root, seal};
    use fincrypt_protocol::Code;

    #[tokio::test]
    async fn a_segment_that_cannot_be_read_is_named_once_and_the_others_are_checked() {
        let plains: Vec<Vec<u8>> = (0..9).map(|seed| noise(400_000, seed)).collect();
        let segments = seal(Code::new(1, 1).expect("valid"), &plains);
        let mut memory = Memory::new(&segments);
        let lost = &segments[1].manifest;
        for index in lost.code().indices() {
            memory.faults.insert((lost.id(), index), Fault::Missing);
        }
        let all = |segment| Wanted { segment, extents: Extents::All };
        let wanted = segments.iter().map(|sealed| all(sealed.manifest.id())).collect();
        let checked = Arc::new(Checked::default());
        let reader = SegmentReader::new(root(), &memory, manifests(&segments));
        reader.read(wanted, Limits::parallel(2), &checked).await.expect("no thread stops");
        let failed = checked.failed();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].path, format!("segment {}", lost.id()));
        assert!(failed[0].reason.to_string().contains("0 of 1 shards could be had"), "{}", failed[0].reason);
    }
}
