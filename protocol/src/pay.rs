//! `/pay/1`: what a mediator and a storage node say to each other about money. Every request may be
//! repeated.

use serde::{Deserialize, Serialize};

use crate::call::requests;
pub use crate::mediate::Done;
use crate::money::{Payout, Stated};
use crate::refusal::Refusal;
use crate::signed::Signed;
use crate::statement::{Countersigned, Statement, Terms};

/// The protocol's name after the network.
pub const NAME: &str = "pay/1";

requests! {
    /// A mediator's request about what a storage node earns.
    pub enum Request {
        Countersign => Countersignatures,
        GetDestination => Destination,
        NotePayout => Done,
    }
}

/// Brings a mediator's statements to be countersigned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Countersign {
    /// Each of another contract, at most [`crate::limits::MAX_BILLS`].
    pub bills: Vec<Bill>,
}

/// Asks where the operator wants its earnings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetDestination {
    /// The mediator's Lightning node, 66 hexadecimal digits, from which channels may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lightning: Option<String>,
}

/// Tells of a payout of what was earned. Told again, the newest word counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotePayout {
    /// What became of it by now.
    pub payout: Payout,
}

/// A statement to be countersigned, and the terms that it follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// The contract's terms.
    pub terms: Terms,
    /// What it has come to, signed by the mediator.
    pub proposal: Signed<Statement>,
    /// The newest statement that both have signed, for storage that has lost it: it goes on from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Countersigned>,
}

/// What a storage node says to a bill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Billed {
    /// The newest statement that it has countersigned of the contract.
    Agreed(Countersigned),
    /// It does not agree; its operator is told why.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The newest statement that it has countersigned for the same account, of whichever contract: a
        /// mediator that has lost it goes on from there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        newest: Option<Box<Stated>>,
    },
}

/// Answers [`Countersign`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Countersignatures {
    /// Bill by bill.
    pub bills: Vec<Billed>,
}

/// Answers [`GetDestination`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// An address, an offer, a Lightning node, or a Lightning node and where it listens, at most
    /// [`crate::limits::MAX_DESTINATION`] bytes. None if the operator named nothing.
    pub to: Option<String>,
}
