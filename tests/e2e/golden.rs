//! What the golden files record is what a real Envoy takes: nothing of it refused, everything of it in use.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use serde_json::{Value, json};
use tailscale_gateway::{
    compile::{Compiler, Settings},
    model::ObjectName,
    pipeline::Pipeline,
    snapshot::{SnapshotCache, TypeUrl},
    source::{
        FileWorld,
        manifest::{self, Format},
    },
    store::Change,
};

use crate::support::{
    envoy::{Envoy, Version},
    gateway::Gateway,
    golden::{Case, cases},
    manifests::Manifests,
    ports::Port,
    tools::repository,
    wait::until,
};

/// Gateways that do not say otherwise are bound here, where nobody else is.
const ADDRESS: &str = "127.9.7.5";

/// The versions that an Envoy has to have, by type and name.
pub type Versions = BTreeMap<(&'static str, String), String>;

#[tokio::test]
async fn a_real_envoy_takes_all_that_is_in_the_golden_files() {
    let folder = Manifests::new();
    let authorities = repository().join("tests/golden/authorities.pem");
    let flags = ["--trusted-ca", authorities.to_str().expect("the path is text")];
    let gateway = Gateway::start_with(folder.path(), &flags).await;
    // Most cases have this Gateway, so its Envoy also goes from each case to the next.
    let usual = ObjectName::new("default", "web");
    let envoy = connect(&gateway, &usual).await;
    let mut last: Option<String> = None;
    for case in cases().iter().filter(|case| case.flags.is_empty()) {
        let manifests = manifests(case);
        // A file of its own: in one that can not be read in whole, what it had before would stay.
        let file = format!("{}.json", case.name);
        folder.write(&file, &manifests);
        if let Some(last) = last.replace(file) {
            folder.remove(&last);
        }
        let mut expected = expected(&manifests, &authorities);
        let what = |gateway: &ObjectName| format!("{}: the Envoy of {gateway}", case.name);
        assert_uses(&what(&usual), &envoy, &expected.remove(&usual).unwrap_or_default()).await;
        assert_got_all(&what(&usual), &envoy).await;
        for (name, versions) in expected {
            let envoy = connect(&gateway, &name).await;
            assert_uses(&what(&name), &envoy, &versions).await;
            assert_got_all(&what(&name), &envoy).await;
        }
    }
}

async fn connect(gateway: &Gateway, name: &ObjectName) -> Envoy {
    let admin = Port::lease();
    Envoy::start(Version::Latest, &gateway.bootstrap(&name.to_string(), &admin, &[])).await
}

/// A case's documents, fit for any machine: on an address of their own, and with names that every resolver knows.
fn manifests(case: &Case) -> String {
    let documents = manifest::read(Format::Yaml, case.input.as_bytes()).documents;
    let values = documents.into_iter().map(|document| {
        let mut value = document.value;
        if value["kind"] == "Gateway" && value.pointer("/spec/addresses").is_none() {
            value["spec"]["addresses"] = json!([{ "value": ADDRESS }]);
        }
        for endpoint in value.pointer_mut("/spec/endpoints").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(target) = endpoint["externalTarget"].as_str() {
                endpoint["externalTarget"] = json!(resolvable(target));
            }
        }
        format!("{value}\n")
    });
    values.collect()
}

/// `HOST.localhost` for the names of others.
fn resolvable(target: &str) -> String {
    match target.rsplit_once(':') {
        Some((host, port)) if host.ends_with(".org") || host.ends_with(".com") => format!("{host}.localhost:{port}"),
        _ => target.to_owned(),
    }
}

/// What the Envoys of each Gateway must end up with.
fn expected(manifests: &str, authorities: &Path) -> BTreeMap<ObjectName, Versions> {
    let mut world = FileWorld::new();
    world.load(Path::new("case.json"), manifests.as_bytes());
    let authorities = fs::read_to_string(authorities).expect("the file is there");
    let settings = Settings { trusted_authorities: Some(authorities.into()), ..Settings::default() };
    let cache = Arc::new(SnapshotCache::new());
    let mut pipeline = Pipeline::new(Compiler::new(settings), Arc::clone(&cache));
    pipeline.apply(world.objects().cloned().map(Change::Upsert));
    let versions = |gateway: &ObjectName| -> Versions {
        let snapshot = cache.current(gateway);
        let of_type = |type_url: TypeUrl| {
            let all = snapshot.view(type_url).iter().map(|one| (one.name().to_string(), one.version().to_string()));
            all.map(|(name, version)| ((type_url.label(), name), version)).collect::<Vec<_>>()
        };
        let mut all: Versions =
            [TypeUrl::Listener, TypeUrl::Cluster, TypeUrl::Route].into_iter().flat_map(of_type).collect();
        // Of a table in parts, the whole is not for Envoys.
        for scope in snapshot.view(TypeUrl::ScopedRoute).iter() {
            let (table, _) = scope.name().split_once('#').expect("a scope is called after a part");
            all.remove(&(TypeUrl::Route.label(), table.to_owned()));
        }
        all
    };
    cache.gateways().into_iter().map(|gateway| (gateway.clone(), versions(&gateway))).collect()
}

/// Waits until an Envoy uses exactly this, and sees that it refused nothing on the way.
pub async fn assert_uses(whose: &str, envoy: &Envoy, expected: &Versions) {
    until(&format!("{whose} to use what was made for it"), async || {
        let stats = envoy.stats().await;
        let refused: Vec<_> =
            stats.iter().filter(|(name, count)| name.ends_with("update_rejected") && **count > 0).collect();
        let config = envoy.config_dump().await;
        assert!(refused.is_empty(), "{whose}: {refused:?}\n{:#}", Value::from(errors(&config)));
        let (mut active, waiting) = used(&config);
        // A listener that was there before keeps its routes for as long as it drains.
        active.retain(|key, _| key.0 != TypeUrl::Route.label() || expected.contains_key(key));
        match (&active == expected, waiting.is_empty()) {
            (true, true) => Ok(()),
            _ => Err(format!("it uses\n{active:#?}\nand not\n{expected:#?}\nand warms\n{waiting:#?}")),
        }
    })
    .await;
}

/// Nothing that an Envoy has asked for did not come.
pub async fn assert_got_all(whose: &str, envoy: &Envoy) {
    let stats = envoy.stats().await;
    let late = stats.iter().find(|(name, count)| name.ends_with("init_fetch_timeout") && **count > 0);
    assert_eq!(late, None, "{whose} has waited for something in vain");
}

/// The listeners, clusters and route tables in use, with their versions; and the names of those that wait for something.
fn used(config: &Value) -> (Versions, Vec<String>) {
    let (mut active, mut waiting) = (Versions::new(), Vec::new());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for part in config["configs"].as_array().into_iter().flatten() {
        let list = |field: &str| part[field].as_array().cloned().unwrap_or_default();
        for listener in list("dynamic_listeners") {
            if listener["active_state"].is_object() {
                let key = (TypeUrl::Listener.label(), text(&listener["name"]));
                active.insert(key, text(&listener["active_state"]["version_info"]));
            }
            if listener["warming_state"].is_object() {
                waiting.push(text(&listener["name"]));
            }
        }
        for cluster in list("dynamic_active_clusters") {
            let key = (TypeUrl::Cluster.label(), text(&cluster["cluster"]["name"]));
            active.insert(key, text(&cluster["version_info"]));
        }
        waiting.extend(list("dynamic_warming_clusters").iter().map(|cluster| text(&cluster["cluster"]["name"])));
        for table in list("dynamic_route_configs") {
            let key = (TypeUrl::Route.label(), text(&table["route_config"]["name"]));
            active.insert(key, text(&table["version_info"]));
        }
        waiting.extend(list("dynamic_warming_secrets").iter().map(|secret| text(&secret["name"])));
    }
    (active, waiting)
}

/// What Envoy says about what it refused.
fn errors(config: &Value) -> Vec<Value> {
    match config {
        Value::Object(fields) => {
            let own = fields.get("error_state").into_iter().map(|state| json!([fields.get("name"), state["details"]]));
            own.chain(fields.values().flat_map(errors)).collect()
        }
        Value::Array(items) => items.iter().flat_map(errors).collect(),
        _ => Vec::new(),
    }
}
