//! The services of a mediator, put together: each is handed those below it.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_accounts::Accounts;
use fincrypt_accounts::releases::{self, Releases};
use fincrypt_net::{Net, Sessions};
use fincrypt_state::state::State;

use super::MediatorTerms;
use super::announcer::Announcer;
use super::auditor::Auditor;
use super::chores::Chores;
use super::context::Context;
use super::error::StoreError;
use super::heads::Heads;
use super::holder_link::HolderLink;
use super::holder_lists::HolderLists;
use super::migration_in::MigrationIn;
use super::migration_out::MigrationOut;
use super::missing_reports::MissingReports;
use super::missing_shards::MissingShards;
use super::outbox::Outbox;
use super::placement::Placement;
use super::registry::StorageRegistry;
use super::repair::{Repair, RepairParts};
use super::reputations::Reputations;
use super::shard_transfer::ShardTransfer;
use super::stores::{SegmentStore, Stores};
use super::upload::{ShardPlacer, UploadParts, Uploads};

/// The parts that services are made of: the network, the stores, and the lowest services.
pub(super) struct Foundation {
    pub(super) net: Net,
    pub(super) state: State,
    pub(super) accounts: Accounts,
    pub(super) stores: Stores,
    pub(super) registry: Arc<StorageRegistry>,
    pub(super) reputations: Arc<Reputations>,
    pub(super) link: HolderLink,
    pub(super) context: Context,
}

/// The services that answer requests.
pub(super) struct Services {
    pub(super) announcer: Announcer,
    pub(super) placement: Placement,
    pub(super) transfer: ShardTransfer,
    pub(super) uploads: Uploads,
    pub(super) heads: Heads,
    pub(super) outbox: Outbox,
    pub(super) holder_lists: HolderLists,
    pub(super) missing_reports: MissingReports,
    pub(super) migration_in: MigrationIn,
    pub(super) migration_out: MigrationOut,
}

/// The services that work by themselves.
#[derive(Clone)]
pub(super) struct Background {
    pub(super) auditor: Auditor,
    pub(super) repair: Repair,
    releases: Arc<Releases>,
    segments: SegmentStore,
    context: Context,
}

/// The services that most others work with.
struct Shared {
    releases: Arc<Releases>,
    missing: MissingShards,
    holder_lists: HolderLists,
    migration_out: MigrationOut,
    outbox: Outbox,
}

impl Foundation {
    /// Puts the services together.
    ///
    /// # Errors
    /// [`StoreError`] if a service cannot read its state.
    pub(super) fn compose(self, terms: &MediatorTerms) -> Result<(Services, Background), StoreError> {
        let shared = self.share(terms.release_delay)?;
        let services = self.services(&shared, terms);
        let background = self.background(shared, &services, terms);
        Ok((services, background))
    }

    fn share(&self, release_delay: Duration) -> Result<Shared, StoreError> {
        let (state, accounts, stores) = (&self.state, &self.accounts, &self.stores);
        let releases = Arc::new(Releases::new(state.clone(), releases::AT_MEDIATOR, release_delay));
        let migration_out = MigrationOut::open(
            state.clone(),
            accounts.clone(),
            stores.clone(),
            self.link.clone(),
            self.context.clone(),
        )?;
        let outbox = Outbox::new(
            state.clone(),
            accounts.clone(),
            stores.clone(),
            Arc::clone(&releases),
            migration_out.clone(),
            self.context.clone(),
        );
        let missing = MissingShards::new(stores.segments.clone());
        let holder_lists = HolderLists::new(self.link.clone(), self.context.clone());
        Ok(Shared { releases, missing, holder_lists, migration_out, outbox })
    }

    fn services(&self, shared: &Shared, terms: &MediatorTerms) -> Services {
        let (context, stores) = (&self.context, &self.stores);
        let (outbox, migration_out) = (shared.outbox.clone(), shared.migration_out.clone());
        let heads = Heads::new(
            self.accounts.clone(),
            stores.clone(),
            Arc::clone(&shared.releases),
            outbox.clone(),
            migration_out.clone(),
            context.clone(),
        );
        let transfer = ShardTransfer::new(outbox.clone(), migration_out.clone(), context.clone());
        let placement = Placement::new(
            self.net.clone(),
            Arc::clone(&self.registry),
            Arc::clone(&self.reputations),
            stores.held.clone(),
            context.sources.clone(),
        );
        let parts = UploadParts {
            placer: ShardPlacer::new(placement.clone(), Arc::clone(&self.registry), transfer.clone()),
            accounts: self.accounts.clone(),
            stores: stores.clone(),
            releases: Arc::clone(&shared.releases),
            outbox: outbox.clone(),
            holder_lists: shared.holder_lists.clone(),
            missing: shared.missing.clone(),
        };
        let (segments, missing) = (stores.segments.clone(), shared.missing.clone());
        let migration_in = MigrationIn::new(
            (self.state.clone(), self.net.clone()),
            (self.accounts.clone(), stores.clone()),
            heads.clone(),
            outbox.clone(),
            migration_out.clone(),
            context.clone(),
        );
        let (net, registry) = (self.net.clone(), Arc::clone(&self.registry));
        Services {
            announcer: Announcer::new(net, registry, (terms.fee_permille, terms.floor), context.clone()),
            placement,
            transfer,
            uploads: Uploads::new(parts, terms.floor, context.clone()),
            heads,
            outbox,
            holder_lists: shared.holder_lists.clone(),
            missing_reports: MissingReports::new(segments, missing, self.link.clone(), context.clone()),
            migration_in,
            migration_out,
        }
    }

    fn background(self, shared: Shared, services: &Services, terms: &MediatorTerms) -> Background {
        let Self { state, accounts, stores, registry, reputations, context, .. } = self;
        let Shared { releases, missing, holder_lists, migration_out, outbox } = shared;
        let auditor = Auditor::new(
            state,
            Arc::clone(&reputations),
            Arc::clone(&releases),
            (stores.clone(), missing.clone()),
            (outbox.clone(), migration_out),
            context.clone(),
        );
        let segments = stores.segments.clone();
        let parts = RepairParts {
            stores,
            accounts,
            releases: Arc::clone(&releases),
            reputations,
            registry,
            placement: services.placement.clone(),
            transfer: services.transfer.clone(),
            outbox,
            holder_lists,
            missing,
            open: services.uploads.open_segments().clone(),
        };
        let repair = Repair::new(parts, terms.repair_rate, context.clone());
        Background { auditor, repair, releases, segments, context }
    }
}

impl Background {
    /// The rounds of unfinished work of these services.
    pub(super) fn chores(&self, sessions: Arc<Sessions>, services: &Services) -> Chores {
        Chores {
            sessions,
            uploads: services.uploads.clone(),
            outbox: services.outbox.clone(),
            holder_lists: services.holder_lists.clone(),
            migration_in: services.migration_in.clone(),
            releases: Arc::clone(&self.releases),
            segments: self.segments.clone(),
            context: self.context.clone(),
        }
    }
}
