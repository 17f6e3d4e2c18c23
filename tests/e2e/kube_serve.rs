//! The control plane fed by a real API server: what is applied there reaches Envoy, and what became of it is said there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tailscale_gateway::kubernetes::permissions::{Permission, permissions};

use crate::support::{
    backend::Backend,
    client,
    cluster::Cluster,
    envoy::{Envoy, Version},
    gateway::{Gateway, run},
    ports::Port,
    relay::Relay,
    tls::Authority,
    tools::stdout,
    wait::until,
};

/// A cluster of its own with all definitions: our controller is one for the whole cluster, so two tests would see each other's.
pub(crate) async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster.apply_our_crds().await;
    cluster
}

pub(crate) const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: tailscale}
spec: {controllerName: gateway.tailscale.com/gateway-controller}
---
";

/// An account of the control plane's own, so that its requests can be told from the test's.
pub(crate) const OPERATOR: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {namespace: default, name: operator}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, namespace: default, name: operator}]
---
";

/// A Gateway whose Envoy the test starts itself.
pub(crate) fn gateway(port: u16) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  namespace: default
  name: web
  annotations: {{gateway.tailscale.com/infrastructure: external}}
spec:
  gatewayClassName: tailscale
  addresses: [{{type: IPAddress, value: 127.0.0.1}}]
  listeners: [{{name: http, protocol: HTTP, port: {port}}}]
---
"
    )
}

/// An endpoint outside, which a route can lead to. An API server takes no EndpointSlice with a loopback address.
pub(crate) fn endpoint(name: &str, backend: &Backend) -> String {
    format!(
        "
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleEndpoints
metadata: {{namespace: default, name: {name}}}
spec:
  tailnet: example
  endpoints: [{{name: {name}, tailscaleIP: 100.64.0.1, port: 80, externalTarget: '{}'}}]
---
",
        backend.address()
    )
}

pub(crate) fn route(name: &str, path: &str, to: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{namespace: default, name: {name}}}
spec:
  parentRefs: [{{name: web}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: {path}}}}}]
    backendRefs: [{{group: gateway.tailscale.com, kind: TailscaleEndpoints, name: {to}, port: 80}}]
---
"
    )
}

fn routes_of(client: Client, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "gateway.networking.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "gateway.networking.k8s.io/v1".to_owned(),
        kind: "HTTPRoute".to_owned(),
        plural: "httproutes".to_owned(),
    };
    Api::namespaced_with(client, namespace, &resource)
}

/// Waits until a replica holds the Lease.
async fn wait_for_leader(cluster: &Cluster, replica: &str) {
    until(&format!("{replica} to hold the Lease"), async || {
        let text = cluster.kubectl(&["get", "lease", "tailscale-gateway", "--output", "json"]).await;
        let lease: Value = serde_json::from_str(&text.stdout).map_err(|_| text.stderr)?;
        if lease["spec"]["holderIdentity"] == replica { Ok(()) } else { Err(lease["spec"].to_string()) }
    })
    .await
}

pub(crate) async fn object(cluster: &Cluster, kind: &str, name: &str) -> Value {
    let text = cluster.kubectl(&["get", kind, name, "--output", "json"]).await.expect_success();
    serde_json::from_str(&text).expect("kubectl prints JSON")
}

/// `STATUS/REASON` of a condition in a list of them; nothing when it is not there.
pub(crate) fn condition(conditions: &Value, name: &str) -> Option<String> {
    let found = conditions.as_array()?.iter().find(|condition| condition["type"] == name)?;
    Some(format!("{}/{}", found["status"].as_str()?, found["reason"].as_str()?))
}

/// Waits until a condition stands in the status of an object; `at` leads from the status to its conditions.
pub(crate) async fn wait_for(cluster: &Cluster, kind: &str, name: &str, at: &str, wanted: (&str, &str)) -> Value {
    until(&format!("{kind} {name} to be {wanted:?}"), async || {
        let object = object(cluster, kind, name).await;
        let conditions = object["status"].pointer(at).unwrap_or(&Value::Null);
        match condition(conditions, wanted.0) {
            Some(found) if found == wanted.1 => Ok(object.clone()),
            _ => Err(object["status"].to_string()),
        }
    })
    .await
}

#[tokio::test]
async fn what_is_applied_to_the_api_server_answers_through_envoy_and_its_status_says_so() {
    let cluster = cluster().await;
    let (listener, envoy_admin) = (Port::lease(), Port::lease());
    let port = listener.address().port();
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    cluster.apply(&[CLASS, &gateway(port), &endpoint("blue", &blue), &route("all", "/", "blue")].concat()).await;
    let control_plane = Gateway::start_in_cluster(&cluster.kubeconfig(), &[]).await;
    let bootstrap = control_plane.bootstrap("default/web", &envoy_admin, &[]);

    // Nobody has taken the configuration yet.
    let object = wait_for(&cluster, "gateway", "web", "/conditions", ("Accepted", "True/Accepted")).await;
    assert_eq!(condition(&object["status"]["conditions"], "Programmed").as_deref(), Some("Unknown/Pending"));
    assert_eq!(object["status"]["listeners"][0]["attachedRoutes"], 1);

    let envoy = Envoy::start(Version::Latest, &bootstrap).await;
    envoy.ready().await;
    assert_eq!(client::get(listener.address(), "/").send().await.echo().backend, "blue");
    let object = wait_for(&cluster, "gateway", "web", "/conditions", ("Programmed", "True/Programmed")).await;
    assert_eq!(object["status"]["conditions"][0]["observedGeneration"], object["metadata"]["generation"]);
    wait_for(&cluster, "gatewayclass", "tailscale", "/conditions", ("Accepted", "True/Accepted")).await;
    let object = wait_for(&cluster, "httproute", "all", "/parents/0/conditions", ("Accepted", "True/Accepted")).await;
    assert_eq!(object["status"]["parents"][0]["controllerName"], "gateway.tailscale.com/gateway-controller");

    programmed_follows_what_the_envoy_says(&cluster, &envoy, port).await;

    // A change goes all the way, and what is wrong is said where it was written.
    cluster.apply(&[endpoint("green", &green), route("all", "/", "green")].concat()).await;
    until("the new backend to answer", async || {
        let answer = client::get(listener.address(), "/").send().await;
        if answer.status == 200 && answer.echo().backend == "green" { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    cluster.apply(&route("all", "/", "nowhere")).await;
    let refused = ("ResolvedRefs", "False/BackendNotFound");
    wait_for(&cluster, "httproute", "all", "/parents/0/conditions", refused).await;
    until("an event that says so", async || {
        let events = cluster.kubectl(&["events", "--for", "httproute/all"]).await.stdout;
        if events.contains("BackendNotFound") && events.contains("Warning") { Ok(()) } else { Err(events) }
    })
    .await;
    let features = self::object(&cluster, "gatewayclass", "tailscale").await["status"]["supportedFeatures"].clone();
    assert!(features.as_array().is_some_and(|list| list.contains(&json!({"name": "HTTPRoute"}))), "{features}");
}

/// Applies the Gateway with one more listener, or without.
async fn apply_listeners(cluster: &Cluster, port: u16, more: Option<u16>) -> Value {
    let listener = |(name, port): (&str, u16)| json!({"name": name, "protocol": "HTTP", "port": port});
    let listeners: Vec<Value> =
        [("http", port)].into_iter().chain(more.map(|port| ("more", port))).map(listener).collect();
    let patch = json!({"spec": {"listeners": listeners}}).to_string();
    cluster.kubectl(&["patch", "gateway", "web", "--type=merge", "--patch", &patch]).await.expect_success();
    object(cluster, "gateway", "web").await["metadata"]["generation"].clone()
}

/// The Gateway and the last listener, as far as they are said to be programmed, and of which generation.
fn programmed(gateway: &Value) -> [(String, Value); 2] {
    let last = gateway["status"]["listeners"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
    [&gateway["status"]["conditions"], &last["conditions"]].map(|conditions| {
        let known = conditions.as_array().into_iter().flatten().find(|one| one["type"] == "Programmed");
        let known = known.cloned().unwrap_or_default();
        (known["status"].as_str().unwrap_or_default().to_owned(), known["observedGeneration"].clone())
    })
}

async fn wait_until_programmed(cluster: &Cluster, generation: &Value) {
    let wanted = ("True".to_owned(), generation.clone());
    until(&format!("generation {generation} to be programmed"), async || {
        let gateway = object(cluster, "gateway", "web").await;
        let found = programmed(&gateway);
        if found == [wanted.clone(), wanted.clone()] { Ok(()) } else { Err(gateway["status"].to_string()) }
    })
    .await;
}

/// The Gateway is programmed. An Envoy that does not answer, and one that refuses a listener.
async fn programmed_follows_what_the_envoy_says(cluster: &Cluster, envoy: &Envoy, port: u16) {
    envoy.process().signal(Signal::STOP);
    let more = Port::lease();
    let generation = apply_listeners(cluster, port, Some(more.address().port())).await;
    let gateway = until("the new listener to be looked at", async || {
        let gateway = object(cluster, "gateway", "web").await;
        match &gateway["status"]["conditions"][0]["observedGeneration"] {
            seen if *seen == generation => Ok(gateway),
            seen => Err(seen.to_string()),
        }
    })
    .await;
    let is_true = |(status, of): &(String, Value)| status == "True" && *of == generation;
    assert!(!programmed(&gateway).iter().any(is_true), "nobody has taken it: {}", gateway["status"]);
    assert_ne!(programmed(&gateway)[1].0, "True", "a listener that is new: {}", gateway["status"]);
    envoy.process().signal(Signal::CONT);
    wait_until_programmed(cluster, &generation).await;

    // Somebody else has its port.
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let generation = apply_listeners(cluster, port, Some(taken.local_addr().expect("it is bound").port())).await;
    let gateway = wait_for(cluster, "gateway", "web", "/conditions", ("Programmed", "False/Invalid")).await;
    let conditions = gateway["status"]["conditions"].as_array().expect("a list").iter();
    let refusal = conditions.clone().find(|one| one["type"] == "Programmed").expect("it was waited for");
    assert_eq!(refusal["observedGeneration"], generation);
    let words = refusal["message"].as_str().unwrap_or_default();
    assert!(words.starts_with("an Envoy refused the configuration: ") && words.contains("cannot bind"), "{words}");
    until("an event that says so", async || {
        let events = cluster.kubectl(&["events", "--for", "gateway/web"]).await.stdout;
        let is_one = |line: &str| line.contains("Warning") && line.contains("Refused") && line.contains("cannot bind");
        if events.lines().any(is_one) { Ok(()) } else { Err(events) }
    })
    .await;
    // What it never took is not taken from it, so it has nothing to answer.
    let generation = apply_listeners(cluster, port, None).await;
    wait_until_programmed(cluster, &generation).await;
}

#[tokio::test]
async fn a_thousand_routes_at_once_are_a_write_each_and_few_to_their_gateway() {
    const ROUTES: usize = 1000;
    let cluster = cluster().await;
    let blue = Backend::start("blue").await;
    cluster.apply(&[CLASS, &gateway(10080), &endpoint("blue", &blue)].concat()).await;
    let control_plane = Gateway::start_in_cluster(&cluster.kubeconfig(), &[]).await;
    wait_for(&cluster, "gateway", "web", "/conditions", ("Accepted", "True/Accepted")).await;
    let before = cluster.audit_events().await.len();

    let routes: Api<DynamicObject> = routes_of(cluster.client().await, "default");
    let create = |number: usize| {
        let (routes, name) = (&routes, format!("route-{number:04}"));
        async move {
            let route = serde_saphyr::from_str(&route(&name, &format!("/{name}"), "blue").replace("---", ""));
            let route: DynamicObject = route.expect("the manifest is an object");
            routes.create(&PostParams::default(), &route).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    };
    futures::stream::iter(0..ROUTES).for_each_concurrent(16, create).await;

    until("all routes to be attached and told so", async || {
        let attached = object(&cluster, "gateway", "web").await["status"]["listeners"][0]["attachedRoutes"].clone();
        let told = routes.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let told = told.items.iter().filter(|route| route.data["status"]["parents"][0]["conditions"].is_array());
        match (attached, told.count()) {
            (attached, ROUTES) if attached == ROUTES => Ok(()),
            other => Err(format!("attached and told: {other:?}")),
        }
    })
    .await;

    // Nothing is written that says nothing new: not after a change that leaves everything as it is, nor by a new process.
    let label = json!({"metadata": {"labels": {"some": "label"}}});
    routes.patch("route-0000", &PatchParams::default(), &Patch::Merge(label)).await.expect("it is there");
    assert!(control_plane.terminate().await.success());
    let _again = Gateway::start_in_cluster(&cluster.kubeconfig(), &["--replica", "second"]).await;
    wait_for_leader(&cluster, "second").await;

    let events = cluster.audit_events().await.split_off(before);
    let writes = |resource: &str| {
        let mut writes = BTreeMap::<String, usize>::new();
        for event in events.iter().filter(|event| event.resource == resource && event.subresource == "status") {
            assert_eq!(event.code, 200, "{event:?}");
            *writes.entry(event.name.clone()).or_default() += 1;
        }
        writes
    };
    let to_routes = writes("httproutes");
    assert_eq!(to_routes.len(), ROUTES);
    assert!(to_routes.values().all(|count| *count == 1), "{to_routes:?}");
    let to_gateway = writes("gateways")["web"];
    assert!((1..=100).contains(&to_gateway), "{to_gateway} writes to the Gateway");
}

#[tokio::test]
async fn of_secrets_only_those_that_a_gateway_names_are_read() {
    let cluster = cluster().await;
    let authority = Authority::new();
    let certificate = authority.issue(&["web.example"]);
    let secret = |name: &str| {
        format!(
            "
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{namespace: default, name: {name}}}
stringData:
  tls.crt: {:?}
  tls.key: {:?}
---
",
            certificate.certificate, certificate.key
        )
    };
    let https = gateway(10443).replace(
        "{name: http, protocol: HTTP, port: 10443}",
        "{name: https, protocol: HTTPS, port: 10443, tls: {certificateRefs: [{name: named}]}}",
    );
    cluster.apply(&[CLASS, &https, &secret("other"), OPERATOR].concat()).await;
    let kubeconfig = cluster.service_account_kubeconfig("default", "operator").await;
    let control_plane = Gateway::start_in_cluster(&kubeconfig, &[]).await;
    let at = "/listeners/0/conditions";
    wait_for(&cluster, "gateway", "web", at, ("ResolvedRefs", "False/InvalidCertificateRef")).await;

    // It comes later, and is seen to come.
    cluster.apply(&secret("named")).await;
    wait_for(&cluster, "gateway", "web", at, ("ResolvedRefs", "True/ResolvedRefs")).await;
    cluster.kubectl(&["delete", "secret", "named"]).await.expect_success();
    wait_for(&cluster, "gateway", "web", at, ("ResolvedRefs", "False/InvalidCertificateRef")).await;

    let events = cluster.audit_events().await;
    let reads: BTreeSet<String> = events
        .iter()
        .filter(|event| event.user == "system:serviceaccount:default:operator")
        .filter(|event| event.resource == "secrets" && event.verb == "get")
        .map(|event| event.name.clone())
        .collect();
    assert_eq!(reads, BTreeSet::from(["named".to_owned()]));
    drop(control_plane);
}

#[tokio::test]
async fn definitions_that_are_missing_are_named_and_followed_once_they_are_there() {
    let cluster = Cluster::start().await;
    cluster.apply_our_crds().await;
    let control_plane = Gateway::start_in_cluster(&cluster.kubeconfig(), &[]).await;
    let named = "the CRD httproutes.gateway.networking.k8s.io is not installed";
    control_plane.process().wait_for_line(named).await;
    cluster.apply_gateway_api().await;
    let blue = Backend::start("blue").await;
    cluster.apply(&[CLASS, &gateway(10080), &endpoint("blue", &blue), &route("all", "/", "blue")].concat()).await;
    wait_for(&cluster, "httproute", "all", "/parents/0/conditions", ("Accepted", "True/Accepted")).await;

    // Of which version they are is watched, too.
    let supported = async |wanted: &'static str| {
        let class = wait_for(&cluster, "gatewayclass", "tailscale", "/conditions", ("SupportedVersion", wanted)).await;
        assert_eq!(condition(&class["status"]["conditions"], "Accepted").as_deref(), Some("True/Accepted"));
        class["status"]["conditions"].to_string()
    };
    let annotate = async |definition: &str, version: &str| {
        let definition = format!("customresourcedefinition/{definition}.gateway.networking.k8s.io");
        let annotation = format!("gateway.networking.k8s.io/bundle-version{version}");
        cluster.kubectl(&["annotate", "--overwrite", &definition, &annotation]).await.expect_success();
    };
    supported("True/SupportedVersion").await;
    annotate("gatewayclasses", "=v0.4.0").await;
    let said = supported("False/UnsupportedVersion").await;
    assert!(said.contains("of v0.4.0: gatewayclasses"), "{said}");
    annotate("gatewayclasses", "=v1.6.0").await;
    supported("True/SupportedVersion").await;
    annotate("httproutes", "-").await;
    supported("False/UnsupportedVersion").await;
}

#[tokio::test]
async fn envoy_is_served_while_the_api_server_is_away_and_all_converges_when_it_is_back() {
    let cluster = cluster().await;
    let (listener, envoy_admin) = (Port::lease(), Port::lease());
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let port = listener.address().port();
    let objects = [CLASS, &gateway(port), INSIDE, &endpoint("blue", &blue), &endpoint("green", &green)].concat();
    cluster
        .apply(&[objects, route("all", "/", "blue"), route("gone", "/gone", "green"), OPERATOR.to_owned()].concat())
        .await;
    let flags = ["--replica", "only", "--lease-seconds", "6"];
    let account = cluster.service_account_kubeconfig("default", "operator").await;
    let control_plane = Gateway::start_in_cluster(&account, &flags).await;
    wait_for_leader(&cluster, "only").await;
    let relay = Relay::start(control_plane.xds()).await;
    let envoy = Envoy::start(Version::Latest, &bootstrap_at(relay.address(), &envoy_admin)).await;
    envoy.ready().await;
    let asked = async |path: &str| client::get(listener.address(), path).send().await.echo().backend;
    assert_eq!((asked("/").await.as_str(), asked("/gone").await.as_str()), ("blue", "green"));

    for kind in PROVISIONED {
        until(&format!("the {kind}"), async || {
            let printed = cluster.kubectl(&["get", kind, "inside-tailscale"]).await;
            if printed.success { Ok(()) } else { Err(printed.stderr) }
        })
        .await;
    }
    wait_for(&cluster, "gateway", "web", "/conditions", ("Programmed", "True/Programmed")).await;
    wait_for(&cluster, "httproute", "all", "/parents/0/conditions", ("Accepted", "True/Accepted")).await;
    let provisioned = provisioned(&cluster).await;
    assert_eq!(provisioned.len(), PROVISIONED.len(), "{provisioned:?}");
    let before = cluster.audit_events().await.len();

    // Served while nobody answers the control plane, whose watches break off.
    cluster.stop_apiserver().await;
    control_plane.process().wait_for_line("trying again").await;
    // Longer than it may write without being heard, so that all that has a deadline there has met it.
    control_plane.process().wait_for_line("the lease could not be renewed in time").await;
    assert_eq!(control_plane.admin("/readyz").await.status, 200);
    assert_eq!((asked("/").await.as_str(), asked("/gone").await.as_str()), ("blue", "green"));

    // Whoever comes back now might have been told newer things by another replica: it keeps what it has.
    relay.lead_to(control_plane.xds());
    control_plane.process().wait_for_line("this replica may be behind").await;
    assert_eq!((asked("/").await.as_str(), asked("/gone").await.as_str()), ("blue", "green"));

    // Changes that no watch sees: when it looks again, neither etcd nor the API server remembers them as changes.
    control_plane.process().signal(Signal::STOP);
    cluster.restart_etcd().await;
    cluster.start_apiserver().await;
    cluster.apply(&[route("all", "/", "green"), route("new", "/new", "blue")].concat()).await;
    cluster.kubectl(&["delete", "httproute", "gone"]).await.expect_success();
    cluster.stop_apiserver().await;
    cluster.compact_history().await;
    cluster.start_apiserver().await;
    control_plane.process().signal(Signal::CONT);

    until("Envoy to have what was changed meanwhile", async || {
        match (asked("/").await.as_str(), asked("/new").await.as_str(), asked("/gone").await.as_str()) {
            ("green", "blue", "green") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let metrics = control_plane.metrics().await;
    assert_eq!(metrics.get("tailscale_gateway_xds_nacks_total").copied().unwrap_or_default(), 0.0);
    wait_for(&cluster, "httproute", "new", "/parents/0/conditions", ("Accepted", "True/Accepted")).await;

    // Nothing was made twice or written anew: after one more change, which is seen to be through.
    cluster.apply(&route("last", "/last", "blue")).await;
    wait_for(&cluster, "httproute", "last", "/parents/0/conditions", ("Accepted", "True/Accepted")).await;
    assert_eq!(self::provisioned(&cluster).await, provisioned);
    let events = cluster.audit_events().await.split_off(before);
    let writes = events.iter().filter(|event| event.is_write() && event.user.ends_with(":operator"));
    let mut writes_to: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for event in writes.filter(|event| event.code < 300 && !["leases", "events"].contains(&&*event.resource)) {
        *writes_to.entry((&event.resource, &event.name)).or_default() += 1;
    }
    // Of the Gateway: that its Envoy was away, and is back.
    writes_to.remove(&("gateways", "web"));
    let routes = ["all", "last", "new"].map(|route| (("httproutes", route), 1));
    assert_eq!(writes_to, BTreeMap::from(routes));
}

/// A Gateway whose Envoys are created.
const INSIDE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: default, name: inside}
spec:
  gatewayClassName: tailscale
  listeners: [{name: http, protocol: HTTP, port: 80}]
---
";

/// What is created for a Gateway.
const PROVISIONED: [&str; 5] = ["serviceaccount", "configmap", "service", "deployment", "poddisruptionbudget"];

/// All that was created for Gateways: which object it is, and its version.
async fn provisioned(cluster: &Cluster) -> BTreeSet<String> {
    let kinds = PROVISIONED.join(",");
    let label = "app.kubernetes.io/managed-by=tailscale-gateway";
    let printed = cluster.kubectl(&["get", &kinds, "--selector", label, "--output", "json"]).await.expect_success();
    let printed: Value = serde_json::from_str(&printed).expect("kubectl prints JSON");
    let items = printed["items"].as_array().into_iter().flatten();
    let known = |item: &Value| {
        let metadata = &item["metadata"];
        format!("{} {} {} {}", item["kind"], metadata["name"], metadata["uid"], metadata["resourceVersion"])
    };
    items.map(known).collect()
}

/// A bootstrap with this address of the control plane.
fn bootstrap_at(xds: SocketAddr, envoy_admin: &Port) -> String {
    let (xds, admin) = (xds.to_string(), envoy_admin.address().to_string());
    let arguments = ["bootstrap", "--gateway", "default/web", "--xds", &xds, "--admin", &admin];
    stdout(run(&arguments), "tailscale-gateway bootstrap")
}

#[tokio::test]
async fn a_replica_takes_over_and_an_envoy_that_moves_to_it_is_sent_nothing() {
    let cluster = cluster().await;
    let (listener, envoy_admin) = (Port::lease(), Port::lease());
    let blue = Backend::start("blue").await;
    let port = listener.address().port();
    cluster.apply(&[CLASS, &gateway(port), &endpoint("blue", &blue), &route("all", "/", "blue")].concat()).await;
    let kubeconfig = cluster.kubeconfig();
    let first = Gateway::start_in_cluster(&kubeconfig, &["--replica", "first"]).await;
    wait_for_leader(&cluster, "first").await;
    let second = Gateway::start_in_cluster(&kubeconfig, &["--replica", "second"]).await;

    // An Envoy at the replica that does not write is heard of by the one that does.
    let relay = Relay::start(second.xds()).await;
    let envoy = Envoy::start(Version::Latest, &bootstrap_at(relay.address(), &envoy_admin)).await;
    envoy.ready().await;
    wait_for(&cluster, "gateway", "web", "/conditions", ("Programmed", "True/Programmed")).await;
    assert!(second.metrics().await.keys().all(|series| !series.starts_with("tailscale_gateway_status_writes_total")));

    // It moves to the first: the same versions there, so nothing is sent.
    let applied = ["cluster_added", "cluster_modified", "listener_added", "listener_modified", "config_reload"];
    let updates = |stats: &BTreeMap<String, u64>| -> u64 {
        let is_one = |name: &str| applied.iter().any(|part| name.ends_with(&format!(".{part}")));
        stats.iter().filter(|(name, _)| is_one(name)).map(|(_, count)| count).sum()
    };
    let before = updates(&envoy.stats().await);
    relay.lead_to(first.xds());
    first
        .wait_for_metric("tailscale_gateway_xds_irv_matched_total", |count| count.is_some_and(|count| count >= 3.0))
        .await;
    assert_eq!(first.metrics().await.get("tailscale_gateway_xds_irv_resent_total"), Some(&0.0));
    assert_eq!(client::get(listener.address(), "/").send().await.echo().backend, "blue");
    assert_eq!(updates(&envoy.stats().await), before, "it applied something again");

    // The first dies: the second writes within the time that is promised, by their own account of it.
    let last = object(&cluster, "lease", "tailscale-gateway").await["spec"]["renewTime"].clone();
    first.kill().await;
    wait_for_leader(&cluster, "second").await;
    let taken = object(&cluster, "lease", "tailscale-gateway").await["spec"]["acquireTime"].clone();
    let time = |text: &Value| text.as_str().and_then(|text| text.parse::<Timestamp>().ok()).expect("a time");
    let gap = time(&taken).duration_since(time(&last));
    assert!(gap < SignedDuration::from_secs(15), "{gap}");
    relay.lead_to(second.xds());
    cluster.apply(&route("all", "/", "nowhere")).await;
    let refused = ("ResolvedRefs", "False/BackendNotFound");
    wait_for(&cluster, "httproute", "all", "/parents/0/conditions", refused).await;

    // Somebody takes the Lease away and then is heard of no more, by a clock that is years behind.
    let stolen = json!({"spec": {
        "holderIdentity": "stranger", "leaseDurationSeconds": 1, "renewTime": "2001-01-01T00:00:00.000000Z",
    }});
    cluster
        .kubectl(&["patch", "lease", "tailscale-gateway", "--type=merge", "--patch", &stolen.to_string()])
        .await
        .expect_success();
    second.process().wait_for_line("this replica writes no more").await;
    wait_for_leader(&cluster, "second").await;

    // One that ends gives the Lease back.
    assert!(second.terminate().await.success());
    let spec = object(&cluster, "lease", "tailscale-gateway").await["spec"].clone();
    assert_eq!(spec["holderIdentity"].as_str().unwrap_or_default(), "", "{spec}");
    // And takes away the one with which it speaks.
    let own = cluster.kubectl(&["get", "lease", "tailscale-gateway-second", "--ignore-not-found"]).await;
    assert_eq!(own.expect_success(), "");
}

/// The account of [`OPERATOR`] with the chart's permissions, but for some resources.
pub(crate) async fn may_all_but(cluster: &Cluster, without: &[&str]) {
    static ROLES: AtomicU32 = AtomicU32::new(0);
    // A right that nothing needs tells that the API server knows this role and not the one before.
    let mark = format!("mark-{}", ROLES.fetch_add(1, Relaxed));
    let all = permissions().into_iter().filter(|one| !without.contains(&&*one.resource));
    let rule = |one: Permission| json!({"apiGroups": [one.group], "resources": [one.resource], "verbs": one.verbs});
    let marking = json!({"apiGroups": [""], "resources": [mark], "verbs": ["get"]});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "operator"}, "rules": all.map(rule).chain([marking]).collect::<Vec<_>>(),
    });
    cluster.apply(&role.to_string()).await;
    until("the API server to know", async || {
        let ask = ["auth", "can-i", "get", &mark, "--as", "system:serviceaccount:default:operator"];
        let answer = cluster.kubectl(&ask).await.stdout;
        if answer.trim() == "yes" { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_may_not_read_a_kind_yet_takes_nothing_away_and_goes_on_when_it_may() {
    let cluster = cluster().await;
    let (listener, envoy_admin) = (Port::lease(), Port::lease());
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let made = gateway(80)
        .replace("annotations: {gateway.tailscale.com/infrastructure: external}", "labels: {}")
        .replace("  addresses: [{type: IPAddress, value: 127.0.0.1}]\n", "")
        .replace("name: web", "name: made");
    let endpoints = [endpoint("blue", &blue), endpoint("green", &green)].concat();
    let external = gateway(listener.address().port());
    let account = OPERATOR.replace("name: cluster-admin", "name: operator");
    cluster.apply(&[CLASS, &account, &external, &made, &endpoints, &route("all", "/", "blue")].concat()).await;
    may_all_but(&cluster, &[]).await;
    let kubeconfig = cluster.service_account_kubeconfig("default", "operator").await;
    let first = Gateway::start_in_cluster(&kubeconfig, &["--replica", "first"]).await;
    let relay = Relay::start(first.xds()).await;
    let envoy = Envoy::start(Version::Latest, &bootstrap_at(relay.address(), &envoy_admin)).await;
    envoy.ready().await;
    let asked = async || client::get(listener.address(), "/").send().await.echo().backend;
    assert_eq!(asked().await, "blue");
    let deployment = until("the Deployment", async || {
        let printed =
            cluster.kubectl(&["get", "deployment", "made-tailscale", "--output", "jsonpath={.metadata.uid}"]).await;
        if printed.success { Ok(printed.stdout) } else { Err(printed.stderr) }
    })
    .await;
    assert!(first.terminate().await.success());

    // It starts anew and may not read what makes a Gateway ours, nor what is served there.
    may_all_but(&cluster, &["gatewayclasses", "httproutes"]).await;
    let second = Gateway::begin_in_cluster(&kubeconfig, &["--replica", "second"]);
    second.process().wait_for_line("not allowed to list and watch gatewayclasses.gateway.networking.k8s.io").await;
    second.process().wait_for_line("not allowed to list and watch httproutes.gateway.networking.k8s.io").await;
    relay.lead_to(second.xds());
    second.process().wait_for_line("this replica may be behind").await;
    assert_eq!(asked().await, "blue");
    let readiness = async |named: &str, not_named: &str| {
        until(&format!("{named} to be what is missing"), async || {
            let ready = second.admin("/readyz").await;
            let (status, text) = (ready.status, ready.text());
            let is_so = status == 503 && text.contains(named) && !(text.contains(not_named));
            if is_so { Ok(()) } else { Err(format!("{status} {text}")) }
        })
        .await;
    };
    readiness("GatewayClass: reading it is forbidden", "not listed yet").await;
    // One right comes back, and the other one.
    may_all_but(&cluster, &["httproutes"]).await;
    readiness("HTTPRoute: reading it is forbidden", "GatewayClass").await;
    assert_eq!(asked().await, "blue");
    may_all_but(&cluster, &[]).await;
    second.ready().await;
    cluster.apply(&route("all", "/", "green")).await;
    until("a change to be served again", async || match asked().await.as_str() {
        "green" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    wait_for_leader(&cluster, "second").await;
    let object = wait_for(&cluster, "gateway", "web", "/conditions", ("Programmed", "True/Programmed")).await;
    assert_eq!(object["status"]["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(self::object(&cluster, "deployment", "made-tailscale").await["metadata"]["uid"], deployment);
    let events = cluster.audit_events().await;
    let deleted: Vec<_> = events
        .iter()
        .filter(|one| one.user == "system:serviceaccount:default:operator" && one.verb == "delete")
        .filter(|one| one.resource != "leases")
        .collect();
    assert!(deleted.is_empty(), "{deleted:#?}");
}

#[tokio::test]
async fn a_gateway_gets_envoys_of_its_own_and_loses_them_with_its_class() {
    let cluster = cluster().await;
    let blue = Backend::start("blue").await;
    let gateway = gateway(80).replace("annotations: {gateway.tailscale.com/infrastructure: external}", "labels: {}");
    let gateway = gateway.replace("  addresses: [{type: IPAddress, value: 127.0.0.1}]\n", "");
    cluster.apply(&[CLASS, &gateway, &endpoint("blue", &blue), &route("all", "/", "blue")].concat()).await;
    let _control_plane = Gateway::start_in_cluster(&cluster.kubeconfig(), &[]).await;
    for kind in PROVISIONED {
        until(&format!("the {kind}"), async || {
            let printed = cluster.kubectl(&["get", kind, "web-tailscale"]).await;
            if printed.success { Ok(()) } else { Err(printed.stderr) }
        })
        .await;
    }
    let service = self::object(&cluster, "service", "web-tailscale").await;
    assert_eq!(
        (&service["spec"]["ports"][0]["port"], &service["spec"]["ports"][0]["targetPort"]),
        (&json!(80), &json!(10080))
    );

    // What others change of it is mended; what others add stays.
    let patch = r#"{"metadata": {"annotations": {"example.com/theirs": "stays"}}, "spec": {"ports": [{"port": 80, "$patch": "delete"}, {"name": "wrong", "port": 81}]}}"#;
    cluster.kubectl(&["patch", "service", "web-tailscale", "--patch", patch]).await.expect_success();
    until("the port to be back", async || {
        let service = self::object(&cluster, "service", "web-tailscale").await;
        let ports: Vec<&Value> =
            service["spec"]["ports"].as_array().into_iter().flatten().map(|one| &one["port"]).collect();
        let kept = &service["metadata"]["annotations"]["example.com/theirs"];
        if ports.contains(&&json!(80)) && kept == "stays" { Ok(()) } else { Err(service.to_string()) }
    })
    .await;

    cluster.kubectl(&["delete", "gateway", "web"]).await.expect_success();
    for kind in PROVISIONED {
        until(&format!("the {kind} to be gone"), async || {
            let printed = cluster.kubectl(&["get", kind, "web-tailscale"]).await;
            if printed.success { Err(printed.stdout) } else { Ok(()) }
        })
        .await;
    }
}
