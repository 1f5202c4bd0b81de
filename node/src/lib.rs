//! The Fincrypt node: the swarm engine, the four roles, and what is typed.
//!
//! The only crate with tasks. Rules live in `fincrypt-protocol` and `fincrypt-storage`; here they
//! meet the network and the clock.

mod accounts;
mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod identity;
mod lightning;
pub mod mediator;
pub mod proofs;
mod releases;
mod rewinds;
pub mod seed;
mod serve;
pub mod storage;
pub mod upkeep;
