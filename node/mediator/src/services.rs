//! The services of a mediator, put together: each is handed those below it.

use std::sync::Arc;

use fincrypt_accounts::Accounts;
use fincrypt_accounts::releases::{self, Releases};
use fincrypt_net::{Net, Sessions};
use fincrypt_state::state::State;

use super::MediatorTerms;
use super::announcer::Announcer;
use super::auditor::Auditor;
use super::chores::Chores;
use super::context::Context;
use super::directory::Directory;
use super::heads::Heads;
use super::holder_link::HolderLink;
use super::holder_lists::HolderLists;
use super::migration_in::MigrationIn;
use super::migration_out::MigrationOut;
use super::missing_reports::MissingReports;
use super::missing_shards::MissingShards;
use super::outbox::Outbox;
use super::placement::Placement;
use super::records::Records;
use super::repair::{Repair, RepairParts};
use super::shard_transfer::ShardTransfer;
use super::standings::Standings;
use super::upload::{ShardPlacer, UploadParts, Uploads};

/// What services are made of: the network, the stores, and what others keep as well.
pub(super) struct Foundation {
    pub(super) net: Net,
    pub(super) state: State,
    pub(super) accounts: Accounts,
    pub(super) records: Records,
    pub(super) directory: Arc<Directory>,
    pub(super) standings: Arc<Standings>,
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
    records: Records,
    context: Context,
}

impl Foundation {
    /// Puts the services together.
    pub(super) fn compose(self, terms: &MediatorTerms) -> (Services, Background) {
        let Self { net, state, accounts, records, directory, standings, link, context } = self;
        let delay = terms.release_delay;
        let releases = Arc::new(Releases::new(state.clone(), releases::AT_MEDIATOR, delay));
        let missing = MissingShards::new(records.clone());
        let holder_lists = HolderLists::new(link.clone(), context.clone());
        let migration_out = MigrationOut::new(
            state.clone(),
            accounts.clone(),
            records.clone(),
            link.clone(),
            context.clone(),
        );
        let outbox = Outbox::new(
            state.clone(),
            accounts.clone(),
            records.clone(),
            Arc::clone(&releases),
            migration_out.clone(),
            context.clone(),
        );
        let heads = Heads::new(
            accounts.clone(),
            records.clone(),
            Arc::clone(&releases),
            outbox.clone(),
            migration_out.clone(),
            context.clone(),
        );
        let transfer = ShardTransfer::new(outbox.clone(), migration_out.clone(), context.clone());
        let placement = Placement::new(
            net.clone(),
            Arc::clone(&directory),
            Arc::clone(&standings),
            records.clone(),
            context.sources.clone(),
        );
        let placer = ShardPlacer::new(placement.clone(), Arc::clone(&directory), transfer.clone());
        let parts = UploadParts {
            placer,
            accounts: accounts.clone(),
            records: records.clone(),
            releases: Arc::clone(&releases),
            outbox: outbox.clone(),
            holder_lists: holder_lists.clone(),
            missing: missing.clone(),
        };
        let uploads = Uploads::new(parts, terms.floor, context.clone());
        let auditor = Auditor::new(
            state.clone(),
            Arc::clone(&standings),
            Arc::clone(&releases),
            (records.clone(), missing.clone()),
            (outbox.clone(), migration_out.clone()),
            context.clone(),
        );
        let parts = RepairParts {
            records: records.clone(),
            accounts: accounts.clone(),
            releases: Arc::clone(&releases),
            standings,
            directory: Arc::clone(&directory),
            placement: placement.clone(),
            transfer: transfer.clone(),
            outbox: outbox.clone(),
            holder_lists: holder_lists.clone(),
            missing: missing.clone(),
            open: uploads.open_segments().clone(),
        };
        let repair = Repair::new(parts, terms.repair_rate, context.clone());
        let missing_reports = MissingReports::new(records.clone(), missing, link, context.clone());
        let migration_in = MigrationIn::new(
            (state, net.clone()),
            (accounts, records.clone()),
            heads.clone(),
            outbox.clone(),
            migration_out.clone(),
            context.clone(),
        );
        let public = (terms.fee_permille, terms.floor);
        let announcer = Announcer::new(net, directory, public, context.clone());
        let services = Services {
            announcer,
            placement,
            transfer,
            uploads,
            heads,
            outbox,
            holder_lists,
            missing_reports,
            migration_in,
            migration_out,
        };
        (services, Background { auditor, repair, releases, records, context })
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
            records: self.records.clone(),
            context: self.context.clone(),
        }
    }
}
