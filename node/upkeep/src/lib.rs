//! Rules by which a mediator looks after what it placed. Sans-IO: epochs, outcomes and randomness
//! come in, decisions go out, so that the same rules run in the mediator and in a simulator.

pub mod danger;
pub mod durability;
pub mod newcomers;
pub mod placement;
mod rules;
pub mod sample;
pub mod simulator;
mod standing;

pub use fincrypt_protocol::Epoch;
pub use rules::Rules;
pub use standing::{Came, Noted, Standing, State, Tally};
