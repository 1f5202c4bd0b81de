//! The accounts, and the ways in which money comes and goes.

use std::fmt;

pub use fincrypt_protocol::money::{Arrival, Sending};
use fincrypt_protocol::{AccountId, ContractId, PayoutId};
use serde::{Deserialize, Serialize};

/// Where the mediator's bitcoin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rail {
    /// In its own wallet.
    OnChain,
    /// In its channels.
    Lightning,
}

impl Rail {
    pub(super) fn account(self) -> Account {
        match self {
            Self::OnChain => Account::OnChain,
            Self::Lightning => Account::Lightning,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::OnChain => Self::Lightning,
            Self::Lightning => Self::OnChain,
        }
    }
}

impl From<Arrival> for Rail {
    /// Where the money is.
    fn from(arrival: Arrival) -> Self {
        match arrival {
            Arrival::Output(..) => Self::OnChain,
            Arrival::Payment(_) => Self::Lightning,
        }
    }
}

impl From<Sending> for Rail {
    /// Over which rail it goes.
    fn from(sending: Sending) -> Self {
        match sending {
            Sending::Transaction(_) => Self::OnChain,
            Sending::Payment(_) => Self::Lightning,
        }
    }
}

/// Where money comes in that is somebody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The address of this index in the mediator's wallet.
    Address(u32),
    /// An offer (BOLT 12), by its id.
    #[serde(with = "serde_bytes")]
    Offer([u8; 32]),
}

/// Whose money comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// A client's: it prepays.
    Client(AccountId),
    /// The operator's own.
    Operator,
}

impl Owner {
    pub(super) fn account(self) -> Account {
        match self {
            Self::Client(account) => Account::Prepayment(account),
            Self::Operator => Account::Capital,
        }
    }
}

/// Out of what a payout is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owed {
    /// What a contract's storage node has earned.
    Contract(ContractId),
    /// A client's prepayment: a withdrawal.
    Client(AccountId),
    /// The operator's own capital.
    Capital,
    /// The fees that the mediator has earned.
    Fees,
}

impl Owed {
    pub(super) fn account(self) -> Account {
        match self {
            Self::Contract(contract) => Account::Payable(contract),
            Self::Client(account) => Account::Prepayment(account),
            Self::Capital => Account::Capital,
            Self::Fees => Account::Fees,
        }
    }
}

/// On which side an account grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Assets and expenses.
    Debit,
    /// Liabilities and equity.
    Credit,
}

/// An account of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// Bitcoin in the mediator's wallet.
    OnChain,
    /// Bitcoin in its channels.
    Lightning,
    /// Fees paid to miners and routing nodes.
    NetworkFees,
    /// What clients used of deposits that vanished, or beyond what they had.
    Losses,
    /// What a client has prepaid.
    Prepayment(AccountId),
    /// What a contract's storage node has earned and not been paid.
    Payable(ContractId),
    /// A payout that is not settled.
    InFlight(PayoutId),
    /// What the operator has put in.
    Capital,
    /// What the mediator has earned.
    Fees,
    /// What it has earned by forwarding payments for others.
    Forwarding,
}

impl Account {
    /// On which side it grows.
    #[must_use]
    pub fn side(self) -> Side {
        match self {
            Self::OnChain | Self::Lightning | Self::NetworkFees | Self::Losses => Side::Debit,
            Self::Prepayment(_)
            | Self::Payable(_)
            | Self::InFlight(_)
            | Self::Capital
            | Self::Fees
            | Self::Forwarding => Side::Credit,
        }
    }

    /// The account as a key, no two of which begin alike.
    pub(super) fn key(self) -> Vec<u8> {
        let (tag, id): (u8, &[u8]) = match &self {
            Self::OnChain => (0, &[]),
            Self::Lightning => (1, &[]),
            Self::NetworkFees => (2, &[]),
            Self::Losses => (3, &[]),
            Self::Prepayment(account) => (4, account.as_bytes()),
            Self::Payable(contract) => (5, contract.as_bytes()),
            Self::InFlight(payout) => (6, payout.as_bytes()),
            Self::Capital => (7, &[]),
            Self::Fees => (8, &[]),
            Self::Forwarding => (9, &[]),
        };
        [&[tag], id].concat()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnChain => f.write_str("on-chain"),
            Self::Lightning => f.write_str("Lightning"),
            Self::NetworkFees => f.write_str("network fees"),
            Self::Losses => f.write_str("losses"),
            Self::Prepayment(account) => write!(f, "prepayment of account {account}"),
            Self::Payable(contract) => write!(f, "payable of contract {contract}"),
            Self::InFlight(payout) => write!(f, "payout {payout} in flight"),
            Self::Capital => f.write_str("capital"),
            Self::Fees => f.write_str("fees earned"),
            Self::Forwarding => f.write_str("forwarding income"),
        }
    }
}
