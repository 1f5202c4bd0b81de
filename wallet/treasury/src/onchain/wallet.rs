//! The wallet: its addresses, and what came to them.

use parking_lot::MutexGuard;
use std::path::PathBuf;

use bdk_wallet::{KeychainKind, LocalOutput};
use bitcoin::Network;
use fincrypt_protocol::amount::Sat;
use fincrypt_protocol::money::Arrival;
use zeroize::Zeroizing;

use super::chain::Chain;
use super::error::TreasuryError;
use super::state::{Inner, State};
use super::transaction::{confirmations, txid};
use crate::chain::ChainSource;

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
    state: State,
}

impl Treasury {
    /// Opens the wallet in its folder, or begins one; the chain's source need not run.
    ///
    /// # Errors
    /// [`TreasuryError`]: nothing may be promised or paid on the chain then.
    pub fn open(setup: TreasurySetup) -> Result<Self, TreasuryError> {
        let TreasurySetup { network, folder, seed, chain, birthday } = setup;
        let state = State::open(&seed, network, &folder, birthday)?;
        let chain = Chain::new(chain, network)?;
        let treasury = Self { chain, state };
        // The descriptors of a new one.
        treasury.lock().save()?;
        Ok(treasury)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock()
    }

    /// Bitcoin's network.
    #[must_use]
    pub fn network(&self) -> Network {
        self.state.network
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
        if !self.chain.sync(&self.state)? {
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

fn arrived(output: &LocalOutput, tip: u32) -> Option<Arrived> {
    let confirmations = confirmations(&output.chain_position, tip);
    let arrival = Arrival::Output(txid(output.outpoint.txid), output.outpoint.vout);
    let amount = Sat::new(output.txout.value.to_sat());
    let index = output.derivation_index;
    (confirmations > 0).then_some(Arrived { arrival, index, amount, confirmations })
}
