//! The mediator: finds storage, computes parity, places shards, audits, repairs, bills and pays, and
//! keeps the heads of vaults.

mod auditor;
mod billing;
mod candidates;
mod contract_terms;
mod contracts;
mod directory;
mod dismissal;
mod doubts;
mod encoders;
mod facts;
mod handle;
mod heads;
mod holder_link;
mod holder_lists;
mod money;
mod notices;
mod open;
mod prepayment;
mod records;
mod repair;
mod rewind;
mod roster;
mod standings;
mod takeover;
mod tasks;
mod transfer;

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::admission::{AnnouncedRole, mediator_record_key, role_bucket, role_key};
use fincrypt_protocol::record::{MediatorRecord, StorageOffer};
use fincrypt_protocol::{
    Clock, Network, NodeId, RecordError, Redundancy, Signed, SigningKey, UnixTime, Verified,
};
use fincrypt_state::state::State;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use fincrypt_accounts::Accounts;
use fincrypt_net::{MediateInbound, Net, Sessions, encode_all};
use fincrypt_net::{blocking, serve};

use auditor::Challenges;
use billing::Billing;
use candidates::Met;
pub use contract_terms::BillingTerms;
use contract_terms::{ContractTerms, OwnTerms};
use contracts::Contracts;
pub use contracts::Owed;
use directory::Directory;
use dismissal::Dismissals;
use doubts::Doubts;
use encoders::Encoders;
pub use facts::MediatorFacts;
pub use facts::{MediatorInfo, NodeFacts};
use fincrypt_accounts::releases::{self, Releases};
use holder_link::HolderLink;
use holder_lists::HolderLists;
use money::Settlement;
#[cfg(feature = "bitcoin")]
pub use money::{LightningView, MoveError, PayoutFailure, WalletView};
pub use money::{Money, MoneyError, MoneyOptions, MoneyPaths};
use notices::Notices;
use open::OpenSegments;
use prepayment::Prepayments;
use records::Records;
pub use repair::Health;
use repair::Pace;
use standings::Standings;
pub use standings::UpkeepTerms;
use takeover::Takeovers;
use tasks::Tasks;

/// What a mediator's operator decides.
#[derive(Debug, Clone)]
pub struct MediatorTerms {
    /// Fee on what storage earns, in permille.
    pub fee_permille: u16,
    /// Redundancy it never goes under.
    pub floor: Redundancy,
    /// How long it remembers where released segments are.
    pub release_delay: Duration,
    /// Epochs, and how long nodes may be away.
    pub upkeep: UpkeepTerms,
    /// Money.
    pub billing: BillingTerms,
    /// Bytes a second that repairs may put on new nodes.
    pub repair_rate: u64,
}

/// The role's parts.
pub struct MediatorRole {
    net: Net,
    network: Network,
    sessions: Arc<Sessions>,
    accounts: Accounts,
    records: Records,
    directory: Arc<Directory>,
    link: HolderLink,
    open: OpenSegments,
    encoders: Encoders,
    holder_lists: HolderLists,
    doubts: Doubts,
    /// Segments whose parity is made or on its way.
    parity_turns: Semaphore,
    /// Held while a head is compared and swapped.
    swapping: Mutex<()>,
    releases: Releases,
    takeovers: Takeovers,
    dismissals: Dismissals,
    notices: Notices,
    standings: Arc<Standings>,
    challenges: Challenges,
    contracts: Arc<Contracts>,
    billing: Billing,
    prepayments: Prepayments,
    money: Arc<Money>,
    /// Told when a segment may lack a keeper.
    lacking: Notify,
    health: Arc<Mutex<Health>>,
    met: Mutex<Met>,
    repair_pace: Pace,
    /// Where the last round of undelivered notices ended.
    notice_cursor: Mutex<Option<Vec<u8>>>,
    /// What requests start and do not wait for.
    tasks: Tasks,
    key: SigningKey,
    terms: MediatorTerms,
}

/// A mediator cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("contracts cannot be read, so nothing may be signed or paid")]
pub struct MediatorError(#[from] contracts::ContractsError);

/// What comes to a mediator.
pub struct MediatorInbox {
    /// Clients' requests.
    pub requests: mpsc::Receiver<MediateInbound>,
    /// Offers heard over gossip.
    pub offers: mpsc::Receiver<Verified<StorageOffer>>,
    /// Storage nodes newly met.
    pub storage_seen: mpsc::Receiver<NodeId>,
}

/// Storage nodes newly met that are asked for their offers at once.
const MEETINGS: usize = 16;
/// How long the record in the DHT lives, and how often it is repeated and storage looked for.
const RECORD_LIFE: Duration = Duration::from_secs(24 * 3600);
const RECORD_REFRESH: Duration = Duration::from_secs(30 * 60);
/// At first it is done again soon: who has just started knows few peers, and finds few others.
const RECORD_FIRST: Duration = Duration::from_secs(3);
const RECORD_RETRY: Duration = Duration::from_millis(500);
/// Segments whose parity is in memory at once, 15 MiB at most each; four clients have no more open.
const PARITY_AT_ONCE: usize = 8;
/// Between rounds of unfinished work: notices that a holder has not heard of, abandoned segments.
const CHORES: Duration = Duration::from_secs(10);
/// Between looks for released segments to forget, at most.
const FORGET: Duration = Duration::from_secs(3600);

impl MediatorRole {
    /// Puts the role together over an open state.
    ///
    /// # Errors
    /// [`MediatorError`] if contracts cannot be read: nothing may be signed then.
    pub fn new(
        net: Net,
        sessions: Arc<Sessions>,
        state: State,
        money: Arc<Money>,
        key: SigningKey,
        terms: MediatorTerms,
    ) -> Result<Self, MediatorError> {
        let (network, clock) = (net.network(), Clock::system());
        let directory = Arc::new(Directory::open(net.clone(), state.clone()));
        let link = HolderLink::new(net.clone(), Arc::clone(&directory));
        let records = Records::new(state.clone());
        let standings = Arc::new(Standings::open(state.clone(), terms.upkeep));
        let contracts = Arc::new(Contracts::open(state.clone()).map_err(MediatorError)?);
        let fee_permille = terms.fee_permille;
        let contract_terms = Arc::new(ContractTerms {
            own: OwnTerms { network, mediator: net.own(), fee_permille, billing: terms.billing },
            contracts: Arc::clone(&contracts),
            directory: Arc::clone(&directory),
            standings: Arc::clone(&standings),
            records: records.clone(),
        });
        let prepayments = Prepayments {
            contracts: Arc::clone(&contracts),
            terms: Arc::clone(&contract_terms),
            money: Arc::clone(&money),
            clock: clock.clone(),
        };
        let billing = Billing {
            contracts: Arc::clone(&contracts),
            terms: contract_terms,
            prepayments: prepayments.clone(),
            records: records.clone(),
            money: Arc::clone(&money),
            link: link.clone(),
            key: key.clone(),
            clock,
        };
        Ok(Self {
            link,
            directory,
            accounts: Accounts::new(state.clone(), network),
            records,
            contracts,
            billing,
            prepayments,
            releases: Releases::new(state.clone(), releases::AT_MEDIATOR, terms.release_delay),
            takeovers: Takeovers::new(state.clone()),
            dismissals: Dismissals::open(state.clone()),
            notices: Notices::new(state.clone()),
            standings,
            challenges: Challenges::new(state),
            money,
            lacking: Notify::new(),
            health: Arc::default(),
            met: Mutex::default(),
            repair_pace: Pace::new(terms.repair_rate),
            open: OpenSegments::default(),
            encoders: Encoders::default(),
            holder_lists: HolderLists::default(),
            doubts: Doubts::default(),
            parity_turns: Semaphore::new(PARITY_AT_ONCE),
            swapping: Mutex::default(),
            notice_cursor: Mutex::default(),
            tasks: Tasks::default(),
            net,
            network,
            sessions,
            key,
            terms,
        })
    }

    /// Serves until the inbox closes. `stop` ends the background work.
    pub async fn run(self, inbox: MediatorInbox, stop: watch::Receiver<bool>) {
        let role = Arc::new(self);
        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&role).announce(stop.clone()));
        background.spawn(Arc::clone(&role).audit(stop.clone()));
        background.spawn(Arc::clone(&role).repair(stop.clone()));
        let epoch = role.standings.terms().epoch;
        background.spawn(Arc::clone(&role.money).run(role.link.clone(), epoch, stop.clone()));
        background.spawn(Arc::clone(&role).chores(stop));
        background.spawn(Arc::clone(&role).hear_offers(inbox.offers));
        background.spawn(Arc::clone(&role).look_for_dismissals());
        background.spawn(Arc::clone(&role).meet(inbox.storage_seen));
        background.spawn(Arc::clone(&role).look_after_directory());
        let serving = Arc::clone(&role);
        serve(inbox.requests, move |request| {
            let role = Arc::clone(&serving);
            async move { role.handle(request).await }
        })
        .await;
        background.shutdown().await;
        role.tasks.end().await;
    }

    /// What the local interface shows of it, while it runs.
    #[must_use]
    pub fn facts(&self) -> MediatorFacts {
        MediatorFacts {
            standings: Arc::clone(&self.standings),
            records: self.records.clone(),
            health: Arc::clone(&self.health),
            contracts: Arc::clone(&self.contracts),
            money: Arc::clone(&self.money),
        }
    }

    fn set_health(&self, health: Health) {
        *self.health.lock() = health;
    }

    async fn record(&self) -> Result<Signed<MediatorRecord>, RecordError> {
        let now = UnixTime::now();
        let record = MediatorRecord {
            network: self.network,
            node: self.net.own(),
            fee_permille: self.terms.fee_permille,
            floor: self.terms.floor,
            payment_networks: Vec::new(),
            addresses: encode_all(&self.net.own_addresses().await),
            sequence: now.secs(),
            expiry: now.plus(RECORD_LIFE),
        };
        Signed::seal(&record, &self.key)
    }

    async fn announce(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let own = self.net.own();
        let mut refresh = RECORD_FIRST;
        loop {
            let put = match self.record().await.and_then(|record| record.to_bytes()) {
                Ok(bytes) => self.net.put_record(mediator_record_key(&own), bytes).await,
                Err(error) => {
                    tracing::error!(%error, "the mediator's record could not be made");
                    false
                }
            };
            if put || self.net.dht_peers().await > 0 {
                self.net.provide(role_key(AnnouncedRole::Mediator, role_bucket(&own))).await;
                self.directory.discover().await;
            }
            let pause = if put { refresh } else { RECORD_RETRY };
            if put {
                refresh = (refresh * 4).min(RECORD_REFRESH);
            }
            tokio::select! {
                _ = stop.changed() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn hear_offers(self: Arc<Self>, mut offers: mpsc::Receiver<Verified<StorageOffer>>) {
        while let Some(offer) = offers.recv().await {
            self.directory.learn(offer);
        }
    }

    async fn meet(self: Arc<Self>, mut seen: mpsc::Receiver<NodeId>) {
        let mut asking = JoinSet::new();
        while let Some(node) = seen.recv().await {
            while asking.len() >= MEETINGS {
                asking.join_next().await;
            }
            while asking.try_join_next().is_some() {}
            let role = Arc::clone(&self);
            asking.spawn(async move { role.directory.ask(node).await });
        }
    }

    async fn look_after_directory(self: Arc<Self>) {
        tokio::join!(self.directory.keep_probing(), self.directory.keep_saving());
    }

    /// Segments that give way without a single receipt leave no record.
    async fn give_up_abandoned(self: &Arc<Self>) {
        let empty = self.open.drop_abandoned(|owner| self.sessions.account(owner).is_some());
        if !empty.is_empty() {
            let records = self.records.clone();
            let remove = move |(account, segment): &_| records.remove_announced(account, segment);
            // What cannot be removed now is removed when it is old.
            let _ = blocking(move || empty.iter().try_for_each(remove)).await;
        }
    }

    async fn sweep_announced(self: &Arc<Self>) {
        let role = Arc::clone(self);
        let is_open = move |account, segment| role.open.contains(account, segment);
        let records = self.records.clone();
        let _ = blocking(move || records.sweep_announced(UnixTime::now(), is_open)).await;
    }

    async fn chores(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(CHORES);
        let mut forget = tokio::time::Instant::now();
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                _ = tick.tick() => {
                    self.give_up_abandoned().await;
                    self.deliver_round().await;
                    self.take_over_all().await;
                    self.flush_holders(None).await;
                    if forget <= tokio::time::Instant::now() {
                        self.sweep_announced().await;
                        let role = Arc::clone(&self);
                        let work = move || role.releases.carry_out(UnixTime::now(), &role.records);
                        let done = tokio::task::spawn_blocking(work).await;
                        let next = done.ok().and_then(Result::ok).and_then(|done| done.next);
                        let pause = next.map_or(FORGET, |next| next.since(UnixTime::now()).min(FORGET));
                        forget = tokio::time::Instant::now() + pause;
                    }
                }
            }
        }
    }
}
