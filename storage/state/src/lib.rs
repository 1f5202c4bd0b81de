//! Local state that a power cut does not forget.
//!
//! Files that are written whole or not at all, a checksummed log of records, and named trees of
//! bytes that are read from sled and rebuilt from such a log. Nothing here knows what the bytes
//! mean: the crates above give them types.
//!
//! ```
//! use fincrypt_state::journal::Journal;
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("log");
//! let (mut journal, _) = Journal::open(&path, 1024, |_| {})?;
//! journal.append(b"record")?;
//! journal.sync()?;
//! let mut found = Vec::new();
//! Journal::open(&path, 1024, |record| found.push(record.to_vec()))?;
//! assert_eq!(found, [b"record".to_vec()]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod durable;
pub mod journal;
pub mod kv;
pub mod state;
pub mod sync;
pub mod table;
