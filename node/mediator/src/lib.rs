//! The mediator: finds storage, computes parity, places shards, audits, repairs, bills and pays, and
//! keeps the heads of vaults.

mod announcer;
mod auditor;
mod billing;
mod chores;
mod context;
mod contract_terms;
mod contracts;
mod error;
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
mod payments;
mod peer_table;
mod placement;
mod prepayment;
mod registry;
mod repair;
mod reputations;
mod services;
mod shard_transfer;
mod status_view;
mod stores;
mod tasks;
#[cfg(test)]
mod testing;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use fincrypt_accounts::Accounts;
use fincrypt_net::{MediateInbound, Net, Sessions, serve, unexpected_end};
use fincrypt_protocol::record::StorageOffer;
use fincrypt_protocol::{Network, NodeId, Redundancy, SigningKey, Verified};
use fincrypt_state::state::State;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use context::Context;
pub use context::Sources;
pub use contract_terms::BillingTerms;
use contract_terms::OwnTerms;
pub use contracts::Owed;
use holder_link::HolderLink;
use money::Settlement;
#[cfg(feature = "bitcoin")]
pub use money::{LightningView, MoveError, PayoutFailure, WalletView};
pub use money::{Money, MoneyError, MoneyOptions, MoneyPaths};
use payments::{PaymentParts, Payments};
use registry::StorageRegistry;
pub use repair::Health;
use reputations::Reputations;
pub use reputations::UpkeepTerms;
use services::{Background, Foundation, Services};
pub use status_view::{MediatorFacts, MediatorInfo, NodeFacts};
use stores::Stores;
use tasks::Tasks;

/// An operator's terms of a mediator.
#[derive(Debug, Clone)]
pub struct MediatorTerms {
    /// Fee on what storage earns, in permille.
    pub fee_permille: u16,
    /// Redundancy it never goes under.
    pub floor: Redundancy,
    /// Time for which it keeps the records of released segments.
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
    stores: Stores,
    registry: Arc<StorageRegistry>,
    link: HolderLink,
    reputations: Arc<Reputations>,
    payments: Payments,
    services: Services,
    background: Background,
    tasks: Arc<Tasks>,
    terms: MediatorTerms,
}

/// The inbox of a mediator.
pub struct MediatorInbox {
    /// Clients' requests.
    pub requests: mpsc::Receiver<MediateInbound>,
    /// Offers received over gossip.
    pub offers: mpsc::Receiver<Verified<StorageOffer>>,
    /// Storage nodes newly met.
    pub storage_seen: mpsc::Receiver<NodeId>,
}

/// A mediator cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("{0}, so nothing may be signed or paid")]
pub struct MediatorError(#[from] OpenError);

/// The state that cannot be read.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("contracts cannot be read")]
    Contracts(#[from] contracts::ContractsError),
    #[error("the mediator's state cannot be read")]
    Stores(#[from] error::StoreError),
}

impl MediatorRole {
    /// Puts the role together over an open state.
    ///
    /// # Errors
    /// [`MediatorError`] if its state cannot be read: nothing may be signed then.
    pub fn new(
        net: Net,
        sessions: Arc<Sessions>,
        state: State,
        money: Arc<Money>,
        key: SigningKey,
        terms: MediatorTerms,
        sources: Sources,
    ) -> Result<Self, MediatorError> {
        let (network, own) = (net.network(), net.own());
        let clock = sources.clock.clone();
        let registry = Arc::new(StorageRegistry::open(net.clone(), state.clone(), sources.clone()));
        let link = HolderLink::new(net.clone(), Arc::clone(&registry));
        let accounts = Accounts::new(state.clone(), network);
        let stores = Stores::open(state.clone(), clock.clone()).map_err(OpenError::from)?;
        let reputations = Reputations::open(state.clone(), terms.upkeep, clock.clone());
        let reputations = Arc::new(reputations.map_err(|error| OpenError::Stores(error.into()))?);
        let tasks = Arc::new(Tasks::default());
        let context = Context { network, own, key: key.clone(), sources, tasks: Arc::clone(&tasks) };
        let foundation = Foundation {
            net,
            state: state.clone(),
            accounts: accounts.clone(),
            stores: stores.clone(),
            registry: Arc::clone(&registry),
            reputations: Arc::clone(&reputations),
            link: link.clone(),
            context,
        };
        let (services, background) = foundation.compose(&terms).map_err(OpenError::from)?;
        let parts = PaymentParts {
            stores: stores.clone(),
            registry: Arc::clone(&registry),
            reputations: Arc::clone(&reputations),
            money,
            link: link.clone(),
            key,
            clock,
        };
        let (fee_permille, billing) = (terms.fee_permille, terms.billing);
        let own = OwnTerms { network, mediator: own, fee_permille, billing };
        let payments = Payments::open(state, parts, own).map_err(OpenError::from)?;
        Ok(Self {
            network,
            sessions,
            accounts,
            stores,
            registry,
            link,
            reputations,
            payments,
            services,
            background,
            tasks,
            terms,
        })
    }

    /// Serves until the inbox closes, or background work fails. `stop` ends the background work.
    pub async fn run(self, inbox: MediatorInbox, stop: watch::Receiver<bool>) {
        let role = Arc::new(self);
        let mut background = JoinSet::new();
        let (services, works) = (&role.services, &role.background);
        background.spawn(services.announcer.clone().run(stop.clone()));
        background.spawn(works.auditor.clone().run(role.payments.billing.clone(), stop.clone()));
        background.spawn(works.repair.clone().run(stop.clone()));
        let epoch = role.reputations.terms().epoch;
        background.spawn(Arc::clone(&role.payments.money).run(role.link.clone(), epoch, stop.clone()));
        background.spawn(works.chores(Arc::clone(&role.sessions), services).run(stop.clone()));
        role.tasks.spawn(services.migration_out.clone().probe_all());
        background.spawn(Arc::clone(&role.registry).run(inbox.offers, inbox.storage_seen));
        let serving = Arc::clone(&role);
        let serving = serve(inbox.requests, move |request| {
            let role = Arc::clone(&serving);
            async move { role.handle(request).await }
        });
        tokio::select! {
            () = serving => {}
            () = unexpected_end(&mut background, &stop) => {}
        }
        background.shutdown().await;
        role.tasks.end().await;
    }

    /// The status view for the local interface, while it runs.
    #[must_use]
    pub fn facts(&self) -> MediatorFacts {
        MediatorFacts {
            reputations: Arc::clone(&self.reputations),
            held: self.stores.held.clone(),
            health: self.background.repair.health(),
            contracts: Arc::clone(&self.payments.contracts),
            money: Arc::clone(&self.payments.money),
        }
    }
}
