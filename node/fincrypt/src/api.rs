//! The local interface: JSON and metrics for this machine's user.
//!
//! It listens on loopback only. Every request needs the token in `api.token` (mode 0600, new at
//! every start) as `Authorization: Bearer …`, and a `Host` that names loopback, so that a web page
//! cannot reach it under a name of its own.
//!
//! * `GET /api/v1/node`: version, peer, network, roles, addresses, connections, storage.
//! * `/api/v1/wallet…`: a mediator's money ([`wallet`]).
//! * `GET /metrics`: the same numbers in OpenMetrics text.

mod facts;
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
use tokio::net::TcpListener;
use tokio::sync::watch;
use zeroize::Zeroizing;

use fincrypt_client::HomeError;

pub(crate) use facts::{Facts, Served};

use crate::error::NodeError;
use crate::home::Home;
use facts::NodeInfo;

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

fn new_token(home: &Home) -> Result<Zeroizing<String>, NodeError> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut_slice()).map_err(NodeError::Randomness)?;
    let token: Zeroizing<String> = Zeroizing::new(hex::encode(random.as_slice()));
    let path = home.api_token();
    fincrypt_state::durable::write_file(&path, token.as_bytes(), 0o600).map_err(HomeError::io(&path))?;
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
    written.map_err(HomeError::io(&path))?;
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
