//! The two programs: `fincrypt`, for a person's vault, and `fincrypt-node`, for nodes that serve.
//!
//! Command line, configuration, homes, the local interface and the daemon that runs the roles. The
//! roles themselves are crates of their own, which know nothing of this one.

mod api;
pub mod cli;
pub mod config;
pub mod daemon;
mod error;
pub mod home;
mod own_node;
mod wording;

pub use error::NodeError;
