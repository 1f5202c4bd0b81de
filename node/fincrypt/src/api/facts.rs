//! What the local interface tells about.

use std::sync::Arc;

use fincrypt_mediator::{MediatorFacts, MediatorInfo};
use fincrypt_net::{Multiaddr, Net, Roles, peer_of};
use fincrypt_protocol::UnixTime;
use fincrypt_shards::ShardStore;
use fincrypt_storage_node::{Earned, EarnedOnDay, Earnings, EarningsError, Health, PaidView};
use serde::Serialize;

use crate::own_node::{self, OwnNode};

/// A storage node's shards, health and earnings.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) store: ShardStore,
    pub(crate) health: Health,
    pub(crate) earnings: Earnings,
}

/// What the interface tells about.
pub(crate) struct Facts {
    pub(crate) net: Net,
    pub(crate) roles: Roles,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) store: Option<Served>,
    /// The storage operator's own Lightning node.
    pub(crate) own_lightning: Option<Arc<OwnNode>>,
    pub(crate) mediated: Option<MediatorFacts>,
    /// Whether a destination for earnings was named.
    pub(crate) payable: bool,
}

/// Days and payouts shown to a storage operator.
const DAYS: u64 = 30;
const PAYOUTS: usize = 50;

#[derive(Serialize)]
pub(super) struct StorageInfo {
    pub(super) used_bytes: u64,
    pub(super) capacity_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) accounts: usize,
    /// Whether it is to be switched off.
    pub(super) leaving: bool,
    /// Shards that have no other holder yet, of a node that is leaving.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shards_left: Option<u64>,
    /// Whether the disk fails: no shards are taken then.
    pub(super) disk_failing: bool,
    /// Shards found rotten since the start.
    pub(super) rotten_shards: u64,
    /// What mediators owe.
    pub(super) earned: Vec<Earned>,
    /// What was earned of each mediator on each of the last 30 days.
    pub(super) earned_days: Vec<EarnedDay>,
    /// The newest payouts that mediators told of.
    pub(super) payouts: Vec<PaidView>,
    /// Where the operator is paid: false if nothing was named, and nothing can be paid.
    pub(super) payable: bool,
    /// The operator's own Lightning node.
    #[serde(flatten)]
    pub(super) own_node: own_node::View,
}

/// What was earned of a mediator on a day.
#[derive(Serialize)]
pub(super) struct EarnedDay {
    pub(super) mediator: String,
    /// Days since 1970 (UTC).
    pub(super) day: u64,
    pub(super) msat: u64,
}

#[derive(Serialize)]
pub(super) struct NodeInfo {
    pub(super) version: &'static str,
    pub(super) peer: String,
    pub(super) network: String,
    pub(super) roles: Vec<&'static str>,
    pub(super) listen: Vec<String>,
    pub(super) connected_peers: usize,
    pub(super) dht_peers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storage: Option<StorageInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mediator: Option<MediatorInfo>,
}

/// What the earnings say; nothing of them if they cannot be read.
fn read<T: Default>(answer: Result<T, EarningsError>) -> T {
    answer.unwrap_or_else(|error| {
        tracing::error!(%error, "earnings_not_read");
        T::default()
    })
}

impl Facts {
    fn storage(&self, Served { store, health: Health { disk, drain }, earnings }: &Served) -> StorageInfo {
        let now = UnixTime::now();
        let days = read(earnings.earned_days(now, DAYS));
        let shown = |earned: EarnedOnDay| EarnedDay {
            mediator: fincrypt_net::shown(&earned.mediator),
            day: earned.day,
            msat: earned.earned.get(),
        };
        StorageInfo {
            used_bytes: store.used(),
            capacity_bytes: store.capacity(),
            free_bytes: if disk.is_failing() || drain.is_wished() { 0 } else { store.free() },
            leaving: drain.is_wished(),
            shards_left: drain.left(),
            disk_failing: disk.is_failing(),
            rotten_shards: disk.rotten(),
            earned: read(earnings.earned(now)),
            earned_days: days.into_iter().map(shown).collect(),
            payouts: read(earnings.paid_out(PAYOUTS)),
            payable: self.payable,
            own_node: self.own_lightning.as_deref().map(own_node::View::of).unwrap_or_default(),
            accounts: store.accounts().len(),
        }
    }

    pub(super) async fn info(&self) -> NodeInfo {
        let storage = self.store.as_ref().map(|served| self.storage(served));
        NodeInfo {
            version: env!("CARGO_PKG_VERSION"),
            peer: peer_of(&self.net.own()).map(|peer| peer.to_string()).unwrap_or_default(),
            network: self.net.network().to_string(),
            roles: self.roles.iter().map(fincrypt_net::Role::name).collect(),
            listen: self.listen.iter().map(ToString::to_string).collect(),
            connected_peers: self.net.connected().await.len(),
            dht_peers: self.net.dht_peers().await,
            storage,
            mediator: self.mediated.as_ref().map(MediatorFacts::info),
        }
    }
}
