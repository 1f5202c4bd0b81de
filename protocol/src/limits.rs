//! The bounds that both sides of every exchange check before they allocate.

/// The most shards a segment has.
pub const MAX_SHARDS: usize = 30;
/// Length of a full shard: 1 MiB.
pub const FULL_SHARD_LEN: u32 = 1 << 20;
/// Length of the smallest shard: 4 KiB.
pub const MIN_SHARD_LEN: u32 = 4 << 10;
/// The most bytes a payload has: one full shard.
pub const MAX_PAYLOAD: u32 = FULL_SHARD_LEN;
/// The most bytes of a message header. A `Located` answer for 64 segments of 30 shards fits.
pub const MAX_HEADER: u32 = 512 << 10;
/// The most bytes of a request's header. 64 holder lists of 30 shards fit.
pub const MAX_REQUEST_HEADER: u32 = 128 << 10;
/// The most bytes of a record in the DHT or on a gossip topic.
pub const MAX_RECORD: usize = 4 << 10;
/// Length of a head's body before it is sealed.
pub const HEAD_BODY_LEN: usize = 4 << 10;
/// The most bytes of a signed head: body, nonce, tag, signature and envelope.
pub const MAX_HEAD: usize = HEAD_BODY_LEN + 512;
/// The most catalog references in a head.
pub const MAX_CATALOG_REFS: usize = 48;
/// A head's sequence may advance by at most this in one step.
pub const MAX_SEQUENCE_STEP: u64 = 1 << 16;
/// Heads a storage node keeps for one account.
pub const MAX_HEADS_KEPT: usize = 8;
/// The most segments that one `Locate` names.
pub const MAX_LOCATE: usize = 64;
/// The most shards that one report of missing shards names.
pub const MAX_MISSING_REPORTED: usize = 64;
/// The most entries in one page of a `List` answer.
pub const MAX_LIST: usize = 2048;
/// The most shards that one challenge asks for: 300 show a loss of 1 % with a probability of 95 %.
pub const MAX_CHALLENGE: usize = 300;
/// The most statements that one `Bill` brings.
pub const MAX_BILLS: usize = 64;
/// The most parts of one payout: outputs of a batch, or contracts that one payment settles.
pub const MAX_PARTS: usize = 1000;
/// The most entries or statements that one answer about an account's money has.
pub const MAX_ENTRIES: usize = 64;
/// The most bytes of the text that says where money goes: offers may be long.
pub const MAX_DESTINATION: usize = 2048;
/// The most addresses that travel with a peer.
pub const MAX_ADDRESSES: usize = 8;
/// The most bytes of one multiaddress.
pub const MAX_ADDRESS_LEN: usize = 256;
/// Open segments per client at a mediator.
pub const MAX_OPEN_SEGMENTS: usize = 2;
/// Slots of a vault whose guard keys a machine keeps.
pub const MAX_SLOTS: u32 = 32;
/// Slots without an answer after which recovery stops looking.
pub const SLOT_GAP: u32 = 20;
/// Segments that were never kept lapse after this many seconds: seven days.
pub const LAPSE_SECONDS: u64 = 7 * 24 * 3600;
/// The most segments that one release names.
pub const MAX_RELEASE_SEGMENTS: usize = 256;
/// Storage carries a release out after this many seconds, unless its operator set more or fewer:
/// seven days.
pub const RELEASE_DELAY_SECONDS: u64 = 7 * 24 * 3600;
/// A release's or undo's sequence may lie so many seconds ahead of a node's clock: one day.
pub const MAX_RELEASE_AHEAD: u64 = 24 * 3600;
/// A mandate's sequence may lie so many seconds ahead of a node's clock: one day.
pub const MAX_MANDATE_AHEAD: u64 = 24 * 3600;
/// The most holders that a client names to a mediator that takes its vault over.
pub const MAX_ADOPT_HINTS: usize = 64;
/// The most keeps that a client gives a mediator that takes its vault over.
pub const MAX_ADOPT_KEEPS: usize = 128;
/// The most releases that a client gives a mediator that takes its vault over: each may name
/// [`MAX_RELEASE_SEGMENTS`], and all fit [`MAX_REQUEST_HEADER`] beside the rest.
pub const MAX_ADOPT_RELEASES: usize = 4;
/// Buckets under which mediators announce themselves.
pub const ROLE_BUCKETS: u8 = 16;
/// Segments that one `Keep` may follow: the owner's statement covers a whole run.
pub const MAX_HOLDER_LISTS: usize = 64;
/// Bytes of a rewind and the head that it goes back to, two signed records.
pub const MAX_REWOUND: usize = 8 << 10;
