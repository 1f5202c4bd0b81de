//! Comparing the disk with the index on opening.

use std::collections::HashSet;

use super::entries::Entries;
use super::error::{StoreError, at};
use super::file;
use super::index::{FileEntry, FileKey};

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

/// The files in one folder that are named as shards of it.
fn files_in(entries: &Entries, first: u8, report: &mut StoreReport) -> Result<HashSet<FileKey>, StoreError> {
    let (folder, mut files) = (entries.layout.folder(first), HashSet::new());
    for entry in std::fs::read_dir(&folder).map_err(at(&folder))? {
        let name = entry.map_err(at(&folder))?.file_name();
        match name.to_str().and_then(parse_name) {
            Some(key) if key.shard.as_bytes()[0] == first => drop(files.insert(key)),
            _ => report.foreign += 1,
        }
    }
    Ok(files)
}

/// Compares one folder with the index. A 256th of the store at a time, so memory stays small.
///
/// # Errors
/// If the folder cannot be read or the index fails.
pub(super) fn reconcile(entries: &Entries, first: u8, report: &mut StoreReport) -> Result<(), StoreError> {
    let mut on_disk = files_in(entries, first, report)?;
    let mut after = None;
    loop {
        let page = entries.table.files_in(first, after.as_ref())?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        for (key, entry) in page {
            if on_disk.remove(&key) {
                // A crash may have come between the two tables.
                if entries.table.place(&key.account, &entry.segment, entry.index)? != Some(key.shard) {
                    entries.table.insert(&key, &entry)?;
                }
                entries.quota.add(&key.account, &entry);
                report.shards += 1;
            } else {
                entries.table.remove(&key, &entry)?;
                report.lost += 1;
            }
        }
    }
    adopt(entries, first, on_disk, report)
}

/// Takes files in that the index does not know.
fn adopt(
    entries: &Entries,
    first: u8,
    unknown: HashSet<FileKey>,
    report: &mut StoreReport,
) -> Result<(), StoreError> {
    let adopted = report.adopted;
    for key in unknown {
        match file::read_meta(&entries.path(&key)) {
            Ok((meta, file_len))
                if meta.account == key.account && meta.manifest.shard(meta.index) == Some(key.shard) =>
            {
                entries.adopt(&key, &FileEntry::new(&meta, file_len))?;
                report.adopted += 1;
                report.shards += 1;
            }
            _ => report.foreign += 1,
        }
    }
    if report.adopted > adopted {
        // Their names may not be durable yet, and the next put would give a receipt for them.
        entries.layout.sync(first)?;
    }
    Ok(())
}
