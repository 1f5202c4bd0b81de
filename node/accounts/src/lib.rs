//! What mediator and storage node both keep of accounts: registrations, mandates, keeps, holder
//! lists, releases and rewinds, with the rules by which a newer one supersedes an older.

mod accounts;
mod error;
mod heads;
mod refusals;
pub mod releases;
mod rewinds;
mod stored;

pub use accounts::{Accounts, MAX_KEEPS};
pub use error::{AccountsError, ReleaseError};
pub use rewinds::HeadAuthority;
pub use stored::{Stored, stored_limit};
