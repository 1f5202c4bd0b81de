//! The books and the two wallets, as all services of the money share them.

use std::path::Path;
use std::sync::Arc;

use fincrypt_ledger::{Account, Books, Event, Ledger, LedgerError, Posted, Rail};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::{Clock, PayoutId, Random, UnixTime};
use fincrypt_treasury::lightning::{Lightning, LightningKeeper, LightningSetup};
use fincrypt_treasury::onchain::{Treasury, TreasurySetup};
use fincrypt_treasury::{BitcoinNetwork, Chain, lightning_seed, seed_file};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::money::options::{MoneyError, MoneyOptions, MoneyPaths};

/// The books, the wallets, the clock and the randomness.
///
/// The ledger's lock is the last of all: while it is held, no other lock is taken and no wallet is asked.
pub(super) struct Wallets {
    pub(super) ledger: Ledger,
    /// The wallet on the chain, if there is a chain.
    treasury: Option<Treasury>,
    /// The Lightning node, if there is a chain.
    lightning: Option<Arc<LightningKeeper>>,
    /// Held from a payout's intent until it is signed, and while what is open is sent: an intent of which
    /// nothing was signed was left by a crash, and fails.
    deciding: Mutex<()>,
    /// Told when something may have moved.
    moved: Arc<Notify>,
    clock: Clock,
    random: Random,
}

fn birthday(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn open_treasury(paths: &MoneyPaths, chain: &Chain, ledger: &Ledger) -> Result<Treasury, MoneyError> {
    let given = ledger.books(Books::next_address);
    let setup = TreasurySetup {
        network: chain.network,
        folder: paths.treasury.clone(),
        seed: seed_file::read(&paths.wallet_seed)?,
        chain: chain.source.clone(),
        // If it was lost, while the books were not, everything is in blocks of before.
        birthday: birthday(&paths.wallet_birthday).or((given > 0).then_some(0)),
    };
    let treasury = Treasury::open(setup)?;
    if let Some(last) = given.checked_sub(1) {
        treasury.address(last)?;
    }
    Ok(treasury)
}

fn open_lightning(
    options: &MoneyOptions,
    chain: &Chain,
    moved: &Arc<Notify>,
) -> Result<LightningKeeper, MoneyError> {
    let setup = LightningSetup {
        folder: options.paths.lightning.clone(),
        seed: lightning_seed(&*seed_file::read(&options.paths.wallet_seed)?),
        listen: options.lightning_listen.clone(),
        alias: options.lightning_alias.clone(),
        chain: chain.clone(),
        // Peers that open channels to a mediator wait for blocks, but for these.
        trusted: options.paths.lightning_trusted.clone(),
    };
    Ok(LightningKeeper::new(setup, Arc::clone(moved)))
}

impl Wallets {
    /// Opens the books, and the wallets of the options' chain.
    ///
    /// # Errors
    /// [`MoneyError`]: nothing may be paid or promised then.
    pub(super) fn open(options: &MoneyOptions, clock: Clock, random: Random) -> Result<Self, MoneyError> {
        let (ledger, found) = Ledger::open(&options.paths.ledger)?;
        tracing::info!(entries = found.entries, cut = found.cut, rebuilt = found.rebuilt, "ledger_opened");
        let moved = Arc::new(Notify::new());
        let chain = options.chain.as_ref();
        let treasury = chain.map(|chain| open_treasury(&options.paths, chain, &ledger)).transpose()?;
        let lightning = chain.map(|chain| open_lightning(options, chain, &moved)).transpose()?.map(Arc::new);
        let deciding = Mutex::default();
        Ok(Self { ledger, treasury, lightning, deciding, moved, clock, random })
    }

    /// The Lightning node, while it runs.
    pub(super) fn lightning(&self) -> Option<Arc<Lightning>> {
        self.lightning.as_ref().and_then(|keeper| keeper.get())
    }

    /// What starts the Lightning node and looks after it.
    pub(super) fn lightning_keeper(&self) -> Option<&Arc<LightningKeeper>> {
        self.lightning.as_ref()
    }

    /// The wallet on the chain.
    pub(super) fn treasury(&self) -> Option<&Treasury> {
        self.treasury.as_ref()
    }

    /// Bitcoin's network; none without a chain.
    pub(super) fn network(&self) -> Option<BitcoinNetwork> {
        self.lightning.as_ref().map(|keeper| keeper.network())
    }

    /// The time now.
    pub(super) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// A new payout's identity.
    pub(super) fn draw(&self) -> PayoutId {
        PayoutId::from_bytes(self.random.bytes())
    }

    /// Records an event now, durably.
    ///
    /// # Errors
    /// [`LedgerError`]: it may not be acted on.
    pub(super) fn record(&self, event: &Event) -> Result<Posted, LedgerError> {
        self.ledger.record(self.now(), event)
    }

    /// The turn to decide on payouts or to carry out those that are open.
    pub(super) fn decide(&self) -> MutexGuard<'_, ()> {
        self.deciding.lock()
    }

    /// Waits until something may have moved.
    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Has the payout loop look at once.
    pub(super) fn wake(&self) {
        self.moved.notify_one();
    }

    /// What of the money on the chain is not promised to payouts, by the books.
    pub(super) fn unpromised(&self) -> Msat {
        let free = self.ledger.books(|books| {
            u128::from(books.balance(Account::OnChain).get()).saturating_sub(books.committed(Rail::OnChain))
        });
        Msat::new(u64::try_from(free).unwrap_or(u64::MAX))
    }
}
