//! The storage node: keeps shards, answers challenges, hands out heads, and counts what it earns.

mod admitted;
mod challenge;
mod countersigning;
mod credit;
mod disk;
mod earnings;
mod handle;
mod leaving;
mod lightning;
mod offer;
mod payouts;
mod positions;
mod scrub;
mod sweep;

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::amount::{Msat, Price};
use fincrypt_protocol::{Network, SigningKey};
use fincrypt_shards::ShardStore;
use fincrypt_state::state::State;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use admitted::Admitted;
pub use disk::Disk;
pub use earnings::Earned;
use earnings::Fresh;
use fincrypt_accounts::Accounts;
use fincrypt_accounts::releases::{self, Releases};
use fincrypt_net::serve;
use fincrypt_net::{Net, Sessions, ShardInbound};
pub use leaving::Leaving;
pub use lightning::OwnLightning;
pub use payouts::{PaidView, days, told};
use positions::Positions;

/// Where a storage node wants its earnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayoutTo {
    /// Nowhere: what it earns stays owed.
    Nowhere,
    /// To a destination that the mediator checks.
    Destination(String),
    /// To a Lightning node of its own, inside this process: see [`StorageRole::with_lightning`].
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

/// The role's parts.
pub struct StorageRole {
    pub(crate) net: Net,
    pub(crate) network: Network,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) store: ShardStore,
    pub(crate) accounts: Accounts,
    admitted: Admitted,
    pub(crate) key: SigningKey,
    pub(crate) terms: StorageTerms,
    positions: Positions,
    /// Shards that came lately.
    fresh: Fresh,
    pub(crate) releases: Releases,
    /// Told of every release, so that the sweep comes in time for it.
    pub(crate) released: Notify,
    pub(crate) disk: Arc<Disk>,
    pub(crate) leaving: Arc<Leaving>,
    /// The operator's own Lightning node, if it is paid there.
    lightning: Option<Arc<dyn OwnLightning>>,
    /// How mediators stand with this node.
    standings: credit::Standings,
    /// Held while a mediator's word of a payout is taken in.
    told: Mutex<()>,
    /// Held while counts and statements of any contract change.
    counting: Mutex<()>,
    /// When the role was put together.
    begun: tokio::time::Instant,
}

impl StorageRole {
    /// Puts the role together over an open store and state.
    #[must_use]
    pub fn new(
        net: Net,
        sessions: Arc<Sessions>,
        store: ShardStore,
        state: State,
        key: SigningKey,
        (disk, leaving): (Arc<Disk>, Arc<Leaving>),
        terms: StorageTerms,
    ) -> Self {
        let network = net.network();
        let releases = Releases::new(state.clone(), releases::AT_STORAGE, terms.release_delay);
        let (accounts, admitted) = (Accounts::new(state, network), Admitted::default());
        let (positions, released) = (Positions::default(), Notify::new());
        Self {
            net,
            network,
            sessions,
            store,
            accounts,
            admitted,
            key,
            terms,
            positions,
            fresh: Fresh::default(),
            releases,
            released,
            disk,
            leaving,
            lightning: None,
            standings: credit::Standings::default(),
            told: Mutex::default(),
            counting: Mutex::default(),
            begun: tokio::time::Instant::now(),
        }
    }

    /// The same, paid over a Lightning node of its own.
    #[must_use]
    pub fn with_lightning(mut self, node: Option<Arc<dyn OwnLightning>>) -> Self {
        self.lightning = node;
        self
    }

    /// Serves until the inbox closes. `stop` ends the background work.
    pub async fn run(self, inbox: mpsc::Receiver<ShardInbound>, stop: watch::Receiver<bool>) {
        let role = Arc::new(self);
        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&role).advertise(stop.clone()));
        background.spawn(Arc::clone(&role).sweep(stop.clone()));
        background.spawn(Arc::clone(&role).scrub(stop.clone()));
        if let Some(node) = &role.lightning {
            background.spawn(Arc::clone(node).run(stop.clone()));
        }
        background.spawn(Arc::clone(&role).watch_leaving(stop));
        serve(inbox, move |request| {
            let role = Arc::clone(&role);
            async move { role.handle(request).await }
        })
        .await;
        background.shutdown().await;
    }
}
