//! The local interface: JSON and metrics for this machine's user.
//!
//! It listens on loopback only. Every request needs the token in `api.token` (mode 0600, new at
//! every start) as `Authorization: Bearer …`, and a `Host` that names loopback, so that a web page
//! cannot reach it under a name of its own.
//!
//! * `GET /api/v1/node`: version, peer, network, roles, addresses, connections, storage.
//! * `/api/v1/wallet…`: a mediator's money ([`wallet`]).
//! * `GET /metrics`: the same numbers in OpenMetrics text.

mod metrics;
mod wallet;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use fincrypt_net::Multiaddr;
use fincrypt_net::{Roles, peer_of};
use fincrypt_protocol::UnixTime;
use fincrypt_shards::ShardStore;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::daemon::NodeError;
use crate::home::Home;
use crate::own_node::{self, OwnNode};
use fincrypt_client::ClientError;
use fincrypt_mediator::{MediatorFacts, MediatorInfo};
use fincrypt_net::Net;
use fincrypt_storage_node::{Earned, EarnedOnDay, Health, Ledger, LedgerError, PaidView};

/// A storage node's shards, health and earnings.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) store: ShardStore,
    pub(crate) health: Health,
    pub(crate) ledger: Ledger,
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
struct StorageInfo {
    used_bytes: u64,
    capacity_bytes: u64,
    free_bytes: u64,
    accounts: usize,
    /// Whether it is to be switched off.
    leaving: bool,
    /// Shards that have no other holder yet, of a node that is leaving.
    #[serde(skip_serializing_if = "Option::is_none")]
    shards_left: Option<u64>,
    /// Whether the disk fails: no shards are taken then.
    disk_failing: bool,
    /// Shards found rotten since the start.
    rotten_shards: u64,
    /// What mediators owe.
    earned: Vec<Earned>,
    /// What was earned of each mediator on each of the last 30 days.
    earned_days: Vec<EarnedDay>,
    /// The newest payouts that mediators told of.
    payouts: Vec<PaidView>,
    /// Where the operator is paid: false if nothing was named, and nothing can be paid.
    payable: bool,
    /// The operator's own Lightning node.
    #[serde(flatten)]
    own_node: own_node::View,
}

/// What was earned of a mediator on a day.
#[derive(Serialize)]
struct EarnedDay {
    mediator: String,
    /// Days since 1970 (UTC).
    day: u64,
    msat: u64,
}

#[derive(Serialize)]
struct NodeInfo {
    version: &'static str,
    peer: String,
    network: String,
    roles: Vec<&'static str>,
    listen: Vec<String>,
    connected_peers: usize,
    dht_peers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<StorageInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mediator: Option<MediatorInfo>,
}

/// What the ledger says; nothing of it if it cannot be read.
fn read<T: Default>(answer: Result<T, LedgerError>) -> T {
    answer.unwrap_or_else(|error| {
        tracing::error!(%error, "ledger_not_read");
        T::default()
    })
}

impl Facts {
    fn storage(&self, Served { store, health: Health { disk, drain }, ledger }: &Served) -> StorageInfo {
        let now = UnixTime::now();
        let days = read(ledger.earned_days(now, DAYS));
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
            earned: read(ledger.earned(now)),
            earned_days: days.into_iter().map(shown).collect(),
            payouts: read(ledger.paid_out(PAYOUTS)),
            payable: self.payable,
            own_node: self.own_lightning.as_deref().map(own_node::View::of).unwrap_or_default(),
            accounts: store.accounts().len(),
        }
    }

    async fn info(&self) -> NodeInfo {
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

struct Access {
    /// Hash of the token: comparing hashes takes the same time whatever is sent.
    token: blake3::Hash,
    port: u16,
}

fn names_loopback(headers: &HeaderMap, port: u16) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let allowed = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}"));
    host.is_some_and(|host| allowed.iter().any(|name| name == host))
}

async fn admit(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    if !names_loopback(request.headers(), access.port) {
        return (StatusCode::MISDIRECTED_REQUEST, "this interface answers on loopback only").into_response();
    }
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if blake3::hash(sent.as_bytes()) != access.token {
        return (StatusCode::UNAUTHORIZED, "send the token in the home's api.token").into_response();
    }
    next.run(request).await
}

async fn node(State(facts): State<Arc<Facts>>) -> Json<NodeInfo> {
    Json(facts.info().await)
}

fn new_token(home: &Home) -> Result<Zeroizing<String>, ClientError> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut_slice()).map_err(|_| ClientError::Inner)?;
    let token: Zeroizing<String> = Zeroizing::new(hex::encode(random.as_slice()));
    let path = home.api_token();
    fincrypt_state::durable::write_file(&path, token.as_bytes(), 0o600).map_err(ClientError::io(&path))?;
    Ok(token)
}

/// Listens; the interface's URL, and the server to run until told to stop.
pub(crate) async fn start(
    address: SocketAddr,
    home: &Home,
    facts: Facts,
    mut stop: watch::Receiver<bool>,
) -> Result<(String, impl Future<Output = ()> + Send + 'static), NodeError> {
    let refused = |source| NodeError::Api { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let token = new_token(home)?;
    // Where `fincrypt-node status` finds it.
    let path = home.api_address();
    let written = fincrypt_state::durable::write_file(&path, bound.to_string().as_bytes(), 0o600);
    written.map_err(ClientError::io(&path))?;
    let access = Arc::new(Access { token: blake3::hash(token.as_bytes()), port: bound.port() });
    let router = Router::new()
        .route("/api/v1/node", get(node))
        .merge(wallet::routes())
        .route("/metrics", get(metrics::metrics))
        .layer(middleware::from_fn_with_state(access, admit))
        .with_state(Arc::new(facts));
    let stopped = async move { drop(stop.changed().await) };
    let server = async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "the local interface has stopped");
        }
    };
    Ok((format!("http://{bound}"), server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_with_the_right_port_are_answered() {
        let host = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header"));
            names_loopback(&headers, 7070)
        };
        assert!(host("127.0.0.1:7070") && host("localhost:7070") && host("[::1]:7070"));
        assert!(!host("evil.example:7070") && !host("127.0.0.1:80") && !host("127.0.0.1"));
        assert!(!names_loopback(&HeaderMap::new(), 7070));
    }
}
