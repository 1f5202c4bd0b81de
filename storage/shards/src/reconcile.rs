//! Comparing the disk with the index on opening.

use std::collections::HashSet;
use std::path::Path;

use super::file;
use super::index::{FileEntry, FileKey};
use super::store::{ShardStore, StoreError, at};
use fincrypt_state::durable::sync_dir;

/// What opening found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreReport {
    /// Shards held.
    pub shards: u64,
    /// Files that the index did not know and were taken in again.
    pub adopted: u64,
    /// Shards that the index knew and whose files are gone.
    pub lost: u64,
    /// Files that are no shards; left alone.
    pub foreign: u64,
    /// Unfinished files that were removed.
    pub unfinished: u64,
}

fn parse_name(name: &str) -> Option<FileKey> {
    let (shard, account) = name.split_once('.')?;
    Some(FileKey { shard: shard.parse().ok()?, account: account.parse().ok()? })
}

impl ShardStore {
    /// Compares one folder with the index. A 256th of the store at a time, so memory stays small.
    pub(super) fn reconcile(
        &self,
        first: u8,
        folder: &Path,
        report: &mut StoreReport,
    ) -> Result<(), StoreError> {
        let adopted = report.adopted;
        let mut on_disk = HashSet::new();
        for entry in std::fs::read_dir(folder).map_err(at(folder))? {
            let name = entry.map_err(at(folder))?.file_name();
            match name.to_str().and_then(parse_name) {
                Some(key) if key.shard.as_bytes()[0] == first => drop(on_disk.insert(key)),
                _ => report.foreign += 1,
            }
        }
        let mut after = None;
        loop {
            let page = self.table().files(&[first], after.as_ref())?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (key, entry) in page {
                if on_disk.remove(&key) {
                    // A crash may have come between the two trees.
                    if self.table().place(&key.account, &entry.segment, entry.index)? != Some(key.shard) {
                        self.table().insert(&key, &entry)?;
                    }
                    self.count(&key.account, &entry);
                    report.shards += 1;
                } else {
                    self.table().remove(&key, &entry)?;
                    report.lost += 1;
                }
            }
        }
        for key in on_disk {
            match file::read_meta(&self.path(&key)) {
                Ok((meta, file_len))
                    if meta.account == key.account && meta.manifest.shard(meta.index) == Some(key.shard) =>
                {
                    let entry = FileEntry::new(&meta, file_len);
                    self.table().insert(&key, &entry)?;
                    self.count(&key.account, &entry);
                    report.adopted += 1;
                    report.shards += 1;
                }
                _ => report.foreign += 1,
            }
        }
        if report.adopted > adopted {
            // Its name may not be durable yet, and the next put would give a receipt for it.
            sync_dir(folder).map_err(at(folder))?;
        }
        Ok(())
    }
}
