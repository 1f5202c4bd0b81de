//! Why a use case failed. What a person can do about it is said where there is a person: in the command
//! line.

use std::path::PathBuf;

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::{NodeId, Refusal};

use super::pipeline::PipelineError;
use super::vault_state::VaultStateError;
use fincrypt_net::{CallError, ConnectError};

/// A client's command failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no vault in the home.
    #[error("no vault in {0}")]
    NoVault(PathBuf),
    /// One of the snapshots cannot be read, so the latest is not known.
    #[error(
        "snapshot {lost} cannot be read ({reason}) and may be the latest; the newest that can be read is {newest}"
    )]
    LatestUnknown {
        /// The one that cannot be read.
        lost: String,
        /// Why.
        reason: String,
        /// The newest one that can.
        newest: String,
    },
    /// There is a vault already.
    #[error("{0} already holds a vault")]
    VaultExists(PathBuf),
    /// A local file could not be read or written.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Local state failed.
    #[error(transparent)]
    State(#[from] fincrypt_state::kv::KvError),
    /// The vault's state does not allow this now.
    #[error(transparent)]
    VaultState(VaultStateError),
    /// The state in the home could not be opened.
    #[error("the state in {path} is damaged ({reason}); what was stored is not lost")]
    StateDamaged {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The keyfile could not be opened.
    #[error(transparent)]
    Keyfile(#[from] fincrypt_vault::keyfile::KeyfileError),
    /// The words could not be read.
    #[error(transparent)]
    Words(#[from] fincrypt_vault::words::WordsError),
    /// A record of our own could not be made.
    #[error("a record could not be made: {0}")]
    Record(#[from] fincrypt_protocol::RecordError),
    /// No first contact is configured.
    #[error("no bootstrap address")]
    NoBootstrap,
    /// No first contact answers.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A peer did not do what it was asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// No mediator was found.
    #[error("no mediator answers in network {0}")]
    NoMediator(fincrypt_protocol::Network),
    /// The vault's mediator does not answer.
    #[error("the vault's mediator {node} does not answer ({reason})")]
    MediatorGone {
        /// The mediator.
        node: NodeId,
        /// What happened.
        reason: String,
    },
    /// What was given is no mediator.
    #[error("{0:?} is neither a peer id nor an address")]
    NotAMediator(String),
    /// The mediator has been dismissed, by another device of the vault.
    #[error("the vault has moved away from mediator {0}, and storage does not tell where to")]
    Dismissed(NodeId),
    /// The vault's mediator has not answered for long.
    #[error("the vault's mediator {node} has not answered for {days} days")]
    MediatorLost {
        /// The mediator.
        node: NodeId,
        /// Since when it was last seen.
        days: u64,
    },
    /// Too few storage nodes.
    #[error(
        "{eligible} storage nodes qualify, at least {needed} are needed: {missing} more must join before anything can be stored"
    )]
    TooFewPeers {
        /// Those that qualify.
        eligible: u16,
        /// The fewest that would do.
        needed: u16,
        /// How many are missing.
        missing: u16,
    },
    /// The mediator offers less redundancy than was asked for.
    #[error(
        "the mediator offers {data} of {total} shards, which is less than the redundancy asked for: nothing was stored"
    )]
    LowRedundancy {
        /// Data shards.
        data: u8,
        /// All shards.
        total: u8,
    },
    /// Storage is dearer than the limit.
    #[error("storage costs {price}, more than the limit of {most}, and nothing was stored")]
    TooDear {
        /// What it costs.
        price: Price,
        /// What is paid at most.
        most: Price,
    },
    /// The mediator refuses something about money.
    #[error("{0}")]
    Money(Refusal),
    /// A segment's receipts do not show what they must.
    #[error("segment {segment} was not stored: {reason}")]
    NotStored {
        /// The segment.
        segment: fincrypt_protocol::SegmentId,
        /// What the receipts lack.
        reason: &'static str,
    },
    /// Storage does not have what the mediator says it has.
    #[error(
        "{}: storage does not have what it signed for; no new snapshot was written, the older ones stand",
        name_unsafe(.segments)
    )]
    Unsafe {
        /// What the check found.
        report: Box<super::self_check::findings::CheckReport>,
        /// Segments of the run that are not safe.
        segments: Vec<fincrypt_protocol::SegmentId>,
    },
    /// The head at the mediator is older than one seen before.
    #[error("the vault was rolled back: sequence {found} is offered, {known} was seen before")]
    RolledBack {
        /// The sequence offered.
        found: u64,
        /// The sequence known.
        known: u64,
    },
    /// The head at the mediator does not follow the one seen before.
    #[error(
        "the vault was forked: the mediator's head does not follow head {sequence}, which was seen before"
    )]
    Forked {
        /// The sequence known.
        sequence: u64,
    },
    /// A head could not be opened.
    #[error("the vault's head cannot be opened: {0}")]
    Head(#[from] fincrypt_vault::head::HeadError),
    /// No holder has such a head.
    #[error("no holder that answered has head {0}")]
    NoHead(String),
    /// Several heads go by that name.
    #[error("several heads are {0}")]
    SeveralHeads(String),
    /// Another writer was faster too often.
    #[error("another device writes to this vault at the same time")]
    Contended,
    /// Another device has written the catalog anew, without what was not used any more.
    #[error("another device has pruned this vault meanwhile")]
    Rewritten,
    /// The vault's heads are signed with a key that this machine does not have.
    #[error(
        "the vault's head is signed with another key than this machine's: it was rewound with its 24 words"
    )]
    Rewound,
    /// Nobody has heard of a rewind.
    #[error("neither a storage node nor the mediator took the rewind, and nothing has changed")]
    NotRewound,
    /// No trace of the vault.
    #[error("no storage node knows a vault of these words in network {0}")]
    VaultNotFound(fincrypt_protocol::Network),
    /// Shards are missing.
    #[error("segment {segment} cannot be fetched: {found} of {needed} shards could be had")]
    Unavailable {
        /// The segment.
        segment: fincrypt_protocol::SegmentId,
        /// Good shards.
        found: usize,
        /// Shards needed.
        needed: u8,
    },
    /// Stored data does not decode.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// No such snapshot.
    #[error("no snapshot {0:?}")]
    NoSnapshot(String),
    /// No such path in the snapshot.
    #[error("no {0:?} in this snapshot")]
    NoPath(String),
    /// The target folder cannot be used.
    #[error("cannot restore into {path}: {reason}")]
    Target {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What was restored may not survive a power cut.
    #[error("the files are in {path}, but the disk did not take everything ({reason})")]
    NotOnDisk {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A folder cannot be backed up.
    #[error("cannot back up {path}: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The network could not be set up.
    #[error(transparent)]
    Engine(#[from] fincrypt_net::EngineError),
    /// The identity could not be made.
    #[error(transparent)]
    Identity(#[from] fincrypt_net::IdentityError),
    /// A part of the program stopped.
    #[error("an inner part stopped unexpectedly")]
    Inner,
}

impl From<PipelineError> for ClientError {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::State(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<VaultStateError> for ClientError {
    fn from(error: VaultStateError) -> Self {
        match error {
            VaultStateError::State(error) => error.into(),
            VaultStateError::Journal { path, source } => Self::Io { path, source },
            VaultStateError::OlderHead { found, known } => Self::RolledBack { found, known },
            other => Self::VaultState(other),
        }
    }
}

impl ClientError {
    /// An error about a file.
    pub fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

fn name_unsafe(segments: &[fincrypt_protocol::SegmentId]) -> String {
    match segments {
        [one] => format!("segment {one} is not safe"),
        [first, ..] => format!("{} segments are not safe, {first} among them", segments.len()),
        [] => "a segment is not safe".to_owned(),
    }
}

/// Turns a mediator's refusal into what it means for a person.
pub(crate) fn from_refusal(error: CallError) -> ClientError {
    match error.refusal() {
        Some(Refusal::TooFewPeers { eligible, needed }) => {
            ClientError::TooFewPeers { eligible, needed, missing: needed.saturating_sub(eligible) }
        }
        Some(
            refusal @ (Refusal::Unpaid
            | Refusal::NoWallet
            | Refusal::Destination
            | Refusal::Insufficient
            | Refusal::Used),
        ) => ClientError::Money(refusal),
        _ => ClientError::Call(error),
    }
}
