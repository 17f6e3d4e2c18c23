//! What an Envoy Gateway's GRPCRoutes, TLSRoutes, TCPRoutes and UDPRoutes with backends of ours come to in a real Envoy: requests,
//! connections and datagrams arrive.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use prost::Message;
use tailscale_gateway::{compile::XdsAddress, snapshot::SnapshotCache};
use tailscale_gateway_proto::envoy::config::cluster::v3::{
    Cluster,
    cluster::{
        LbPolicy,
        common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig},
    },
};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    extension::{Server, publish},
    support::{
        backend::Backend,
        client,
        datagrams::exchange,
        envoy::{Envoy, Version},
        extension_cases::Case,
        gateway,
        ports::Port,
        tls::Authority,
        tools::stdout,
    },
};

/// Where the Envoy listens; nobody else does there.
const ADDRESS: &str = "127.9.7.8";

/// An Envoy with the configuration of an Envoy Gateway, and who serves it.
struct Running {
    _envoy: Envoy,
    _admin: Port,
    _servers: [Server; 2],
}

/// What an Envoy Gateway says of every cluster that no policy is about: backends get their shares. In the words that were there
/// before load balancers were extensions.
fn balanced(cluster: &[u8]) -> Vec<u8> {
    let mut message = Cluster::decode(cluster).expect("a cluster");
    message.lb_policy = LbPolicy::LeastRequest as i32;
    message.common_lb_config.get_or_insert_default().locality_config_specifier =
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {}));
    message.encode_to_vec()
}

impl Running {
    async fn start(manifests: &str) -> Self {
        let (ours, theirs) = (bound().await, bound().await);
        let mut case = Case::of(manifests);
        ADDRESS.clone_into(&mut case.configuration.address);
        case.xds = Some(XdsAddress { host: "127.0.0.1".into(), port: address(&ours).port() });
        let played = case.play();
        let mut resources = played.configuration(&case, &played.hosted());
        resources.clusters = resources.clusters.iter().map(|cluster| balanced(cluster).into()).collect();
        let cache = Arc::new(SnapshotCache::new());
        publish(&cache, &case.gateways[0], &resources);
        let admin = Port::lease();
        let (xds, to) = (address(&theirs).to_string(), admin.address().to_string());
        let servers = [Server::start(ours, played.cache), Server::start(theirs, cache)];
        let gateway = case.gateways[0].to_string();
        let bootstrap = gateway::run(&["bootstrap", "--gateway", &gateway, "--xds", &xds, "--admin", &to]);
        let envoy = Envoy::start(Version::Latest, &stdout(bootstrap, "tailscale-gateway bootstrap")).await;
        envoy.ready().await;
        Self { _envoy: envoy, _admin: admin, _servers: servers }
    }
}

async fn bound() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("there is a free port")
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("it is bound")
}

fn at(port: u16) -> SocketAddr {
    format!("{ADDRESS}:{port}").parse().expect("an address")
}

/// A Gateway with these listeners, endpoints and routes.
fn manifests(listeners: &[&str], endpoints: &[String], routes: &[(&str, &str, &str)]) -> String {
    let mut text = "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: eg }
spec: { controllerName: gateway.envoyproxy.io/gatewayclass-controller }
---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleTailnet
metadata: { name: corp }
spec: { tailnet: '-', oauthSecretName: oauth, oauthSecretNamespace: default }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { namespace: default, name: eg }
spec:
  gatewayClassName: eg
  listeners:
"
    .to_owned();
    listeners.iter().for_each(|listener| text += &format!("  - {{ {listener} }}\n"));
    text += "---
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleEndpoints
metadata: { namespace: default, name: machines }
spec:
  tailnet: corp
  endpoints:
";
    endpoints.iter().for_each(|endpoint| text += &format!("  - {{ {endpoint} }}\n"));
    for (kind, listener, ports) in routes {
        let backends: Vec<String> = ports
            .split(' ')
            .map(|port| {
                format!("{{ group: gateway.tailscale.com, kind: TailscaleEndpoints, name: machines, port: {port} }}")
            })
            .collect();
        let hostnames = if *kind == "TLSRoute" { "\n  hostnames: [localhost]" } else { "" };
        text += &format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{ namespace: default, name: {listener} }}
spec:
  parentRefs: [{{ name: eg, sectionName: {listener} }}]{hostnames}
  rules: [{{ backendRefs: [{}] }}]
",
            backends.join(", ")
        );
    }
    text
}

#[tokio::test]
async fn connections_datagrams_and_grpc_requests_of_an_envoy_gateways_routes_arrive_at_our_endpoints() {
    let authority = Authority::new();
    let certificate = authority.issue(&["localhost"]);
    let plain = Backend::start("plain").await;
    let tls = Backend::start_tls("tls", &certificate).await;
    let shares = [Backend::start("one").await, Backend::start("two").await];
    let datagrams = UdpSocket::bind("127.0.0.1:0").await.expect("there is a free port");
    let listeners = [
        "name: http, protocol: HTTP, port: 8080",
        "name: tls, protocol: TLS, port: 8443, tls: { mode: Passthrough }",
        "name: plain, protocol: TCP, port: 9001",
        "name: shared, protocol: TCP, port: 9002",
        "name: dns, protocol: UDP, port: 9053",
    ];
    let endpoint = |name: &str, port: u16, target: SocketAddr, more: &str| {
        format!("name: {name}, port: {port}, externalTarget: '{target}', {more}")
    };
    let endpoints = [
        endpoint("plain", 80, plain.address(), "protocol: TCP"),
        endpoint("tls", 443, tls.address(), "protocol: TLS"),
        endpoint("one", 81, shares[0].address(), "protocol: TCP, weight: 1"),
        endpoint("two", 81, shares[1].address(), "protocol: TCP, weight: 3"),
        endpoint("dns", 53, datagrams.local_addr().expect("it is bound"), "protocol: UDP"),
        // What speaks both is asked for HTTP/2.
        endpoint("chat", 82, plain.address(), "protocol: HTTP"),
    ];
    let routes = [
        ("GRPCRoute", "http", "82"),
        ("TLSRoute", "tls", "443"),
        ("TCPRoute", "plain", "80"),
        ("TCPRoute", "shared", "81"),
        ("UDPRoute", "dns", "53"),
    ];
    let _running = Running::start(&manifests(&listeners, &endpoints, &routes)).await;

    let response = client::get(at(9001), "/through").send().await;
    assert_eq!((response.status, &*response.echo().backend), (200, "plain"));

    let response = client::get(at(8080), "/chat.Chat/Say").method("POST").header("content-type", "application/grpc");
    let echo = response.send().await.echo();
    assert_eq!((&*echo.backend, &*echo.protocol), ("plain", "HTTP/2.0"));

    let response = client::get(at(8443), "/").tls(&authority, "localhost").send().await;
    assert_eq!((response.status, &*response.echo().backend), (200, "tls"));
    let handshakes = tls.handshakes();
    assert_eq!(handshakes[0].server_name.as_deref(), Some("localhost"), "{handshakes:?}");

    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..400 {
        *counts.entry(client::get(at(9002), "/").send().await.echo().backend).or_default() += 1;
    }
    // Three quarters of 400, give or take what chance does once in a million times.
    assert!((255..=345).contains(&counts["two"]), "{counts:?}");

    exchange(&datagrams, at(9053)).await;
}
