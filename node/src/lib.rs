//! The Fincrypt node.

pub mod engine;
