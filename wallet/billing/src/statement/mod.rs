//! The rules by which storage is billed: what a mediator proposes, what a storage node
//! countersigns, what a client pays for. Sans-IO: counts and messages come in, statements go out.
//!
//! A mediator adds up the bytes of the epochs in which a node passed its audit, and proposes the
//! sum ([`Billing`]). The node compares it with its own counts and signs ([`Holding`]). The client
//! compares what both have signed with its own segments and pays the step from the statement before
//! ([`Paying`]). As every statement holds the whole sum, messages may be lost, repeated and
//! reordered: all three end at the same newest one. What was proposed, countersigned and paid must be
//! durable before it is told to anybody; the `saved` of each is what to keep.

mod billing;
mod contradiction;
mod credit;
mod fault;
mod holding;
mod paying;
mod rules;

pub use billing::{Absorbed, Billing, SavedBilling};
pub use contradiction::{Contradiction, NoContradiction, Signers};
pub use credit::{Credit, CreditStanding};
pub use fault::Fault;
pub use holding::{Answer, Counted, Holding, SavedHolding};
pub use paying::{Known, Paying, Payment};
pub use rules::{MAX_AHEAD, MAX_STEP};

#[cfg(test)]
mod tests;
