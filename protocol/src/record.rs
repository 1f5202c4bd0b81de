//! The signed records: registrations, mandates, receipts, holder lists, heads, releases, offers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::amount::Price;
use crate::domain::{self, Domain};
use crate::geometry::{Redundancy, ShardIndex};
use crate::id::{AccountId, GuardKey, HeadHash, HeadKey, MandateHash, NodeId, RunId, SegmentId, ShardId};
use crate::limits::{MAX_HEAD, MAX_MANDATE_AHEAD, MAX_RECORD, MAX_RELEASE_SEGMENTS};
use crate::network::Network;
use crate::signed::{Body, RecordError, Signed};
use crate::time::UnixTime;

/// How long an offer or a mediator's record may live: it is refreshed every six hours.
pub const MAX_OFFER_LIFE: Duration = Duration::from_secs(48 * 3600);
/// How long a mandate may live.
pub const MAX_MANDATE_LIFE: Duration = Duration::from_secs(400 * 24 * 3600);

macro_rules! body {
    ($name:ident, $domain:ident, $max:expr, $signer:ident: $key:ty $(, expiry: $expiry:ident)?) => {
        impl Body for $name {
            const DOMAIN: Domain = domain::$domain;
            const MAX_LEN: usize = $max;
            type Signer = $key;
            fn signer(&self) -> $key {
                self.$signer
            }
            fn network(&self) -> Network {
                self.network
            }
            $(fn expiry(&self) -> Option<UnixTime> {
                Some(self.$expiry)
            })?
        }
    };
}

/// An account and the keys that speak for it. The first one that a node sees for an account stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Network the account is for.
    pub network: Network,
    /// The account, which signs this.
    pub account: AccountId,
    /// Signs the account's heads.
    pub head_key: HeadKey,
    /// Cancels deletions; its secret comes back from the words alone.
    pub guard_key: GuardKey,
}
body!(Registration, REGISTRATION, 256, account: AccountId);

/// What a mandate lets its mediator do at a storage node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Store shards for the account.
    pub put: bool,
    /// Challenge the account's shards.
    pub audit: bool,
    /// Read the account's shards.
    pub get: bool,
}

/// An account's permission for one mediator. It can never permit a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mandate {
    /// Network it is for.
    pub network: Network,
    /// The account, which signs this.
    pub account: AccountId,
    /// The mediator it is given to.
    pub mediator: NodeId,
    /// What the mediator may do.
    pub rights: Rights,
    /// The most bytes one storage node may hold under it.
    pub byte_cap: u64,
    /// A higher sequence supersedes: a time in seconds since 1970, at most
    /// [`MAX_MANDATE_AHEAD`] ahead of a node's clock, so that nobody can use up all.
    pub sequence: u64,
    /// When it ends.
    pub expiry: UnixTime,
    /// The most that storage may take for what is put under it, before the mediator's fee; any price
    /// if none is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<Price>,
}
body!(Mandate, MANDATE, 512, account: AccountId, expiry: expiry);

/// An owner's move to another mediator, which takes the vault over without moving its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopt {
    /// Network it is for.
    pub network: Network,
    /// The account, which signs this.
    pub account: AccountId,
    /// The mediator that is dismissed; none if the owner knows of none.
    pub old: Option<NodeId>,
    /// The mediator that takes the vault over; the same if it is to look anew.
    pub new: NodeId,
    /// That of the new mediator's mandate, which ends all with lower ones.
    pub sequence: u64,
}
body!(Adopt, ADOPT, 256, account: AccountId);

/// A storage node's word, given after fsync, that it holds a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Network of the node.
    pub network: Network,
    /// The storage node, which signs this.
    pub node: NodeId,
    /// The account the shard belongs to.
    pub account: AccountId,
    /// The mandate it was stored under.
    pub mandate: MandateHash,
    /// The segment.
    pub segment: SegmentId,
    /// The shard's position in it.
    pub index: ShardIndex,
    /// The shard.
    pub shard: ShardId,
    /// Its length in bytes.
    pub length: u32,
    /// The price agreed.
    pub price: Price,
    /// When it was stored.
    pub time: UnixTime,
    /// Until when it is kept without further payment.
    pub paid_until: UnixTime,
}
body!(Receipt, RECEIPT, 768, node: NodeId);

/// Who holds which shard of a segment, as its mediator knows it: a hint, as every shard is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderList {
    /// Network it is for.
    pub network: Network,
    /// The account the segment belongs to.
    pub account: AccountId,
    /// The mediator, which signs this.
    pub mediator: NodeId,
    /// The segment.
    pub segment: SegmentId,
    /// A higher sequence supersedes.
    pub sequence: u64,
    /// Shard positions and their holders, at most 30.
    pub holders: Vec<(ShardIndex, NodeId)>,
}
body!(HolderList, HOLDER_LIST, 2048, mediator: NodeId);

/// A slot's head: the only thing of a vault that changes in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Network it is for.
    pub network: Network,
    /// The account whose head this is.
    pub account: AccountId,
    /// The account's head key, which signs this.
    pub head_key: HeadKey,
    /// Grows with every head, by at most 2^16.
    pub sequence: u64,
    /// The head this one replaces.
    pub previous: Option<HeadHash>,
    /// The sealed body.
    pub body: ByteBuf,
}
body!(Head, HEAD, MAX_HEAD, head_key: HeadKey);

impl Signed<Head> {
    /// The head's identity; of two heads with one sequence the larger wins.
    #[must_use]
    pub fn head_hash(&self) -> HeadHash {
        HeadHash::from_bytes(self.hash())
    }
}

impl Mandate {
    /// Whether something may be put at a node that takes this price.
    #[must_use]
    pub fn affords(&self, price: Price) -> bool {
        self.max_price.is_none_or(|most| price <= most)
    }
}

impl Signed<Mandate> {
    /// The mandate's identity, which receipts name.
    #[must_use]
    pub fn mandate_hash(&self) -> MandateHash {
        MandateHash::from_bytes(self.hash())
    }
}

/// The owner's wish to keep everything that a run stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// Network it is for.
    pub network: Network,
    /// The account, which signs this.
    pub account: AccountId,
    /// The run.
    pub run: RunId,
}
body!(Keep, KEEP, 256, account: AccountId);

/// What a release is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Released {
    /// All that a node holds for the account when it hears of the release.
    Everything,
    /// Some segments, at most [`MAX_RELEASE_SEGMENTS`].
    Segments(Vec<SegmentId>),
}

/// The owner's wish to delete. Storage carries it out only after a delay, within which the guard
/// can undo it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Network it is for.
    pub network: Network,
    /// The account.
    pub account: AccountId,
    /// The account's head key, which signs this: a rewind takes it from a thief.
    pub head_key: HeadKey,
    /// What is to be deleted.
    pub what: Released,
    /// Grows with every release: seconds since 1970 when it was signed, or one more than the last.
    pub sequence: u64,
}
// A segment's id takes 34 bytes.
body!(Release, RELEASE, MAX_RELEASE_SEGMENTS * 34 + 320, head_key: HeadKey);

/// The guard's word that all pending releases of an account are void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// Network it is for.
    pub network: Network,
    /// The account whose releases are undone.
    pub account: AccountId,
    /// The account's registered guard key, which signs this.
    pub guard_key: GuardKey,
    /// Grows with every undo: seconds since 1970 when it was signed, or more than the last.
    pub sequence: u64,
    /// Whether further releases are refused, until a later undo says otherwise.
    pub guarded: bool,
}
body!(Undo, UNDO, 256, guard_key: GuardKey);

/// The guard's word that an account goes on from an older head, under a new head key. Heads and
/// releases that the old key signs afterwards are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewind {
    /// Network it is for.
    pub network: Network,
    /// The account.
    pub account: AccountId,
    /// The account's registered guard key, which signs this.
    pub guard_key: GuardKey,
    /// The head that the next one follows.
    pub base: HeadHash,
    /// Signs the account's heads and releases from now on.
    pub head_key: HeadKey,
    /// A higher sequence supersedes: seconds since 1970 when it was signed, or one more than the
    /// last. The new key is derived from it.
    pub sequence: u64,
}
body!(Rewind, REWIND, 384, guard_key: GuardKey);

/// How a storage operator can be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutKind {
    /// Over Lightning.
    Lightning,
    /// In an on-chain batch.
    OnChain,
}

/// How a storage node is, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It takes shards and serves them.
    #[default]
    Serving,
    /// Its disk fails: it takes no more, and serves what it can.
    Failing,
    /// It is to be switched off: it takes no more, and serves until its shards are elsewhere.
    Leaving,
}

/// What a storage node offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageOffer {
    /// Network of the node.
    pub network: Network,
    /// The storage node, which signs this.
    pub node: NodeId,
    /// For holding data.
    pub price: Price,
    /// For reading it, per GiB, beyond what the contract includes.
    pub egress_price: Price,
    /// How it is.
    pub condition: Condition,
    /// Bytes it still takes; none unless it is serving.
    pub free_bytes: u64,
    /// Days it keeps unpaid shards.
    pub grace_days: u16,
    /// Days a contract bills at least.
    pub minimum_days: u16,
    /// How its operator can be paid.
    pub payout: Vec<PayoutKind>,
    /// Where it listens, as binary multiaddresses.
    pub addresses: Vec<ByteBuf>,
    /// A higher sequence supersedes.
    pub sequence: u64,
    /// When the offer ends.
    pub expiry: UnixTime,
}
body!(StorageOffer, STORAGE_OFFER, MAX_RECORD - 128, node: NodeId, expiry: expiry);

/// What a mediator asks, and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediatorRecord {
    /// Network of the mediator.
    pub network: Network,
    /// The mediator, which signs this.
    pub node: NodeId,
    /// Its fee on what storage earns, in permille.
    pub fee_permille: u16,
    /// The redundancy it never goes under.
    pub floor: Redundancy,
    /// Bitcoin networks it settles on.
    pub payment_networks: Vec<String>,
    /// Where it listens, as binary multiaddresses.
    pub addresses: Vec<ByteBuf>,
    /// A higher sequence supersedes.
    pub sequence: u64,
    /// When the record ends.
    pub expiry: UnixTime,
}
body!(MediatorRecord, MEDIATOR_RECORD, MAX_RECORD - 128, node: NodeId, expiry: expiry);

/// Refuses a record whose expiry is further ahead than its kind allows.
///
/// # Errors
/// [`RecordError::ExpiryTooFar`].
pub fn check_life<T: Body>(record: &T, now: UnixTime, most: Duration) -> Result<(), RecordError> {
    match record.expiry() {
        Some(expiry) if expiry > now.plus(most) => Err(RecordError::ExpiryTooFar),
        _ => Ok(()),
    }
}

/// Whether a mandate's sequence lies further ahead of a node's clock than the node takes: a thief could use
/// up all sequences otherwise, and a wrong clock those of years.
#[must_use]
pub fn is_too_far_ahead(sequence: u64, now: UnixTime) -> bool {
    sequence > now.secs().saturating_add(MAX_MANDATE_AHEAD)
}

/// The bytes that an account signs to log in: the network, the listener's nonce and both ends.
#[must_use]
pub fn login_message(network: Network, nonce: &crate::Nonce, listener: &NodeId, dialer: &NodeId) -> Vec<u8> {
    let mut message = network.name().as_bytes().to_vec();
    message.push(0);
    message.extend_from_slice(nonce.as_bytes());
    message.extend_from_slice(listener.as_bytes());
    message.extend_from_slice(dialer.as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;
    use zeroize::Zeroizing;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([seed; 32]))
    }

    fn mandate(signer: &SigningKey) -> Mandate {
        Mandate {
            network: Network::Local,
            account: signer.account(),
            mediator: key(9).node(),
            rights: Rights { put: true, audit: true, get: true },
            byte_cap: 1 << 40,
            sequence: 1,
            expiry: UnixTime::from_secs(2_000_000_000),
            max_price: None,
        }
    }

    #[test]
    fn a_sealed_record_verifies_and_survives_its_bytes() {
        let key = key(1);
        let signed = Signed::seal(&mandate(&key), &key).expect("seals");
        let back = Signed::<Mandate>::from_bytes(&signed.to_bytes().expect("encodes")).expect("decodes");
        let verified = back.verify(Network::Local, UnixTime::from_secs(1)).expect("verifies");
        assert_eq!(*verified, mandate(&key));
        assert_eq!(back.mandate_hash(), signed.mandate_hash());
    }

    #[test]
    fn another_signer_another_network_and_the_past_are_refused() {
        let owner = key(1);
        let forged = Signed::seal(&mandate(&owner), &key(2)).expect("seals");
        let now = UnixTime::from_secs(1);
        assert!(matches!(forged.verify(Network::Local, now), Err(RecordError::Signature)));
        let signed = Signed::seal(&mandate(&owner), &owner).expect("seals");
        assert!(matches!(signed.verify(Network::Main, now), Err(RecordError::Network(Network::Local))));
        let late = UnixTime::from_secs(2_000_000_000);
        assert!(matches!(signed.verify(Network::Local, late), Err(RecordError::Expired)));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let key = key(1);
        let bytes = Signed::seal(&mandate(&key), &key).expect("seals").to_bytes().expect("encodes");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let verdict = Signed::<Mandate>::from_bytes(&bad)
                .and_then(|signed| signed.verify(Network::Local, UnixTime::from_secs(1)).map(|_| ()));
            assert!(verdict.is_err(), "byte {at}");
        }
    }
}
