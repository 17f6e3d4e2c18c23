//! No request fails, counted under load, whatever changes: routes, clusters, endpoints, listeners, the control plane itself.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::Value;

use crate::{
    site::{Site, documents, gateway, listener, route_to, service, until_answered},
    support::{
        backend::Backend,
        client,
        load::{Load, Tally},
        ports::Port,
    },
};

/// How many connections send requests.
const CONNECTIONS: usize = 4;

/// How many requests end between one change and the next, at least.
const BETWEEN: u64 = 8;

/// Not one request failed.
async fn flawless(load: Load) -> Tally {
    // More of it, so that what came last is under load too.
    load.wait_for(200).await;
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    tally
}

/// Two backends, each behind a Service of its name, and a route to the first.
async fn two_backends() -> (Backend, Backend, Site) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let site = Site::start(&[
        ("blue.yaml", &service("blue", &[blue.address()])),
        ("green.yaml", &service("green", &[green.address()])),
        ("route.yaml", &route_to("all", "blue")),
    ])
    .await;
    (blue, green, site)
}

#[tokio::test]
async fn no_request_fails_while_a_route_moves_between_backends_200_times() {
    let (_blue, _green, site) = two_backends().await;
    let load = Load::start(&site.get("/"), CONNECTIONS);
    for backend in ["green", "blue"].into_iter().cycle().take(200) {
        site.manifests.write("route.yaml", route_to("all", backend));
        site.until_from(backend, "/").await;
        load.wait_for(BETWEEN).await;
    }
    let tally = flawless(load).await;
    assert_eq!(tally.by_backend.len(), 2, "{tally:?}");
}

#[tokio::test]
async fn no_request_fails_while_a_route_moves_to_clusters_that_come_and_go() {
    let (_blue, green, site) = two_backends().await;
    let load = Load::start(&site.get("/"), CONNECTIONS);
    for turn in 0..50 {
        let name = format!("green-{turn}");
        let cluster = format!("service/default/{name}/80");
        let both = documents(&[service(&name, &[green.address()]), route_to("all", &name)]);
        site.manifests.write("route.yaml", both);
        site.until_from("green", "/").await;
        load.wait_for(BETWEEN).await;
        // In one step the route goes back and the Service it used is gone.
        site.manifests.write("route.yaml", route_to("all", "blue"));
        site.until_from("blue", "/").await;
        let gone = |clusters: &Value| !clusters.to_string().contains(&cluster);
        site.envoy.wait_for_clusters(&format!("{cluster} to be withdrawn"), gone).await;
        load.wait_for(BETWEEN).await;
    }
    let tally = flawless(load).await;
    assert!(tally.by_backend["green"] > 0 && tally.by_backend["blue"] > 0, "{tally:?}");
}

#[tokio::test]
async fn no_request_fails_while_the_endpoints_of_a_service_change() {
    let mut backends = Vec::new();
    for name in ["a", "b", "c"] {
        backends.push(Backend::start(name).await);
    }
    let addresses: Vec<SocketAddr> = backends.iter().map(Backend::address).collect();
    let site =
        Site::start(&[("service.yaml", &service("web", &addresses[..1])), ("route.yaml", &route_to("all", "web"))])
            .await;
    let load = Load::start(&site.get("/"), CONNECTIONS);
    // Each time one of those that served before goes on serving, and one that did not is added.
    let turns: [&[usize]; 6] = [&[0, 1], &[1], &[1, 2], &[2], &[2, 0], &[0]];
    for turn in turns.iter().cycle().take(60) {
        let now: Vec<SocketAddr> = turn.iter().map(|place| addresses[*place]).collect();
        site.manifests.write("service.yaml", service("web", &now));
        let hosts = |clusters: &Value| {
            let all = clusters["cluster_statuses"].as_array().into_iter().flatten();
            let mut of = all.filter(|cluster| cluster["name"] == "service/default/web/80");
            of.next().and_then(|cluster| cluster["host_statuses"].as_array()).map_or(0, Vec::len) == now.len()
        };
        site.envoy.wait_for_clusters(&format!("endpoints {turn:?}"), hosts).await;
        let newest = ["a", "b", "c"][turn[turn.len() - 1]];
        site.until_from(newest, "/").await;
        load.wait_for(BETWEEN).await;
    }
    let tally = flawless(load).await;
    assert_eq!(tally.by_backend.len(), 3, "{tally:?}");
}

#[tokio::test]
async fn no_request_fails_while_listeners_are_added_and_removed() {
    let (_blue, _green, site) = two_backends().await;
    let load = Load::start(&site.get("/"), CONNECTIONS);
    let other = Port::lease();
    for _ in 0..10 {
        let both = [listener("http", &site.http), listener("other", &other)];
        site.manifests.write("gateway.yaml", gateway(&both));
        let there = client::get(other.address(), "/");
        until_answered("the new listener", &there, |response| response.status == 200).await;
        load.wait_for(BETWEEN).await;
        site.manifests.write("gateway.yaml", gateway(&both[..1]));
        let gone = |stats: &BTreeMap<String, u64>| stats["listener_manager.total_listeners_active"] == 1;
        site.envoy.wait_for_stats("the listener to be gone", gone).await;
        load.wait_for(BETWEEN).await;
    }
    flawless(load).await;
}

/// When the Envoy last took in each resource, by section of its configuration dump and name.
fn taken_in(dump: &Value) -> BTreeMap<String, String> {
    let mut times = BTreeMap::new();
    let entries = dump["configs"].as_array().expect("a list").iter().filter_map(Value::as_object).flatten();
    for (section, value) in entries.filter(|(section, _)| section.starts_with("dynamic_")) {
        for entry in value.as_array().into_iter().flatten() {
            let state = entry.get("active_state").unwrap_or(entry);
            let resource =
                ["cluster", "route_config", "endpoint_config", "listener"].iter().find_map(|kind| state.get(kind));
            let resource = resource.unwrap_or(state);
            let name = ["name", "cluster_name"].iter().find_map(|field| resource[field].as_str());
            let name = name.unwrap_or_else(|| panic!("a resource has a name: {entry:#}"));
            if let Some(time) = state["last_updated"].as_str() {
                times.insert(format!("{section} {name}"), time.to_owned());
            }
        }
    }
    times
}

#[tokio::test]
async fn no_request_fails_and_no_resource_is_sent_again_when_the_control_plane_restarts() {
    let (_blue, _green, mut site) = two_backends().await;
    let load = Load::start(&site.get("/"), CONNECTIONS);
    let before = taken_in(&site.envoy.config_dump().await);
    assert_eq!(before.len(), 3, "a cluster, a listener and a route table tell their time: {before:?}");

    for crash in [false, true] {
        if crash {
            site.control.kill().await;
        } else {
            assert!(site.control.terminate().await.success());
        }
        load.wait_for(200).await;
        site.control.start_again().await;
        // The cluster, its endpoints, the listener and the route table.
        let matched = "tailscale_gateway_xds_irv_matched_total";
        site.control.wait_for_metric(matched, |count| count == Some(4.0)).await;
        let resent = site.control.metrics().await["tailscale_gateway_xds_irv_resent_total"];
        assert_eq!(resent, 0.0);
        assert_eq!(
            taken_in(&site.envoy.config_dump().await),
            before,
            "after a {}",
            if crash { "crash" } else { "restart" }
        );
    }

    // What changed meanwhile is all that comes.
    site.control.kill().await;
    site.manifests.write("route.yaml", route_to("all", "green"));
    site.control.start_again().await;
    site.until_from("green", "/").await;
    let gone = |clusters: &Value| !clusters.to_string().contains("service/default/blue/80");
    site.envoy.wait_for_clusters("the old cluster to be withdrawn", gone).await;
    let after = taken_in(&site.envoy.config_dump().await);
    let listener = format!("dynamic_listeners default/web/{}", site.http.number());
    assert_eq!(after[&listener], before[&listener]);
    flawless(load).await;
}
