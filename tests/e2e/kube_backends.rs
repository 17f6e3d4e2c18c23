//! Services of a cluster behind a Gateway: what a request that a user sends arrives at, while endpoints come and go.
//!
//! An API server takes no endpoint on loopback, so the pods, those of the Gateway and those of the Services, are in a network
//! namespace with addresses like a cluster's. There is no controller that makes EndpointSlices: the test writes them as that
//! would.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use crate::support::{
    backend::{Backend, Echo},
    client::{self, Response},
    cluster::Cluster,
    gateway::Gateway,
    load::Load,
    namespace::Namespace,
    pod::{Pod, target_port},
    wait::until,
};

/// Where the operator is.
const NAMESPACE: &str = "tailscale-gateway";
/// The pod with the Gateway's Envoy.
const GATEWAY: &str = "10.244.0.1";
/// The pods of the Services.
const PODS: [&str; 4] = ["10.244.1.1", "10.244.1.2", "10.244.1.3", "fd00:10:244:1::4"];

fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

/// A cluster with the operator and a Gateway `shop` with an Envoy; nothing leads anywhere yet.
struct Site {
    cluster: Cluster,
    network: Namespace,
    _control_plane: Gateway,
    _pod: Pod,
    /// The Gateway's HTTP port, as seen from here.
    http: SocketAddr,
}

impl Site {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        cluster.apply_gateway_api().await;
        cluster.apply_plain_manifests().await.expect_success();
        let gateway = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: default, name: shop}
spec:
  gatewayClassName: tailscale
  listeners: [{name: http, protocol: HTTP, port: 80}]
";
        cluster.apply(gateway).await;
        let addresses: Vec<IpAddr> = [GATEWAY].into_iter().chain(PODS).map(ip).collect();
        let network = Namespace::start(&addresses).await;
        let account = cluster.service_account_kubeconfig(NAMESPACE, "tailscale-gateway").await;
        let flags = ["--namespace", NAMESPACE, "--xds-address", "{xds}"];
        let control_plane = Gateway::start_secure_in_cluster(&account, &flags).await;
        network.lead_out(control_plane.xds(), control_plane.xds()).await;
        let pod = Pod::start(&cluster, &network, "default/shop-tailscale").await;
        pod.ready().await;
        let port = target_port(&cluster, "default/shop-tailscale", 80).await;
        let http = network.lead_in((ip(GATEWAY), port).into()).await;
        Self { cluster, network, _control_plane: control_plane, _pod: pod, http }
    }

    /// A pod of a Service.
    async fn backend(&self, name: &str, address: &str, port: u16) -> Backend {
        Backend::serve(name, self.network.listen((ip(address), port).into()).await, None)
    }

    async fn ask(&self, path: &str) -> Response {
        client::get(self.http, path).send().await
    }

    /// Waits until the next ten requests for a path are answered by these backends, and by each of them.
    async fn until_from(&self, path: &str, backends: &[&str]) {
        until(&format!("{path} to be answered by {backends:?}"), async || {
            let mut seen = Vec::new();
            for _ in 0..10 {
                let answer = self.ask(path).await;
                if answer.status != 200 {
                    return Err(format!("{} {}", answer.status, answer.text()));
                }
                seen.push(answer.echo().backend);
            }
            seen.sort();
            seen.dedup();
            if seen == backends { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }

    async fn until_status(&self, path: &str, status: u16) {
        until(&format!("{path} to be answered with {status}"), async || match self.ask(path).await {
            answer if answer.status == status => Ok(()),
            answer => Err(format!("{} {}", answer.status, answer.text())),
        })
        .await;
    }

    /// `STATUS/REASON` of the route's ResolvedRefs, once it is this.
    async fn until_resolved(&self, route: &str, wanted: &str) {
        let path = "{range .status.parents[0].conditions[?(@.type==\"ResolvedRefs\")]}{.status}/{.reason}{end}";
        let path = format!("jsonpath={path}");
        until(&format!("route {route} to be {wanted}"), async || {
            let seen = self.cluster.kubectl(&["get", "httproute", route, "--output", &path]).await.stdout;
            if seen == wanted { Ok(()) } else { Err(seen) }
        })
        .await;
    }
}

/// A route that leads a path to a port of a Service.
fn route(name: &str, service: &str, port: u16) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{namespace: default, name: {name}}}
spec:
  parentRefs: [{{name: shop}}]
  rules:
  - matches: [{{path: {{value: /{name}}}}}]
    backendRefs: [{{name: {service}, port: {port}}}]
---
"
    )
}

/// A Service with these lines in its `spec`.
fn service(name: &str, spec: &str) -> String {
    format!("\napiVersion: v1\nkind: Service\nmetadata: {{namespace: default, name: {name}}}\nspec: {{{spec}}}\n---\n")
}

/// A slice of a Service's endpoints: the name and the number of the port, and each address with its conditions.
fn slice(service: &str, number: usize, port: (&str, u16), endpoints: &[(&str, &str)]) -> String {
    let family = if endpoints.iter().any(|(address, _)| address.contains(':')) { "IPv6" } else { "IPv4" };
    let mut text = format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: default, name: {service}-{number}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: {family}
ports: [{{name: {:?}, port: {}, protocol: TCP}}]
endpoints:
",
        port.0, port.1
    );
    for (address, conditions) in endpoints {
        writeln!(text, "- {{addresses: [{address:?}], conditions: {{{conditions}}}}}").expect("a String takes all");
    }
    if endpoints.is_empty() {
        text = text.replace("endpoints:\n", "endpoints: []\n");
    }
    text + "---\n"
}

const READY: &str = "ready: true, serving: true, terminating: false";
const NOT_READY: &str = "ready: false, serving: false, terminating: false";
const ENDING: &str = "ready: false, serving: true, terminating: true";

#[tokio::test]
async fn requests_arrive_at_the_pods_of_a_service_and_none_fails_while_they_change() {
    let site = Site::start().await;
    let [blue, green, red, six] = PODS;
    let _backends = [
        site.backend("blue", blue, 8080).await,
        site.backend("green", green, 8080).await,
        // The port of one name has another number in these pods.
        site.backend("red", red, 9090).await,
        site.backend("six", six, 8080).await,
    ];
    let web = service("web", "ports: [{name: http, port: 80, targetPort: web}], selector: {app: web}");
    site.cluster.apply(&[web, route("web", "web", 80)].concat()).await;
    // No endpoint yet.
    site.until_status("/web", 503).await;
    site.cluster.apply(&slice("web", 1, ("http", 8080), &[(blue, READY)])).await;
    site.until_from("/web", &["blue"]).await;
    site.until_resolved("web", "True/ResolvedRefs").await;

    let load = Load::start(&client::get(site.http, "/web"), 4);
    load.wait_for(100).await;
    for (slices, backends) in [
        // One more, which is not ready, and then is.
        (vec![slice("web", 1, ("http", 8080), &[(blue, READY), (green, NOT_READY)])], vec!["blue"]),
        (vec![slice("web", 1, ("http", 8080), &[(blue, READY), (green, READY)])], vec!["blue", "green"]),
        // The first is not ready any more.
        (vec![slice("web", 1, ("http", 8080), &[(blue, NOT_READY), (green, READY)])], vec!["green"]),
        // All pods are replaced, in a slice of their own: another port, another family.
        (
            vec![
                slice("web", 2, ("http", 9090), &[(red, READY)]),
                slice("web", 3, ("http", 8080), &[(six, READY)]),
                slice("web", 1, ("http", 8080), &[(green, ENDING)]),
            ],
            vec!["red", "six"],
        ),
        (
            vec![slice("web", 2, ("http", 9090), &[]), slice("web", 3, ("http", 8080), &[(six, NOT_READY)])],
            // None is ready, one still serves while it ends.
            vec!["green"],
        ),
        (vec![slice("web", 2, ("http", 9090), &[(red, READY)])], vec!["red"]),
    ] {
        site.cluster.apply(&slices.concat()).await;
        site.until_from("/web", &backends).await;
        load.wait_for(100).await;
    }
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    assert_eq!(tally.by_backend.keys().collect::<Vec<_>>(), ["blue", "green", "red", "six"]);

    // The Service goes, and its endpoints with it; the route says so.
    site.cluster.kubectl(&["delete", "service", "web"]).await.expect_success();
    site.until_status("/web", 500).await;
    site.until_resolved("web", "False/BackendNotFound").await;
}

#[tokio::test]
async fn services_without_an_address_and_those_that_speak_http2_are_reached_too() {
    let site = Site::start().await;
    let [blue, green, ..] = PODS;
    let _backends = [site.backend("blue", blue, 8080).await, site.backend("green", green, 50051).await];
    let headless = service("headless", "clusterIP: None, ports: [{port: 8080}], selector: {app: headless}");
    let rpc = "ports: [{name: grpc, port: 50051, appProtocol: kubernetes.io/h2c}, {name: web, port: 80}]";
    let objects = [
        headless,
        slice("headless", 1, ("", 8080), &[(blue, READY)]),
        route("headless", "headless", 8080),
        service("rpc", rpc),
        slice("rpc", 1, ("grpc", 50051), &[(green, READY)]),
        slice("rpc", 2, ("web", 8080), &[(blue, READY)]),
        route("rpc", "rpc", 50051),
        route("web", "rpc", 80),
    ];
    site.cluster.apply(&objects.concat()).await;
    let echo = async |path: &str| -> Echo {
        site.until_status(path, 200).await;
        site.ask(path).await.echo()
    };
    for (path, backend, protocol) in
        [("/headless", "blue", "HTTP/1.1"), ("/rpc", "green", "HTTP/2.0"), ("/web", "blue", "HTTP/1.1")]
    {
        let echo = echo(path).await;
        assert_eq!((echo.backend.as_str(), echo.protocol.as_str(), echo.path.as_str()), (backend, protocol, path));
    }
}
