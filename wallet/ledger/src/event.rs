//! What the ledger records.
//!
//! A record of the journal is CBOR, one map: the entry's number `n` counted from one, the time `t`,
//! the event `e`. The journal frames it with its length and a checksum.

use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::cbor::{self, CborError};
use fincrypt_protocol::{AccountId, ContractId, Epoch, NodeId, PayoutId, TxId, UnixTime};
use serde::{Deserialize, Serialize};

use super::account::{Arrival, Owed, Owner, Rail, Sending, Source};

pub use fincrypt_protocol::limits::MAX_PARTS;

/// The most bytes of a record. A payout of [`MAX_PARTS`] to as many addresses fits.
pub(super) const MAX_RECORD: u32 = 256 << 10;

/// One creditor's share of a payout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Out of what it is paid.
    pub owed: Owed,
    /// How much of that is settled by it, the creditor's share of the network's fee included.
    pub amount: Msat,
}

/// Where a payout goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayTo {
    /// An address, an offer, an invoice or a node, as text.
    pub destination: String,
    /// How much arrives there.
    pub amount: Msat,
}

/// Something that happened to the money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// What comes in there will be somebody's. Addresses are given away in order, from 0 on.
    Attributed {
        /// Where.
        source: Source,
        /// Whose.
        owner: Owner,
    },
    /// Money came in, and is deep enough in the chain.
    Deposit {
        /// What came; each is credited once.
        arrival: Arrival,
        /// How often it was reorganised away before.
        round: u32,
        /// Whose it is.
        owner: Owner,
        /// How much.
        amount: Msat,
    },
    /// It is no longer in the chain. If payouts spent it, they are reopened before.
    DepositReorged {
        /// What had come.
        arrival: Arrival,
        /// The round in which it was credited.
        round: u32,
    },
    /// A countersigned statement: the newest sums of a contract. The step from those before is taken
    /// from the client's prepayment; what that does not cover is the mediator's loss, as it has
    /// signed.
    Accrual {
        /// The contract.
        contract: ContractId,
        /// Whose shards.
        account: AccountId,
        /// Who earns.
        storage: NodeId,
        /// The statement's epoch.
        epoch: Epoch,
        /// All that storage has earned.
        earned: Msat,
        /// All that the mediator has earned by it.
        fee: Msat,
    },
    /// A payout is about to be made: recorded before anything leaves.
    PayoutIntent {
        /// Which.
        payout: PayoutId,
        /// Over which rail.
        rail: Rail,
        /// Who gets how much, at most [`MAX_PARTS`].
        parts: Vec<Part>,
        /// Where it goes: one destination over Lightning; on the chain one for each creditor, in the
        /// order in which they first appear among the parts. What the parts are beyond it is what the
        /// network gets: of a transaction exactly, of a route at most.
        to: Vec<PayTo>,
    },
    /// It is about to be sent, or replaced by another transaction that shares an input.
    PayoutSent {
        /// Which.
        payout: PayoutId,
        /// The attempt.
        sending: Sending,
    },
    /// It has arrived: deep enough in the chain, or with a preimage.
    PayoutSettled {
        /// Which.
        payout: PayoutId,
        /// How often it was reopened before.
        round: u32,
        /// The attempt that arrived.
        sending: Sending,
        /// What left the mediator in all, the network's fee included.
        left: Msat,
    },
    /// Its transaction is no longer in the chain.
    PayoutReopened {
        /// Which.
        payout: PayoutId,
        /// The round in which it was settled.
        round: u32,
    },
    /// No attempt can arrive any more: its parts are owed again.
    PayoutFailed {
        /// Which.
        payout: PayoutId,
    },
    /// What channels have cost so far in all: opened, closed, and otherwise.
    ChannelCosts {
        /// The sum since the beginning.
        total: Msat,
    },
    /// What forwarding payments for others has earned so far in all.
    ForwardingIncome {
        /// The sum since the beginning.
        total: Msat,
    },
    /// Money was moved between the mediator's wallet and that of its channels.
    Moved {
        /// The transaction.
        transaction: TxId,
        /// Where the money is now.
        to: Rail,
        /// How much arrived there.
        amount: Msat,
        /// What it cost.
        fee: Msat,
    },
    /// A move waits, and was replaced by a transaction with a higher fee that shares an input. The books
    /// keep the highest: if an older one is mined after all, the difference is more than they say.
    MoveReplaced {
        /// The transaction that was recorded as the move.
        first: TxId,
        /// What it costs now.
        fee: Msat,
    },
}

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, from one.
    #[serde(rename = "n")]
    pub number: u64,
    /// When it was recorded.
    #[serde(rename = "t")]
    pub time: UnixTime,
    /// What happened.
    #[serde(rename = "e")]
    pub event: Event,
}

impl Record {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, CborError> {
        cbor::encode(self)
    }

    /// Reads a record of the journal.
    ///
    /// # Errors
    /// If it is none, or longer than a record may be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::decode(bytes, MAX_RECORD as usize)
    }
}
