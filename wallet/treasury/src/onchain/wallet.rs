//! The wallet and its journal.

use parking_lot::{Mutex, MutexGuard};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bdk_wallet::chain::{ChainPosition, ConfirmationBlockTime, Merge};
use bdk_wallet::template::Bip84;
use bdk_wallet::{ChangeSet, KeychainKind, LocalOutput, Wallet};
use bitcoin::bip32::Xpriv;
use bitcoin::hashes::Hash;
use bitcoin::{Address, Network, Txid};
use fincrypt_protocol::TxId;
use fincrypt_protocol::amount::Sat;
use fincrypt_protocol::money::Arrival;
use fincrypt_state::journal::Journal;
use zeroize::Zeroizing;

use super::TreasuryError;
use super::chain::Chain;
use super::payouts::Payouts;
use super::record::{self, MAX_RECORD, Record};
use crate::chain::ChainSource;

/// Addresses beyond the last given away that are looked for, too: those given away by a ledger that
/// was lost.
pub(super) const LOOKAHEAD: u32 = 200;
/// A journal that is longer, and of which more than half is of no use, is written anew.
const COMPACT_FROM: u64 = 4 << 20;

/// What a wallet is opened with.
pub struct TreasurySetup {
    /// Bitcoin's network.
    pub network: Network,
    /// Its own folder.
    pub folder: PathBuf,
    /// The seed of its words (BIP-39).
    pub seed: Zeroizing<[u8; 64]>,
    /// Where the chain is read.
    pub chain: ChainSource,
    /// The first block that may have something of it; none for a new wallet.
    pub birthday: Option<u32>,
}

/// Money at one of the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Which output.
    pub arrival: Arrival,
    /// At the address of this index.
    pub index: u32,
    /// How much.
    pub amount: Sat,
    /// Blocks on it, its own included.
    pub confirmations: u32,
}

/// What there is, as far as it is confirmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnChainFunds {
    /// All coins.
    pub confirmed: Sat,
    /// Of these, the coins that payouts under way spend.
    pub committed: Sat,
    /// The newest block seen.
    pub height: u32,
}

/// A wallet on the chain. All methods block.
pub struct Treasury {
    pub(super) chain: Chain,
    network: Network,
    pub(super) birthday: Option<u32>,
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    pub(super) wallet: Wallet,
    /// All that the journal says of the chain.
    known: ChangeSet,
    journal: Journal,
    /// Its length when it was last written anew.
    compacted: u64,
    pub(super) payouts: Payouts,
}

pub(super) fn txid(id: Txid) -> TxId {
    let mut bytes = id.to_byte_array();
    // As it is printed.
    bytes.reverse();
    TxId::from_bytes(bytes)
}

pub(super) fn failed(error: &dyn std::fmt::Display) -> TreasuryError {
    TreasuryError::Wallet(error.to_string())
}

/// Whether a text is an address of a network.
#[must_use]
pub fn is_address(text: &str, network: Network) -> bool {
    address(text, network).is_ok()
}

pub(super) fn address(text: &str, network: Network) -> Result<Address, TreasuryError> {
    let refused = || TreasuryError::Address(text.chars().take(100).collect());
    Address::from_str(text).ok().and_then(|address| address.require_network(network).ok()).ok_or_else(refused)
}

impl Treasury {
    /// Opens the wallet in its folder, or begins one; the chain's source need not run.
    ///
    /// # Errors
    /// [`TreasuryError`]: nothing may be promised or paid on the chain then.
    pub fn open(setup: TreasurySetup) -> Result<Self, TreasuryError> {
        let TreasurySetup { network, folder, seed, chain, birthday } = setup;
        let io = |source| fincrypt_state::journal::JournalError::Io { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(io)?;
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
        let wallet = wallet(&seed, network, &known, &folder)?;
        let compacted = journal.length();
        let inner = Inner { wallet, known, journal, compacted, payouts };
        let chain = Chain::new(chain, network)?;
        let treasury = Self { chain, network, birthday, inner: Mutex::new(inner) };
        // The descriptors of a new one.
        treasury.lock().save()?;
        Ok(treasury)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Bitcoin's network.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// The address of an index. It is watched from now on, durably.
    ///
    /// # Errors
    /// If that cannot be remembered.
    pub fn address(&self, index: u32) -> Result<String, TreasuryError> {
        let mut inner = self.lock();
        let _revealed = inner.wallet.reveal_addresses_to(KeychainKind::External, index).count();
        inner.save()?;
        Ok(inner.wallet.peek_address(KeychainKind::External, index).address.to_string())
    }

    /// Reads all blocks that are new, and forgets those that are no longer in the best chain.
    ///
    /// # Errors
    /// [`TreasuryError::Bitcoind`], [`TreasuryError::Esplora`], [`TreasuryError::Network`], or if the journal fails.
    pub fn sync(&self) -> Result<(), TreasuryError> {
        if !self.chain.sync(self)? {
            return Ok(());
        }
        let mut inner = self.lock();
        inner.save()?;
        inner.compact()
    }

    /// Everything that ever came to an address of ours and is in the best chain, spent or not.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Arrived> {
        let inner = self.lock();
        let tip = inner.wallet.latest_checkpoint().height();
        let external = inner.wallet.list_output().filter(|output| output.keychain == KeychainKind::External);
        external.filter_map(|output| arrived(&output, tip)).collect()
    }

    /// What there is.
    #[must_use]
    pub fn funds(&self) -> OnChainFunds {
        let inner = self.lock();
        let (mut confirmed, mut committed) = (0_u64, 0_u64);
        for output in inner.wallet.list_unspent().filter(|output| output.chain_position.is_confirmed()) {
            let sat = output.txout.value.to_sat();
            confirmed = confirmed.saturating_add(sat);
            if inner.payouts.spends(&output.outpoint) {
                committed = committed.saturating_add(sat);
            }
        }
        let height = inner.wallet.latest_checkpoint().height();
        OnChainFunds { confirmed: Sat::new(confirmed), committed: Sat::new(committed), height }
    }

    /// The public descriptors of addresses and of change, for a watching wallet.
    #[must_use]
    pub fn descriptors(&self) -> [String; 2] {
        let inner = self.lock();
        [KeychainKind::External, KeychainKind::Internal]
            .map(|keychain| inner.wallet.public_descriptor(keychain).to_string())
    }
}

pub(super) fn confirmations(position: &ChainPosition<ConfirmationBlockTime>, tip: u32) -> u32 {
    match position {
        ChainPosition::Confirmed { anchor, .. } => (tip + 1).saturating_sub(anchor.block_id.height),
        ChainPosition::Unconfirmed { .. } => 0,
    }
}

fn arrived(output: &LocalOutput, tip: u32) -> Option<Arrived> {
    let confirmations = confirmations(&output.chain_position, tip);
    let arrival = Arrival::Output(txid(output.outpoint.txid), output.outpoint.vout);
    let amount = Sat::new(output.txout.value.to_sat());
    let index = output.derivation_index;
    (confirmations > 0).then_some(Arrived { arrival, index, amount, confirmations })
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
    fn compact(&mut self) -> Result<(), TreasuryError> {
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
