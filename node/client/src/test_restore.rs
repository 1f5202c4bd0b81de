//! A restore to nowhere: everything that a snapshot needs is fetched, decrypted, decompressed and
//! compared with its ids, and nothing is written.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use fincrypt_vault::Root;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::segment::{BlobOpener, OpenSegment, Parts, SegmentError};
use futures::StreamExt;

use super::error::ClientError;
use super::pipeline::workers;
use super::reader::BlobReader;
use super::restore::{Failed, RestoreReport};
use super::session::Session;
use super::vault::Vault;

/// Segments fetched at once, and as many checked: at up to 15 MiB each, 60 MiB.
const AT_ONCE: usize = 2;

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
    let needs = vault.find_references(&reader, &id).await?;
    fetcher.expect(needs.segments.iter().copied()).await;
    let checker = Arc::new(Checker { root: vault.keys.root.clone(), split: Mutex::default() });
    let mut failed = Vec::new();
    let fetches = needs.segments.iter().map(|segment| {
        let fetcher = &fetcher;
        async move {
            let manifest = vault.index.manifest(segment)?;
            let unknown = || ClientError::Damaged("the segment is unknown".to_owned());
            fetcher.segment(&manifest.ok_or_else(unknown)?).await
        }
    });
    let fetches = fetches.zip(&needs.segments).map(|(fetch, segment)| async move { (fetch.await, segment) });
    let mut checks = futures::stream::iter(fetches)
        .buffer_unordered(AT_ONCE)
        .map(|(ciphertext, segment): (Result<Vec<u8>, ClientError>, _)| {
            let checker = Arc::clone(&checker);
            async move {
                let checked = match ciphertext {
                    Ok(ciphertext) => {
                        let check = move || checker.check(ciphertext);
                        let checked = tokio::task::spawn_blocking(check).await;
                        checked.map_err(|_| ClientError::Inner).and_then(|checked| {
                            checked.map_err(|error| ClientError::Damaged(error.to_string()))
                        })
                    }
                    Err(error) => Err(error),
                };
                (checked, segment)
            }
        })
        .buffer_unordered(workers().min(AT_ONCE));
    while let Some((checked, segment)) = checks.next().await {
        if let Err(error) = checked {
            failed.push(Failed { path: format!("segment {segment}"), reason: error.to_string() });
        }
    }
    drop(checks);
    for blob in checker.left_over() {
        if let Err(error) = reader.blob(&blob).await {
            failed.push(Failed { path: format!("blob {blob}"), reason: error.to_string() });
        }
    }
    if failed.is_empty() {
        vault.notes().note_restore(&id)?;
    }
    let (files, bytes) = if failed.is_empty() { (snapshot.files, snapshot.bytes) } else { (0, 0) };
    let seconds = begun.elapsed().as_secs_f64();
    Ok(RestoreReport { snapshot: id.to_string(), files, bytes, seconds, failed, warnings: Vec::new() })
}

/// Checks segments; several threads may at once.
struct Checker {
    root: Root,
    split: Mutex<Split>,
}

/// Blobs that go on in another segment.
#[derive(Default)]
struct Split {
    parts: Parts,
    /// Those that had no room among the parts.
    put_off: BTreeSet<BlobId>,
}

impl Checker {
    /// Opens every blob of a segment.
    fn check(&self, ciphertext: Vec<u8>) -> Result<(), SegmentError> {
        let mut opener = BlobOpener::new(self.root.blob_id_key())?;
        let segment = OpenSegment::open(&self.root, ciphertext)?;
        for entry in segment.directory().entries() {
            let extent = segment.extent(entry)?;
            if entry.parts == 1 {
                opener.open(entry, &extent)?;
                continue;
            }
            let whole = {
                let mut split = self.split.lock();
                match split.parts.add(entry, &extent) {
                    Err(SegmentError::Crowded) => {
                        split.put_off.insert(entry.blob);
                        None
                    }
                    other => other?,
                }
            };
            if let Some(stored) = whole {
                opener.open(entry, &stored)?;
            }
        }
        Ok(())
    }

    /// Blobs that are to be fetched by themselves.
    fn left_over(&self) -> BTreeSet<BlobId> {
        std::mem::take(&mut self.split.lock().put_off)
    }
}
