//! The client: backs folders up into the swarm and brings them back.
//!
//! The use cases of a vault: [`backup()`], [`restore()`], [`recover()`], [`prune()`] and others, each a
//! function over an open [`Vault`]. No command line, no configuration file: options come as
//! [`ClientOptions`], paths as [`VaultHome`].

mod backup;
mod catalog;
mod catalog_reader;
mod commit;
mod error;
mod fetch;
mod forget;
mod head;
mod health;
mod history;
mod holders;
mod home;
mod home_medium;
mod index_maker;
mod invalidated;
mod login;
mod mandates;
mod mediator_client;
mod mediators;
mod migration;
mod options;
mod pace;
mod path_text;
pub mod pipeline;
mod prepayment;
pub mod progress;
mod prune;
mod reader;
mod rebuild;
mod recover;
mod references;
mod release;
mod restore;
mod run_journal;
mod segment_reader;
mod self_check;
mod session;
mod snapshots;
mod statements;
mod status;
mod test_restore;
mod upload;
mod vault;
mod vault_state;
mod verify;

pub use backup::{BackupError, BackupReport, Skipped, backup};
pub use error::ClientError;
pub use forget::{ForgetOptions, ForgetReport, Judged, Rules, forget, parse_duration};
pub use head::HeadError;
pub use health::Standing;
pub use home::{HomeError, VaultHome};
pub use mediator_client::{MediatorError, OfferError, Refused};
pub use mediators::{MediatorInfo, list_mediators, use_mediator};
pub use migration::MoveReport;
pub use options::ClientOptions;
pub use prepayment::{
    BalanceReport, DepositReport, EntryReport, FaultReport, HistoryReport, PrepaymentError, PrepaymentStatus,
    PrepaymentWarning, RunwayWarning, StatementReport, StatementsReport, WithdrawOptions, WithdrawReport,
    balance, deposit, history, statements, withdraw,
};
pub use prune::{PruneOptions, PruneReport, prune};
pub use reader::ReadError;
pub use recover::{HeadInfo, RecoverReport, RecoveryError, list_heads, recover};
pub use release::{ReleaseReport, UndoReport, release_everything, undo_release};
pub use restore::{NotRestored, RestoreError, RestoreOptions, RestoreReport, restore};
pub use self_check::{BadShard, CheckReport, self_check};
pub use session::SessionError;
pub use snapshots::{EntryInfo, SnapshotInfo, list_entries, list_snapshots, utc};
pub use status::{SnapshotStatus, StatusReport, status};
pub use test_restore::test_restore;
pub use vault::Vault;
pub use vault_state::VaultStateError;
pub use verify::{VerifyOptions, verify};
