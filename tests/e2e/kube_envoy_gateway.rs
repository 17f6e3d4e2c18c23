//! A real Envoy Gateway in a cluster, installed by its own chart with the values that the guide has for it, and this program as the
//! plain manifests install it. Each has the rights of its ServiceAccount and no others.
//!
//! There is no kubelet: the Envoy Gateway, and the Envoy of the Deployment that it makes, run as their containers would, each in a
//! network of its own, and find Services by the names that they are told.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    preflight::{bad, preflight},
    site::until_answered,
    support::{
        backend::Backend,
        client::{self, Request, Response},
        cluster::Cluster,
        container,
        deployment::{list, object},
        envoy::{Envoy, Version},
        gateway::Gateway,
        namespace::Namespace,
        pod::target_port,
        ports::Port,
        process::Process,
        tools::{build, repository, stdout},
        wait::until,
    },
};

/// Where each of both is installed.
const OURS: &str = "tailscale-gateway";
const THEIRS: &str = "envoy-gateway-system";
/// Whom the API server sees when the Envoy Gateway asks.
const ACCOUNT: &str = "system:serviceaccount:envoy-gateway-system:envoy-gateway";
/// The label by which what is made for the guide's first Gateway is found.
const OF_GATEWAY: &str = "gateway.envoyproxy.io/owning-gateway-name=eg";
/// Where the others find the Service of this program, and that of the Envoy Gateway.
const OUR_SERVICE: &str = "127.0.0.2";
const THEIR_SERVICE: &str = "127.0.0.3";
/// The names of both. A pod searches the cluster's domain for one that is cut off in front of it.
const SERVICES: [(&str, &str); 3] = [
    (OUR_SERVICE, "tailscale-gateway.tailscale-gateway.svc.cluster.local"),
    (OUR_SERVICE, "tailscale-gateway.tailscale-gateway.svc"),
    (THEIR_SERVICE, "envoy-gateway.envoy-gateway-system.svc.cluster.local"),
];
/// The address of the Envoy's pod.
const POD: &str = "10.244.0.1";
/// Hosts outside of the cluster.
const OUTSIDE: [&str; 3] = ["10.244.1.1:8080", "10.244.1.2:8080", "10.244.1.3:8080"];

/// The port of a listener that a ListenerSet adds.
const ADDED: u16 = 8081;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn at(service: &str, port: u16) -> SocketAddr {
    SocketAddr::new(service.parse().expect("an address"), port)
}

/// The guide's first Gateway, whose targets are two of the hosts.
fn first_gateway() -> String {
    let file = repository().join("manifests/envoy-gateway/gateway.yaml");
    let text = std::fs::read_to_string(file).expect("it is there");
    let replaced =
        [("port: 443\n", "port: 80\n"), ("web.example.com:443", OUTSIDE[0]), ("hello.example.com:8080", OUTSIDE[1])];
    replaced.into_iter().fold(text, |text, (shipped, ours)| {
        assert!(text.contains(shipped), "no {shipped} in the guide's Gateway");
        text.replace(shipped, ours)
    })
}

/// TailscaleEndpoints with one endpoint, on port 80.
fn endpoints(name: &str, endpoint: &str, target: &str) -> Value {
    json!({
        "apiVersion": "gateway.tailscale.com/v1alpha1", "kind": "TailscaleEndpoints",
        "metadata": { "namespace": "default", "name": name },
        "spec": { "tailnet": "example", "endpoints": [{ "name": endpoint, "port": 80, "externalTarget": target }] },
    })
}

/// A route with its name as the prefix, to port 80 of these TailscaleEndpoints.
fn route(name: &str, parent: &Value, endpoints: &str) -> Value {
    let backend =
        json!({ "group": "gateway.tailscale.com", "kind": "TailscaleEndpoints", "name": endpoints, "port": 80 });
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "namespace": "default", "name": name },
        "spec": {
            "parentRefs": [parent],
            "rules": [{ "matches": [{ "path": { "value": format!("/{name}") } }], "backendRefs": [backend] }],
        },
    })
}

/// Ties a Gateway or ListenerSet to the tailnet of the endpoints.
fn tied_to(parent: &Value) -> Value {
    json!({
        "apiVersion": "gateway.tailscale.com/v1alpha1", "kind": "TailscaleGateway",
        "metadata": { "namespace": "default", "name": "more" },
        "spec": { "gatewayRef": parent, "tailnets": [{ "name": "example", "tailscaleTailnetRef": { "name": "example" } }] },
    })
}

/// What the endpoints' controller would write for the Service of the Gateway: an Envoy waits until it is told what others there
/// are, itself included.
fn slice(service: &str) -> Value {
    let (namespace, name) = service.split_once('/').expect("NAMESPACE/NAME");
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "namespace": namespace, "name": name, "labels": {
            "kubernetes.io/service-name": name,
            "gateway.envoyproxy.io/owning-gateway-name": "eg",
            "gateway.envoyproxy.io/owning-gateway-namespace": "default",
        } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [POD], "conditions": { "ready": true } }],
        "ports": [{ "name": "http-80", "port": 10080, "protocol": "TCP" }],
    })
}

/// The image that the chart would be released with. What is in the module has a place for it.
fn images() -> String {
    let chart = build("envoy-gateway-chart");
    let name = chart.file_name().and_then(|name| name.to_str()).expect("its name is text");
    let version = name.rsplit('-').nth(1).expect("its version is in it");
    let image = "global.images.envoyGateway";
    format!("{image}.image=docker.io/envoyproxy/gateway:{version},{image}.pullPolicy=IfNotPresent")
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("its path is UTF-8")
}

/// Everything that runs.
struct Installation {
    cluster: Cluster,
    control: Gateway,
    envoy_gateway: Process,
    /// The Envoy Gateway's.
    network: Namespace,
    files: TempDir,
    _port: Port,
}

impl Installation {
    /// Does what the guide says, in its order, with the Envoy Gateway's chart; looks before and after it is told.
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let (chart, images) = (build("envoy-gateway-chart"), images());
        let defaults = chart.join("values.tmpl.yaml");
        let fixed = ["eg", utf8(&chart), "--namespace", THEIRS, "--no-hooks"];
        let install =
            [&["install"], &fixed[..], &["--create-namespace", "--values", utf8(&defaults), "--set", &images]].concat();
        cluster.helm(&install).await.expect_success();
        certificates(&cluster);

        cluster.apply_plain_manifests().await.expect_success();
        let rights = repository().join("manifests/envoy-gateway/rbac.yaml");
        cluster.kubectl(&["apply", "--filename", utf8(&rights)]).await.expect_success();
        let replicas = ["10.0.0.1:5005", "10.0.0.2:5005"].map(address);
        cluster.set_endpoints(OURS, "tailscale-gateway", "extension", &replicas).await;
        let told = repository().join("manifests/envoy-gateway/values.yaml");
        all_is_well(&cluster, &["--envoy-gateway-config", utf8(&told)]);
        let upgrade = [&["upgrade"], &fixed[..], &["--reuse-values", "--values", utf8(&told)]].concat();
        cluster.helm(&upgrade).await.expect_success();
        all_is_well(&cluster, &[]);

        let account = cluster.service_account_kubeconfig(OURS, "tailscale-gateway").await;
        let port = Port::lease();
        let listen = port.address().to_string();
        let control =
            Gateway::start_secure_in_cluster(&account, &["--namespace", OURS, "--extension-listen", &listen]).await;

        let network = Namespace::start(&[]).await;
        network.lead_out(cluster.address().await, cluster.address().await).await;
        network.lead_out(at(OUR_SERVICE, 5005), port.address()).await;
        let files = TempDir::with_prefix("envoy-gateway-").expect("a temporary folder can be made");
        let deployment = format!("{THEIRS}/envoy-gateway");
        let mut command =
            container::command(&cluster, &deployment, &build("envoy-gateway"), &SERVICES, files.path()).await;
        command.env("KUBECONFIG", cluster.service_account_kubeconfig(THEIRS, "envoy-gateway").await);
        let envoy_gateway = Process::spawn("Envoy Gateway", network.command(command));
        Self { cluster, control, envoy_gateway, network, files, _port: port }
    }

    /// The Envoy of the Deployment that the Envoy Gateway has made for the Gateway.
    async fn envoy(&self, network: &Namespace) -> Envoy {
        let (name, service) = (self.made("deployment").await, self.made("service").await);
        self.cluster.apply(&slice(&service).to_string()).await;
        let xds = at(THEIR_SERVICE, 18000);
        network.lead_out(xds, self.network.lead_in(xds).await).await;
        network.lead_out(at(OUR_SERVICE, 18000), self.control.xds()).await;
        let files = TempDir::with_prefix("envoy-pod-").expect("a temporary folder can be made");
        let program = Version::Latest.program();
        let mut command = container::command(&self.cluster, &name, &program, &SERVICES, files.path()).await;
        // Other Envoys of the machine share its memory.
        command.arg("--disable-hot-restart");
        Envoy::start_in(network, Version::Latest, command, files, address("127.0.0.1:19000")).await
    }

    /// What the Envoy Gateway has made of this kind for the Gateway, once it has: `NAMESPACE/NAME`.
    async fn made(&self, kind: &str) -> String {
        let get = ["get", kind, "--namespace", THEIRS, "--selector", OF_GATEWAY, "--output", "name"];
        until(&format!("a {kind} of the Envoy Gateway's"), async || {
            self.envoy_gateway.assert_running();
            let printed = self.cluster.kubectl(&get).await.expect_success();
            let name = printed.trim().split_once('/').ok_or("there is none")?.1.to_owned();
            Ok(format!("{THEIRS}/{name}"))
        })
        .await
    }

    /// Changes the Envoy Gateway's configuration, whose file it watches.
    fn reconfigure(&self, change: impl Fn(&str) -> String) {
        let file = self.files.path().join("over/config/envoy-gateway.yaml");
        let configuration = std::fs::read_to_string(&file).expect("it is mounted");
        std::fs::write(&file, change(&configuration)).expect("it can be written");
    }

    /// Waits until the Envoy Gateway has written a condition (type, status and reason) into a part of an object's status.
    async fn until_said(&self, kind: &str, name: &str, part: &str, wanted: &str) {
        until(&format!("{kind} {name} to be {wanted}"), async || {
            self.envoy_gateway.assert_running();
            let status = object(&self.cluster, kind, "default", name).await["status"].take();
            let said = list(&status[part]).flat_map(|one| list(&one["conditions"])).any(|one| {
                let text = |field: &str| one[field].as_str().unwrap_or_default();
                format!("{} {} {}", text("type"), text("status"), text("reason")) == wanted
            });
            if said { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }
}

/// Makes the Secrets with certificates for the Envoy Gateway and its Envoys, as its chart's Job does.
fn certificates(cluster: &Cluster) {
    let mut command = Command::new(build("envoy-gateway"));
    command.args(["certgen", "--disable-topology-injector"]);
    command.env("KUBECONFIG", cluster.kubeconfig()).env("ENVOY_GATEWAY_NAMESPACE", THEIRS);
    stdout(command.output().expect("it can be started"), "envoy-gateway certgen");
}

/// `preflight` finds nothing wrong.
fn all_is_well(cluster: &Cluster, arguments: &[&str]) {
    let (lines, failed) = preflight(&cluster.kubeconfig(), arguments);
    assert!(bad(&lines).is_empty() && !failed, "{lines:#?}");
}

/// A request to an Envoy's listener, again and again until the backend with this name answers.
async fn until_from(backend: &str, request: &Request) -> Response {
    let from = |response: &Response| response.header("x-backend") == Some(backend);
    until_answered(&format!("an answer from {backend}"), request, from).await
}

#[tokio::test]
async fn in_a_cluster_an_envoy_gateway_with_the_rights_of_the_guide_serves_tailnet_targets_and_their_changes() {
    let site = Installation::start().await;
    let hosts = OUTSIDE.map(address);
    let addresses: Vec<IpAddr> = hosts.iter().map(SocketAddr::ip).collect();
    let network = Namespace::start(&addresses).await;
    let mut backends = Vec::new();
    for (name, host) in ["web", "hello", "other"].into_iter().zip(hosts) {
        backends.push(Backend::serve(name, network.listen(host).await, None));
    }
    site.cluster.apply(&first_gateway()).await;
    site.cluster.apply(&endpoints("machines", "machine", OUTSIDE[0]).to_string()).await;
    let envoy = site.envoy(&network).await;
    let port = target_port(&site.cluster, &site.made("service").await, 80).await;
    let own = network.lead_in(([127, 0, 0, 1], port).into()).await;
    let added = network.lead_in(([127, 0, 0, 1], ADDED).into()).await;
    targets_and_changes(&site, &|path| client::get(own, path)).await;
    listeners_of_sets(&site, &envoy, &|path| client::get(added, path)).await;
    envoy.process().assert_running();

    // Nothing was refused to either, and the Envoy Gateway has watched all that it was told of.
    let events = site.cluster.audit_events().await;
    let refused: Vec<_> = events.iter().filter(|event| event.code == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let of_ours = events.iter().filter(|event| event.user == ACCOUNT && event.group == "gateway.tailscale.com");
    let watched: BTreeSet<&str> =
        of_ours.filter(|event| event.verb == "watch").map(|event| event.resource.as_str()).collect();
    let told = ["tailscaleendpoints", "tailscaleservice", "tailscaleroutepolicies", "tailscalegatewayrevisions"];
    assert_eq!(watched, BTreeSet::from(told));

    // What is taken away is named.
    let rights = "tailscale-gateway-envoy-gateway";
    let less = json!([{ "op": "remove", "path": "/rules/0/resources/0" }]).to_string();
    site.cluster.kubectl(&["patch", "clusterrole", rights, "--type=json", "--patch", &less]).await.expect_success();
    let (lines, failed) = preflight(&site.cluster.kubeconfig(), &[]);
    let wanted = "error: ServiceAccount envoy-gateway-system/envoy-gateway: may not list \
        tailscaleendpoints.gateway.tailscale.com, nor watch tailscaleendpoints.gateway.tailscale.com; ";
    let found = bad(&lines);
    assert!(failed && found.len() == 1 && found[0].starts_with(wanted), "{lines:#?}");
}

/// Requests to the Gateway's own listener arrive, and what changes reaches its Envoy: what the Envoy Gateway watches, what it
/// does not, and what it need not hear of.
async fn targets_and_changes(site: &Installation, get: &dyn Fn(&str) -> Request) {
    // Both ways to a target: offered under /api/, and the backend of an HTTPRoute.
    let status = until_from("web", &get("/api/web/status")).await.echo();
    assert_eq!((&*status.path, &*status.host), ("/status", OUTSIDE[0]));
    assert_eq!(until_from("hello", &get("/hello/x")).await.echo().path, "/hello/x");
    site.until_said("httproute", "hello", "parents", "ResolvedRefs True ResolvedRefs").await;
    // It writes that it has taken what tells it to translate again.
    site.until_said("tailscalegatewayrevision", "eg", "ancestors", "Accepted True Accepted").await;

    // Endpoints that no HTTPRoute names change without a word to the Envoy Gateway.
    until_from("web", &get("/api/machine/x")).await;
    let before = site.control.calls().await;
    site.cluster.apply(&endpoints("machines", "machine", OUTSIDE[2]).to_string()).await;
    until_from("other", &get("/api/machine/x")).await;
    assert_eq!(site.control.calls().await, before, "a hook was called");

    // It watches no TailscaleGateway: what that changes it learns from the revision.
    let patterns = json!({ "spec": { "tailnets": [{
        "name": "example", "tailscaleTailnetRef": { "name": "example" },
        "routeGeneration": { "egress": { "pathPrefix": "/machines/{service}" } },
    }] } });
    let patch = ["patch", "tailscalegateway", "eg", "--type=merge", "--patch", &patterns.to_string()];
    site.cluster.kubectl(&patch).await.expect_success();
    assert_eq!(until_from("web", &get("/machines/web/status")).await.echo().path, "/status");
    assert_eq!(get("/api/web/status").send().await.status, 404);

    // A backend that comes later: it watches TailscaleEndpoints itself.
    let parent = json!({ "name": "eg" });
    site.cluster.apply(&route("later", &parent, "later").to_string()).await;
    site.until_said("httproute", "later", "parents", "ResolvedRefs False BackendNotFound").await;
    until_answered("no backend", &get("/later/x"), |response| response.status == 500).await;
    site.cluster.apply(&endpoints("later", "later", OUTSIDE[2]).to_string()).await;
    assert_eq!(until_from("other", &get("/later/x")).await.echo().path, "/later/x");
    site.until_said("httproute", "later", "parents", "ResolvedRefs True ResolvedRefs").await;
    // So it translates again when one changes, although nobody would have to wait for that.
    let before = site.control.calls().await;
    site.cluster.apply(&endpoints("later", "later", OUTSIDE[1]).to_string()).await;
    until_from("hello", &get("/later/x")).await;
    until("another translation", async || match site.control.calls().await {
        calls if calls > before => Ok(()),
        calls => Err(format!("{calls} calls")),
    })
    .await;
    site.cluster.apply(&endpoints("later", "later", OUTSIDE[2]).to_string()).await;
}

/// A ListenerSet adds a listener to the Gateway that is called as one of its own. Its routes lead to backends of ours, and it
/// offers the endpoints that are tied to the set alone, whatever the Envoy Gateway calls virtual hosts.
async fn listeners_of_sets(site: &Installation, envoy: &Envoy, get: &dyn Fn(&str) -> Request) {
    let allowed = json!({ "spec": { "allowedListeners": { "namespaces": { "from": "Same" } } } }).to_string();
    let patch = ["patch", "gateway", "eg", "--type=merge", "--patch", &allowed];
    site.cluster.kubectl(&patch).await.expect_success();
    let group = "gateway.networking.k8s.io";
    let set = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ListenerSet",
        "metadata": { "namespace": "default", "name": "more" },
        "spec": {
            "parentRef": { "group": group, "kind": "Gateway", "name": "eg" },
            "listeners": [{ "name": "http", "protocol": "HTTP", "port": ADDED }],
        },
    });
    let parent = json!({ "group": group, "kind": "ListenerSet", "name": "more" });
    let both = [set, route("by-set", &parent, "later")].map(|object| object.to_string());
    site.cluster.apply(&both.join("\n---\n")).await;
    until_from("other", &get("/by-set/x")).await;
    assert_eq!(get("/machines/web/x").send().await.status, 404);

    let mut tied = tied_to(&parent);
    site.cluster.apply(&tied.to_string()).await;
    assert_eq!(until_from("web", &get("/api/web/status")).await.echo().path, "/status");

    // Its other names, which it takes on while it runs.
    site.reconfigure(|configuration| format!("{configuration}\nruntimeFlags: {{enabled: [XDSNameSchemeV2]}}\n"));
    let renamed = format!("\"tcp-{ADDED}\"");
    envoy.wait_for_config("its other names", |config| config.to_string().contains(&renamed)).await;
    tied["spec"]["tailnets"][0]["routeGeneration"] = json!({ "egress": { "pathPrefix": "/set/{service}" } });
    site.cluster.apply(&tied.to_string()).await;
    assert_eq!(until_from("web", &get("/set/web/status")).await.echo().path, "/status");
    until_from("other", &get("/by-set/x")).await;
    assert_eq!(get("/machines/web/x").send().await.status, 404);
}
