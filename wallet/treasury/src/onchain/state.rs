//! What the wallet has learned, and its journal.

use parking_lot::{Mutex, MutexGuard};
use std::path::Path;

use bdk_wallet::chain::Merge;
use bdk_wallet::template::Bip84;
use bdk_wallet::{ChangeSet, KeychainKind, Wallet};
use bitcoin::Network;
use bitcoin::bip32::Xpriv;
use fincrypt_state::journal::Journal;
use zeroize::Zeroizing;

use super::error::{TreasuryError, failed};
use super::record::{self, MAX_RECORD, Record};
use super::versions::Payouts;

/// Addresses beyond the last given away that are looked for, too: those given away by a ledger that
/// was lost.
pub(super) const LOOKAHEAD: u32 = 200;
/// A journal that is longer, and of which more than half is of no use, is written anew.
const COMPACT_FROM: u64 = 4 << 20;

/// The wallet and its journal, which the sources of the chain bring up to date.
pub(super) struct State {
    pub(super) network: Network,
    /// The first block that may have something of it; none for a new wallet.
    pub(super) birthday: Option<u32>,
    inner: Mutex<Inner>,
}

/// What the lock of [`State`] guards.
pub(super) struct Inner {
    pub(super) wallet: Wallet,
    /// All that the journal says of the chain.
    known: ChangeSet,
    journal: Journal,
    /// Its length when it was last written anew.
    compacted: u64,
    pub(super) payouts: Payouts,
}

impl State {
    /// Reads the journal in `folder`, or begins one.
    pub(super) fn open(
        seed: &Zeroizing<[u8; 64]>,
        network: Network,
        folder: &Path,
        birthday: Option<u32>,
    ) -> Result<Self, TreasuryError> {
        let io = |source| fincrypt_state::journal::JournalError::Io { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(io)?;
        let (mut known, mut payouts, mut number, mut failure) =
            (ChangeSet::default(), Payouts::default(), 0, None);
        let (journal, _) = Journal::open(&folder.join("journal"), MAX_RECORD, |bytes| {
            number += 1;
            match Record::from_bytes(bytes) {
                Ok(Record::Learned(text)) => match record::changes(&text) {
                    Ok(changes) => known.merge(changes),
                    Err(error) => failure = failure.take().or(Some(error)),
                },
                Ok(Record::Version(version)) => failure = failure.take().or(payouts.add(version).err()),
                Ok(Record::Buried(payout)) => payouts.bury(payout),
                Err(source) => failure = failure.take().or(Some(TreasuryError::Record { number, source })),
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        let wallet = wallet(seed, network, &known, folder)?;
        let compacted = journal.length();
        let inner = Inner { wallet, known, journal, compacted, payouts };
        Ok(Self { network, birthday, inner: Mutex::new(inner) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

fn wallet(
    seed: &Zeroizing<[u8; 64]>,
    network: Network,
    known: &ChangeSet,
    folder: &Path,
) -> Result<Wallet, TreasuryError> {
    let root = Xpriv::new_master(network, seed.as_slice()).map_err(|error| failed(&error))?;
    let (receive, change) = (Bip84(root, KeychainKind::External), Bip84(root, KeychainKind::Internal));
    if known.is_empty() {
        let created = Wallet::create(receive, change).network(network).lookahead(LOOKAHEAD);
        return created.create_wallet_no_persist().map_err(|error| failed(&error));
    }
    let foreign = |reason: String| TreasuryError::Foreign { folder: folder.to_owned(), reason };
    let loaded = Wallet::load()
        .descriptor(KeychainKind::External, Some(receive))
        .descriptor(KeychainKind::Internal, Some(change))
        .extract_keys()
        .check_network(network)
        .lookahead(LOOKAHEAD)
        .load_wallet_no_persist(known.clone());
    let loaded = loaded.map_err(|error| foreign(error.to_string()))?;
    loaded.ok_or_else(|| foreign("its journal has no descriptors".to_owned()))
}

impl Inner {
    /// Appends a record, durably.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), TreasuryError> {
        let bytes = record.to_bytes().map_err(|source| TreasuryError::Record { number: 0, source })?;
        self.journal.append(&bytes)?;
        Ok(self.journal.sync()?)
    }

    /// Makes durable what the wallet has learned.
    pub(super) fn save(&mut self) -> Result<(), TreasuryError> {
        let Some(changes) = self.wallet.staged().filter(|changes| !changes.is_empty()).cloned() else {
            return Ok(());
        };
        self.record(&record::learned(&changes)?)?;
        self.wallet.take_staged();
        self.known.merge(changes);
        Ok(())
    }

    /// Writes the journal anew if it has become long.
    pub(super) fn compact(&mut self) -> Result<(), TreasuryError> {
        if self.journal.length() < COMPACT_FROM.max(2 * self.compacted) {
            return Ok(());
        }
        let learned = record::learned(&self.known)?;
        let records = std::iter::once(learned).chain(self.payouts.records());
        let encode =
            |record: Record| record.to_bytes().map_err(|source| TreasuryError::Record { number: 0, source });
        self.journal.rewrite(records.map(encode))?;
        self.journal.sync_name()?;
        self.compacted = self.journal.length();
        Ok(())
    }
}
