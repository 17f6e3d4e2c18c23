//! Our definitions, as an API server takes them: what they refuse, what they fill in, what kubectl shows.
//!
//! Our own check of manifests stands in for an API server when they come from a folder. So both judge every manifest of
//! this repository, and where they differ, ours is wrong or the difference is listed here with its reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::LazyLock,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Error, Resource as _,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tailscale_gateway::{
    api::{Object, crds, parse},
    model::{Kind, Reason},
};

use crate::support::{cluster::Cluster, gateway, golden, tools::repository};

/// The API group of our own kinds.
const OURS: &str = "gateway.tailscale.com";

/// What an API server with the standard channel of Gateway API does with a field of the experimental channel.
const EXPERIMENTAL: &str = "taken with unknown fields";

/// What an API server says to a version that it knows from earlier releases only. Folders may hold it still.
const NOT_SERVED: &str = "404 page not found";

/// Documents that an API server judges otherwise than we do: file, title, and a part of what it says.
const OTHER_VERDICTS: [(&str, &str, &str); 15] = [
    ("allowed-routes.yaml", "Gateway web", "Unsupported value: \"None\""),
    // From a folder, a half Secret or EndpointSlice costs its listener or backend and is named there.
    ("bad-certificates.yaml", "Secret no-key", "data[tls.key]: Required value"),
    ("endpoints.yaml", "EndpointSlice named-x", "ports[2].name: Duplicate value"),
    ("endpoints.yaml", "EndpointSlice dual-6", "must be in canonical form"),
    ("filters-not-supported.yaml", "HTTPRoute extension", "Unsupported value: \"ExternalAuth\""),
    ("gateway-not-acted-on.yaml", "Gateway web", EXPERIMENTAL),
    ("invalid-rules.yaml", "HTTPRoute partly", EXPERIMENTAL),
    ("not-acted-on.yaml", "HTTPRoute by-default", EXPERIMENTAL),
    ("not-acted-on.yaml", "HTTPRoute by-name", EXPERIMENTAL),
    ("not-acted-on.yaml", "HTTPRoute by-name-and-by-default", EXPERIMENTAL),
    ("other-routes.yaml", "TCPRoute tcp", NOT_SERVED),
    ("parent-refs.yaml", "TCPRoute database", NOT_SERVED),
    ("slices-by-hand.yaml", "Service odd", "Unsupported value: \"Bogus\""),
    ("slices-by-hand.yaml", "EndpointSlice odd-1", "must be a valid IP address"),
    ("slices-by-hand.yaml", "EndpointSlice odd-2", "Unsupported value: \"Nonsense\""),
];

/// What becomes of a document.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    /// Taken; the object with its defaults, but for the metadata.
    Taken(Box<Value>),
    /// Taken with fields that mean nothing; kubectl refuses it unless it is told not to validate.
    WithUnknownFields,
    /// Refused, for this reason.
    Refused(String),
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Taken(_) => "taken",
            Self::WithUnknownFields => "taken with unknown fields",
            Self::Refused(_) => "refused",
        }
    }
}

/// A document of one of the files.
struct Document {
    file: String,
    title: String,
    kind: Kind,
    value: Value,
}

/// Every document of a kind that we read in `tests/golden` and `manifests`, all in this namespace.
fn documents(namespace: &str) -> Vec<Document> {
    let mut texts: Vec<(String, String)> = golden::cases().into_iter().map(|case| (case.name, case.input)).collect();
    for folder in
        ["tests/golden/original", "manifests/quickstart", "manifests/examples/original", "manifests/envoy-gateway"]
    {
        let files = fs::read_dir(repository().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        for file in files {
            let path = file.expect("the folder can be read").path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let name = path.file_name().expect("a file of a folder").to_string_lossy().into_owned();
            texts.push((name, fs::read_to_string(&path).expect("the file can be read")));
        }
    }
    let mut documents = Vec::new();
    for (file, text) in texts {
        for part in text.split("\n---") {
            // What is no YAML reaches no API server.
            let Ok(mut value) = serde_saphyr::from_str::<Value>(part) else { continue };
            let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let api_version = text("/apiVersion");
            let (group, _) = api_version.split_once('/').unwrap_or(("", &api_version));
            let Some(kind) = Kind::find(group, &text("/kind")) else { continue };
            let title = format!("{kind} {}", text("/metadata/name"));
            if kind.namespaced() {
                value["metadata"]["namespace"] = json!(namespace);
            }
            // No API server takes endpoints on loopback; without a cluster they are the usual ones.
            for endpoint in value.pointer_mut("/endpoints").and_then(Value::as_array_mut).into_iter().flatten() {
                if endpoint["addresses"] == json!(["127.0.0.1"]) {
                    endpoint["addresses"] = json!(["192.0.2.1"]);
                }
            }
            documents.push(Document { file: file.clone(), title, kind, value });
        }
    }
    documents
}

/// What we say.
fn our_verdict(kind: Kind, document: &Value) -> Verdict {
    let parsed = parse(kind, document.clone());
    // An API server drops the namespace of what has none.
    let counts = |field: &str| field != "metadata.namespace";
    match parsed.object {
        Some(_) if parsed.findings.iter().any(|one| one.reason == Reason::UnknownField && counts(&one.field)) => {
            Verdict::WithUnknownFields
        }
        Some(object) => Verdict::Taken(Box::new(specification(&object))),
        None => {
            let reasons = parsed.findings.iter().map(|finding| format!("{}: {}", finding.field, finding.message));
            Verdict::Refused(reasons.collect::<Vec<_>>().join("; "))
        }
    }
}

/// All of an object that its author writes and that is not metadata.
fn specification(object: &Object) -> Value {
    let mut json = object.to_json();
    let members = json.as_object_mut().expect("an object is a mapping");
    for other in ["metadata", "status", "apiVersion"] {
        members.remove(other);
    }
    json
}

/// What an API server says. It keeps nothing.
async fn their_verdict(client: &Client, document: &Document) -> Verdict {
    match dry_run(client, document, "Strict").await {
        Err(refusal) if refusal.contains("strict decoding error: unknown field") => {
            match dry_run(client, document, "Ignore").await {
                Ok(_) => Verdict::WithUnknownFields,
                Err(refusal) => Verdict::Refused(refusal),
            }
        }
        Err(refusal) => Verdict::Refused(refusal),
        Ok(taken) => match parse(document.kind, taken).object {
            Some(object) => Verdict::Taken(Box::new(specification(&object))),
            None => Verdict::Refused("taken, but we can not read what it makes of it".to_owned()),
        },
    }
}

/// Creates a document without keeping it; the answer is the object, or the refusal.
async fn dry_run(client: &Client, document: &Document, validation: &str) -> Result<Value, String> {
    let version = document.value["apiVersion"].as_str().expect("the kind was found by it");
    let version = version.rsplit('/').next().expect("a split has a last part");
    let kind = GroupVersionKind::gvk(document.kind.group(), version, document.kind.as_str());
    let plural = plurals().get(&*kind.kind).cloned().unwrap_or_else(|| ApiResource::from_gvk(&kind).plural);
    let resource = ApiResource::from_gvk_with_plural(&kind, &plural);
    let namespace = document.value["metadata"]["namespace"].as_str().filter(|_| document.kind.namespaced());
    let path = DynamicObject::url_path(&resource, namespace);
    let request = http::Request::post(format!("{path}?dryRun=All&fieldValidation={validation}"));
    let request = request.header("content-type", "application/json").body(document.value.to_string().into_bytes());
    match client.request::<Value>(request.expect("a path and a header")).await {
        Ok(object) => Ok(object),
        // It would have been taken, were it not there.
        Err(Error::Api(refusal)) if refusal.reason == "AlreadyExists" => Ok(document.value.clone()),
        Err(Error::Api(refusal)) => Err(refusal.message),
        Err(other) => panic!("{} in {}: {other}", document.title, document.file),
    }
}

/// The plurals of our kinds: that of TailscaleService is not what one would guess.
fn plurals() -> &'static BTreeMap<String, String> {
    static PLURALS: LazyLock<BTreeMap<String, String>> =
        LazyLock::new(|| crds().into_iter().map(|crd| (crd.spec.names.kind, crd.spec.names.plural)).collect());
    &PLURALS
}

#[tokio::test]
async fn an_api_server_and_we_agree_on_every_manifest() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let namespace = cluster.namespace("verdicts").await;
    let (mut differences, mut judged) = (Vec::new(), 0);
    let mut excused: BTreeSet<_> = OTHER_VERDICTS.into_iter().collect();
    for document in documents(&namespace) {
        judged += 1;
        let (ours, theirs) = (our_verdict(document.kind, &document.value), their_verdict(&client, &document).await);
        let agreed = match (&ours, &theirs) {
            (Verdict::Refused(_), Verdict::Refused(_)) => true,
            // What others define has defaults that we have no use for.
            (Verdict::Taken(_), Verdict::Taken(_)) if document.kind.group() != OURS => true,
            (ours, theirs) => ours == theirs,
        };
        let said = match &theirs {
            Verdict::Refused(message) => message.as_str(),
            other => other.word(),
        };
        if !agreed && !is_excused(&mut excused, &document, said) {
            let Document { file, title, .. } = &document;
            differences.push(format!("{file}: {title}:\n  we: {ours:?}\n  they: {theirs:?}"));
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    assert!(excused.is_empty(), "no longer so: {excused:?}");
    assert!(judged > 250, "only {judged} documents");
}

fn is_excused(excused: &mut BTreeSet<(&str, &str, &str)>, document: &Document, said: &str) -> bool {
    let found = excused
        .iter()
        .find(|(file, title, part)| *file == document.file && *title == document.title && said.contains(part));
    let Some(found) = found.copied() else { return false };
    excused.remove(&found);
    true
}

#[tokio::test]
async fn kubectl_takes_the_quickstart_but_for_its_endpoints_on_loopback() {
    let cluster = Cluster::shared().await;
    let folder = repository().join("manifests/quickstart");
    let folder = folder.to_str().expect("a path in UTF-8");
    let said = cluster.kubectl(&["apply", "--dry-run=server", "--filename", folder]).await.expect_failure();
    // In a cluster, Kubernetes writes these two from the pods of the Services.
    let refused: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(refused.len(), 2, "{said}");
    for (line, name) in refused.iter().zip(["blue-1", "green-1"]) {
        let reason = "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range";
        assert!(line.contains(&format!("EndpointSlice.discovery.k8s.io \"{name}\" is invalid: {reason}")), "{said}");
    }
}

/// The verdict is that which an API server shares; here it is that of the command, by its exit code.
#[test]
fn validate_refuses_each_file_with_a_document_that_is_refused() {
    let mut refused: BTreeSet<String> = BTreeSet::new();
    for Document { file, kind, value, .. } in documents("default") {
        if matches!(our_verdict(kind, &value), Verdict::Refused(_)) {
            refused.insert(file);
        }
    }
    let folder = repository().join("tests/golden/original");
    let files: Vec<_> = refused.iter().map(|file| folder.join(file)).filter(|path| path.exists()).collect();
    assert!(files.len() >= 4, "only {files:?}");
    for file in files {
        let output = gateway::run(&["validate", file.to_str().expect("a path in UTF-8")]);
        assert_eq!(output.status.code(), Some(1), "{}", file.display());
    }
}

#[tokio::test]
async fn a_rule_of_a_definition_refuses_in_words_that_say_what_to_write() {
    let cluster = Cluster::shared().await;
    let refused = cluster.try_apply(
        "apiVersion: gateway.tailscale.com/v1alpha1\n\
         kind: TailscaleGateway\n\
         metadata: { name: silent }\n\
         spec: { gatewayRef: { name: web } }",
    );
    let said = refused.await.expect_failure();
    let wanted = r#"The TailscaleGateway "silent" is invalid: spec: Invalid value: tailnets has to name a tailnet"#;
    assert_eq!(said.trim_end(), wanted);
}

/// An Envoy Gateway that is told of such an object takes none of the policies behind it, or ends its reconciliation.
#[tokio::test]
async fn a_policy_without_a_target_is_refused_and_what_an_envoy_gateway_says_of_one_is_kept() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("policies").await;
    let policy = |rest: Value| {
        let mut policy = json!({
            "apiVersion": "gateway.tailscale.com/v1alpha1", "kind": "TailscaleRoutePolicy",
            "metadata": { "name": "policy", "namespace": namespace },
        });
        policy.as_object_mut().expect("a mapping").extend(rest.as_object().expect("a mapping").clone());
        policy.to_string()
    };
    let spec =
        |targets: Value| json!({ "spec": { "targetRefs": targets, "rules": [{ "actions": [{ "type": "Deny" }] }] } });
    for (rest, wanted) in [
        (json!({}), "spec: Required value"),
        (json!({ "spec": {} }), "spec.targetRefs: Required value"),
        (json!({ "spec": { "targetRefs": null, "rules": [] } }), "spec.targetRefs: Required value"),
        (spec(json!([])), "should have at least 1 items"),
        (spec(json!([{ "kind": "Gateway" }])), "spec.targetRefs[0].name: Required value"),
    ] {
        let said = cluster.try_apply(&policy(rest.clone())).await.expect_failure();
        assert!(said.contains(wanted), "{rest}: {said}");
    }
    cluster.apply(&policy(spec(json!([{ "kind": "Gateway", "name": "eg" }])))).await;
    // As it writes it: the whole status.
    let ancestors = json!([{
        "ancestorRef": { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "eg", "namespace": namespace,
            "sectionName": "http" },
        "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
        "conditions": [{ "type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z" }],
    }]);
    let status = json!({ "status": { "ancestors": ancestors } }).to_string();
    let named = ["tailscaleroutepolicy", "policy", "--namespace", &namespace];
    let patch = [&["patch"], &named[..], &["--subresource=status", "--type=merge", "--patch", &status]].concat();
    cluster.kubectl(&patch).await.expect_success();
    let shown = cluster.kubectl(&[&["get"], &named[..], &["--output=json"]].concat()).await.expect_success();
    let shown: Value = serde_json::from_str(&shown).expect("kubectl prints JSON");
    assert_eq!(shown["status"]["ancestors"], ancestors);
}

#[tokio::test]
async fn what_a_manifest_leaves_out_is_filled_in() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("defaults").await;
    cluster
        .apply(&format!(
            "apiVersion: gateway.tailscale.com/v1alpha1\n\
             kind: TailscaleGateway\n\
             metadata: {{ name: short, namespace: {namespace} }}\n\
             spec:\n\
             \x20 gatewayRef: {{ name: web }}\n\
             \x20 tailnets: [{{ name: corp, tailscaleTailnetRef: {{ name: corp }}, routeGeneration: {{ egress: {{}} }} }}]\n"
        ))
        .await;
    let shown =
        cluster.kubectl(&["get", "tailscalegateway", "short", "--namespace", &namespace, "--output=json"]).await;
    let object: Value = serde_json::from_str(&shown.expect_success()).expect("kubectl prints JSON");
    let gateway_ref = json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "web" });
    assert_eq!(object["spec"]["gatewayRef"], gateway_ref);
    let tailnet = &object["spec"]["tailnets"][0];
    let tailnet_ref = json!({ "group": "gateway.tailscale.com", "kind": "TailscaleTailnet", "name": "corp" });
    assert_eq!(tailnet["tailscaleTailnetRef"], tailnet_ref);
    let egress = json!({ "hostPattern": "{service}.tailscale.local", "pathPrefix": "/tailscale/{service}/", "protocol": "HTTP" });
    assert_eq!(tailnet["routeGeneration"]["egress"], egress);
}

#[tokio::test]
async fn every_definition_is_served_and_nothing_is_wrong_with_its_schema() {
    let cluster = Cluster::shared().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client().await);
    for ours in crds() {
        let name = ours.metadata.name.expect("definitions are named");
        let theirs = definitions.get(&name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let conditions = theirs.status.and_then(|status| status.conditions).unwrap_or_default();
        let told: BTreeSet<_> = conditions.iter().map(|one| (one.type_.as_str(), one.status.as_str())).collect();
        // A schema with a mistake would add the condition NonStructuralSchema.
        assert_eq!(told, BTreeSet::from([("Established", "True"), ("NamesAccepted", "True")]), "{name}");
    }
}

/// An object of a kind of ours, its status, and what kubectl prints of it, but for the age.
struct Shown {
    resource: &'static str,
    spec: Value,
    status: Value,
    columns: &'static [&'static str],
    values: &'static [&'static str],
}

fn shown() -> Vec<Shown> {
    let condition = |name: &str| {
        let since = "2026-01-01T00:00:00Z";
        json!({ "type": name, "status": "True", "reason": "Fine", "message": "", "lastTransitionTime": since })
    };
    let ready = condition("Ready");
    vec![
        Shown {
            resource: "tailscaletailnets",
            spec: json!({ "oauthSecretName": "tailscale-oauth" }),
            status: json!({ "conditions": [ready], "tailnetInfo": { "name": "a.ts.net", "organization": "Personal" } }),
            columns: &["STATUS", "TAILNET", "ORGANIZATION"],
            values: &["Fine", "a.ts.net", "Personal"],
        },
        Shown {
            resource: "tailscalegateways",
            spec: json!({
                "gatewayRef": { "name": "web" },
                "tailnets": [
                    { "name": "corp", "tailscaleTailnetRef": { "name": "corp" } },
                    { "name": "lab", "tailscaleTailnetRef": { "name": "lab" } },
                ],
            }),
            status: json!({ "conditions": [ready] }),
            columns: &["GATEWAY", "TAILNETS", "READY"],
            // Of several values an API server prints the first.
            values: &["web", "corp", "True"],
        },
        Shown {
            resource: "tailscalegatewayparameters",
            spec: json!({ "replicas": 3, "service": { "type": "ClusterIP" } }),
            status: json!({ "conditions": [condition("Accepted")] }),
            columns: &["REPLICAS", "SERVICE", "ACCEPTED"],
            values: &["3", "ClusterIP", "True"],
        },
        Shown {
            resource: "tailscaleendpoints",
            spec: json!({ "tailnet": "corp" }),
            status: json!({ "conditions": [ready], "totalEndpoints": 3, "healthyEndpoints": 2 }),
            columns: &["TAILNET", "TOTAL", "HEALTHY", "READY"],
            values: &["corp", "3", "2", "True"],
        },
        Shown {
            resource: "tailscaleroutepolicies",
            spec: json!({
                "targetRefs": [{ "kind": "HTTPRoute", "name": "web" }, { "kind": "HTTPRoute", "name": "docs" }],
                "rules": [{ "actions": [{ "type": "Deny" }] }],
            }),
            status: json!({ "conditions": [ready] }),
            columns: &["STATUS", "TARGET"],
            values: &["Fine", "web"],
        },
        Shown {
            resource: "tailscaleproxygroups",
            spec: json!({ "type": "Ingress", "tailnet": "corp" }),
            status: json!({ "replicas": 2, "readyReplicas": 1 }),
            columns: &["TYPE", "TAILNET", "REPLICAS", "READY"],
            values: &["Ingress", "corp", "2", "1"],
        },
        Shown {
            resource: "tailscaleservice",
            spec: json!({
                "vipService": { "name": "svc:web", "ports": ["tcp:80"], "tags": ["tag:web"] },
                "backends": [{ "type": "external", "address": "example.com:80" }],
                "tailnet": "corp",
            }),
            status: json!({
                "vipServiceStatus": { "created": true, "serviceName": "svc:web", "dnsName": "web.a.ts.net", "backendCount": 1, "healthyBackendCount": 1 },
                "totalBackends": 1,
                "healthyBackends": 1,
                "unhealthyBackends": 0,
                "proxyStatus": { "replicas": 2, "readyReplicas": 2, "statefulSetName": "p" },
            }),
            columns: &["VIP SERVICE", "BACKENDS", "HEALTHY", "DNS NAME", "READY REPLICAS"],
            values: &["svc:web", "1", "1", "web.a.ts.net", "2"],
        },
        Shown {
            resource: "tailscaleservices",
            spec: json!({ "selector": { "matchLabels": { "app": "web" } } }),
            status: json!({
                "vipServiceStatus": { "created": true, "serviceName": "svc:web", "dnsName": "web.a.ts.net", "backendCount": 1, "healthyBackendCount": 1 },
                "loadBalancingStatus": { "strategy": "failover" },
                "totalBackends": 1,
                "healthyBackends": 1,
                "unhealthyBackends": 0,
            }),
            columns: &["VIP SERVICE", "BACKENDS", "HEALTHY", "DNS NAME", "STRATEGY"],
            values: &["svc:web", "1", "1", "web.a.ts.net", "failover"],
        },
        Shown {
            resource: "tailscalegatewayrevisions",
            spec: json!({
                "targetRefs": [{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "eg" }],
                "revision": "0123456789abcdef0123456789abcdef",
            }),
            // As an Envoy Gateway writes it; what is not kept of it would be written again for ever.
            status: json!({ "ancestors": [{
                "ancestorRef": { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "eg", "namespace": "default" },
                "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
                "conditions": [condition("Accepted")],
            }] }),
            columns: &["GATEWAY", "REVISION"],
            values: &["eg", "0123456789abcdef0123456789abcdef"],
        },
    ]
}

#[tokio::test]
async fn kubectl_get_shows_what_matters_of_each_kind() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("columns").await;
    let client = cluster.client().await;
    let mut kinds: BTreeMap<String, String> =
        plurals().iter().map(|(kind, plural)| (plural.clone(), kind.clone())).collect();
    for Shown { resource, spec, status, columns, values } in shown() {
        let kind = kinds.remove(resource).unwrap_or_else(|| panic!("{resource} is none of {kinds:?}"));
        let kind = GroupVersionKind::gvk(OURS, "v1alpha1", &kind);
        let found = Kind::find(OURS, &kind.kind).expect("it is ours");
        let api_resource = ApiResource::from_gvk_with_plural(&kind, resource);
        let api: Api<DynamicObject> = match found.namespaced() {
            true => Api::namespaced_with(client.clone(), &namespace, &api_resource),
            false => Api::all_with(client.clone(), &api_resource),
        };
        let object = DynamicObject::new("shown", &api_resource).data(json!({ "spec": spec }));
        api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{resource}: {error}"));
        let status = Patch::Merge(json!({ "status": status }));
        let patched = api.patch_status("shown", &PatchParams::default(), &status).await;
        patched.unwrap_or_else(|error| panic!("{resource}: {error}"));

        let mut get = vec!["get", resource, "shown"];
        if found.namespaced() {
            get.extend(["--namespace", &namespace]);
        }
        let printed = cluster.kubectl(&get).await.expect_success();
        let cells = |line: usize| -> Vec<String> {
            let line = printed.lines().nth(line).unwrap_or_else(|| panic!("{printed}"));
            // Columns are three spaces apart; a title may hold one.
            let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
            cells.map(str::to_owned).collect()
        };
        let (titles, row) = (cells(0), cells(1));
        let (inner, age) = (titles.len() - 1, titles.len());
        assert_eq!(titles[1..inner], *columns, "{printed}");
        assert_eq!((titles[0].as_str(), titles[inner].as_str(), row.len()), ("NAME", "AGE", age), "{printed}");
        assert_eq!(row[1..inner], *values, "{printed}");
    }
    assert!(kinds.is_empty(), "not shown: {kinds:?}");
}
