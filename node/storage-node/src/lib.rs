//! The storage node: keeps shards, answers challenges, hands out heads, and counts what it earns.
//!
//! [`StorageRole`] puts the services together and gives each request to one of them:
//!
//! ```text
//! intake ──▶ admissions ──▶ access          who may do what, and records of accounts
//!    └─────▶ credit ──────▶ earnings          whether more may be owed
//! proofs ──▶ counting ────▶ earnings          audits, and what was held at each
//! countersigning, payouts ▶ earnings          statements, and what was paid
//! deletion ▶ credit, holdings               releases, lapsed runs, unpaid shards
//! reads, heads ───────────▶ access
//! scrub, drain, advertise ▶ health          background work
//! ```
//!
//! A service has its own error; what a peer is told of it is decided in one place. Clock and keys are
//! handed in; no service needs a network but the advertiser.

mod access;
mod admissions;
mod advertise;
mod countersigning;
mod counting;
mod credit;
mod deletion;
mod disk;
mod drain;
mod earnings;
mod handle;
mod heads;
mod health;
mod holdings;
mod intake;
mod lightning;
mod mandate_cache;
mod payouts;
mod proofs;
mod reads;
mod scrub;
mod segment_guard;
mod services;

use std::sync::Arc;
use std::time::Duration;

use fincrypt_net::{Net, PayInbound, Sessions, ShardInbound, serve, unexpected_end};
use fincrypt_protocol::amount::{Msat, Price};
use fincrypt_protocol::{Clock, SigningKey};
use fincrypt_shards::ShardStore;
use fincrypt_state::state::State;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use disk::Disk;
pub use drain::Drain;
pub use earnings::{Earned, EarnedOnDay, Earnings, EarningsError, PaidView};
pub use health::Health;
pub use lightning::OwnLightning;

use access::Access;
use admissions::Admissions;
use advertise::Advertiser;
use countersigning::Countersigner;
use deletion::Deletions;
use drain::DrainWatch;
use heads::Heads;
use intake::ShardIntake;
use payouts::Payouts;
use proofs::Proofs;
use reads::ShardReads;
use scrub::Scrubber;

/// Where a storage node wants its earnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayoutTo {
    /// Nowhere: what it earns stays owed.
    Nowhere,
    /// To a destination that the mediator checks.
    Destination(String),
    /// To a Lightning node of its own, inside this process: see [`StorageOptions::lightning`].
    Own,
}

/// What a storage operator decides.
#[derive(Debug, Clone)]
pub struct StorageTerms {
    /// For holding data.
    pub price: Price,
    /// For reading it beyond what is included, per GiB.
    pub egress_price: Price,
    /// Where the operator wants its earnings.
    pub payout: PayoutTo,
    /// Days that unpaid shards are kept.
    pub grace_days: u16,
    /// Days a contract bills at least.
    pub minimum_days: u16,
    /// The most that one contract may leave unpaid.
    pub credit_limit: Msat,
    /// How long a release waits before it is carried out.
    pub release_delay: Duration,
    /// In which every shard is read once and compared with its id.
    pub scrub_period: Duration,
}

/// What the network brings to a storage node.
pub struct StorageInbox {
    /// Requests about shards.
    pub requests: mpsc::Receiver<ShardInbound>,
    /// Requests about money.
    pub payments: mpsc::Receiver<PayInbound>,
}

/// What a storage node is made of.
pub struct StorageOptions {
    /// The network.
    pub net: Net,
    /// Logins of owners.
    pub sessions: Arc<Sessions>,
    /// The shards.
    pub store: ShardStore,
    /// Accounts, releases and the scrubber's position.
    pub state: State,
    /// The earnings in that state.
    pub earnings: Earnings,
    /// The node's key, which signs receipts, offers and statements.
    pub key: SigningKey,
    /// Disk and drain, which decide whether new shards are taken.
    pub health: Health,
    /// What the operator decides.
    pub terms: StorageTerms,
    /// The time.
    pub clock: Clock,
    /// The operator's own Lightning node, if it is paid there.
    pub lightning: Option<Arc<dyn OwnLightning>>,
}

/// What runs beside the answers to requests.
struct Background {
    scrubber: Arc<Scrubber>,
    drain: Arc<DrainWatch>,
    lightning: Option<Arc<dyn OwnLightning>>,
}

/// The services of a storage node.
pub struct StorageRole {
    access: Access,
    admissions: Admissions,
    intake: ShardIntake,
    reads: ShardReads,
    proofs: Proofs,
    heads: Heads,
    deletions: Arc<Deletions>,
    countersigner: Countersigner,
    payouts: Payouts,
    advertiser: Arc<Advertiser>,
    background: Background,
}

impl StorageRole {
    /// Puts the services together over an open store and state.
    #[must_use]
    pub fn new(options: StorageOptions) -> Self {
        options.compose()
    }

    /// Serves until both of the inbox's ends close, or background work fails. `stop` ends the background work.
    pub async fn run(self, inbox: StorageInbox, stop: watch::Receiver<bool>) {
        let role = Arc::new(self);
        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&role.advertiser).run(stop.clone()));
        background.spawn(Arc::clone(&role.deletions).run(stop.clone()));
        background.spawn(Arc::clone(&role.background.scrubber).run(stop.clone()));
        if let Some(node) = &role.background.lightning {
            background.spawn(Arc::clone(node).run(stop.clone()));
        }
        background.spawn(Arc::clone(&role.background.drain).run(stop.clone()));
        let StorageInbox { requests, payments } = inbox;
        let payer = Arc::clone(&role);
        let about_shards = serve(requests, move |request| Arc::clone(&role).handle(request));
        let about_money = serve(payments, move |request| Arc::clone(&payer).handle_pay(request));
        tokio::select! {
            _ = async { tokio::join!(about_shards, about_money) } => {}
            () = unexpected_end(&mut background, &stop) => {}
        }
        background.shutdown().await;
    }
}
