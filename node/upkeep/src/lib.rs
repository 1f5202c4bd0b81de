//! Rules by which a mediator looks after what it placed. Sans-IO: epochs, outcomes and randomness
//! come in, decisions go out, so that the same rules run in the mediator and in a simulator.

pub mod durability;
pub mod placement;
pub mod probation;
pub mod repair_priority;
mod reputation;
mod rules;
pub mod sample;
pub mod simulator;

pub use fincrypt_protocol::Epoch;
pub use reputation::{AuditOutcome, AuditedEpoch, NodeState, ProofCounts, Reputation};
pub use rules::Rules;
