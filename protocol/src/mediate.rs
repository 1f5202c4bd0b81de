//! `/mediate/1`: what a client and a mediator say to each other. Every request may be repeated.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::amount::Price;
use crate::call::requests;
use crate::geometry::{Code, Redundancy, ShardIndex};
use crate::id::{ContractId, HeadHash, NodeId, Nonce, RunId, SegmentId, Tag};
use crate::key::Signature;
use crate::manifest::Manifest;
use crate::money::{Balance, DepositTo, Entry, Payout, Stated, Withdrawal};
use crate::record::{Adopt, Head, Keep, Mandate, MediatorRecord, Receipt, Registration, Release, Undo};
use crate::rewind::Rewound;
use crate::signed::Signed;
use crate::time::UnixTime;

/// The protocol's name after the network.
pub const NAME: &str = "mediate/1";

requests! {
    /// A client's request.
    pub enum Request {
        GetRecord => Signed<MediatorRecord>,
        Hello => LoginNonce,
        Login => Welcome,
        GetQuote => Quote,
        OpenSegment => Opened,
        PutShard [payload] => Done,
        CommitSegment => Receipts,
        KeepRun => Done,
        GetShard => Done [payload],
        LocateSegments => Located,
        ReportMissing => Done,
        ReleaseSegments => ReleaseProgress,
        UndoReleases => Done,
        RewindAccount => Done,
        MigrateIn => MigrationProgress,
        MigrateOut => Done,
        GetDeposit => DepositTo,
        GetBalance => Balance,
        GetHistory => History,
        GetStatements => Statements,
        Withdraw => Payout,
        GetHead => CurrentHead,
        SwapHead => Done,
    }
}

/// Asks for the mediator's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetRecord {}

/// Asks for a nonce to log in with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {}

/// Logs an account in on this connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Login {
    /// The account and its keys.
    pub registration: Signed<Registration>,
    /// The account's signature over [`crate::record::login_message`].
    pub proof: Signature,
}

/// Asks which code and price a run would get now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetQuote {
    /// Stored bytes per source byte.
    pub redundancy: Redundancy,
    /// Leaves dearer nodes out, as a mandate with that limit does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<Price>,
}

/// Announces a segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenSegment {
    /// The run it belongs to.
    pub run: RunId,
    /// The account's permission for the mediator.
    pub mandate: Signed<Mandate>,
    /// The segment's manifest.
    pub manifest: Manifest,
    /// The owner's tag of the segment.
    pub tag: Tag,
}

/// Brings a data shard, as payload. Answered once its holder has it, or the mediator until the segment is
/// committed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutShard {
    /// The segment.
    pub segment: SegmentId,
    /// The shard's position in it.
    pub index: ShardIndex,
}

/// Asks for the receipts of a segment, waiting until it counts as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommitSegment {
    /// The segment.
    pub segment: SegmentId,
}

/// Keeps everything that a run stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeepRun {
    /// The owner's statement.
    pub keep: Signed<Keep>,
}

/// Asks for a shard, which comes as payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetShard {
    /// The segment.
    pub segment: SegmentId,
    /// The shard's position in it.
    pub index: ShardIndex,
}

/// Asks who holds some segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocateSegments {
    /// The segments, at most [`crate::limits::MAX_LOCATE`].
    pub segments: Vec<SegmentId>,
}

/// Reports shards that are not where they should be. The mediator challenges their holders itself, and
/// believes only that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportMissing {
    /// The shards, at most [`crate::limits::MAX_MISSING_REPORTED`].
    pub shards: Vec<(SegmentId, ShardIndex)>,
}

/// Deletes what a release names, after storage's delay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseSegments {
    /// The owner's statement.
    pub release: Signed<Release>,
}

/// Cancels every pending release of an account. The guard's signature suffices: no login.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UndoReleases {
    /// The guard's statement.
    pub undo: Signed<Undo>,
}

/// Replaces an account's head key, from a head on. The guard's signature suffices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewindAccount {
    /// The rewind and its head.
    pub rewound: Rewound,
}

/// Makes the mediator take a vault over from another one. Repeated, it tells how far that is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrateIn {
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

/// Tells a mediator that another one has taken a vault over. The owner's signature suffices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrateOut {
    /// The owner's statement.
    pub adopt: Signed<Adopt>,
}

/// Asks where the account may pay in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetDeposit {}

/// Asks how the account's prepayment stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetBalance {}

/// Asks for what changed the prepayment, oldest first, at most [`crate::limits::MAX_ENTRIES`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetHistory {
    /// The number of the last entry that is known.
    pub after: u64,
}

/// Asks for the newest statements of the account's contracts, in order of their ids, at most
/// [`crate::limits::MAX_ENTRIES`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetStatements {
    /// Where the last page ended.
    pub after: Option<ContractId>,
}

/// Pays out of the prepayment. Answered once it is decided on, durably, with how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Withdraw {
    /// How much, and where to.
    pub withdrawal: Withdrawal,
}

/// Asks for the account's head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetHead {}

/// Replaces the account's head, if it still is the expected one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SwapHead {
    /// The head to replace; none for the account's first.
    pub expected: Option<HeadHash>,
    /// The new head.
    pub head: Signed<Head>,
}

/// Answers what has nothing more to say: it is done, durably.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {}

/// Answers [`Hello`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginNonce {
    /// To be signed, once.
    pub nonce: Nonce,
}

/// Answers [`Login`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// Whether the mediator knew the account before.
    pub known: bool,
}

/// Answers [`GetQuote`]: what a mediator would do and ask for a run.
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

/// Answers [`OpenSegment`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// Bit `i` is set if data shard `i` is still missing.
    pub missing: u32,
}

/// Answers [`CommitSegment`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipts {
    /// One for each shard that is stored.
    pub receipts: Vec<Signed<Receipt>>,
}

/// Who holds a segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocatedSegment {
    /// The segment's manifest.
    pub manifest: Manifest,
    /// The owner's tag of it.
    pub tag: Tag,
    /// Shard positions and their holders.
    pub holders: Vec<(ShardIndex, NodeId)>,
}

/// Answers [`LocateSegments`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Located {
    /// Segments that are known.
    pub segments: Vec<LocatedSegment>,
    /// Their holders' addresses, each once.
    pub nodes: Vec<NodeAddresses>,
}

/// A node and where it listens, as binary multiaddresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddresses {
    /// The node.
    pub node: NodeId,
    /// Its addresses.
    pub addresses: Vec<ByteBuf>,
}

/// Answers [`ReleaseSegments`]: it is noted, and sent to every holder until that acknowledges it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseProgress {
    /// Nodes that hold something for the account.
    pub holders: u32,
    /// How many of them have acknowledged it by now.
    pub acknowledged: u32,
    /// When the first of these deletes; none if none has acknowledged it.
    pub due: Option<UnixTime>,
}

/// Answers [`MigrateIn`]: it is noted, and goes on until every holder that can be found has listed what
/// it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationProgress {
    /// Segments taken over by now.
    pub segments: u64,
    /// Holders found by now.
    pub found: u32,
    /// How many of them have listed what they hold.
    pub acknowledged: u32,
    /// Whether the search is over, and all have.
    pub complete: bool,
}

/// Answers [`GetHistory`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// One page.
    pub entries: Vec<Entry>,
    /// Whether more follow.
    pub more: bool,
}

/// Answers [`GetStatements`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statements {
    /// One page.
    pub statements: Vec<Stated>,
    /// Whether more follow.
    pub more: bool,
}

/// Answers [`GetHead`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurrentHead {
    /// The head, if there is one.
    pub head: Option<Signed<Head>>,
}
