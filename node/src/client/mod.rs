//! The client role: backs up folders into the swarm and brings them back.

mod backup;
mod error;
mod fetch;
mod head;
mod holders;
mod index_maker;
mod link;
mod mediators;
mod pace;
pub mod pipeline;
pub mod progress;
mod reader;
mod recover;
mod release;
mod restore;
mod run_journal;
mod snapshots;
mod status;
mod upload;
mod vault;
mod verify;
mod window;

pub use backup::{BackupReport, Skipped, backup};
pub use error::ClientError;
pub use mediators::{MediatorInfo, MoveReport, list_mediators, use_mediator};
pub use recover::{HeadInfo, RecoverReport, list_heads, recover};
pub use release::{ReleaseReport, UndoReport, release_everything, undo_release};
pub use restore::{RestoreOptions, RestoreReport, restore};
pub use snapshots::{EntryInfo, SnapshotInfo, list_entries, list_snapshots};
pub use status::{StatusReport, status};
pub use vault::{Home, Swarm, Vault};
pub use verify::{BadShard, VerifyReport, verify};
