//! Snapshots: what was backed up, when, and the folders it was.
//!
//! A snapshot is a blob that holds one CBOR map without anything after it:
//!
//! ```text
//! snapshot = { "t": uint,        time, Unix seconds
//!              "n": uint,        nanoseconds after that second
//!              "h": text,        host, at most 255 bytes
//!              "r": [* root],    at most 1,024
//!              "f": uint,        files
//!              "b": uint,        bytes of those files, holes included
//!              "p": text }       program, at most 64 bytes
//! root     = { "p": bytes,       absolute path, at most 4,096 bytes, no "." or ".." in it
//!              "t": [* bytes],   ids of its Tree blobs, in order
//!              "m": uint,        mode, 12 bits
//!              "s": [int, uint] }  mtime: seconds, nanoseconds
//! ```
//!
//! Its name is its blob's id; people give the id's first digits.

use std::fmt;

use fincrypt_protocol::UnixTime;
use fincrypt_protocol::cbor::{self, CborError};
use serde::{Deserialize, Serialize};

use crate::blob::BlobId;
use crate::tree::{Mtime, Name, NameError};

/// The most bytes of an encoded snapshot: 4 MiB, the most a blob has.
pub const MAX_SNAPSHOT: usize = 4 << 20;
/// The most folders that one snapshot has.
pub const MAX_ROOTS: usize = 1024;
const MAX_HOST: usize = 255;
const MAX_PROGRAM: usize = 64;
const MAX_PATH: usize = 4096;

/// The state of some folders at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// When the scan began.
    #[serde(rename = "t")]
    pub time: UnixTime,
    /// Nanoseconds after that second: they tell snapshots of one second apart.
    #[serde(rename = "n")]
    pub nanos: u32,
    /// The machine's name, at most 255 bytes.
    #[serde(rename = "h")]
    pub host: String,
    /// The folders, at most [`MAX_ROOTS`].
    #[serde(rename = "r")]
    pub roots: Vec<Root>,
    /// Files in it.
    #[serde(rename = "f")]
    pub files: u64,
    /// Bytes of these files, holes included.
    #[serde(rename = "b")]
    pub bytes: u64,
    /// Name and version of the program that wrote it, at most 64 bytes.
    #[serde(rename = "p")]
    pub program: String,
}

/// One folder of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Where it was: an absolute path, at most 4,096 bytes.
    #[serde(rename = "p", with = "serde_bytes")]
    pub path: Vec<u8>,
    /// Its Tree blobs, in order; none if it is empty.
    #[serde(rename = "t")]
    pub tree: Vec<BlobId>,
    /// Its twelve permission bits.
    #[serde(rename = "m")]
    pub mode: u32,
    /// When its entries were last modified.
    #[serde(rename = "s")]
    pub mtime: Mtime,
}

impl Root {
    /// The names that lead from `/` to the folder: none for `/` itself.
    ///
    /// # Errors
    /// [`NameError`] if a component is no name, as `..` is not.
    pub fn names(&self) -> Result<Vec<Name>, NameError> {
        self.path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).map(Name::new).collect()
    }
}

/// A snapshot cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not the encoding of a snapshot, or too long.
    #[error("the encoding is malformed")]
    Cbor(#[from] CborError),
    /// A field is longer than allowed.
    #[error("the {field} is too long: {len}, at most {most}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its bytes or entries.
        len: usize,
        /// How many are allowed.
        most: usize,
    },
    /// A folder's path does not begin at `/`.
    #[error("a folder's path is not absolute")]
    Relative,
    /// A folder's path has a component that is no name.
    #[error("a folder's path is not valid")]
    Path(#[from] NameError),
    /// A folder's mode has unknown bits, or a time has too many nanoseconds.
    #[error("a mode or time is out of bounds")]
    Metadata,
}

impl Snapshot {
    /// Encodes it as the plaintext of its blob.
    ///
    /// # Errors
    /// [`SnapshotError`] for a snapshot that [`Snapshot::decode`] would refuse.
    pub fn encode(&self) -> Result<Vec<u8>, SnapshotError> {
        self.check()?;
        let bytes = cbor::encode(self)?;
        at_most("snapshot", bytes.len(), MAX_SNAPSHOT)?;
        Ok(bytes)
    }

    /// Decodes the plaintext of a snapshot's blob.
    ///
    /// # Errors
    /// [`SnapshotError`] for anything but a valid snapshot of at most [`MAX_SNAPSHOT`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let snapshot: Self = cbor::decode(bytes, MAX_SNAPSHOT)?;
        snapshot.check()?;
        Ok(snapshot)
    }

    fn check(&self) -> Result<(), SnapshotError> {
        if self.nanos >= 1_000_000_000 {
            return Err(SnapshotError::Metadata);
        }
        at_most("host name", self.host.len(), MAX_HOST)?;
        at_most("program name", self.program.len(), MAX_PROGRAM)?;
        at_most("list of folders", self.roots.len(), MAX_ROOTS)?;
        for root in &self.roots {
            at_most("path", root.path.len(), MAX_PATH)?;
            if root.path.first() != Some(&b'/') {
                return Err(SnapshotError::Relative);
            }
            root.names()?;
            if root.mode > 0o7777 || root.mtime.nanos >= 1_000_000_000 {
                return Err(SnapshotError::Metadata);
            }
        }
        Ok(())
    }
}

fn at_most(field: &'static str, len: usize, most: usize) -> Result<(), SnapshotError> {
    if len > most { Err(SnapshotError::TooLong { field, len, most }) } else { Ok(()) }
}

/// Names a snapshot: the id of its blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(BlobId);

impl SnapshotId {
    /// The snapshot in this blob.
    #[must_use]
    pub const fn new(blob: BlobId) -> Self {
        Self(blob)
    }

    /// Its blob.
    #[must_use]
    pub const fn blob(self) -> BlobId {
        self.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fewest digits that select a snapshot.
pub const MIN_PREFIX: usize = 4;

/// No single snapshot is selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// Not 4 to 64 hexadecimal digits.
    #[error("\"{0}\" is no snapshot's id, which is 4 to 64 hexadecimal digits")]
    NotAPrefix(String),
    /// No id begins so.
    #[error("no snapshot's id begins with {0}")]
    Unknown(String),
    /// Several ids begin so.
    #[error("the ids of {count} snapshots begin with {prefix}")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many match.
        count: usize,
    },
}

/// Finds the one of `ids` that begins with `prefix`, 4 to 64 hexadecimal digits of either case.
///
/// # Errors
/// [`SelectError`] if there is not exactly one; an id that comes twice counts once.
pub fn select(prefix: &str, ids: impl IntoIterator<Item = SnapshotId>) -> Result<SnapshotId, SelectError> {
    let digits = prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !digits || !(MIN_PREFIX..=64).contains(&prefix.len()) {
        return Err(SelectError::NotAPrefix(prefix.to_owned()));
    }
    let wanted = prefix.to_ascii_lowercase();
    let mut found: Vec<_> = ids.into_iter().filter(|id| id.to_string().starts_with(&wanted)).collect();
    found.sort_unstable();
    found.dedup();
    match *found {
        [id] => Ok(id),
        [] => Err(SelectError::Unknown(wanted)),
        _ => Err(SelectError::Ambiguous { prefix: wanted, count: found.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn sample() -> Snapshot {
        Snapshot {
            time: UnixTime::from_secs(1_800_000_000),
            nanos: 5,
            host: "host".into(),
            roots: vec![Root {
                path: b"/home/\xffa".to_vec(),
                tree: vec![BlobId::from_bytes([9; 32])],
                mode: 0o750,
                mtime: Mtime { secs: 1_700_000_000, nanos: 7 },
            }],
            files: 2,
            bytes: 300,
            program: "fincrypt 0.1.0".into(),
        }
    }

    proptest! {
        #[test]
        fn snapshots_round_trip(
            host in "[a-z]{0,40}", files: u64, bytes: u64, secs: i64, mode in 0u32..0o10000,
            paths in vec("(/[a-z]{1,9}){1,5}|/", 0..5), trees in vec(any::<[u8; 32]>(), 0..5),
        ) {
            let tree: Vec<_> = trees.into_iter().map(BlobId::from_bytes).collect();
            let mtime = Mtime { secs, nanos: 999_999_999 };
            let root = |path: String| Root { path: path.into_bytes(), tree: tree.clone(), mode, mtime };
            let roots = paths.into_iter().map(root).collect();
            let snapshot = Snapshot { host, files, bytes, roots, ..sample() };
            prop_assert_eq!(Snapshot::decode(&snapshot.encode()?)?, snapshot);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let _ = Snapshot::decode(&bytes);
        }
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        for path in ["/a/../b", "a", "", "/a\0", "/./a"] {
            let mut snapshot = sample();
            snapshot.roots[0].path = path.as_bytes().to_vec();
            assert!(snapshot.encode().is_err(), "{path:?}");
            let bytes = cbor::encode(&snapshot).expect("encodes");
            assert!(Snapshot::decode(&bytes).is_err(), "{path:?}");
        }
    }

    #[test]
    fn fields_out_of_bounds_are_refused() {
        assert!(Snapshot { host: "h".repeat(256), ..sample() }.encode().is_err());
        assert!(Snapshot { program: "p".repeat(65), ..sample() }.encode().is_err());
        let root = sample().roots.remove(0);
        let many = vec![root.clone(); MAX_ROOTS + 1];
        assert!(Snapshot { roots: many, ..sample() }.encode().is_err());
        let mode = vec![Root { mode: 0o10000, ..root }];
        assert!(Snapshot { roots: mode, ..sample() }.encode().is_err());
    }

    #[test]
    fn a_prefix_of_four_digits_selects_one_snapshot() {
        let id = |a, b| {
            let mut bytes = [0; 32];
            (bytes[0], bytes[1], bytes[2]) = (0xab, a, b);
            SnapshotId::new(BlobId::from_bytes(bytes))
        };
        let ids = [id(1, 1), id(1, 2), id(2, 0)];
        assert_eq!(select("AB02", ids), Ok(ids[2]));
        assert_eq!(select("ab0102", ids), Ok(ids[1]));
        assert_eq!(select(&ids[0].to_string(), [ids[0], ids[0]]), Ok(ids[0]));
        assert!(matches!(select("ab01", ids), Err(SelectError::Ambiguous { count: 2, .. })));
        assert!(matches!(select("ab03", ids), Err(SelectError::Unknown(_))));
        for bad in ["ab0", "ab0g", "", "ééé"] {
            assert!(matches!(select(bad, ids), Err(SelectError::NotAPrefix(_))), "{bad}");
        }
    }

    #[test]
    fn the_format_is_that_of_the_fixture() {
        let bytes = sample().encode().expect("encodes");
        fincrypt_vectors::check("snapshot.hex", &fincrypt_vectors::hex(&bytes));
    }
}
