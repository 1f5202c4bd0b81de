//! The numbers of a node in OpenMetrics text.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use fincrypt_mediator::MediatorInfo;
use fincrypt_storage_node::Earned;
use fincrypt_upkeep::NodeState;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::facts::{Facts, NodeInfo, StorageInfo};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(facts): State<Arc<Facts>>) -> Response {
    match text(&facts.info().await) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn text(info: &NodeInfo) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("fincrypt");
    gauge(&mut registry, "connected_peers", "Peers with a connection", info.connected_peers as u64);
    gauge(&mut registry, "dht_peers", "Peers in the routing table", info.dht_peers as u64);
    if let Some(storage) = &info.storage {
        of_storage(&mut registry, storage);
    }
    if let Some(mediator) = &info.mediator {
        of_mediator(&mut registry, mediator);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// A gauge of one number; the registry ends the help with a full stop.
fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstGauge::new(value));
}

fn of_storage(registry: &mut Registry, storage: &StorageInfo) {
    let sum = |of: fn(&Earned) -> u64| -> u64 { storage.earned.iter().map(of).sum() };
    for (name, help, value) in [
        ("storage_used_bytes", "Bytes that shard files take", storage.used_bytes),
        ("storage_capacity_bytes", "Bytes that shard files may take", storage.capacity_bytes),
        ("storage_free_bytes", "Bytes that still fit", storage.free_bytes),
        ("storage_disk_failing", "Whether the disk fails", storage.disk_failing.into()),
        ("storage_earned_msat", "Countersigned earnings", sum(|of| of.earned_msat)),
        ("storage_paid_msat", "Earnings that arrived", sum(|of| of.paid_msat)),
        ("storage_owed_msat", "Earnings that are owed", sum(|of| of.owed_msat)),
        ("storage_rotten_shards", "Shards found rotten since the start", storage.rotten_shards),
    ] {
        gauge(registry, name, help, value);
    }
}

fn of_mediator(registry: &mut Registry, mediator: &MediatorInfo) {
    let degraded = mediator.health.degraded;
    gauge(registry, "mediator_degraded_segments", "Segments that lack a good holder", degraded);
    let in_state = |state| mediator.nodes.iter().filter(|node| node.state == state).count() as u64;
    for (name, state) in [
        ("mediator_nodes_sound", NodeState::Sound),
        ("mediator_nodes_suspect", NodeState::Suspect),
        ("mediator_nodes_absent", NodeState::Absent),
        ("mediator_nodes_lost", NodeState::Lost),
    ] {
        gauge(registry, name, "Storage nodes in this state", in_state(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_gauges_under_the_names_that_dashboards_know() {
        let info = NodeInfo {
            version: "1",
            peer: String::new(),
            network: "local".to_owned(),
            roles: Vec::new(),
            listen: Vec::new(),
            connected_peers: 3,
            dht_peers: 2,
            storage: None,
            mediator: None,
        };
        let text = text(&info).expect("encodes");
        assert_eq!(
            text,
            "# HELP fincrypt_connected_peers Peers with a connection.\n\
             # TYPE fincrypt_connected_peers gauge\n\
             fincrypt_connected_peers 3\n\
             # HELP fincrypt_dht_peers Peers in the routing table.\n\
             # TYPE fincrypt_dht_peers gauge\n\
             fincrypt_dht_peers 2\n\
             # EOF\n"
        );
    }
}
