//! `/shard/1`: what a storage node is asked by mediators and owners. Every request may be repeated.

use serde::{Deserialize, Serialize};

use crate::call::requests;
use crate::epoch::Epoch;
use crate::geometry::ShardIndex;
use crate::id::{AccountId, MandateHash, Nonce, RunId, SegmentId, ShardId, Tag};
use crate::key::Signature;
use crate::manifest::Manifest;
pub use crate::mediate::{Done, LoginNonce};
use crate::record::{Head, HolderList, Keep, Mandate, Receipt, Registration, Release, StorageOffer, Undo};
use crate::rewind::Rewound;
use crate::signed::Signed;
use crate::time::UnixTime;

/// The protocol's name after the network.
pub const NAME: &str = "shard/1";

requests! {
    /// A request to a storage node.
    pub enum Request {
        GetOffer => Signed<StorageOffer>,
        Hello => LoginNonce,
        Login => Welcome,
        PutShard [payload] => Signed<Receipt>,
        GetShard => Done [payload],
        Challenge => Proofs [payload],
        ListShards => ShardList,
        LocateSegments => HeldSegments,
        NoteHolders => Done,
        KeepRun => Done,
        ReleaseSegments => ReleaseDue,
        UndoReleases => ReleasesUndone,
        RewindAccount => Done,
        RenewMandate => NewestMandate,
        PutHead => Done,
        GetHeads => Heads,
    }
}

/// Asks for the node's offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetOffer {}

/// Asks for a nonce to log in with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {}

/// Logs an account in on this connection, as owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Login {
    /// The account and its keys.
    pub registration: Signed<Registration>,
    /// The account's signature over [`crate::record::login_message`].
    pub proof: Signature,
}

/// By what right a mediator puts a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// The records themselves.
    Shown {
        /// The account and its keys.
        registration: Signed<Registration>,
        /// The account's mandate.
        mandate: Signed<Mandate>,
    },
    /// A mandate under which the node has stored something lately. [`Refusal::UnknownMandate`] if it has
    /// not, or has forgotten: then the records are shown again.
    ///
    /// [`Refusal::UnknownMandate`]: crate::Refusal::UnknownMandate
    Known(MandateHash),
}

/// Brings a shard, as payload. Answered once it is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutShard {
    /// The account's permission for the mediator.
    pub authority: Authority,
    /// The run the segment belongs to.
    pub run: RunId,
    /// The segment's manifest.
    pub manifest: Manifest,
    /// The shard's position in it.
    pub index: ShardIndex,
    /// The owner's tag of the segment.
    pub tag: Tag,
}

/// Asks for a shard, which comes as payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetShard {
    /// The account.
    pub account: AccountId,
    /// The segment.
    pub segment: SegmentId,
    /// The shard's position in it.
    pub index: ShardIndex,
}

/// Asks for one leaf of each of some shards, with its proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Challenge {
    /// Chooses the leaves, so that nobody can know them before.
    pub nonce: Nonce,
    /// The shards, at most [`crate::limits::MAX_CHALLENGE`].
    pub shards: Vec<Challenged>,
    /// The epoch that a mediator audits, and will be charged for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audited: Option<Audited>,
}

/// Lists the shards held for an account, in order, a page at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListShards {
    /// The account.
    pub account: AccountId,
    /// Where the last page ended.
    pub after: Option<(SegmentId, ShardIndex)>,
}

/// Asks what is known about some segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocateSegments {
    /// The account.
    pub account: AccountId,
    /// The segments, at most [`crate::limits::MAX_LOCATE`].
    pub segments: Vec<SegmentId>,
}

/// Brings holder lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoteHolders {
    /// Signed by the account's mediator, at most [`crate::limits::MAX_HOLDER_LISTS`].
    pub lists: Vec<Signed<HolderList>>,
}

/// Keeps everything that a run stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeepRun {
    /// The owner's statement.
    pub keep: Signed<Keep>,
}

/// Deletes what a release names, after the node's delay. From the owner or its mediator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseSegments {
    /// The owner's statement.
    pub release: Signed<Release>,
}

/// Cancels every pending release of an account. The guard's signature suffices, whoever brings it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UndoReleases {
    /// The guard's statement.
    pub undo: Signed<Undo>,
}

/// Replaces an account's head key, from a head on. The guard's signature suffices, whoever brings it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewindAccount {
    /// The rewind and its head.
    pub rewound: Rewound,
}

/// Brings a mandate without a shard, from its mediator or the owner: older ones end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenewMandate {
    /// The account and its keys.
    pub registration: Signed<Registration>,
    /// The account's permission for a mediator.
    pub mandate: Signed<Mandate>,
}

/// Brings a head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutHead {
    /// The account and its keys.
    pub registration: Signed<Registration>,
    /// The head.
    pub head: Signed<Head>,
}

/// Asks for the heads kept for an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetHeads {
    /// The account.
    pub account: AccountId,
}

/// A shard that is asked for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenged {
    /// Whose shard.
    pub account: AccountId,
    /// The segment.
    pub segment: SegmentId,
    /// The shard's position.
    pub index: ShardIndex,
}

/// An epoch, and how long the mediator's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// The epoch.
    pub epoch: Epoch,
    /// Its length in seconds.
    pub seconds: u32,
}

/// What a node says of a challenged shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Its proof is in the payload.
    Proved,
    /// The node does not have it.
    Missing,
    /// The node cannot read it any more, or finds it altered.
    Damaged,
    /// The node knows no mandate of its owner that lets the challenger ask.
    Refused,
}

/// What a storage node knows about one segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldSegment {
    /// The segment's manifest.
    pub manifest: Manifest,
    /// The owner's tag of it.
    pub tag: Tag,
    /// The run it was stored in.
    pub run: RunId,
    /// Positions of the shards held here.
    pub held: Vec<ShardIndex>,
    /// The newest holder list, if one came.
    pub holders: Option<Signed<HolderList>>,
    /// When it is deleted, if it was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<UnixTime>,
}

/// Answers [`Login`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The mandate under which the account's shards are held, which names its mediator.
    pub mandate: Option<Signed<Mandate>>,
}

/// Answers [`Challenge`]. The payload has the proofs of all that are proved, in order: a leaf's 1,024
/// bytes, then the sibling chaining values, 32 bytes each, from the leaf up; how many there are follows
/// from the shard's length and the leaf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proofs {
    /// One for each shard asked for, in order.
    pub verdicts: Vec<Verdict>,
}

/// Answers [`ListShards`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardList {
    /// One page of shards, in order.
    pub shards: Vec<(SegmentId, ShardIndex, ShardId)>,
    /// Whether more follow.
    pub more: bool,
}

/// Answers [`LocateSegments`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldSegments {
    /// Those of which shards are held here.
    pub segments: Vec<HeldSegment>,
}

/// Answers [`ReleaseSegments`]: it is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseDue {
    /// When it is carried out, unless it is undone before.
    pub due: UnixTime,
}

/// Answers [`UndoReleases`]: it is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleasesUndone {
    /// Whether a release was pending, which is cancelled now. One whose deletion has begun is carried out
    /// all the same.
    pub pending: bool,
}

/// Answers [`RenewMandate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewestMandate {
    /// The newest one known, which shows a dismissed mediator that it is.
    pub mandate: Signed<Mandate>,
}

/// Answers [`GetHeads`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heads {
    /// The heads kept, whichever keys signed them.
    pub heads: Vec<Signed<Head>>,
    /// The newest rewind, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewound: Option<Box<Rewound>>,
}
