//! The storage role: keeps shards, proves who asked for what, hands out heads.

mod admitted;
mod handle;
mod heads;
mod offer;
mod positions;

use std::sync::Arc;

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::{Network, SigningKey};
use fincrypt_storage::shards::ShardStore;
use fincrypt_storage::state::State;
use tokio::sync::{mpsc, watch};

use crate::accounts::Accounts;
use crate::engine::{Net, Sessions, ShardInbound};
use crate::serve::serve;
use admitted::Admitted;
use positions::Positions;

/// What a storage operator decides.
#[derive(Debug, Clone)]
pub struct StorageTerms {
    /// For holding data.
    pub price: Price,
    /// For reading it beyond what is included, per GiB.
    pub egress_price: Price,
    /// Days that unpaid shards are kept.
    pub grace_days: u16,
    /// Days a contract bills at least.
    pub minimum_days: u16,
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
        terms: StorageTerms,
    ) -> Self {
        let network = net.network();
        let (accounts, admitted) = (Accounts::new(state, network), Admitted::default());
        let positions = Positions::default();
        Self { net, network, sessions, store, accounts, admitted, key, terms, positions }
    }

    /// Serves until the inbox closes. `stop` ends the background work.
    pub async fn run(self, inbox: mpsc::Receiver<ShardInbound>, stop: watch::Receiver<bool>) {
        let role = Arc::new(self);
        let background = tokio::spawn(Arc::clone(&role).advertise(stop));
        serve(inbox, move |request| {
            let role = Arc::clone(&role);
            async move { role.handle(request).await }
        })
        .await;
        background.abort();
    }
}
