//! What mediator and storage node both keep of accounts: registrations, mandates, keeps, holder
//! lists, releases and rewinds, with the rules by which a newer one supersedes an older.

mod accounts;
mod heads;
pub mod releases;
mod rewinds;

pub use accounts::{Accounts, MAX_KEEPS, failed};
pub use rewinds::Lineage;
