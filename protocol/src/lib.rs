//! What two Fincrypt machines must agree on.
//!
//! Ids, keys, amounts, limits, the erasure geometry, signed records and the messages of the wire
//! protocols. Everything here is data and rules: no disk, no network; clock and
//! randomness are values that are handed on.
//!
//! ```
//! use fincrypt_protocol::{Code, Redundancy};
//! let code = Code::for_peers(8, Redundancy::MIN)?;
//! assert_eq!((code.data(), code.total()), (4, 8));
//! # Ok::<(), fincrypt_protocol::GeometryError>(())
//! ```

mod address_group;
pub mod admission;
pub mod amount;
mod call;
pub mod cbor;
mod clock;
pub mod domain;
mod epoch;
pub mod frame;
mod geometry;
mod id;
mod key;
pub mod limits;
mod manifest;
pub mod mediate;
pub mod money;
mod network;
pub mod pay;
mod random;
pub mod record;
mod refusal;
mod rewind;
pub mod shard;
mod signed;
mod size;
pub mod statement;
mod time;
#[cfg(test)]
mod vectors;

pub use address_group::AddressGroup;
pub use call::{Call, Response};
pub use clock::Clock;
pub use epoch::Epoch;
pub use frame::{Frame, FrameError, Header};
pub use geometry::{Code, GeometryError, Redundancy, ShardIndex, ShardLen};
pub use id::{
    AccountId, AnswerDigest, ContractId, GuardKey, HeadHash, HeadKey, MandateHash, NodeId, Nonce,
    ParseIdError, PaymentHash, PayoutId, RunId, SegmentId, ShardId, Tag, TxId,
};
pub use key::{PublicKey, Signature, SigningKey};
pub use manifest::{Manifest, ManifestError};
pub use network::{Network, ParseNetworkError};
pub use random::Random;
pub use refusal::Refusal;
pub use rewind::{Rewound, VerifiedRewound};
pub use signed::{Body, RecordError, Signed, Verified};
pub use size::{ByteSize, ParseByteSizeError};
pub use time::UnixTime;
