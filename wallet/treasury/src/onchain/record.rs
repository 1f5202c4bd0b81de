//! The wallet's journal.
//!
//! A record is CBOR, one map with one entry: `learned`, what the wallet has learned of the chain and of
//! its own addresses, as the wallet library writes it in JSON; `version`, a signed transaction of a payout; or `buried`, a payout that
//! nothing can change any more.

use bdk_wallet::ChangeSet;
use fincrypt_protocol::PayoutId;
use fincrypt_protocol::amount::Sat;
use fincrypt_protocol::cbor::{self, CborError};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::error::{TreasuryError, failed};

/// The most bytes of a record.
pub(super) const MAX_RECORD: u32 = 8 << 20;

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Where.
    pub address: String,
    /// How much arrives.
    pub amount: Sat,
}

/// A signed transaction of a payout. The newest is the one to send; any may confirm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    /// The payout.
    pub(super) payout: PayoutId,
    /// Who gets what by it; the same in all versions.
    pub(super) outputs: Vec<Output>,
    /// What the network gets.
    pub(super) fee: Sat,
    /// The transaction, as it is sent.
    pub(super) raw: ByteBuf,
    /// The height of the chain when it was made.
    pub(super) height: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Learned(String),
    Version(Version),
    Buried(PayoutId),
}

/// What the wallet has learned, as a record.
pub(super) fn learned(changes: &ChangeSet) -> Result<Record, TreasuryError> {
    serde_json::to_string(changes).map(Record::Learned).map_err(|error| failed(&error))
}

/// What such a record says.
pub(super) fn changes(text: &str) -> Result<ChangeSet, TreasuryError> {
    serde_json::from_str(text).map_err(|error| failed(&error))
}

impl Record {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, CborError> {
        cbor::encode(self)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::decode(bytes, MAX_RECORD as usize)
    }
}
