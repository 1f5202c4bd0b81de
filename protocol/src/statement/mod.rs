//! What storage is paid by: contracts, and the statements that both of their parties sign.
//!
//! A contract is nothing but its terms, and its id their hash, so whoever signs a statement has
//! signed the terms as well. A statement is cumulative: the newest one supersedes all before.
//!
//! ```text
//! contract id      = SHA3-256("contract-id" ‖ 0 ‖ network name ‖ 0 ‖ storage 32 ‖ mediator 32 ‖ account 32
//!                      ‖ price u64 ‖ fee u16 ‖ first epoch u64 ‖ epoch seconds u32 ‖ credit bound u64
//!                      ‖ payout threshold u64 ‖ grace days u16 ‖ minimum days u16)      little-endian
//! proposal         = ed25519 of the mediator over "statement" ‖ 0 ‖ body
//! countersignature = ed25519 of the storage node over "countersignature" ‖ 0 ‖ body
//! ```
//!
//! Both signatures cover the bytes that travelled. They have a domain each, so a machine that is
//! both parties still has to give both.

mod contract;
mod countersigned;

pub use contract::{Contract, MIN_GRACE_DAYS, Terms, TermsError};
pub use countersigned::{Agreed, Countersigned, Statement};
