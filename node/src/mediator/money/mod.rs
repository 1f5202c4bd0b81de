//! A mediator's money: the books, its wallet on the chain, its Lightning node, and who is paid when.
//!
//! Everything is carried out from the books: what they say is under way is looked up, and only what
//! was never sent is sent. So a crash between any two steps is followed by the step that was next.

mod batch;
mod channel_costs;
mod channels;
mod deposits;
mod destination;
mod due;
mod operator;
mod payments;
mod payouts;
mod transactions;
mod troubles;
mod withdrawals;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::{NodeId, PayoutId, Refusal, UnixTime, cbor};
use fincrypt_storage::kv::{Batch, KeyValue, Tree};
use fincrypt_storage::state::State;
use fincrypt_wallet::ledger::{Books, Ledger, LedgerError, Owed, PayTo, PayoutBook, Rail};
use fincrypt_wallet::lightning::{Destination, Lightning};
use fincrypt_wallet::treasury::{Bitcoind, ChainSource as Source, Treasury, TreasuryError, TreasurySetup};
use fincrypt_wallet::{BitcoinNetwork, lightning_seed};
use tokio::sync::{Notify, watch};

use crate::accounts::failed;
use crate::client::Home;
use crate::config::{Chain, ChainSource, Config};
use crate::lightning::{self, LightningKeeper, LightningSetup};
use crate::seed::{self, SeedError};
use channel_costs::Compared;
pub(super) use destination::To;
pub(super) use due::{Due, PayoutTerms};
pub(crate) use operator::LightningView;
pub(crate) use troubles::Trouble;
use troubles::Troubles;

/// `node` → when it was paid last.
const PAID_AT: Tree = Tree("paid_at");

/// The money cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum MoneyError {
    /// The books cannot be used.
    #[error("the ledger: {0}; nothing is paid or promised without it")]
    Ledger(#[from] LedgerError),
    /// The wallet's seed cannot be had.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The wallet on the chain cannot be used.
    #[error(transparent)]
    Treasury(#[from] TreasuryError),
    /// No port for the Lightning node.
    #[error("the Lightning node finds no place to listen: {0}; name one in lightning_listen")]
    Listen(#[from] std::io::Error),
}

/// Its parts.
pub struct Money {
    ledger: Ledger,
    state: State,
    terms: PayoutTerms,
    /// The wallet on the chain, if there is one.
    treasury: Option<Treasury>,
    /// The Lightning node, if there is a chain.
    lightning: Option<Arc<LightningKeeper>>,
    troubles: Troubles,
    /// Payouts of which all nodes have heard, and at which stage: no more than the books have.
    all_told: Mutex<HashMap<PayoutId, Vec<u8>>>,
    /// Held from a payout's intent until it is signed, and while what is open is sent: an intent of which
    /// nothing was signed was left by a crash, and fails.
    deciding: Mutex<()>,
    /// Held while an address is given away.
    attributing: Mutex<()>,
    /// How the Lightning node stood to the books at the last look.
    compared: Mutex<Compared>,
    /// Why the chain cannot be read.
    chain_down: Mutex<Option<String>>,
    /// Told when something may have moved.
    moved: Arc<Notify>,
}

fn open_treasury(home: &Home, chain: &Chain, ledger: &Ledger) -> Result<Treasury, MoneyError> {
    let source = match chain.source.clone() {
        ChainSource::Bitcoind { host, port, cookie } => Source::Bitcoind(Bitcoind { host, port, cookie }),
        ChainSource::Esplora { url } => Source::Esplora { url },
    };
    let given = ledger.books(Books::next_address);
    let birthday = std::fs::read_to_string(home.wallet_birthday()).ok();
    let birthday = birthday.and_then(|text| text.trim().parse().ok());
    let setup = TreasurySetup {
        network: chain.network,
        folder: home.treasury(),
        seed: seed::read(&home.wallet_seed())?,
        chain: source,
        // If it was lost, while the books were not, everything is in blocks of before.
        birthday: birthday.or((given > 0).then_some(0)),
    };
    let treasury = Treasury::open(setup)?;
    if let Some(last) = given.checked_sub(1) {
        treasury.address(last)?;
    }
    Ok(treasury)
}

fn nodes_of<'a>(books: &'a Books, payout: &'a PayoutBook) -> impl Iterator<Item = NodeId> + 'a {
    payout.parts.iter().filter_map(|part| match part.owed {
        Owed::Contract(contract) => books.contract(contract).map(|contract| contract.storage),
        _ => None,
    })
}

impl Money {
    /// Opens the books, and what else the configuration has.
    ///
    /// # Errors
    /// [`MoneyError`]: nothing may be paid or promised then.
    pub fn open(home: &Home, config: &Config, state: State) -> Result<Self, MoneyError> {
        let (ledger, found) = Ledger::open(&home.ledger())?;
        tracing::info!(?found, "the ledger is open and sound");
        let interval = Duration::from_secs(config.payout_interval);
        let terms = PayoutTerms {
            threshold: config.payout_threshold,
            interval: Some(interval).filter(|interval| !interval.is_zero()),
            channel_from: Msat::new(config.credit_bound.get() / 2),
            routing_permille: config.routing_fee_permille,
        };
        let (troubles, moved) = (Troubles::default(), Arc::new(Notify::new()));
        let treasury = match &config.chain {
            Some(chain) => Some(open_treasury(home, chain, &ledger)?),
            None => None,
        };
        let lightning = match &config.chain {
            Some(chain) => {
                let setup = LightningSetup {
                    folder: home.lightning(),
                    seed: lightning_seed(&*seed::read(&home.wallet_seed())?),
                    listen: lightning::listening(home, config)?,
                    alias: config.lightning_alias.clone(),
                    chain: chain.clone(),
                    // Whoever opens channels to a mediator waits for blocks.
                    trusted: home.path().join("lightning.trusted"),
                };
                Some(Arc::new(LightningKeeper::new(setup, Arc::clone(&moved))))
            }
            None => None,
        };
        Ok(Self {
            ledger,
            state,
            terms,
            treasury,
            lightning,
            troubles,
            all_told: Mutex::default(),
            deciding: Mutex::default(),
            attributing: Mutex::default(),
            compared: Mutex::default(),
            chain_down: Mutex::default(),
            moved,
        })
    }

    /// The books.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether clients can pay in: then they have to, before anything that costs is stored for them.
    pub(crate) fn takes_deposits(&self) -> bool {
        self.lightning.is_some()
    }

    /// The Lightning node, while it runs.
    pub(in crate::mediator) fn lightning(&self) -> Option<Arc<Lightning>> {
        self.lightning.as_ref().and_then(|keeper| keeper.get())
    }

    /// The wallet on the chain.
    fn treasury(&self) -> Option<&Treasury> {
        self.treasury.as_ref()
    }

    /// Bitcoin's network; none without a chain.
    fn network(&self) -> Option<BitcoinNetwork> {
        self.lightning.as_ref().map(|keeper| keeper.network())
    }

    /// Looks after the connections to chain and channels until told to stop.
    pub(super) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        match &self.lightning {
            Some(keeper) => Arc::clone(keeper).run(stop).await,
            None => drop(stop.changed().await),
        }
    }

    /// Waits until something may have moved.
    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Books what came in, sends what is to be sent, and books what has arrived. Blocks.
    pub(super) fn move_money(&self) -> Result<(), LedgerError> {
        if let Some(treasury) = &self.treasury {
            match treasury.sync() {
                Ok(()) => {
                    *self.chain_down.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    self.reopen(treasury)?;
                    self.collect_outputs(treasury)?;
                    self.push_transactions(treasury)?;
                    self.bury(treasury);
                }
                Err(error) => self.chain_trouble(&error),
            }
        }
        self.collect_payments()?;
        self.push_payments()?;
        self.treasury.as_ref().map_or(Ok(()), |treasury| self.compare_channels(treasury))
    }

    /// Notes, once, that the chain cannot be read.
    fn chain_trouble(&self, error: &TreasuryError) {
        let reason = error.to_string();
        let mut down = self.chain_down.lock().unwrap_or_else(PoisonError::into_inner);
        if down.as_ref() != Some(&reason) {
            tracing::warn!(reason, "the chain cannot be read; deposits and payouts on it wait");
        }
        *down = Some(reason);
    }

    fn decide(&self) -> MutexGuard<'_, ()> {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an invoice was named before, whatever came of it: it is one payment, and no second one. To be
    /// asked while deciding.
    fn is_used(&self, to: &Destination) -> bool {
        let Destination::Invoice(invoice) = to else { return false };
        let same = |to: &PayTo| {
            // Offers are many, and none of them is an invoice.
            let known = Some(&to.destination).filter(|text| !text.starts_with("lno"));
            let known = known.and_then(|text| text.parse().ok());
            matches!(known, Some(Destination::Invoice(known)) if known.payment_hash() == invoice.payment_hash())
        };
        self.ledger.books(|books| {
            books.payouts().any(|(_, book)| book.rail == Rail::Lightning && book.to.iter().any(same))
        })
    }

    /// Who is to be paid now, and is not to be left alone for a while.
    pub(super) fn due(&self) -> Vec<Due> {
        let since = |node: &NodeId| self.paid_at(node).map(|paid| UnixTime::now().since(paid));
        let due = self.ledger.books(|books| due::due(books, &self.terms, since));
        due.into_iter().filter(|due| !self.troubles.waits(&due.node)).collect()
    }

    fn paid_at(&self, node: &NodeId) -> Option<UnixTime> {
        let bytes = self.state.get(PAID_AT, node.as_bytes()).ok()??;
        Some(UnixTime::from_secs(u64::from_le_bytes(bytes.try_into().ok()?)))
    }

    /// Notes that the nodes of a payout were paid.
    fn paid(&self, payout: &PayoutBook, now: UnixTime) {
        let mut batch = Batch::default();
        self.ledger.books(|books| {
            for node in nodes_of(books, payout) {
                self.troubles.end(&node);
                batch.put(PAID_AT, *node.as_bytes(), now.secs().to_le_bytes().to_vec());
            }
        });
        if !batch.is_empty()
            && let Err(error) = self.state.commit(&batch)
        {
            tracing::warn!(%error, "when a node was paid last is not remembered");
        }
    }

    /// Notes that they were not.
    fn not_paid(&self, payout: &PayoutBook, reason: &str) {
        let nodes: Vec<NodeId> = self.ledger.books(|books| nodes_of(books, payout).collect());
        nodes.iter().for_each(|node| self.troubles.note(node, reason));
    }

    /// What stands in the way of paying a node.
    pub(super) fn trouble(&self, node: &NodeId, reason: &str) {
        self.troubles.note(node, reason);
    }

    /// All that stands in the way.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        self.troubles.all()
    }

    fn read<T: serde::de::DeserializeOwned>(&self, tree: Tree, key: &[u8]) -> Result<Option<T>, Refusal> {
        let bytes = self.state.get(tree, key).map_err(|error| failed(&error))?;
        bytes.map(|bytes| cbor::decode(&bytes, 1 << 16).map_err(|error| failed(&error))).transpose()
    }

    fn write<T: serde::Serialize>(&self, tree: Tree, key: &[u8], value: &T) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.put(tree, key.to_vec(), cbor::encode(value).map_err(|error| failed(&error))?);
        self.state.commit(&batch).map_err(|error| failed(&error))
    }
}
