//! The same configuration reaches every supported Envoy, whichever way it asks for it, and follows changes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    site::{Attached, gateway, https_listener, listener, route, secret, service, service_speaking, until_answered},
    support::{
        backend::Backend,
        client::{self, Response},
        envoy::{Envoy, Version},
        gateway::Gateway,
        manifests::Manifests,
        ports::Port,
        tls::Authority,
    },
};

/// What an Envoy runs with, in a form that does not depend on how it was asked for: resources by type and name.
type Configuration = BTreeMap<String, BTreeMap<String, Value>>;

/// Reads the resources out of a configuration dump. Fails on anything that is not active, or was refused.
fn configuration(dump: &Value) -> Configuration {
    let sections = [
        ("dynamic_active_clusters", "cluster"),
        ("dynamic_endpoint_configs", "endpoint_config"),
        ("dynamic_listeners", "active_state"),
        ("dynamic_route_configs", "route_config"),
        ("dynamic_active_secrets", "secret"),
    ];
    let mut configuration = Configuration::new();
    for section in dump["configs"].as_array().expect("a list") {
        for (key, value) in section.as_object().expect("an object") {
            assert!(!key.contains("warming"), "{key}: {value:#}");
            let Some((_, inside)) = sections.iter().find(|(name, _)| name == key) else { continue };
            for entry in value.as_array().expect("a list") {
                assert!(entry.get("error_state").is_none(), "{entry:#}");
                let mut resource = entry[inside].clone();
                if *inside == "active_state" {
                    resource = resource["listener"].clone();
                }
                neutralize(&mut resource);
                let name = ["name", "cluster_name"].iter().find_map(|field| resource[field].as_str());
                let name = name.unwrap_or_else(|| panic!("a resource has a name: {entry:#}")).to_owned();
                configuration.entry(key.clone()).or_default().insert(name, resource);
            }
        }
    }
    configuration
}

/// Leaves out where a resource is fetched from.
fn neutralize(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for source in ["config_source", "eds_config", "sds_config"] {
                if let Some(source) = fields.get_mut(source) {
                    *source = Value::String("whatever the client asks for".into());
                }
            }
            fields.values_mut().for_each(neutralize);
        }
        Value::Array(items) => items.iter_mut().for_each(neutralize),
        _ => {}
    }
}

/// Nothing was refused, nothing was waited for in vain, and nothing is left warming.
async fn assert_content(envoy: &Envoy, how: &str) {
    let stats = envoy.stats().await;
    let bad = |name: &str| {
        ["update_rejected", "init_fetch_timeout", "update_failure"].iter().any(|end| name.ends_with(end))
            || ["cluster_manager.warming_clusters", "listener_manager.total_listeners_warming"].contains(&name)
    };
    let found: Vec<_> = stats.iter().filter(|(name, value)| bad(name) && **value > 0).collect();
    assert!(found.is_empty(), "{how}: {found:?}");
    // The counters are there at all.
    assert!(stats["cluster_manager.cds.update_success"] > 0, "{how}");
    assert!(stats["listener_manager.lds.update_success"] > 0, "{how}");
}

/// Lets an Envoy of each version fetch everything with these flags, and tries that traffic flows, also after changes.
async fn every_envoy_gets_the_same(discovery: &str) {
    let (plain, fresh) = (Backend::start("plain").await, Backend::start("fresh").await);
    let authority = Authority::new();
    let (http, https) = (Port::lease(), Port::lease());
    let rules = "
- matches: [{path: {type: PathPrefix, value: /}}]
  backendRefs: [{name: moving, port: 80}]
- matches: [{path: {type: PathPrefix, value: /h2c}}]
  backendRefs: [{name: speaking, port: 80}]";
    let manifests = Manifests::with(&[
        (
            "gateway.yaml",
            &gateway(&[listener("http", &http), https_listener("https", &https, "web.example", "certificate")]),
        ),
        ("secret.yaml", &secret("certificate", &authority.issue(&["web.example"]))),
        ("route.yaml", &route("all", rules)),
    ]);
    let write_before = || {
        manifests.write("moving.yaml", service("moving", &[plain.address()]));
        manifests.write("speaking.yaml", service_speaking("speaking", "http", &[plain.address()]));
    };
    write_before();
    let control = Gateway::start(manifests.path()).await;

    let mut seen = BTreeMap::new();
    for version in Version::ALL {
        for protocol in ["sotw", "delta"] {
            let how = format!("Envoy {} over {protocol} {discovery}", version.number());
            write_before();
            let flags = ["--protocol", protocol, "--discovery", discovery];
            let envoy = Attached::start(&control, version, &flags).await;

            let get = |path: &str| client::get(http.address(), path).host("web.example");
            until_answered(&how, &get("/"), |response| response.header("x-backend") == Some("plain")).await;
            let secure = client::get(https.address(), "/").host("web.example").tls(&authority, "web.example");
            assert_eq!(secure.send().await.echo().backend, "plain", "{how}");
            assert_content(&envoy, &how).await;
            seen.insert(how.clone(), configuration(&envoy.config_dump().await));

            // An endpoint moves, and a cluster changes, which makes Envoy wait for endpoints that did not change.
            manifests.write("moving.yaml", service("moving", &[fresh.address()]));
            manifests.write("speaking.yaml", service_speaking("speaking", "kubernetes.io/h2c", &[plain.address()]));
            until_answered(&how, &get("/"), |response| response.header("x-backend") == Some("fresh")).await;
            let http2 = |response: &Response| response.status == 200 && response.echo().protocol == "HTTP/2.0";
            until_answered(&how, &get("/h2c"), http2).await;
            assert_content(&envoy, &how).await;
        }
    }

    let expected: BTreeSet<_> = seen.values().next().expect("there are Envoys").keys().map(String::as_str).collect();
    assert_eq!(expected.len(), 5, "clusters, endpoints, listeners, routes and secrets: {expected:?}");
    let mut all = seen.iter();
    let (first, reference) = all.next().expect("there are Envoys");
    for (how, configuration) in all {
        assert_eq!(configuration, reference, "{how} differs from {first}");
    }
}

#[tokio::test]
async fn every_envoy_runs_the_same_configuration_over_one_aggregated_stream() {
    every_envoy_gets_the_same("ads").await;
}

#[tokio::test]
async fn every_envoy_runs_the_same_configuration_over_a_stream_for_each_type() {
    every_envoy_gets_the_same("per-type").await;
}
