//! A mediator's money in the local interface.
//!
//! * `GET /api/v1/wallet`: balances, channels, payouts, what stands in their way.
//! * `GET /api/v1/wallet/audit`: the books, checked from their first entry on.
//! * `POST /api/v1/wallet/address`: an address for the operator's own money.
//! * `GET /api/v1/wallet/descriptors`: for a wallet that watches.
//! * `POST /api/v1/wallet/fund` with `{"sat": …}`: moves money to the Lightning node.
//! * `POST /api/v1/wallet/channels` with `{"peer": "KEY@HOST:PORT", "sat": …}`: opens a channel.
//! * `DELETE /api/v1/wallet/channels/ID`, `?force=true`: closes one.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::facts::Facts;
use fincrypt_mediator::Money;

/// Runs work that blocks, with the money of a mediator. Its errors are for a person.
async fn with_money<T, E>(
    facts: &Facts,
    work: impl FnOnce(&Money) -> Result<T, E> + Send + 'static,
) -> Response
where
    T: Serialize + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let Some(mediated) = facts.mediated.clone() else {
        return (StatusCode::NOT_FOUND, "this node is no mediator: it keeps no books").into_response();
    };
    match tokio::task::spawn_blocking(move || work(mediated.money())).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(error)) => (StatusCode::CONFLICT, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// What the books of a mediator come to.
#[derive(Serialize)]
struct LedgerReport {
    /// Whether everything in them holds together.
    sound: bool,
    /// For a person.
    report: String,
}

async fn audit(State(facts): State<Arc<Facts>>) -> Response {
    // It reads the whole journal.
    let report = |money: &Money| {
        let audit = money.ledger().audit()?;
        let report = LedgerReport { sound: audit.is_sound(), report: audit.to_string() };
        Ok::<_, fincrypt_ledger::LedgerError>(report)
    };
    with_money(&facts, report).await
}

/// All of it: without Bitcoin, the books alone.
pub(super) fn routes() -> Router<Arc<Facts>> {
    let routes = Router::new().route("/api/v1/wallet/audit", get(audit));
    #[cfg(feature = "bitcoin")]
    let routes = routes.merge(moving::routes());
    routes
}

/// Money that moves.
#[cfg(feature = "bitcoin")]
mod moving {
    use axum::extract::{Path, Query};
    use axum::routing::{delete, post};
    use fincrypt_protocol::amount::Sat;
    use fincrypt_treasury::lightning::Peer;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::wording::{channel_moved, money_moved};

    async fn view(State(facts): State<Arc<Facts>>) -> Response {
        with_money(&facts, |money| Ok::<_, std::convert::Infallible>(money.view())).await
    }

    async fn address(State(facts): State<Arc<Facts>>) -> Response {
        let address = |money: &Money| {
            let address = money.capital_address().map(|address| json!({ "address": address }));
            address.map_err(|error| money_moved(&error))
        };
        with_money(&facts, address).await
    }

    async fn descriptors(State(facts): State<Arc<Facts>>) -> Response {
        let descriptors = |money: &Money| {
            let descriptors = money.descriptors();
            let shown = descriptors.map(|[receive, change]| json!({ "receive": receive, "change": change }));
            shown.map_err(|error| money_moved(&error))
        };
        with_money(&facts, descriptors).await
    }

    #[derive(Deserialize)]
    struct Fund {
        sat: u64,
    }

    async fn fund(State(facts): State<Arc<Facts>>, Json(Fund { sat }): Json<Fund>) -> Response {
        let fund = move |money: &Money| {
            let funded = money.fund_lightning(Sat::new(sat));
            funded.map(|id| json!({ "transaction": id.to_string() })).map_err(|error| money_moved(&error))
        };
        with_money(&facts, fund).await
    }

    #[derive(Deserialize)]
    struct Open {
        peer: String,
        sat: u64,
    }

    #[derive(Serialize)]
    struct Opened {
        id: String,
    }

    async fn open(State(facts): State<Arc<Facts>>, Json(Open { peer, sat }): Json<Open>) -> Response {
        with_money(&facts, move |money| {
            let open = |peer: Peer| money.open_channel(&peer, sat);
            let opened = peer.parse().and_then(open);
            opened.map(|id| Opened { id }).map_err(|error| channel_moved(&error))
        })
        .await
    }

    #[derive(Deserialize)]
    struct Close {
        #[serde(default)]
        force: bool,
    }

    async fn close(
        State(facts): State<Arc<Facts>>,
        Path(id): Path<u128>,
        Query(Close { force }): Query<Close>,
    ) -> Response {
        let close =
            move |money: &Money| money.close_channel(id, force).map_err(|error| channel_moved(&error));
        with_money(&facts, close).await
    }

    pub(super) fn routes() -> Router<Arc<Facts>> {
        Router::new()
            .route("/api/v1/wallet", get(view))
            .route("/api/v1/wallet/address", post(address))
            .route("/api/v1/wallet/descriptors", get(descriptors))
            .route("/api/v1/wallet/fund", post(fund))
            .route("/api/v1/wallet/channels", post(open))
            .route("/api/v1/wallet/channels/{id}", delete(close))
    }
}
