//! What this machine remembers of files, so that unchanged ones are not read again.
//!
//! A volatile tree of the local state; losing it costs time only. The key is the first 16 bytes
//! of BLAKE3 over the absolute path, keyed from the vault's root, so the cache lists no paths. The
//! value, integers little-endian:
//!
//! ```text
//! offset  bytes
//!      0      1  version, 1
//!      1      8  size
//!      9     12  mtime: i64 seconds, u32 nanoseconds
//!     21     12  ctime: i64 seconds, u32 nanoseconds
//!     33      8  inode
//!     41      …  content, and attributes if there are any
//! ```
//!
//! The rest is the CBOR array `[content]` or `[content, xattrs]` of `crate::tree`. The device's
//! number is left out, because it may change at every start of the machine.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use fincrypt_protocol::{UnixTime, cbor};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::root::Root;
use crate::scan::Meta;
use crate::tree::{Content, Node, NodeKind, Xattrs, check_content, check_xattrs, xattrs};
use fincrypt_state::kv::{Batch, KeyValue, Tree};

/// The tree that the cache keeps its entries in; a volatile one.
pub const FILES: Tree = Tree("files");

/// A file must have rested so many seconds before the scan began. A change within the clock's
/// granularity leaves the times as they were, and two seconds is the coarsest in use (FAT).
const REST: i64 = 2;
const VERSION: u8 = 1;
const HEADER: usize = 41;
/// The most bytes of an entry that are decoded; a node's content and attributes are below that.
const MAX_VALUE: usize = 4 << 20;

/// What was stored of an unchanged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedNode {
    /// Its content, which adds up to its size.
    pub content: Content,
    /// Its extended attributes.
    pub xattrs: Xattrs,
}

/// The files seen by the backups of one vault on this machine.
pub struct FileCache {
    store: Arc<dyn KeyValue>,
    key: Zeroizing<[u8; 32]>,
    started: i64,
}

impl FileCache {
    /// The cache in `store`, for a scan that began at `started`.
    #[must_use]
    pub fn new(store: Arc<dyn KeyValue>, root: &Root, started: UnixTime) -> Self {
        let started = i64::try_from(started.secs()).unwrap_or(i64::MAX);
        Self { store, key: root.file_cache_key(), started }
    }

    /// What was stored of the file at the absolute path `path`, if size, mtime, ctime and inode
    /// are those of `meta`. A cache that cannot be read knows nothing.
    ///
    /// That the content's blobs are still stored is the caller's to check.
    #[must_use]
    pub fn lookup(&self, path: &Path, meta: &Meta) -> Option<CachedNode> {
        let found = self.store.get(FILES, &self.key_of(path)).unwrap_or_else(|error| {
            tracing::debug!(%error, "the file cache cannot be read");
            None
        });
        decode(&found?, meta)
    }

    /// Remembers what was stored of the file at `path`, in `batch`. `meta` must be of the content
    /// that `node` holds: asked of the open file before reading, and the same after.
    ///
    /// Nothing is remembered if `node` is no file, or if the file changed less than two seconds
    /// before the scan began or later: a second change would then not show in its times.
    pub fn remember(&self, path: &Path, meta: &Meta, node: &Node, batch: &mut Batch) {
        let NodeKind::File { content, size, .. } = &node.kind else { return };
        if *size == meta.size
            && self.rested(meta)
            && let Some(value) = encode(meta, content, &node.xattrs)
        {
            batch.put(FILES, self.key_of(path), value);
        }
    }

    fn rested(&self, meta: &Meta) -> bool {
        let before = |(secs, nanos): (i64, i64)| (secs.saturating_add(REST), nanos) <= (self.started, 0);
        before((meta.mtime.secs, meta.mtime.nanos.into())) && before(meta.ctime)
    }

    fn key_of(&self, path: &Path) -> [u8; 16] {
        let hash = blake3::keyed_hash(&self.key, path.as_os_str().as_bytes());
        let (key, _) = hash.as_bytes().split_at(16);
        let mut out = [0; 16];
        out.copy_from_slice(key);
        out
    }
}

#[derive(Serialize)]
struct ToWrite<'a>(&'a Content, #[serde(with = "xattrs", skip_serializing_if = "Vec::is_empty")] &'a Xattrs);

#[derive(Deserialize)]
struct Read(Content, #[serde(with = "xattrs", default)] Xattrs);

fn header(meta: &Meta) -> Option<[u8; HEADER]> {
    let mut header = [VERSION; HEADER];
    let fields: [&[u8]; 6] = [
        &meta.size.to_le_bytes(),
        &meta.mtime.secs.to_le_bytes(),
        &meta.mtime.nanos.to_le_bytes(),
        &meta.ctime.0.to_le_bytes(),
        &u32::try_from(meta.ctime.1).ok()?.to_le_bytes(),
        &meta.inode.to_le_bytes(),
    ];
    let mut rest = &mut header[1..];
    for field in fields {
        let (to, after) = rest.split_at_mut_checked(field.len())?;
        to.copy_from_slice(field);
        rest = after;
    }
    Some(header)
}

fn encode(meta: &Meta, content: &Content, xattrs: &Xattrs) -> Option<Vec<u8>> {
    let mut value = header(meta)?.to_vec();
    value.extend(cbor::encode(&ToWrite(content, xattrs)).ok()?);
    Some(value)
}

fn decode(value: &[u8], meta: &Meta) -> Option<CachedNode> {
    let rest = value.strip_prefix(&header(meta)?)?;
    let Read(content, xattrs) = cbor::decode(rest, MAX_VALUE).ok()?;
    check_content(&content, meta.size).ok()?;
    check_xattrs(&xattrs).ok()?;
    Some(CachedNode { content, xattrs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::BlobId;
    use crate::tree::{Mtime, Name, Piece};
    use fincrypt_state::kv::{Entries, KvError};
    use parking_lot::Mutex;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Memory(Mutex<HashMap<Vec<u8>, Vec<u8>>>);

    impl KeyValue for Memory {
        fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
            assert_eq!(tree, FILES);
            Ok(self.0.lock().get(key).cloned())
        }
        fn scan(&self, _: Tree, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Entries, KvError> {
            Ok(Entries::new())
        }
        fn apply(&self, batch: &Batch) -> Result<(), KvError> {
            for change in batch.changes() {
                let value = change.value.clone().unwrap_or_default();
                self.0.lock().insert(change.key.clone(), value);
            }
            Ok(())
        }
    }

    fn meta() -> Meta {
        Meta {
            mode: 0o644,
            mtime: Mtime { secs: 1000, nanos: 1 },
            ctime: (1002, 0),
            inode: 7,
            dev: 8,
            nlink: 1,
            size: 4096,
            blocks: 8,
            xattrs: vec![],
        }
    }

    fn node(xattrs: Xattrs) -> Node {
        let content = Content::Inline(vec![Piece::Data { blob: BlobId::from_bytes([1; 32]), len: 4096 }]);
        let kind = NodeKind::File { size: 4096, link: None, content };
        Node { name: Name::new("f").expect("valid"), mode: 0o644, mtime: meta().mtime, xattrs, kind }
    }

    fn cache(started: u64) -> FileCache {
        let root = Root::from_bytes(&Zeroizing::new([3; 32]));
        FileCache::new(Arc::new(Memory::default()), &root, UnixTime::from_secs(started))
    }

    fn remember(cache: &FileCache, meta: &Meta, node: &Node) {
        let mut batch = Batch::default();
        cache.remember(Path::new("/f"), meta, node, &mut batch);
        cache.store.apply(&batch).expect("applies");
    }

    #[test]
    fn an_unchanged_file_is_known_again() {
        let cache = cache(1004);
        for xattrs in [vec![], vec![(b"user.a".to_vec(), b"v".to_vec())]] {
            let node = node(xattrs.clone());
            remember(&cache, &meta(), &node);
            let found = cache.lookup(Path::new("/f"), &Meta { dev: 99, ..meta() }).expect("known");
            assert_eq!(found.xattrs, xattrs);
            assert!(matches!(node.kind, NodeKind::File { content, .. } if content == found.content));
        }
        assert_eq!(cache.lookup(Path::new("/g"), &meta()), None);
    }

    #[test]
    fn any_difference_makes_a_file_unknown() {
        let cache = cache(1004);
        remember(&cache, &meta(), &node(vec![]));
        for other in [
            Meta { size: 4097, ..meta() },
            Meta { mtime: Mtime { secs: 1000, nanos: 2 }, ..meta() },
            Meta { ctime: (1002, 1), ..meta() },
            Meta { inode: 9, ..meta() },
        ] {
            assert_eq!(cache.lookup(Path::new("/f"), &other), None);
        }
    }

    #[test]
    fn a_file_changed_shortly_before_the_scan_is_not_remembered() {
        for (mtime, ctime, known) in
            [((1000, 0), (1000, 0), true), ((1000, 1), (999, 0), false), ((999, 0), (1000, 1), false)]
        {
            let cache = cache(1002);
            let meta = Meta { mtime: mtime.into(), ctime, ..meta() };
            remember(&cache, &meta, &node(vec![]));
            assert_eq!(cache.lookup(Path::new("/f"), &meta).is_some(), known);
        }
    }

    #[test]
    fn a_node_of_another_size_is_not_remembered() {
        let cache = cache(1004);
        let other = Meta { size: 5000, ..meta() };
        remember(&cache, &other, &node(vec![]));
        assert_eq!(cache.lookup(Path::new("/f"), &other), None);
    }

    proptest! {
        #[test]
        fn any_value_is_decoded_or_unknown(rest: Vec<u8>) {
            let mut value = header(&meta()).expect("valid").to_vec();
            value.extend(&rest);
            let _ = decode(&value, &meta());
            let _ = decode(&rest, &meta());
        }

        #[test]
        fn values_round_trip(
            lens in proptest::collection::vec(1u32..1 << 20, 0..9), secs: i64, nanos in 0u32..1_000_000_000, inode: u64,
        ) {
            let pieces: Vec<_> = lens.iter().map(|&len| Piece::Hole(len.into())).collect();
            let size = lens.iter().map(|&len| u64::from(len)).sum();
            let meta = Meta { size, inode, mtime: Mtime { secs, nanos }, ctime: (secs, nanos.into()), ..meta() };
            let content = Content::Inline(pieces);
            let value = encode(&meta, &content, &vec![]).expect("encodes");
            prop_assert_eq!(decode(&value, &meta), Some(CachedNode { content, xattrs: vec![] }));
        }
    }

    #[test]
    fn the_format_is_that_of_the_fixture() {
        let node = node(vec![(b"user.a".to_vec(), b"v".to_vec())]);
        let NodeKind::File { content, .. } = &node.kind else { unreachable!() };
        let value = encode(&meta(), content, &node.xattrs).expect("encodes");
        fincrypt_vectors::check("file-cache.hex", &fincrypt_vectors::hex(&value));
    }
}
