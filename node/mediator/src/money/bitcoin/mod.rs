//! The money that moves: the wallet on the chain, the Lightning node, and who is paid when.
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
mod payout_intents;
mod payout_loop;
mod transactions;
mod troubles;
mod withdrawals;

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_ledger::{Books, Ledger, LedgerError, Owed, Owner, PayTo, PayoutBook, Rail};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::money::{Payout, Pending, Withdrawal};
use fincrypt_protocol::{AccountId, NodeId, PayoutId, Refusal, UnixTime, cbor};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;
use fincrypt_treasury::lightning::{Destination, Lightning, LightningKeeper, LightningSetup};
use fincrypt_treasury::onchain::{Treasury, TreasuryError, TreasurySetup};
use fincrypt_treasury::seed_file;
use fincrypt_treasury::{BitcoinNetwork, Chain, lightning_seed};
use tokio::sync::{Notify, watch};

use channel_costs::Compared;
use destination::To;
use due::{Due, PayoutTerms};
use fincrypt_accounts::failed;
pub use operator::{LightningView, WalletView};
use payout_loop::PayoutLoop;
pub use transactions::MoveError;
pub use troubles::Trouble;
use troubles::Troubles;

use super::{HolderLink, MoneyError, MoneyOptions, MoneyPaths, Settlement};

/// `node` → when it was paid last.
const PAID_AT: Tree = Tree("paid_at");

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

fn open_treasury(paths: &MoneyPaths, chain: &Chain, ledger: &Ledger) -> Result<Treasury, MoneyError> {
    let given = ledger.books(Books::next_address);
    let birthday = std::fs::read_to_string(&paths.wallet_birthday).ok();
    let birthday = birthday.and_then(|text| text.trim().parse().ok());
    let setup = TreasurySetup {
        network: chain.network,
        folder: paths.treasury.clone(),
        seed: seed_file::read(&paths.wallet_seed)?,
        chain: chain.source.clone(),
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
    pub fn open(options: &MoneyOptions, state: State) -> Result<Self, MoneyError> {
        let (ledger, found) = Ledger::open(&options.paths.ledger)?;
        tracing::info!(?found, "the ledger is open and sound");
        let interval = Duration::from_secs(options.payout_interval);
        let terms = PayoutTerms {
            threshold: options.payout_threshold,
            interval: Some(interval).filter(|interval| !interval.is_zero()),
            channel_from: Msat::new(options.credit_bound.get() / 2),
            routing_permille: options.routing_fee_permille,
        };
        let (troubles, moved) = (Troubles::default(), Arc::new(Notify::new()));
        let treasury = match &options.chain {
            Some(chain) => Some(open_treasury(&options.paths, chain, &ledger)?),
            None => None,
        };
        let lightning = match &options.chain {
            Some(chain) => {
                let setup = LightningSetup {
                    folder: options.paths.lightning.clone(),
                    seed: lightning_seed(&*seed_file::read(&options.paths.wallet_seed)?),
                    listen: options.lightning_listen.clone(),
                    alias: options.lightning_alias.clone(),
                    chain: chain.clone(),
                    // Whoever opens channels to a mediator waits for blocks.
                    trusted: options.paths.lightning_trusted.clone(),
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
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The Lightning node, while it runs.
    pub(crate) fn lightning(&self) -> Option<Arc<Lightning>> {
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

    /// Waits until something may have moved.
    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Books what came in, sends what is to be sent, and books what has arrived. Blocks.
    pub(super) fn move_money(&self) -> Result<(), LedgerError> {
        if let Some(treasury) = &self.treasury {
            match treasury.sync() {
                Ok(()) => {
                    *self.chain_down.lock() = None;
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
        let mut down = self.chain_down.lock();
        if down.as_ref() != Some(&reason) {
            tracing::warn!(reason, "the chain cannot be read; deposits and payouts on it wait");
        }
        *down = Some(reason);
    }

    fn decide(&self) -> MutexGuard<'_, ()> {
        self.deciding.lock()
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

impl Settlement for Money {
    fn books(&self) -> &Ledger {
        &self.ledger
    }

    fn takes_deposits(&self) -> bool {
        self.lightning.is_some()
    }

    fn deposit_to(&self, account: AccountId) -> Result<(Option<String>, Option<String>), Refusal> {
        let address = self.address_for(Owner::Client(account))?;
        let offer = self.offer_for(account)?;
        if address.is_none() && offer.is_none() { Err(Refusal::NoWallet) } else { Ok((address, offer)) }
    }

    fn pending(&self, account: &AccountId) -> Vec<Pending> {
        self.pending_outputs(account)
    }

    fn withdraw(&self, account: AccountId, withdrawal: &Withdrawal) -> Result<Payout, Refusal> {
        self.withdraw_once(account, withdrawal)
    }

    fn tell_again(&self, node: &NodeId) -> Result<(), Refusal> {
        self.report_again(node)
    }

    async fn run(self: Arc<Self>, holders: HolderLink, epoch: Duration, mut stop: watch::Receiver<bool>) {
        match &self.lightning {
            Some(keeper) => {
                let payouts = PayoutLoop::new(Arc::clone(&self), holders, epoch);
                tokio::join!(Arc::clone(keeper).run(stop.clone()), payouts.run(stop));
            }
            // A sender that is gone is a stop, too.
            None => drop(stop.changed().await),
        }
    }
}
