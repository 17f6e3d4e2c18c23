//! What an Envoy answers about itself to whoever runs it: whether it is ready, and its numbers.
//!
//! The admin page can end the process, so it stays on the loopback interface; this is a listener beside it with two paths.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::socket_address;
use crate::model;

/// The path that answers 200 when the Envoy is ready, 503 when it drains, and nothing before its first configuration.
pub const READY_PATH: &str = "/ready";
/// The path with all metrics in Prometheus' format.
pub const METRICS_PATH: &str = "/stats/prometheus";

/// The listener, and the cluster that it needs.
///
/// Workers answer for readiness, so that a main thread that is busy with a large configuration does not look unwell. An
/// Envoy's workers start when its first listeners and clusters have come (`initial_fetch_timeout` of 0): until then a
/// connection is taken and not answered.
pub(super) fn probes(address: SocketAddr, admin: SocketAddr) -> (Value, Value) {
    let filter = |name: &str, type_: &str, mut config: Value| {
        config["@type"] = json!(format!("type.googleapis.com/{type_}"));
        json!({ "name": name, "typed_config": config })
    };
    let health = filter(
        "envoy.filters.http.health_check",
        "envoy.extensions.filters.http.health_check.v3.HealthCheck",
        json!({
            "pass_through_mode": false,
            "headers": [{ "name": ":path", "string_match": { "exact": READY_PATH } }],
        }),
    );
    let router = filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", json!({}));
    let metrics = json!({
        "match": {
            "path": METRICS_PATH,
            "headers": [{ "name": ":method", "string_match": { "exact": "GET" } }],
        },
        "route": { "cluster": model::ADMIN_CLUSTER },
    });
    let manager = filter(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": model::PROBES_LISTENER,
            "http_filters": [health, router],
            "route_config": {
                "name": model::PROBES_LISTENER,
                "virtual_hosts": [{ "name": model::PROBES_LISTENER, "domains": ["*"], "routes": [metrics] }],
            },
        }),
    );
    let listener = json!({
        "name": model::PROBES_LISTENER,
        "address": socket_address(address),
        // Who asks how an Envoy is has to be answered when it is full, too.
        "ignore_global_conn_limit": true,
        "filter_chains": [{ "filters": [manager] }],
    });
    let cluster = json!({
        "name": model::ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": model::ADMIN_CLUSTER,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket_address(admin) } }] }],
        },
    });
    (listener, cluster)
}
