//! `/shard/1`: what a storage node is asked by mediators and owners. Every request may be repeated.

use serde::{Deserialize, Serialize};

use crate::epoch::Epoch;
use crate::frame::Header;
use crate::geometry::ShardIndex;
use crate::id::{AccountId, Nonce, RunId, SegmentId, ShardId, Tag};
use crate::key::Signature;
use crate::limits::MAX_PAYLOAD;
use crate::manifest::Manifest;
use crate::money::{Payout, Stated};
use crate::record::{Head, HolderList, Keep, Mandate, Receipt, Registration, Release, StorageOffer, Undo};
use crate::refusal::Refusal;
use crate::rewind::Rewound;
use crate::signed::Signed;
use crate::statement::{Countersigned, Statement, Terms};
use crate::time::UnixTime;

/// The protocol's name after the network.
pub const NAME: &str = "shard/1";

/// What a mediator puts beside a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// The account and its keys.
    pub registration: Signed<Registration>,
    /// The account's permission for the mediator.
    pub mandate: Signed<Mandate>,
    /// The run the segment belongs to.
    pub run: RunId,
    /// The segment's manifest.
    pub manifest: Manifest,
    /// The shard's position in it.
    pub index: ShardIndex,
    /// The owner's tag of the segment.
    pub tag: Tag,
}

/// A request to a storage node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Asks for the node's offer.
    Quote,
    /// Asks for a nonce to log in with.
    Hello,
    /// Logs an account in on this connection, as owner.
    Login {
        /// The account and its keys.
        registration: Signed<Registration>,
        /// The account's signature over [`crate::record::login_message`].
        proof: Signature,
    },
    /// Brings a shard, as payload.
    Put(Box<Placement>),
    /// Asks for a shard.
    Get {
        /// Whose shard.
        account: AccountId,
        /// The segment.
        segment: SegmentId,
        /// The shard's position.
        index: ShardIndex,
    },
    /// Asks for one leaf of each of some shards, with its proof.
    Challenge {
        /// Chooses the leaves, so that nobody can know them before.
        nonce: Nonce,
        /// The shards, at most [`crate::limits::MAX_CHALLENGE`].
        shards: Vec<Challenged>,
        /// The epoch that a mediator audits, and will be charged for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audited: Option<Audited>,
    },
    /// Brings a mediator's statements to be countersigned, at most [`crate::limits::MAX_BILLS`].
    Bill {
        /// Each of another contract.
        bills: Vec<Bill>,
    },
    /// Asks where the operator wants its earnings.
    PayTo {
        /// The mediator's Lightning node, 66 hexadecimal digits, from which channels may come.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lightning: Option<String>,
    },
    /// Tells of a payout of what was earned. Told again, the newest word counts.
    Paid {
        /// What became of it by now.
        payout: Payout,
    },
    /// Lists the shards held for an account, in order, a page at a time.
    List {
        /// Whose shards.
        account: AccountId,
        /// Where the last page ended.
        after: Option<(SegmentId, ShardIndex)>,
    },
    /// Asks what is known about some segments, at most [`crate::limits::MAX_LOCATE`].
    Locate {
        /// Whose segments.
        account: AccountId,
        /// The segments.
        segments: Vec<SegmentId>,
    },
    /// Brings holder lists, at most [`crate::limits::MAX_HOLDER_LISTS`].
    Holders {
        /// Signed by the account's mediator.
        lists: Vec<Signed<HolderList>>,
    },
    /// Keeps everything that a run stored.
    Keep {
        /// The owner's statement.
        keep: Signed<Keep>,
    },
    /// Deletes what a release names, after the node's delay. From the owner or its mediator.
    Release {
        /// The owner's statement.
        release: Signed<Release>,
    },
    /// Cancels every pending release of an account. The guard's signature suffices, whoever brings
    /// it.
    Undo {
        /// The guard's statement.
        undo: Signed<Undo>,
    },
    /// Replaces an account's head key, from a head on. The guard's signature suffices, whoever brings
    /// it.
    Rewind(Box<Rewound>),
    /// Brings a mandate without a shard, from its mediator or the owner: older ones end.
    Mandate {
        /// The account and its keys.
        registration: Signed<Registration>,
        /// The account's permission for a mediator.
        mandate: Signed<Mandate>,
    },
    /// Brings a head.
    HeadPut {
        /// The account and its keys.
        registration: Signed<Registration>,
        /// The head.
        head: Signed<Head>,
    },
    /// Asks for the heads kept for an account.
    Heads {
        /// Whose heads.
        account: AccountId,
    },
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

/// A storage node's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The request was refused.
    Refused(Refusal),
    /// Answers `Quote`.
    Offer(Signed<StorageOffer>),
    /// Answers `Hello`.
    Nonce(Nonce),
    /// Answers `Login`.
    Welcome {
        /// The mandate under which the account's shards are held, which names its mediator.
        mandate: Option<Signed<Mandate>>,
    },
    /// Answers `Put`: the shard is on disk.
    Receipt(Signed<Receipt>),
    /// Answers `Get`, with the shard as payload.
    Shard,
    /// Answers `Challenge`. The payload has the proofs of all that are proved, in order: a leaf's
    /// 1,024 bytes, then the sibling chaining values, 32 bytes each, from the leaf up; how many there
    /// are follows from the shard's length and the leaf.
    Proofs {
        /// One for each shard asked for, in order.
        verdicts: Vec<Verdict>,
    },
    /// Answers `Bill`, bill by bill.
    Billed(Vec<Billed>),
    /// Answers `PayTo`: an address, an offer, a Lightning node, or a Lightning node and where it
    /// listens, at most [`crate::limits::MAX_DESTINATION`] bytes. None if the operator named nothing.
    PayTo(Option<String>),
    /// Answers `List`.
    Listed {
        /// One page of shards, in order.
        shards: Vec<(SegmentId, ShardIndex, ShardId)>,
        /// Whether more follow.
        more: bool,
    },
    /// Answers `Locate`: the segments of which shards are held here.
    Located(Vec<HeldSegment>),
    /// Answers `Holders`, `Keep`, `HeadPut`, `Paid` and `Rewind`.
    Done,
    /// Answers `Mandate`: the newest one known, which shows a dismissed mediator that it is.
    Mandated(Signed<Mandate>),
    /// Answers `Release`: it is on disk.
    Released {
        /// When it is carried out, unless it is undone before.
        due: UnixTime,
    },
    /// Answers `Undo`: it is on disk.
    Undone {
        /// Whether a release was pending, which is cancelled now.
        pending: bool,
    },
    /// Answers `Heads`.
    Heads {
        /// The heads kept, whichever keys signed them.
        heads: Vec<Signed<Head>>,
        /// The newest rewind, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rewound: Option<Box<Rewound>>,
    },
}

impl Header for Request {
    fn payload_limit(&self) -> u32 {
        if matches!(self, Self::Put(_)) { MAX_PAYLOAD } else { 0 }
    }

    fn answer_limit(&self) -> u32 {
        if matches!(self, Self::Get { .. } | Self::Challenge { .. }) { MAX_PAYLOAD } else { 0 }
    }
}

impl Header for Response {
    fn payload_limit(&self) -> u32 {
        if matches!(self, Self::Shard | Self::Proofs { .. }) { MAX_PAYLOAD } else { 0 }
    }
}
