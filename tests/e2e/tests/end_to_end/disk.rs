//! What storage nodes have on their disks, read behind their backs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fincrypt_e2e::World;
use fincrypt_protocol::{SegmentId, ShardIndex, cbor};
use fincrypt_shards::ShardMeta;

/// All files below a folder; none if it is not there.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("has a type").is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// What lies beside the shard in a file: see `fincrypt-storage`, `shards/file.rs`. None if the file
/// is not complete.
pub(crate) fn meta(path: &Path) -> Option<ShardMeta> {
    let bytes = fs::read(path).ok()?;
    let (body, footer) = bytes.split_last_chunk::<36>()?;
    let length = |at: usize| Some(u32::from_le_bytes(footer.get(at..at + 4)?.try_into().ok()?) as usize);
    let start = length(0)? + length(4)?;
    cbor::decode(body.get(start..start + length(8)?)?, 4 << 10).ok()
}

/// Every shard that a node's home holds. What is in `tmp` is still being written, and not receipted.
pub(crate) fn shards(home: &Path) -> Vec<ShardMeta> {
    let unfinished = home.join("shards/tmp");
    let files = files(&home.join("shards"));
    files.iter().filter(|path| !path.starts_with(&unfinished)).filter_map(|path| meta(path)).collect()
}

/// Of which segment a shard is, and which.
pub(crate) fn position(meta: &ShardMeta) -> (SegmentId, ShardIndex) {
    (meta.manifest.id(), meta.index)
}

/// The positions of all shards that any storage node holds.
pub(crate) fn held(world: &World) -> BTreeSet<(SegmentId, ShardIndex)> {
    let all = world.storage_nodes().flat_map(|member| shards(&world.swarm.home(member)));
    all.map(|meta| position(&meta)).collect()
}

/// Copies a folder with everything that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success());
}
