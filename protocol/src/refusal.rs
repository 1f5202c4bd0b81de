//! Why a request was refused: a closed set, without free text.

use serde::{Deserialize, Serialize};

/// A machine's reason to refuse, as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Budgets are used up; the same request may succeed later.
    #[error("the other side is busy")]
    Busy,
    /// The request is none that this version of the protocol knows.
    #[error("the other side does not know this request: it runs another version of Fincrypt")]
    Unsupported,
    /// The request needs a login first.
    #[error("no login on this connection")]
    NotLoggedIn,
    /// The login's signature, nonce or registration did not verify.
    #[error("the login was refused")]
    BadLogin,
    /// The account is registered with other keys.
    #[error("the account is registered with other keys")]
    OtherRegistration,
    /// A record in the request did not verify or contradicts the rest of it.
    #[error("the request contradicts itself")]
    Invalid,
    /// No valid mandate lets this peer do this.
    #[error("no valid mandate for this")]
    NotMandated,
    /// The mandate is named by its hash, and not known here: it has to be shown.
    #[error("the mandate is not known")]
    UnknownMandate,
    /// Too few storage nodes qualify.
    #[error("{eligible} storage nodes qualify, at least {needed} are needed")]
    TooFewPeers {
        /// Storage nodes that qualify.
        eligible: u16,
        /// The fewest that would do.
        needed: u16,
    },
    /// No room left, at the node, or under the mandate's cap.
    #[error("no room left")]
    Full,
    /// The payload is not the shard that the manifest names.
    #[error("the bytes are not the shard that the manifest names")]
    WrongShard,
    /// Another shard or segment is already known under that name.
    #[error("it contradicts what is already stored")]
    Conflict,
    /// The segment is unknown.
    #[error("the segment is unknown")]
    UnknownSegment,
    /// The shard is not held here, or by anyone who answers.
    #[error("the shard is not held")]
    NotHeld,
    /// The client has too many open segments.
    #[error("too many open segments")]
    TooManyOpen,
    /// The segment's data shards are not all there yet.
    #[error("data shards are missing")]
    Incomplete,
    /// Not enough storage nodes took their shards.
    #[error("only {have} of at least {need} shards could be stored")]
    NotStored {
        /// Shards with a receipt.
        have: u8,
        /// Shards that make a segment count as stored.
        need: u8,
    },
    /// The head is not the one that the swap expected to replace.
    #[error("the head has changed meanwhile")]
    HeadMoved,
    /// The account's guard has undone releases and lets no further one in.
    #[error("the account is guarded: its releases were undone with the 24 words, which alone can lift this")]
    Guarded,
    /// The account has another mediator now.
    #[error("the vault has moved to another mediator")]
    Dismissed,
    /// The account's history goes on under another head key.
    #[error("the vault was rewound with its 24 words, and this machine's keys are of before")]
    Rewound,
    /// The statement is not what the node counted, or its terms are not what it offers.
    #[error("the storage node counts otherwise, or does not agree to the terms")]
    Misstated,
    /// The account's prepayment does not cover what is stored.
    #[error("the prepayment is used up; what is stored is kept meanwhile")]
    Unpaid,
    /// What is owed has reached the bound that the storage node set.
    #[error("too much is owed to the storage node")]
    CreditBound,
    /// The mediator has no Bitcoin wallet, or it is not ready.
    #[error("the mediator cannot take or pay money now")]
    NoWallet,
    /// Money cannot go there.
    #[error("no money can be sent there")]
    Destination,
    /// There is less than that.
    #[error("there is less than that, or too little to be worth a payment")]
    Insufficient,
    /// The invoice was used before, whatever came of it.
    #[error("the invoice was used before, and counts once")]
    Used,
    /// A record of a higher sequence is known already.
    #[error("a newer record is known already")]
    Stale,
    /// The disk or another part of the machine failed.
    #[error("the other side failed")]
    Failed,
}

impl Refusal {
    /// Whether the same request may succeed later, unchanged.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Busy | Self::TooManyOpen | Self::NotStored { .. } | Self::Failed)
    }
}
