//! A cluster in which the operator was that this one replaces: our definitions take the place of its definitions, and the objects
//! that it left stay, are served or are told why not.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};
use tailscale_gateway::{api::parse, model::Kind};

use crate::support::{cluster::Cluster, gateway::Gateway, tools::repository, wait::until};

/// The kinds that it had, all of the group `gateway.tailscale.com`.
const KINDS: [Kind; 6] = [
    Kind::TailscaleEndpoints,
    Kind::TailscaleGateway,
    Kind::TailscaleRoutePolicy,
    Kind::TailscaleService,
    Kind::TailscaleServices,
    Kind::TailscaleTailnet,
];

/// Definitions of the same names that take everything: over the years, its schemas allowed one thing or another.
fn former_definitions() -> String {
    let mut definitions = String::new();
    for kind in KINDS {
        let file = repository().join(format!("crds/{}.{}.yaml", kind.plural(), kind.group()));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut definition: Value = serde_saphyr::from_str(&text).expect("a definition is YAML");
        for version in definition["spec"]["versions"].as_array_mut().into_iter().flatten() {
            version["schema"] =
                json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        }
        definitions += &format!("{definition}\n---\n");
    }
    definitions
}

/// What it left: manifests in every shape that there ever was, those that we refuse among them.
fn objects() -> Vec<(Kind, Value)> {
    let mut objects = Vec::new();
    for folder in ["manifests/examples/original", "tests/golden/original"] {
        for file in fs::read_dir(repository().join(folder)).expect("the folder is there") {
            let path = file.expect("the folder can be read").path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("the file can be read");
            for mut document in serde_saphyr::from_multiple::<Value>(&text).expect("it is YAML") {
                let Some(kind) = KINDS.into_iter().find(|kind| document["kind"] == kind.as_str()) else { continue };
                if kind.namespaced() {
                    document["metadata"]["namespace"] = json!("default");
                }
                objects.push((kind, document));
            }
        }
    }
    objects
}

/// All there is of a kind.
async fn all(cluster: &Cluster, kind: Kind) -> Vec<Value> {
    let resource = format!("{}.{}", kind.plural(), kind.group());
    let text = cluster.kubectl(&["get", &resource, "--output", "json"]).await.expect_success();
    let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    list["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn objects_of_the_original_operator_stay_and_say_what_became_of_them() {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster.apply(&former_definitions()).await;
    until("its definitions to be served", async || {
        let served = cluster.kubectl(&["get", "tailscaleservices,tailscaletailnets,tailscaleroutepolicies"]).await;
        if served.success { Ok(()) } else { Err(served.stderr) }
    })
    .await;
    let objects = objects();
    let documents: Vec<String> = objects.iter().map(|(_, object)| object.to_string()).collect();
    cluster.apply(&documents.join("\n---\n")).await;
    for (kind, object) in objects.iter().filter(|(_, object)| object["status"].is_object()) {
        let resource =
            format!("{}.{}/{}", kind.plural(), kind.group(), object["metadata"]["name"].as_str().unwrap_or("?"));
        let status = json!({"status": object["status"]}).to_string();
        let patch = ["patch", &resource, "--subresource", "status", "--type", "merge", "--patch", &status];
        cluster.kubectl(&patch).await.expect_success();
    }
    let mut before = BTreeMap::new();
    for kind in KINDS {
        before.insert(kind, all(&cluster, kind).await.len());
    }
    cluster.apply_plain_manifests().await.expect_success();
    cluster.apply_our_crds().await;
    let _control_plane = Gateway::start_in_cluster(&cluster.kubeconfig(), &[]).await;

    let (mut accepted, mut refused) = (0, 0);
    for kind in KINDS {
        let objects = all(&cluster, kind).await;
        assert_eq!(objects.len(), before[&kind], "{kind}");
        for object in objects {
            let name = object["metadata"]["name"].as_str().expect("it has a name").to_owned();
            let is_good = parse(kind, object).object.is_some();
            let condition = until(&format!("{kind} {name} to be told"), async || {
                let now = all(&cluster, kind).await.into_iter().find(|one| one["metadata"]["name"] == *name);
                let now = now.expect("it stays");
                let finalizers = &now["metadata"]["finalizers"];
                if finalizers.as_array().is_some_and(|finalizers| !finalizers.is_empty()) {
                    return Err(format!("it has {finalizers}"));
                }
                let conditions = now["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let found = conditions.into_iter().find(|one| one["type"] == "Accepted");
                found.ok_or_else(|| now["status"].to_string())
            })
            .await;
            let is_violation = condition["reason"] == "SchemaViolation";
            assert_eq!(is_violation, !is_good, "{kind} {name}: {condition}");
            if is_violation {
                assert_eq!(condition["status"], "False");
                let words = condition["message"].as_str().unwrap_or_default();
                assert!(words.starts_with("spec."), "{kind} {name}: {words}");
            }
            *(if is_good { &mut accepted } else { &mut refused }) += 1;
        }
    }
    assert!(accepted >= 15 && refused >= 2, "{accepted} and {refused}");
}
