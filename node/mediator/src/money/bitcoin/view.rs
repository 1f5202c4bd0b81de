//! The operator's view of the mediator's money, and the transfers that the operator may ask for.

use fincrypt_protocol::amount::{Msat, Sat};
use fincrypt_protocol::money::Sending;
use fincrypt_protocol::{PaymentHash, PayoutId, TxId};

use fincrypt_ledger::{Account, Books, Owner, PayoutBook, PayoutStage, Rail};
use fincrypt_treasury::lightning::{ChannelInfo, Lightning, LightningError, Peer};
use fincrypt_treasury::onchain::Treasury;
use serde::Serialize;

use super::money::Money;
use super::payout_failures::PayoutFailure;
use super::transfers::MoveError;

/// Payouts shown.
const SHOWN: usize = 100;

/// A channel.
#[derive(Debug, Serialize)]
pub struct ChannelView {
    /// Its number at this node.
    pub id: String,
    pub peer: String,
    pub value_sat: u64,
    pub can_send_msat: u64,
    pub can_receive_msat: u64,
    pub usable: bool,
    pub announced: bool,
    pub confirmations: u32,
    pub confirmations_needed: u32,
}

impl From<ChannelInfo> for ChannelView {
    fn from(info: ChannelInfo) -> Self {
        Self {
            id: info.id.to_string(),
            peer: info.peer,
            value_sat: info.value_sat,
            can_send_msat: info.can_send.get(),
            can_receive_msat: info.can_receive.get(),
            usable: info.usable,
            announced: info.announced,
            confirmations: info.confirmations.0,
            confirmations_needed: info.confirmations.1,
        }
    }
}

/// The Lightning node.
#[derive(Debug, Serialize)]
pub struct LightningView {
    /// Its key.
    pub node: String,
    /// Of its own coins: all, those that may be spent now, those kept to close channels.
    pub on_chain_sat: u64,
    /// Satoshi on the chain that can be spent.
    pub spendable_sat: u64,
    /// Satoshi kept back to close channels.
    pub reserve_sat: u64,
    /// In channels, on this side.
    pub channels_sat: u64,
    /// The channels.
    pub channels: Vec<ChannelView>,
    /// Payments that came in, by their hash: all of them, as it has seen them itself.
    pub received: Vec<ReceivedView>,
}

/// A payment that came in.
#[derive(Debug, Serialize)]
pub struct ReceivedView {
    pub payment_hash: String,
    pub msat: u64,
}

impl LightningView {
    /// A view of a running node.
    #[must_use]
    pub fn of(lightning: &Lightning) -> Self {
        let funds = lightning.funds();
        Self {
            node: lightning.id(),
            on_chain_sat: funds.on_chain_sat,
            spendable_sat: funds.spendable_sat,
            reserve_sat: funds.reserve_sat,
            channels_sat: funds.channels_sat,
            channels: lightning.channels().into_iter().map(ChannelView::from).collect(),
            received: lightning
                .deposits()
                .into_iter()
                .map(|came| ReceivedView {
                    payment_hash: PaymentHash::from_bytes(came.id).to_string(),
                    msat: came.amount.get(),
                })
                .collect(),
        }
    }
}

/// The wallet on the chain.
#[derive(Debug, Serialize)]
pub struct ChainView {
    pub confirmed_sat: u64,
    pub committed_sat: u64,
    pub height: u32,
}

impl ChainView {
    fn of(treasury: &Treasury) -> Self {
        let funds = treasury.funds();
        Self {
            confirmed_sat: funds.confirmed.get(),
            committed_sat: funds.committed.get(),
            height: funds.height,
        }
    }
}

/// A payout.
#[derive(Debug, Serialize)]
pub struct PayoutView {
    pub id: String,
    pub rail: &'static str,
    /// `open`, `settled` or `failed`.
    pub state: &'static str,
    /// What was owed and is settled by it.
    pub msat: u64,
    /// What left the mediator in all, if it has arrived.
    pub left_msat: Option<u64>,
    /// What arrived, if it has.
    pub arrived_msat: Option<u64>,
    /// The transaction or payment hash.
    pub sending: Option<String>,
    /// How many creditors' contracts it pays.
    pub parts: usize,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct WalletView {
    /// What the books say, in msat.
    pub on_chain_msat: u64,
    /// Books: in the Lightning node.
    pub lightning_msat: u64,
    /// Books: fees paid to miners and routes.
    pub network_fees_msat: u64,
    /// Books: the mediator's own fee.
    pub fees_earned_msat: u64,
    /// Books: earned by forwarding payments of others.
    pub forwarding_msat: u64,
    /// Books: paid in by the operator.
    pub capital_msat: u64,
    /// The wallet on the chain: its coins, those of them that payouts under way spend, and the newest
    /// block it has seen.
    pub chain: Option<ChainView>,
    /// Why the chain cannot be read.
    pub chain_down: Option<String>,
    /// The Lightning node; none while it does not run.
    pub lightning: Option<LightningView>,
    /// Why it does not run.
    pub lightning_down: Option<String>,
    /// What it lacks by the books; less than nothing if it has more.
    pub lightning_lacks_msat: Option<i64>,
    /// The newest payouts that are open, and some others.
    pub payouts: Vec<PayoutView>,
    /// Nodes that could not be paid.
    pub payout_failures: Vec<PayoutFailure>,
}

fn sending(sending: Sending) -> String {
    match sending {
        Sending::Transaction(id) => id.to_string(),
        Sending::Payment(hash) => hash.to_string(),
    }
}

fn payout((id, book): (PayoutId, &PayoutBook)) -> PayoutView {
    let (state, left, by) = match &book.stage {
        PayoutStage::Open => ("open", None, book.sent.last().copied()),
        PayoutStage::Settled { sending, left, .. } => ("settled", Some(left.get()), Some(*sending)),
        PayoutStage::Failed => ("failed", None, book.sent.last().copied()),
    };
    let arrived = left.map(|_| book.arrives().get());
    PayoutView {
        id: id.to_string(),
        rail: match book.rail {
            Rail::OnChain => "chain",
            Rail::Lightning => "lightning",
        },
        state,
        msat: book.total().get(),
        left_msat: left,
        arrived_msat: arrived,
        sending: by.map(sending),
        parts: book.parts.len(),
    }
}

fn payouts(books: &Books) -> Vec<PayoutView> {
    let open = |book: &PayoutBook| book.stage == PayoutStage::Open;
    let (first, second): (Vec<_>, Vec<_>) = books.payouts().partition(|(_, book)| open(book));
    first.into_iter().chain(second).take(SHOWN).map(payout).collect()
}

impl Money {
    /// What there is, and how payouts stand.
    pub fn view(&self) -> WalletView {
        // Before the ledger is locked: no other lock is taken under its, and the Lightning node may take
        // its time.
        let wallets = &self.wallets;
        let lightning = wallets.lightning().as_deref().map(LightningView::of);
        let lightning_down = wallets.lightning_keeper().and_then(|keeper| keeper.reason());
        let lightning_lacks_msat = self.channel_costs.lightning_lacks();
        let chain = wallets.treasury().map(ChainView::of);
        let chain_down = self.chain_down.lock().clone();
        let payout_failures = self.failures.all();
        wallets.ledger.books(|books| {
            let msat = |account| books.balance(account).get();
            WalletView {
                on_chain_msat: msat(Account::OnChain),
                lightning_msat: msat(Account::Lightning),
                network_fees_msat: msat(Account::NetworkFees),
                fees_earned_msat: msat(Account::Fees),
                forwarding_msat: msat(Account::Forwarding),
                capital_msat: msat(Account::Capital),
                chain,
                chain_down,
                lightning,
                lightning_down,
                lightning_lacks_msat,
                payouts: payouts(books),
                payout_failures,
            }
        })
    }

    /// An address for the operator's own capital. Blocks.
    ///
    /// # Errors
    /// [`MoveError`]: there is no address.
    pub fn capital_address(&self) -> Result<String, MoveError> {
        self.deposits.address_for::<MoveError>(Owner::Operator)?.ok_or(MoveError::NoWallet)
    }

    /// Moves the wallet's money to the Lightning node's own coins, from which it opens channels. Blocks.
    ///
    /// # Errors
    /// [`MoveError`]: nothing was moved.
    pub fn fund_lightning(&self, amount: Sat) -> Result<TxId, MoveError> {
        self.transfers.fund_lightning(amount)
    }

    /// The public descriptors of the wallet on the chain.
    pub fn descriptors(&self) -> Result<[String; 2], MoveError> {
        self.wallets.treasury().map(Treasury::descriptors).ok_or(MoveError::NoWallet)
    }

    /// Opens a channel to `peer`, announced, from the Lightning node's own coins. Blocks.
    pub fn open_channel(&self, peer: &Peer, sat: u64) -> Result<String, LightningError> {
        let lightning = self.wallets.lightning().ok_or(LightningError::NotRunning)?;
        lightning.open_channel(peer, sat, Msat::ZERO, true).map(|id| id.to_string())
    }

    /// Closes a channel. Blocks.
    pub fn close_channel(&self, id: u128, force: bool) -> Result<(), LightningError> {
        self.wallets.lightning().ok_or(LightningError::NotRunning)?.close_channel(id, force)
    }
}
