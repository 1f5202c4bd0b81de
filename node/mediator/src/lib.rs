//! The mediator: finds storage, computes parity, places shards, audits, repairs, bills and pays, and
//! keeps the heads of vaults.

mod announcer;
mod auditor;
mod billing;
mod chores;
mod context;
mod contract_terms;
mod contracts;
mod directory;
mod handle;
mod heads;
mod holder_link;
mod holder_lists;
mod migration_in;
mod migration_out;
mod missing_reports;
mod missing_shards;
mod money;
mod outbox;
mod placement;
mod prepayment;
mod records;
mod repair;
mod roster;
mod services;
mod shard_transfer;
mod standings;
mod status_view;
mod tasks;
#[cfg(test)]
mod testing;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use fincrypt_accounts::Accounts;
use fincrypt_net::{MediateInbound, Net, Sessions, serve};
use fincrypt_protocol::record::StorageOffer;
use fincrypt_protocol::{Network, NodeId, Redundancy, SigningKey, Verified};
use fincrypt_state::state::State;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use billing::Billing;
use context::Context;
pub use context::Sources;
pub use contract_terms::BillingTerms;
use contract_terms::{ContractTerms, OwnTerms};
use contracts::Contracts;
pub use contracts::Owed;
use directory::Directory;
use holder_link::HolderLink;
use money::Settlement;
#[cfg(feature = "bitcoin")]
pub use money::{LightningView, MoveError, PayoutFailure, WalletView};
pub use money::{Money, MoneyError, MoneyOptions, MoneyPaths};
use prepayment::Prepayments;
use records::Records;
pub use repair::Health;
use services::{Background, Foundation, Services};
use standings::Standings;
pub use standings::UpkeepTerms;
pub use status_view::{MediatorFacts, MediatorInfo, NodeFacts};
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

/// The role: its services, and the requests that they answer.
pub struct MediatorRole {
    network: Network,
    sessions: Arc<Sessions>,
    accounts: Accounts,
    records: Records,
    directory: Arc<Directory>,
    link: HolderLink,
    standings: Arc<Standings>,
    contracts: Arc<Contracts>,
    billing: Billing,
    prepayments: Prepayments,
    money: Arc<Money>,
    services: Services,
    background: Background,
    tasks: Arc<Tasks>,
    terms: MediatorTerms,
}

/// What comes to a mediator.
pub struct MediatorInbox {
    /// Clients' requests.
    pub requests: mpsc::Receiver<MediateInbound>,
    /// Offers heard over gossip.
    pub offers: mpsc::Receiver<Verified<StorageOffer>>,
    /// Storage nodes newly met.
    pub storage_seen: mpsc::Receiver<NodeId>,
}

/// A mediator cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("contracts cannot be read, so nothing may be signed or paid")]
pub struct MediatorError(#[from] contracts::ContractsError);

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
        sources: Sources,
    ) -> Result<Self, MediatorError> {
        let (network, clock) = (net.network(), sources.clock.clone());
        let directory = Arc::new(Directory::open(net.clone(), state.clone(), sources.clone()));
        let link = HolderLink::new(net.clone(), Arc::clone(&directory));
        let accounts = Accounts::new(state.clone(), network);
        let records = Records::new(state.clone(), sources.clock.clone());
        let standings = Arc::new(Standings::open(state.clone(), terms.upkeep, sources.clock.clone()));
        let tasks = Arc::new(Tasks::default());
        let context =
            Context { network, own: net.own(), key: key.clone(), sources, tasks: Arc::clone(&tasks) };
        let foundation = Foundation {
            net: net.clone(),
            state: state.clone(),
            accounts: accounts.clone(),
            records: records.clone(),
            directory: Arc::clone(&directory),
            standings: Arc::clone(&standings),
            link: link.clone(),
            context,
        };
        let (services, background) = foundation.compose(&terms);
        let contracts = Arc::new(Contracts::open(state).map_err(MediatorError)?);
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
            network,
            sessions,
            accounts,
            records,
            directory,
            link,
            standings,
            contracts,
            billing,
            prepayments,
            money,
            services,
            background,
            tasks,
            terms,
        })
    }

    /// Serves until the inbox closes. `stop` ends the background work.
    pub async fn run(self, inbox: MediatorInbox, stop: watch::Receiver<bool>) {
        let role = Arc::new(self);
        let mut background = JoinSet::new();
        let (services, works) = (&role.services, &role.background);
        background.spawn(services.announcer.clone().run(stop.clone()));
        background.spawn(works.auditor.clone().run(role.billing.clone(), stop.clone()));
        background.spawn(works.repair.clone().run(stop.clone()));
        let epoch = role.standings.terms().epoch;
        background.spawn(Arc::clone(&role.money).run(role.link.clone(), epoch, stop.clone()));
        background.spawn(works.chores(Arc::clone(&role.sessions), services).run(stop));
        background.spawn(services.migration_out.clone().probe_all());
        background.spawn(Arc::clone(&role.directory).run(inbox.offers, inbox.storage_seen));
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
            health: self.background.repair.health(),
            contracts: Arc::clone(&self.contracts),
            money: Arc::clone(&self.money),
        }
    }
}
