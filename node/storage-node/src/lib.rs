//! The storage node: keeps shards, answers challenges, hands out heads, and counts what it earns.
//!
//! [`StorageRole`] puts the services together and gives each request to one of them:
//!
//! ```text
//! intake ──▶ admissions ──▶ access          who may do what, and records of accounts
//!    └─────▶ credit ──────▶ ledger          whether more may be owed
//! proofs ──▶ counting ────▶ ledger          audits, and what was held at each
//! countersigning, payouts ▶ ledger          statements, and what was paid
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
mod error;
mod handle;
mod heads;
mod health;
mod holdings;
mod intake;
mod ledger;
mod lightning;
mod mandate_cache;
mod payouts;
mod proofs;
mod reads;
mod scrub;
mod segment_guard;

use std::sync::Arc;
use std::time::Duration;

use fincrypt_accounts::Accounts;
use fincrypt_accounts::releases::{self, Releases};
use fincrypt_net::{Net, PayInbound, Sessions, ShardInbound, serve};
use fincrypt_protocol::amount::{Msat, Price};
use fincrypt_protocol::{Clock, SigningKey};
use fincrypt_shards::ShardStore;
use fincrypt_state::state::State;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use disk::Disk;
pub use drain::Drain;
pub use health::Health;
pub use ledger::{Earned, EarnedOnDay, Ledger, LedgerError, PaidView};
pub use lightning::OwnLightning;

use access::Access;
use admissions::{AdmissionOptions, Admissions};
use advertise::{AdvertiseOptions, Advertiser};
use countersigning::{CountersignOptions, Countersigner};
use counting::{AuditCounts, CountOptions, FreshShards};
use credit::CreditControl;
use deletion::{DeletionOptions, Deletions};
use drain::{DrainOptions, DrainWatch};
use heads::Heads;
use holdings::ShardHoldings;
use intake::{IntakeOptions, ShardIntake};
use payouts::Payouts;
use proofs::{ProofOptions, Proofs};
use reads::{ReadOptions, ShardReads};
use scrub::{ScrubOptions, Scrubber};

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
    /// The ledger in that state.
    pub ledger: Ledger,
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
        let StorageOptions { net, sessions, store, state, ledger, key, health, terms, clock, lightning } =
            options;
        let terms = Arc::new(terms);
        let releases = Releases::new(state.clone(), releases::AT_STORAGE, terms.release_delay);
        let accounts = Accounts::new(state.clone(), net.network());
        let holdings = ShardHoldings::new(store.clone(), accounts.clone());
        let access = Access::new(sessions, accounts.clone(), clock.clone());
        let credit = CreditControl::new(ledger.clone(), clock.clone(), &terms);
        let fresh = FreshShards::default();
        let admissions = Admissions::new(AdmissionOptions {
            access: access.clone(),
            accounts: accounts.clone(),
            store: store.clone(),
            holdings: holdings.clone(),
        });
        let intake = ShardIntake::new(IntakeOptions {
            access: access.clone(),
            admissions: admissions.clone(),
            credit: credit.clone(),
            store: store.clone(),
            releases: releases.clone(),
            fresh: fresh.clone(),
            health: health.clone(),
            key: key.clone(),
            terms: Arc::clone(&terms),
        });
        let reads = ShardReads::new(ReadOptions {
            access: access.clone(),
            accounts: accounts.clone(),
            releases: releases.clone(),
            store: store.clone(),
            disk: Arc::clone(&health.disk),
        });
        let counts = AuditCounts::new(CountOptions {
            ledger: ledger.clone(),
            accounts: accounts.clone(),
            releases: releases.clone(),
            store: store.clone(),
            fresh,
            clock: clock.clone(),
            is_free: terms.price == Price::FREE,
        });
        let proofs = Proofs::new(ProofOptions {
            access: access.clone(),
            store: store.clone(),
            disk: Arc::clone(&health.disk),
            counts,
        });
        let deletions = Deletions::new(DeletionOptions {
            access: access.clone(),
            accounts: accounts.clone(),
            releases: releases.clone(),
            store: store.clone(),
            holdings,
            credit,
            delay: terms.release_delay,
        });
        let countersigner = Countersigner::new(CountersignOptions {
            ledger: ledger.clone(),
            accounts: accounts.clone(),
            clock: clock.clone(),
            key: key.clone(),
            terms: Arc::clone(&terms),
        });
        let payouts = Payouts::new(ledger, clock.clone(), terms.payout.clone(), lightning.clone());
        let scrubber = Scrubber::new(ScrubOptions {
            store: store.clone(),
            disk: Arc::clone(&health.disk),
            state,
            period: terms.scrub_period,
        });
        let drain = DrainWatch::new(DrainOptions {
            health: health.clone(),
            store: store.clone(),
            accounts: accounts.clone(),
            own: net.own(),
            clock: clock.clone(),
        });
        let background = Background { scrubber: Arc::new(scrubber), drain: Arc::new(drain), lightning };
        let heads = Heads::new(access.clone(), accounts, releases);
        let advertiser = Advertiser::new(AdvertiseOptions { net, store, health, key, terms, clock });
        Self {
            access,
            admissions,
            intake,
            reads,
            proofs,
            heads,
            deletions: Arc::new(deletions),
            countersigner,
            payouts,
            advertiser: Arc::new(advertiser),
            background,
        }
    }

    /// Serves until both of the inbox's ends close. `stop` ends the background work.
    pub async fn run(self, inbox: StorageInbox, stop: watch::Receiver<bool>) {
        let role = Arc::new(self);
        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&role.advertiser).run(stop.clone()));
        background.spawn(Arc::clone(&role.deletions).run(stop.clone()));
        background.spawn(Arc::clone(&role.background.scrubber).run(stop.clone()));
        if let Some(node) = &role.background.lightning {
            background.spawn(Arc::clone(node).run(stop.clone()));
        }
        background.spawn(Arc::clone(&role.background.drain).run(stop));
        let StorageInbox { requests, payments } = inbox;
        let payer = Arc::clone(&role);
        let about_shards = serve(requests, move |request| Arc::clone(&role).handle(request));
        let about_money = serve(payments, move |request| Arc::clone(&payer).handle_pay(request));
        tokio::join!(about_shards, about_money);
        background.shutdown().await;
    }
}
