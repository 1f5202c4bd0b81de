//! What a person can do about an error. The library says what failed and why; this program says what
//! to type.

use std::io::ErrorKind;

use fincrypt_client::{
    BackupError, ClientError, HeadError, HomeError, MediatorError, OfferError, PrepaymentError, ReadError,
    RecoveryError, Refused, RestoreError, SessionError,
};
use fincrypt_ledger::LedgerError;
use fincrypt_mediator::MoneyError;
use fincrypt_net::{CallError, ConnectError, EngineError, IdentityError};
use fincrypt_protocol::Refusal;
use fincrypt_state::journal::JournalError;
use fincrypt_state::kv::KvError;
#[cfg(feature = "bitcoin")]
use fincrypt_treasury::seed_file::SeedError;
use fincrypt_vault::keyfile::KeyfileError;
use fincrypt_vault::words::WordsError;

use crate::config::ConfigError;
use crate::error::NodeError;

/// What to do about an error, if a person can do something about it.
pub(super) fn on(error: &ClientError) -> Option<&'static str> {
    match error {
        ClientError::Home(error) => on_home(error),
        ClientError::Session(error) => on_session(error),
        ClientError::Mediator(error) => on_mediator(error),
        ClientError::Head(error) => on_head(error),
        ClientError::Read(error) => on_reading(error),
        ClientError::Backup(error) => on_backup(error),
        ClientError::Restore(error) => on_restore(error),
        ClientError::Recovery(error) => Some(on_recovery(error)),
        ClientError::Record(_) => None,
        ClientError::Inner => Some(REPORT),
    }
}

/// What to do about a configuration that cannot be read.
pub(super) fn on_config(error: &ConfigError) -> Option<&'static str> {
    match error {
        ConfigError::Read { source, .. } => on_system(source.kind()),
        _ => None,
    }
}

const REPORT: &str = "please report this";

fn on_home(error: &HomeError) -> Option<&'static str> {
    match error {
        HomeError::NoVault(_) => {
            Some("run `fincrypt init FOLDER`, or `fincrypt recover --words-file FILE`, first")
        }
        HomeError::VaultExists(_) => {
            Some("use another --home, or remove that folder if you have its 24 words")
        }
        HomeError::StateDamaged { .. } => {
            Some("restore it from a copy, or run `fincrypt recover` with the 24 words in a new home")
        }
        HomeError::Io { source, .. } | HomeError::State(KvError::Io(source)) => on_system(source.kind()),
        HomeError::State(KvError::Locked(_)) => Some("wait until it ends, or use another --home"),
        HomeError::Keyfile(error) => on_keyfile(error),
        HomeError::Words(error) => on_words(error),
        HomeError::Journal(JournalError::Damaged { .. }) => {
            Some("restore it from a copy, or run `fincrypt recover` with the 24 words in a new home")
        }
        HomeError::State(_) | HomeError::VaultState(_) | HomeError::Journal(_) | HomeError::Randomness(_) => {
            None
        }
    }
}

fn on_keyfile(error: &KeyfileError) -> Option<&'static str> {
    match error {
        KeyfileError::Format | KeyfileError::Damaged => {
            Some("restore it from a copy, or run `fincrypt recover` with the 24 words in a new home")
        }
        KeyfileError::WrongPassword => {
            Some("try again; if it is lost, run `fincrypt recover` with the 24 words in a new home")
        }
        KeyfileError::Params | KeyfileError::Randomness => None,
    }
}

/// What to do about words that are none.
pub(super) fn on_words(error: &WordsError) -> Option<&'static str> {
    match error {
        WordsError::Count(_) => Some("check that none is missing or doubled"),
        WordsError::Unknown(_) => Some("check its spelling"),
        WordsError::Checksum => Some("check their order and spelling"),
        WordsError::Randomness => None,
    }
}

/// What the system refuses.
pub(super) fn on_system(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("free some space and try again; nothing is damaged")
        }
        ErrorKind::PermissionDenied => Some("check who owns it, or use another --home"),
        ErrorKind::ReadOnlyFilesystem => Some("mount it for writing, or use another --home"),
        _ => None,
    }
}

fn on_session(error: &SessionError) -> Option<&'static str> {
    match error {
        SessionError::NoBootstrap => {
            Some("give --bootstrap MULTIADDR, or write `bootstrap` into config.toml")
        }
        SessionError::Connect(error) => on_connecting(error),
        SessionError::Engine(EngineError::Listen { .. }) => {
            Some("choose another --listen address, or stop the program that uses it")
        }
        SessionError::Identity(IdentityError::Damaged { .. }) => {
            Some("restore it from a copy, or remove it to start as a new node")
        }
        SessionError::Engine(_) | SessionError::Identity(_) => None,
    }
}

fn on_connecting(error: &ConnectError) -> Option<&'static str> {
    match error {
        ConnectError::NoAnswer { .. } => Some("check that the node runs and that the address is right"),
        ConnectError::OtherNetwork { .. } => Some("use that --network, or another bootstrap address"),
        ConnectError::OtherPeer { .. } | ConnectError::Unknown(_) | ConnectError::Stopped => None,
    }
}

/// What to do about a node that cannot start.
pub(super) fn on_node(error: &NodeError) -> Option<&'static str> {
    match error {
        NodeError::Common(error) => on(error),
        NodeError::Money(error) => on_money(error),
        #[cfg(feature = "bitcoin")]
        NodeError::Seed(error) => on_seed(error),
        _ => None,
    }
}

fn on_money(error: &MoneyError) -> Option<&'static str> {
    match error {
        MoneyError::Ledger(
            LedgerError::Contradicts { .. }
            | LedgerError::Lost { .. }
            | LedgerError::Journal(JournalError::Damaged { .. }),
        ) => Some("restore the journal from a copy"),
        MoneyError::Ledger(_) => None,
        #[cfg(feature = "bitcoin")]
        MoneyError::Seed(error) => on_seed(error),
        #[cfg(feature = "bitcoin")]
        MoneyError::Treasury(error) => crate::wording::on_treasury(error),
    }
}

#[cfg(feature = "bitcoin")]
fn on_seed(error: &SeedError) -> Option<&'static str> {
    match error {
        SeedError::Damaged(_) => {
            Some("remove it and make it from the words with `fincrypt-node wallet init --from-words FILE`")
        }
        _ => None,
    }
}

fn on_mediator(error: &MediatorError) -> Option<&'static str> {
    match error {
        MediatorError::NotFound(_) => Some("wait until one runs, or use another bootstrap address"),
        MediatorError::Gone { .. } => Some("try again later; `fincrypt restore` works without it"),
        MediatorError::NotAMediator(_) => Some("`fincrypt mediator list` shows the mediators"),
        MediatorError::Dismissed(_) => Some(
            "`fincrypt mediator list` shows the mediators, `fincrypt mediator use PEER` moves to one of them",
        ),
        MediatorError::Lost { .. } => Some(
            "`fincrypt mediator list` shows others, `fincrypt mediator use PEER` moves the vault to one of them and sends no data again",
        ),
        MediatorError::Offer(OfferError::TooDear { .. }) => {
            Some("raise `max_price` in config.toml, or give --max-price")
        }
        MediatorError::Offer(OfferError::TooFewNodes { .. } | OfferError::LowRedundancy { .. }) => None,
        MediatorError::Prepayment(error) => on_prepayment(*error),
        MediatorError::Refused { reason, .. } => on_refusal(*reason),
        MediatorError::Call(CallError::OtherRole { .. } | CallError::Connect(ConnectError::Unknown(_))) => {
            Some(
                "`fincrypt mediator list` shows the mediators; one that it does not show goes by its address",
            )
        }
        MediatorError::Call(CallError::Connect(error)) => on_connecting(error),
        MediatorError::Call(CallError::Refused { refusal: Refusal::Busy, .. }) => Some("try again later"),
        MediatorError::Call(_) => None,
    }
}

fn on_prepayment(error: PrepaymentError) -> Option<&'static str> {
    match error {
        PrepaymentError::UsedUp => Some("pay in with `fincrypt prepayment deposit`"),
        PrepaymentError::Destination => {
            Some("give an address, an offer or an invoice of the mediator's Bitcoin network")
        }
        PrepaymentError::InvoiceUsed => Some("ask the payee for another, or for an offer"),
        PrepaymentError::NoWallet | PrepaymentError::TooLittle => None,
    }
}

fn on_refusal(refused: Refused) -> Option<&'static str> {
    match refused {
        Refused::Rewound => Some("run `fincrypt recover` with the words in a new home"),
        Refused::Guarded => Some("`fincrypt undo-release --lift` lets releases in again"),
        Refused::NotMandated
        | Refused::UnknownSegment
        | Refused::Incomplete
        | Refused::HeadMoved
        | Refused::Stale
        | Refused::Dismissed => None,
    }
}

fn on_head(error: &HeadError) -> Option<&'static str> {
    match error {
        HeadError::RolledBack { .. } => Some(
            "do not trust this mediator; `fincrypt restore --direct` reads from the storage nodes instead, `fincrypt mediator use PEER` moves to another one, or brings this one up to date if it lost its memory",
        ),
        HeadError::Forked { .. } => Some(
            "do not trust this mediator; `fincrypt restore --direct` reads from the storage nodes instead",
        ),
        HeadError::Contended | HeadError::Rewritten => Some("try again"),
        HeadError::Rewound => Some("run `fincrypt recover` with them in a new home"),
        HeadError::Sealed(_) => None,
    }
}

fn on_reading(error: &ReadError) -> Option<&'static str> {
    match error {
        ReadError::Unavailable { .. } => Some("try again when more storage nodes are reachable"),
        ReadError::NoSnapshots => Some("run `fincrypt backup`"),
        ReadError::NoSnapshot(_) => Some("`fincrypt snapshots` lists them"),
        ReadError::LatestUnknown { .. } => Some("name the one to restore"),
        ReadError::NoPath(_) => Some("`fincrypt ls SNAPSHOT` lists its contents"),
        ReadError::Inner => Some(REPORT),
        ReadError::Damaged(_) | ReadError::State(_) => None,
    }
}

fn on_backup(error: &BackupError) -> Option<&'static str> {
    match error {
        BackupError::Unsafe { .. } => {
            Some("run `fincrypt backup` again, which stores them again, or use another mediator")
        }
        BackupError::Folder { .. }
        | BackupError::Scan(_)
        | BackupError::Pipeline(_)
        | BackupError::NotStored { .. } => None,
    }
}

fn on_restore(error: &RestoreError) -> Option<&'static str> {
    match error {
        RestoreError::Full { .. } => Some("free some, then restore again, which keeps what is there"),
        RestoreError::NotOnDisk { .. } => Some("check it, then restore again, which keeps what is good"),
        RestoreError::Target { .. } => None,
    }
}

fn on_recovery(error: &RecoveryError) -> &'static str {
    match error {
        RecoveryError::VaultNotFound(_) => "check the words, the network and the bootstrap address",
        RecoveryError::NoHead(_) => "`fincrypt recover --list-heads` shows those there are",
        RecoveryError::SeveralHeads(_) => {
            "give the beginning of one's hash instead, see `fincrypt recover --list-heads`"
        }
        RecoveryError::NotRewound => "try again later",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::amount::Price;
    use fincrypt_protocol::{Network, NodeId, SegmentId};

    fn refused(reason: Refused) -> ClientError {
        MediatorError::Refused { node: NodeId::from_bytes([1; 32]), reason }.into()
    }

    #[test]
    fn a_refusal_comes_with_what_to_type() {
        let unpaid = on(&PrepaymentError::UsedUp.into()).expect("advice");
        assert!(unpaid.contains("fincrypt prepayment deposit"));
        assert!(on(&refused(Refused::Rewound)).is_some_and(|text| text.contains("fincrypt recover")));
        assert_eq!(on(&PrepaymentError::TooLittle.into()), None);
    }

    #[test]
    fn a_full_disk_is_told_from_damage() {
        let full = || std::io::Error::from(ErrorKind::StorageFull);
        let opening = HomeError::Io { path: "/home/state".into(), source: full() };
        let later = HomeError::State(KvError::Io(full()));
        for error in [opening.into(), ClientError::from(later)] {
            assert!(on(&error).is_some_and(|advice| advice.contains("free some space")), "{error}");
        }
        assert!(on_system(ErrorKind::PermissionDenied).is_some_and(|advice| advice.contains("--home")));
    }

    #[test]
    fn an_error_of_each_place_comes_with_what_to_do() {
        let says = |error: ClientError, word: &str| on(&error).is_some_and(|advice| advice.contains(word));
        assert!(says(SessionError::NoBootstrap.into(), "--bootstrap MULTIADDR"));
        assert!(says(HeadError::Forked { sequence: 2 }.into(), "restore --direct"));
        assert!(says(ReadError::NoSnapshot("ffff".to_owned()).into(), "fincrypt snapshots"));
        assert_eq!(on(&ReadError::Damaged("a list".into()).into()), None);
    }

    #[test]
    fn every_error_that_a_person_can_do_something_about_comes_with_it() {
        let (node, segment) = (NodeId::from_bytes([1; 32]), SegmentId::from_bytes([2; 32]));
        let (path, text) = (|| "/home".into(), || "it".to_owned());
        let dear = OfferError::TooDear { price: Price::new(2), most: Price::new(1) };
        let latest = ReadError::LatestUnknown { lost: text(), reason: text(), newest: text() };
        let lacking = BackupError::Unsafe { report: Box::default(), segments: vec![segment] };
        let address = || "/ip4/192.0.2.1/tcp/1".to_owned();
        let other = ConnectError::OtherNetwork { address: address(), found: text(), expected: Network::Main };
        let listen = EngineError::Listen { address: address().parse().expect("valid"), reason: text() };
        let journal = JournalError::Damaged { path: path(), offset: 1 };
        let table: [(ClientError, &str); 46] = [
            (HomeError::State(KvError::Locked(path())).into(), "another --home"),
            (HomeError::Journal(journal).into(), "from a copy"),
            (HomeError::Keyfile(KeyfileError::Damaged).into(), "fincrypt recover"),
            (HomeError::Keyfile(KeyfileError::Format).into(), "fincrypt recover"),
            (HomeError::Keyfile(KeyfileError::WrongPassword).into(), "try again"),
            (HomeError::Words(WordsError::Checksum).into(), "order and spelling"),
            (SessionError::Connect(ConnectError::NoAnswer { address: address() }).into(), "the node runs"),
            (SessionError::Connect(other).into(), "--network"),
            (SessionError::Engine(listen).into(), "--listen"),
            (SessionError::Identity(IdentityError::Damaged { path: path() }).into(), "a new node"),
            (CallError::Refused { node, refusal: Refusal::Busy }.into(), "try again later"),
            (HomeError::NoVault(path()).into(), "fincrypt init FOLDER"),
            (HomeError::VaultExists(path()).into(), "another --home"),
            (HomeError::StateDamaged { path: path(), reason: text() }.into(), "fincrypt recover"),
            (SessionError::NoBootstrap.into(), "--bootstrap MULTIADDR"),
            (MediatorError::NotFound(Network::Main).into(), "another bootstrap address"),
            (MediatorError::Gone { node, reason: text() }.into(), "fincrypt restore"),
            (MediatorError::NotAMediator(text()).into(), "fincrypt mediator list"),
            (MediatorError::Dismissed(node).into(), "fincrypt mediator use PEER"),
            (MediatorError::Lost { node, days: 9 }.into(), "fincrypt mediator use PEER"),
            (dear.into(), "--max-price"),
            (MediatorError::Call(CallError::OtherRole { node }).into(), "fincrypt mediator list"),
            (PrepaymentError::UsedUp.into(), "fincrypt prepayment deposit"),
            (PrepaymentError::Destination.into(), "an offer or an invoice"),
            (PrepaymentError::InvoiceUsed.into(), "ask the payee"),
            (refused(Refused::Rewound), "fincrypt recover"),
            (refused(Refused::Guarded), "fincrypt undo-release --lift"),
            (HeadError::RolledBack { found: 1, known: 2 }.into(), "restore --direct"),
            (HeadError::Forked { sequence: 2 }.into(), "restore --direct"),
            (HeadError::Contended.into(), "try again"),
            (HeadError::Rewritten.into(), "try again"),
            (HeadError::Rewound.into(), "fincrypt recover"),
            (ReadError::Unavailable { segment, found: 1, needed: 2 }.into(), "try again when"),
            (ReadError::NoSnapshots.into(), "fincrypt backup"),
            (ReadError::NoSnapshot(text()).into(), "fincrypt snapshots"),
            (latest.into(), "name the one"),
            (ReadError::NoPath(text()).into(), "fincrypt ls SNAPSHOT"),
            (ReadError::Inner.into(), "please report"),
            (lacking.into(), "fincrypt backup"),
            (RestoreError::NotOnDisk { path: path(), reason: text() }.into(), "restore again"),
            (RestoreError::Full { path: path(), files: 1 }.into(), "free some"),
            (RecoveryError::VaultNotFound(Network::Main).into(), "check the words"),
            (RecoveryError::NoHead(text()).into(), "--list-heads"),
            (RecoveryError::SeveralHeads(text()).into(), "--list-heads"),
            (RecoveryError::NotRewound.into(), "try again later"),
            (ClientError::Inner, "please report"),
        ];
        for (error, word) in table {
            assert!(on(&error).is_some_and(|advice| advice.contains(word)), "{error}: {word}");
        }
    }
}
