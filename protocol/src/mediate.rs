//! `/mediate/1`: what a client and a mediator say to each other. Every request may be repeated.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::amount::Price;
use crate::frame::Header;
use crate::geometry::{Code, Redundancy, ShardIndex};
use crate::id::{ContractId, HeadHash, NodeId, Nonce, RunId, SegmentId, Tag};
use crate::key::Signature;
use crate::limits::MAX_PAYLOAD;
use crate::manifest::Manifest;
use crate::money::{Balance, DepositTo, Entry, Payout, Stated, Withdrawal};
use crate::record::{Adopt, Head, Keep, Mandate, MediatorRecord, Receipt, Registration, Release, Undo};
use crate::refusal::Refusal;
use crate::rewind::Rewound;
use crate::signed::Signed;
use crate::time::UnixTime;

/// The protocol's name after the network.
pub const NAME: &str = "mediate/1";

/// A client's request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Asks for the mediator's record.
    Record,
    /// Asks for a nonce to log in with.
    Hello,
    /// Logs an account in on this connection.
    Login {
        /// The account and its keys.
        registration: Signed<Registration>,
        /// The account's signature over [`crate::record::login_message`].
        proof: Signature,
    },
    /// Asks which code and price a run would get now.
    Quote {
        /// Stored bytes per source byte.
        redundancy: Redundancy,
        /// Leaves dearer nodes out, as a mandate with that limit does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_price: Option<Price>,
    },
    /// Announces a segment.
    Open {
        /// The run it belongs to.
        run: RunId,
        /// The account's permission for this mediator.
        mandate: Signed<Mandate>,
        /// The segment's manifest.
        manifest: Manifest,
        /// The owner's tag of the segment.
        tag: Tag,
    },
    /// Brings a data shard, as payload.
    Put {
        /// The segment.
        segment: SegmentId,
        /// The data shard's position.
        index: ShardIndex,
    },
    /// Asks for the receipts of a segment, waiting until it counts as stored.
    Commit {
        /// The segment.
        segment: SegmentId,
    },
    /// Keeps everything that a run stored.
    Keep {
        /// The owner's statement.
        keep: Signed<Keep>,
    },
    /// Asks for a shard.
    Get {
        /// The segment.
        segment: SegmentId,
        /// The shard's position.
        index: ShardIndex,
    },
    /// Asks who holds some segments, at most [`crate::limits::MAX_LOCATE`].
    Locate {
        /// The segments.
        segments: Vec<SegmentId>,
    },
    /// Says that some shards are not where they should be, at most
    /// [`crate::limits::MAX_DOUBTS`]. The mediator looks itself, and believes only that.
    Doubt {
        /// The shards.
        shards: Vec<(SegmentId, ShardIndex)>,
    },
    /// Deletes what a release names, after storage's delay.
    Release {
        /// The owner's statement.
        release: Signed<Release>,
    },
    /// Cancels every pending release of an account. The guard's signature suffices: no login.
    Undo {
        /// The guard's statement.
        undo: Signed<Undo>,
    },
    /// Replaces an account's head key, from a head on. The guard's signature suffices.
    Rewind(Box<Rewound>),
    /// Makes the mediator take a vault over from another one. Repeated, it tells how far that is.
    Adopt(Box<Adoption>),
    /// Tells a mediator that another one has taken a vault over. The owner's signature suffices.
    Dismiss {
        /// The owner's statement.
        adopt: Signed<Adopt>,
    },
    /// Asks where the account may pay in.
    Deposit,
    /// Asks how the account's prepayment stands.
    Balance,
    /// Asks for what changed the prepayment, oldest first, at most [`crate::limits::MAX_ENTRIES`].
    History {
        /// The number of the last entry that is known.
        after: u64,
    },
    /// Asks for the newest statements of the account's contracts, in order of their ids, at most
    /// [`crate::limits::MAX_ENTRIES`].
    Statements {
        /// Where the last page ended.
        after: Option<ContractId>,
    },
    /// Pays out of the prepayment.
    Withdraw(Withdrawal),
    /// Asks for the account's head.
    HeadGet,
    /// Replaces the account's head, if it still is the expected one.
    HeadSwap {
        /// The head to replace; none for the account's first.
        expected: Option<HeadHash>,
        /// The new head.
        head: Signed<Head>,
    },
}

/// What a mediator needs to take a vault over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adoption {
    /// The owner's statement.
    pub adopt: Signed<Adopt>,
    /// The account's permission for the mediator, of the same sequence.
    pub mandate: Signed<Mandate>,
    /// Keeps the run under which the mediator stores what it repairs of the vault.
    pub keep: Signed<Keep>,
    /// The newest head that the owner knows.
    pub head: Option<Signed<Head>>,
    /// The newest rewind, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewound: Option<Rewound>,
    /// Holders that the owner knows, at most [`crate::limits::MAX_ADOPT_HINTS`].
    pub holders: Vec<NodeAddresses>,
    /// Keeps that some holder may not have heard of, at most [`crate::limits::MAX_ADOPT_KEEPS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keeps: Vec<Signed<Keep>>,
    /// Releases that some holder may not have heard of, oldest first, at most
    /// [`crate::limits::MAX_ADOPT_RELEASES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<Signed<Release>>,
}

/// What a mediator would do and ask for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// Storage nodes that qualify.
    pub eligible: u16,
    /// The code for full segments.
    pub code: Code,
    /// What storage takes, on average, before the mediator's fee.
    pub price: Price,
    /// For reading beyond what is included, per GiB.
    pub egress_price: Price,
    /// The mediator's fee in permille.
    pub fee_permille: u16,
    /// Placement caps are off: a young or local network.
    pub caps_off: bool,
}

/// Who holds a segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Located {
    /// The segment's manifest.
    pub manifest: Manifest,
    /// The owner's tag of it.
    pub tag: Tag,
    /// Shard positions and their holders.
    pub holders: Vec<(ShardIndex, NodeId)>,
}

/// A node and where it listens, as binary multiaddresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddresses {
    /// The node.
    pub node: NodeId,
    /// Its addresses.
    pub addresses: Vec<ByteBuf>,
}

/// A mediator's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The request was refused.
    Refused(Refusal),
    /// Answers `Record`.
    Record(Signed<MediatorRecord>),
    /// Answers `Hello`.
    Nonce(Nonce),
    /// Answers `Login`.
    Welcome {
        /// Whether the mediator knew the account before.
        known: bool,
    },
    /// Answers `Quote`.
    Quote(Quote),
    /// Answers `Open`.
    Opened {
        /// Bit `i` is set if data shard `i` is still missing.
        missing: u32,
    },
    /// Answers `Put`: the shard's keeper has it, or the mediator until the segment is committed.
    Taken,
    /// Answers `Commit`.
    Receipts(Vec<Signed<Receipt>>),
    /// Answers `Keep`.
    Kept,
    /// Answers `Doubt`: the mediator looks.
    Doubted,
    /// Answers `Release`: it is noted, and told to every holder until that has heard it.
    Released {
        /// Nodes that hold something for the account.
        holders: u32,
        /// How many of them have heard it by now.
        heard: u32,
        /// When the first of these deletes; none if none has heard it.
        due: Option<UnixTime>,
    },
    /// Answers `Undo`: it is noted, and told to every holder until that has heard it.
    Undone,
    /// Answers `Rewind`: it is noted, and told to every holder until that has heard it.
    Rewound,
    /// Answers `Get`, with the shard as payload.
    Shard,
    /// Answers `Locate`: the segments that are known, and where their holders listen.
    Located {
        /// Known segments.
        segments: Vec<Located>,
        /// Their holders' addresses, each once.
        nodes: Vec<NodeAddresses>,
    },
    /// Answers `Adopt`: it is noted, and goes on until every holder that can be found has told
    /// what it holds.
    Adopted {
        /// Segments taken over by now.
        segments: u64,
        /// Holders found by now.
        found: u32,
        /// How many of them have told what they hold.
        heard: u32,
        /// Whether the search is over, and all have.
        complete: bool,
    },
    /// Answers `Dismiss`.
    Dismissed,
    /// Answers `Deposit`.
    DepositTo(DepositTo),
    /// Answers `Balance`.
    Balance(Balance),
    /// Answers `History`.
    History {
        /// One page.
        entries: Vec<Entry>,
        /// Whether more follow.
        more: bool,
    },
    /// Answers `Statements`.
    Statements {
        /// One page.
        statements: Vec<Stated>,
        /// Whether more follow.
        more: bool,
    },
    /// Answers `Withdraw`: it is decided on, durably, and how far it is.
    Withdrawn(Payout),
    /// Answers `HeadGet`.
    Head(Option<Signed<Head>>),
    /// Answers `HeadSwap`.
    Swapped,
}

impl Header for Request {
    fn payload_limit(&self) -> u32 {
        if matches!(self, Self::Put { .. }) { MAX_PAYLOAD } else { 0 }
    }

    fn answer_limit(&self) -> u32 {
        if matches!(self, Self::Get { .. }) { MAX_PAYLOAD } else { 0 }
    }
}

impl Header for Response {
    fn payload_limit(&self) -> u32 {
        if matches!(self, Self::Shard) { MAX_PAYLOAD } else { 0 }
    }
}
