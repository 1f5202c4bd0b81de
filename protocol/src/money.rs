//! How money is spoken of: what came in, what went out, and what a client's prepayment comes to.

use serde::{Deserialize, Serialize};

use crate::amount::{Msat, Sat};
use crate::epoch::Epoch;
use crate::id::{AccountId, ContractId, NodeId, PaymentHash, PayoutId, TxId};
use crate::statement::{Countersigned, Terms};
use crate::time::UnixTime;

/// Money that came in, once: an output, or a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// An output of a transaction.
    Output(TxId, u32),
    /// A Lightning payment.
    Payment(PaymentHash),
}

/// An attempt to make a payout: one transaction of those that share an input, or a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sending {
    /// A transaction.
    Transaction(TxId),
    /// A Lightning payment.
    Payment(PaymentHash),
}

/// How far a payout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutState {
    /// It may arrive.
    OnTheWay,
    /// It has arrived: six blocks deep, or with a preimage.
    Arrived,
    /// It cannot arrive any more: what it was for is owed again.
    Failed,
}

/// A payout, as its creditor is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// Which.
    pub id: PayoutId,
    /// How far it is.
    pub state: PayoutState,
    /// The newest attempt, or the one that arrived.
    pub sending: Option<Sending>,
    /// What of each of the creditor's contracts is settled by it, the network's fee included; at most
    /// [`crate::limits::MAX_PARTS`].
    pub parts: Vec<(ContractId, Msat)>,
    /// What of that arrives at the destination.
    pub arrives: Msat,
}

/// Where an account may pay in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositTo {
    /// A Bitcoin address that is the account's alone.
    pub address: Option<String>,
    /// A Lightning offer (BOLT 12) that is the account's alone.
    pub offer: Option<String>,
    /// What should be there: what is owed by now and 30 days at what is stored now, in whole satoshi,
    /// and at least enough to begin with.
    pub advised: Sat,
}

/// Money on its way in that does not count yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What comes.
    pub arrival: Arrival,
    /// How much.
    pub amount: Msat,
    /// Blocks on it, its own included.
    pub confirmations: u32,
    /// From how many on it counts.
    pub needed: u32,
}

/// How an account's prepayment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// What is there.
    pub prepaid: Msat,
    /// What the longest epoch of its contracts costs at most, the mediator's fee included.
    pub epoch: Msat,
    /// What a day costs.
    pub day: Msat,
    /// What is on its way in.
    pub pending: Vec<Pending>,
    /// What is on its way out.
    pub leaving: Msat,
    /// Since when the next epoch is not covered.
    pub empty: Option<UnixTime>,
    /// Days that unpaid shards are kept.
    pub grace_days: u16,
}

/// What changed an account's prepayment, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Money came in.
    Deposited {
        /// What came.
        arrival: Arrival,
        /// How much.
        amount: Msat,
    },
    /// It is no longer in the chain.
    DepositGone {
        /// What had come.
        arrival: Arrival,
    },
    /// A countersigned statement.
    Charged {
        /// The contract.
        contract: ContractId,
        /// Who earns.
        storage: NodeId,
        /// The statement's epoch.
        epoch: Epoch,
        /// All that storage has earned by the contract.
        earned: Msat,
        /// All that the mediator has earned by it.
        fee: Msat,
    },
    /// A withdrawal was decided on.
    Withdrawn {
        /// Which.
        payout: PayoutId,
        /// How much, the network's fee included.
        amount: Msat,
    },
    /// It was sent.
    Sent {
        /// Which.
        payout: PayoutId,
        /// The attempt.
        sending: Sending,
    },
    /// It has arrived.
    Arrived {
        /// Which.
        payout: PayoutId,
        /// The attempt that did.
        sending: Sending,
    },
    /// It cannot arrive, or its transaction is no longer in the chain.
    Reopened {
        /// Which.
        payout: PayoutId,
        /// Whether it is given up, and the money back.
        failed: bool,
    },
}

/// An entry in an account's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number; they grow, with gaps.
    pub number: u64,
    /// When it was recorded.
    pub time: UnixTime,
    /// What happened.
    pub change: Change,
}

/// The newest statement of a contract, and the terms that it follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stated {
    /// The contract's terms.
    pub terms: Terms,
    /// What both parties have signed.
    pub statement: Countersigned,
}

/// Whose a request to pay out is: an account's own, by its login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Drawn by the client, so that a repeated request withdraws once.
    pub id: PayoutId,
    /// An address, an offer, an invoice or a Lightning node, at most
    /// [`crate::limits::MAX_DESTINATION`] bytes.
    pub to: String,
    /// How much leaves the prepayment, the network's fee included; all of it if none is said.
    pub amount: Option<Msat>,
}

impl Withdrawal {
    /// The account's own identity of it: others cannot take it.
    #[must_use]
    pub fn payout(&self, account: &AccountId) -> PayoutId {
        let hash = crate::domain::WITHDRAWAL.hash(&[account.as_bytes(), self.id.as_bytes()]);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        PayoutId::from_bytes(id)
    }
}
