//! A real Envoy Gateway with us as its extension server, and the Envoy that it starts: what reaches tailnet targets through it,
//! what survives, and what stays as it was without us.
//!
//! Both read one folder: an Envoy Gateway reads the files in it and refuses kinds that it was not told of, so what is for us
//! alone stands in a folder inside it.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use k8s_openapi::ByteString;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
};

use crate::{
    site::{documents, until_answered},
    support::{
        alone::alone,
        backend::Backend,
        client::{self, Response},
        datagrams::exchange,
        envoy::Version,
        gateway::Gateway,
        load::Load,
        manifests::Manifests,
        real_envoy_gateway::{Configuration, EnvoyGateway},
        tls::{Authority, Certificate},
        wait::until,
    },
};

/// Where the listener of the Gateway `eg` is.
const LISTENER: u16 = 8888;

/// Where we answer the Envoy Gateway.
const EXTENSION: &str = "127.0.0.1:5005";

/// The series that counts the calls in which something was changed.
const CHANGED: &str = "tailscale_gateway_extension_calls_total{hook=\"Translation\",result=\"changed\"}";

/// The one that counts those in which nothing was.
const ECHOED: &str = "tailscale_gateway_extension_calls_total{hook=\"Translation\",result=\"echo\"}";

/// `extensionManager` as README has it.
const MANAGER: &str = "{backendResources: [{group: gateway.tailscale.com, version: v1alpha1, kind: TailscaleEndpoints}], \
    policyResources: [{group: gateway.tailscale.com, version: v1alpha1, kind: TailscaleGatewayRevision}], \
    hooks: {xdsTranslator: {post: [Translation], translation: {route: {includeAll: true}, cluster: {includeAll: true}, \
    secret: {includeAll: true}}}}, \
    service: {ip: {address: 127.0.0.1, port: 5005}}, maxMessageSize: 256Mi}";

/// The other names.
const SCHEME_V2: &str = "runtimeFlags: {enabled: [XDSNameSchemeV2]}";

/// The class, and the Gateway `eg` on [`LISTENER`].
fn gateway() -> String {
    let gateway = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{namespace: default, name: eg}}
spec:
  gatewayClassName: eg
  listeners: [{{name: http, protocol: HTTP, port: {LISTENER}}}]
"
    );
    documents(&[class(""), gateway])
}

/// The class, whose Envoy is ours; `more` of what is said about it, as YAML.
fn class(more: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: eg}}
spec:
  controllerName: gateway.envoyproxy.io/gatewayclass-controller
  parametersRef: {{group: gateway.envoyproxy.io, kind: EnvoyProxy, namespace: default, name: eg}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {{namespace: default, name: eg}}
spec:
  provider: {{type: Host, host: {{envoyVersion: {}}}}}
{more}",
        Version::Latest.number()
    )
}

/// The Gateway `eg` with another listener beside it, which has a certificate.
fn gateway_with_https() -> String {
    let https = "{name: https, protocol: HTTPS, port: 8443, hostname: secure.example, \
        tls: {certificateRefs: [{name: certificate}]}}";
    gateway().replace("protocol: HTTP, port: 8888}]", &format!("protocol: HTTP, port: 8888}}, {https}]"))
}

/// The Secret with that certificate. An Envoy Gateway takes no `stringData` from files.
fn secret(certificate: &Certificate) -> String {
    let encoded = |pem: &str| serde_json::to_string(&ByteString(pem.as_bytes().to_vec())).expect("bytes have a form");
    format!(
        "
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{namespace: default, name: certificate}}
data: {{tls.crt: {}, tls.key: {}}}
",
        encoded(&certificate.certificate),
        encoded(&certificate.key)
    )
}

/// A Gateway on [`LISTENER`] for one host.
fn gateway_for(name: &str, hostname: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{namespace: default, name: {name}}}
spec:
  gatewayClassName: eg
  listeners: [{{name: http, protocol: HTTP, port: {LISTENER}, hostname: {hostname}}}]
"
    )
}

/// A backend of the Envoy Gateway's own.
fn plain(name: &str, to: SocketAddr) -> String {
    format!(
        "
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{namespace: default, name: {name}}}
spec: {{endpoints: [{{ip: {{address: {}, port: {}}}}}]}}
",
        to.ip(),
        to.port()
    )
}

/// A route; each rule is a path prefix and its backends, as YAML in one line.
fn route(name: &str, rules: &[(&str, &str)]) -> String {
    let rules: String = rules
        .iter()
        .map(|(prefix, backends)| {
            format!("  - {{matches: [{{path: {{value: {prefix:?}}}}}], backendRefs: [{backends}]}}\n")
        })
        .collect();
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{namespace: default, name: {name}}}
spec:
  parentRefs: [{{name: eg}}]
  rules:
{rules}"
    )
}

/// What [`plain`] makes, as a backend of a route.
fn to_plain(name: &str, weight: u32) -> String {
    format!("{{group: gateway.envoyproxy.io, kind: Backend, name: {name}, weight: {weight}}}")
}

/// A port of TailscaleEndpoints, as a backend of a route.
fn to_ours(name: &str, port: u16, weight: u32) -> String {
    format!("{{group: gateway.tailscale.com, kind: TailscaleEndpoints, name: {name}, port: {port}, weight: {weight}}}")
}

/// TailscaleEndpoints; each endpoint is a name, a port, a target, and more fields.
fn endpoints(name: &str, endpoints: &[(&str, u16, String, &str)]) -> String {
    let list: String = endpoints
        .iter()
        .map(|(name, port, target, more)| {
            format!("  - {{name: {name}, port: {port}, externalTarget: {target:?}{more}}}\n")
        })
        .collect();
    format!(
        "
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleEndpoints
metadata: {{namespace: default, name: {name}}}
spec:
  tailnet: corp
  endpoints:
{list}"
    )
}

/// What ties Gateways to the tailnet of the endpoints.
fn tailnet(gateways: &[&str]) -> String {
    let ties = gateways.iter().map(|gateway| {
        format!(
            "
apiVersion: gateway.tailscale.com/v1alpha1
kind: TailscaleGateway
metadata: {{namespace: default, name: {gateway}}}
spec:
  gatewayRef: {{name: {gateway}}}
  tailnets: [{{name: corp, tailscaleTailnetRef: {{name: corp}}}}]
"
        )
    });
    documents(&ties.collect::<Vec<_>>())
}

/// An Envoy Gateway, and us.
struct Installation {
    manifests: Manifests,
    ours: Gateway,
    theirs: EnvoyGateway,
    /// Where we say that the Envoy Gateway has to translate again.
    _revisions: TempDir,
}

impl Installation {
    /// Starts both on these files.
    async fn start(files: &[(&str, &str)], flags: &[&str], more: &str) -> Self {
        let manifests = Manifests::with(files);
        let revisions = TempDir::with_prefix("revisions-").expect("a temporary folder can be made");
        let folder = revisions.path().to_str().expect("its path is text");
        let hosting = ["--extension-listen", EXTENSION, "--extension-xds", "{xds}", "--extension-revisions", folder];
        let ours = Gateway::start_with(manifests.path(), &[&hosting, flags].concat()).await;
        let folders = [manifests.path(), revisions.path()];
        let theirs = Configuration { folders: &folders, extension: Some(MANAGER), more };
        let theirs = EnvoyGateway::start(theirs).await;
        Self { manifests, ours, theirs, _revisions: revisions }
    }

    /// How often the Envoy Gateway has read its folder.
    fn translations(&self) -> usize {
        self.theirs.process().lines().iter().filter(|line| line.contains("reload resources finished")).count()
    }
}

fn get(path: &str) -> client::Request {
    client::get(([127, 0, 0, 1], LISTENER).into(), path)
}

/// Waits until a backend with this name answers, and returns the answer.
async fn until_from(backend: &str, path: &str) -> Response {
    let from = |response: &Response| response.header("x-backend") == Some(backend);
    until_answered(&format!("an answer from {backend} to {path}"), &get(path), from).await
}

/// The same requests arrive whatever the Envoy Gateway calls things.
async fn requests_arrive(more: &str) {
    let (web, plain_backend) = (Backend::start("web").await, Backend::start("plain").await);
    let (right, wrong) = (Authority::new(), Authority::new());
    let vault = Backend::start_tls("vault", &right.issue(&["vault.localhost"])).await;
    let liar = Backend::start_tls("liar", &right.issue(&["other.localhost"])).await;
    let stranger = Backend::start_tls("stranger", &wrong.issue(&["stranger.localhost"])).await;
    let https = |name: &str, backend: &Backend| format!("{name}.localhost:{}", backend.address().port());
    let tls = ", protocol: HTTPS";
    let outside = endpoints(
        "outside",
        &[
            ("web", 80, web.address().to_string(), ""),
            ("vault", 443, https("vault", &vault), tls),
            ("liar", 444, https("liar", &liar), tls),
            ("stranger", 445, https("stranger", &stranger), tls),
        ],
    );
    let rules = route("user", &[("/", &to_plain("plain", 1)), ("/machine", &to_ours("outside", 80, 1))]);
    let authorities = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(authorities.path(), right.pem()).expect("it can be written");
    let flags = ["--trusted-ca", authorities.path().to_str().expect("its path is text")];
    let installation = Installation::start(
        &[
            ("gateway.yaml", &gateway()),
            ("plain.yaml", &plain("plain", plain_backend.address())),
            ("routes.yaml", &rules),
            ("outside.yaml", &outside),
            ("tailscale/tailnet.yaml", &tailnet(&["eg"])),
        ],
        &flags,
        more,
    )
    .await;

    let status = until_from("web", "/api/web/status").await.echo();
    assert_eq!((&*status.path, &*status.host), ("/status", &*web.address().to_string()));
    let machine = until_from("web", "/machine/x").await.echo();
    assert_eq!(machine.path, "/machine/x");
    assert_eq!(until_from("plain", "/api/webs").await.echo().path, "/api/webs");
    let secret = until_from("vault", "/api/vault/secret").await.echo();
    assert_eq!((&*secret.path, &*secret.host), ("/secret", &*https("vault", &vault)));
    let names: Vec<_> = vault.handshakes().into_iter().map(|handshake| handshake.server_name).collect();
    assert!(names.iter().all(|name| name.as_deref() == Some("vault.localhost")), "{names:?}");
    let mut stream = get("/api/web/socket").upgrade("websocket").await.expect("it is let through");
    stream.write_all(b"ping").await.expect("the connection is open");
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.expect("the backend sends it back");
    assert_eq!(&back, b"ping");
    let failures = [("liar", "fail_verify_san"), ("stranger", "fail_verify_error")];
    for (name, failure) in failures {
        let response = get(&format!("/api/{name}/x")).send().await;
        assert_eq!(response.status, 503, "{name}: {}", response.text());
        let counter = format!("cluster.endpoint/default/outside/{name}.ssl.{failure}");
        assert!(installation.theirs.stat(&counter).await > 0, "{name}: it is not {failure}");
    }
    assert_eq!(liar.requests() + stranger.requests(), 0);
}

#[test]
fn requests_for_tailnet_targets_arrive() {
    alone(requests_for_tailnet_targets_arrive, requests_arrive(""));
}

#[test]
fn requests_for_tailnet_targets_arrive_with_the_names_of_scheme_v2() {
    alone(requests_for_tailnet_targets_arrive_with_the_names_of_scheme_v2, requests_arrive(SCHEME_V2));
}

#[test]
fn merged_gateways_each_get_their_own_targets() {
    alone(merged_gateways_each_get_their_own_targets, async {
        let (web, plain_backend) = (Backend::start("web").await, Backend::start("plain").await);
        let on = |name: &str| gateway_for(name, &format!("{name}.example"));
        let route = route("user", &[("/", &to_plain("plain", 1))]);
        let _installation = Installation::start(
            &[
                ("class.yaml", &class("  mergeGateways: true")),
                ("gateways.yaml", &documents(&[on("eg"), on("two"), on("three")])),
                ("routes.yaml", &documents(&[plain("plain", plain_backend.address()), route])),
                ("tailscale/outside.yaml", &endpoints("outside", &[("web", 80, web.address().to_string(), "")])),
                ("tailscale/tailnet.yaml", &tailnet(&["eg", "two"])),
            ],
            &[],
            "",
        )
        .await;
        let ask = |host: &str| get("/api/web/status").host(host);
        // The second one has no route of its own, and so no virtual host before we add one.
        for host in ["eg.example", "two.example"] {
            let from_web = |response: &Response| response.header("x-backend") == Some("web");
            let response = until_answered(host, &ask(host), from_web).await;
            assert_eq!(response.echo().path, "/status");
        }
        assert_eq!(ask("three.example").send().await.status, 404);
        assert_eq!(get("/").host("eg.example").send().await.echo().backend, "plain");
    });
}

#[test]
fn shares_of_requests_are_what_routes_say() {
    alone(shares_of_requests_are_what_routes_say, async {
        let mut backends = Vec::new();
        for name in ["plain", "one", "two"] {
            backends.push(Backend::start(name).await);
        }
        let address = |place: usize| backends[place].address().to_string();
        let outside = endpoints(
            "outside",
            &[
                ("one", 80, address(1), ""),
                ("two", 81, address(2), ""),
                ("many-1", 90, address(1), ", weight: 1"),
                ("many-2", 90, address(2), ", weight: 3"),
            ],
        );
        let mixed = [to_plain("plain", 3), to_ours("outside", 80, 1)].join(", ");
        let two = [to_ours("outside", 80, 1), to_ours("outside", 81, 3)].join(", ");
        let several = [to_plain("plain", 1), to_ours("outside", 90, 1)].join(", ");
        let missing = [to_plain("plain", 1), to_ours("missing", 80, 1)].join(", ");
        let elsewhere = to_ours("outside", 80, 1).replace("name: outside", "namespace: other, name: outside");
        let not_granted = [to_ours("outside", 80, 1), elsewhere].join(", ");
        let no_such_port = [to_plain("plain", 3), to_ours("outside", 1, 1)].join(", ");
        let rules = route(
            "user",
            &[
                ("/mixed", &mixed),
                ("/two", &two),
                ("/several", &several),
                ("/missing", &missing),
                ("/not-granted", &not_granted),
                ("/no-such-port", &no_such_port),
            ],
        );
        let of_others = outside.replace("namespace: default", "namespace: other");
        let installation = Installation::start(
            &[
                ("gateway.yaml", &gateway()),
                ("plain.yaml", &plain("plain", backends[0].address())),
                ("routes.yaml", &rules),
                ("outside.yaml", &outside),
                ("elsewhere.yaml", &of_others),
                ("tailscale/tailnet.yaml", &tailnet(&["eg"])),
            ],
            &[],
            "",
        )
        .await;
        until_from("two", "/two").await;
        let config = installation.theirs.config_dump().await;
        // A prefix, the weights of its clusters, and the shares of the backends; the rest is answered with 500.
        let expected = [
            ("/mixed", vec![3, 1], vec![("plain", 0.75), ("one", 0.25)]),
            ("/two", vec![1, 3], vec![("one", 0.25), ("two", 0.75)]),
            ("/several", vec![4, 1, 3], vec![("plain", 0.5), ("one", 0.125), ("two", 0.375)]),
            ("/missing", vec![1, 1], vec![("plain", 0.5)]),
            ("/not-granted", vec![1, 1], vec![("one", 0.5)]),
            ("/no-such-port", vec![3, 1], vec![("plain", 0.75)]),
        ];
        for (prefix, weights, shares) in expected {
            assert_eq!(weights_of(&config, prefix), weights, "{prefix}");
            let load = Load::start(&get(&format!("{prefix}/x")), 2);
            load.wait_for(1_000).await;
            let tally = load.stop().await;
            let (served, failed): (f64, u64) = (shares.iter().map(|(_, share)| share).sum(), tally.failures());
            let error = tally.by_status.get(&500).copied().unwrap_or_default();
            assert!(if served == 1.0 { failed == 0 } else { failed == error }, "{prefix}: {tally:?}");
            let backends = shares.iter().map(|(backend, share)| {
                (*backend, tally.by_backend.get(*backend).copied().unwrap_or_default(), *share)
            });
            for (what, counted, share) in backends.chain([("no backend", error, 1.0 - served)]) {
                // More than six standard deviations: it is wrong once in a billion times.
                let off = (counted as f64 / tally.responses() as f64 - share).abs();
                assert!(off < 0.1, "{prefix}: {what} should have {share} of {tally:?}");
            }
        }
    });
}

/// The weights of the clusters that requests for this prefix go to.
fn weights_of(config: &Value, prefix: &str) -> Vec<u64> {
    let route = routes(config).find(|route| route["match"]["path_separated_prefix"] == prefix);
    let route = route.unwrap_or_else(|| panic!("no route for {prefix} in {config:#}"));
    let clusters = route["route"]["weighted_clusters"]["clusters"].as_array().into_iter().flatten();
    clusters.filter_map(|cluster| cluster["weight"].as_u64()).collect()
}

/// All routes of an Envoy.
fn routes(config: &Value) -> impl Iterator<Item = &Value> {
    let parts = config["configs"].as_array().into_iter().flatten();
    let tables = parts.flat_map(|part| part["dynamic_route_configs"].as_array().into_iter().flatten());
    let hosts = tables.flat_map(|table| table["route_config"]["virtual_hosts"].as_array().into_iter().flatten());
    hosts.flat_map(|host| host["routes"].as_array().into_iter().flatten())
}

/// A SecurityPolicy for the whole Gateway `eg`.
fn security(spec: &str) -> String {
    format!(
        "
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {{namespace: default, name: eg}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: eg}}]
  {spec}
"
    )
}

#[test]
fn policies_of_a_gateway_hold_for_routes_that_we_put_into_it() {
    alone(policies_of_a_gateway_hold_for_routes_that_we_put_into_it, async {
        let (web, plain_backend) = (Backend::start("web").await, Backend::start("plain").await);
        let installation = Installation::start(
            &[
                ("gateway.yaml", &gateway()),
                ("plain.yaml", &plain("plain", plain_backend.address())),
                ("routes.yaml", &route("user", &[("/", &to_plain("plain", 1))])),
                ("policy.yaml", &security("authorization: {defaultAction: Deny}")),
                ("tailscale/outside.yaml", &endpoints("outside", &[("web", 80, web.address().to_string(), "")])),
                ("tailscale/tailnet.yaml", &tailnet(&["eg"])),
            ],
            &[],
            "",
        )
        .await;
        // What is there with one configuration of the Envoy is there with all of it.
        let until_status = async |path: &str, status: u16| {
            let what = format!("{path} to be answered with {status}");
            until_answered(&what, &get(path), |response: &Response| response.status == status).await
        };
        let is_ours = |config: &Value| {
            let names = routes(config).filter_map(|route| route["name"].as_str());
            names.into_iter().any(|name| name.starts_with("endpoint/"))
        };
        until_status("/", 403).await;
        installation.theirs.wait_for_config("our route to be there", is_ours).await;
        assert_eq!(get("/api/web/status").send().await.status, 403);

        // The route behind has a policy of its own, and so have we.
        let own = security("authorization: {defaultAction: Allow}")
            .replace("name: eg}\nspec", "name: user}\nspec")
            .replace("kind: Gateway, name: eg", "kind: HTTPRoute, name: user");
        installation.manifests.write("own.yaml", own);
        until_from("web", "/api/web/status").await;
        // No route is behind, and this one has the Gateway's.
        installation.manifests.remove("own.yaml");
        until_status("/", 403).await;
        assert_eq!(get("/api/web/status").send().await.status, 403);
        installation.manifests.write("routes.yaml", route("user", &[("/only", &to_plain("plain", 1))]));
        until_status("/", 404).await;
        installation.theirs.wait_for_config("our route to be there", is_ours).await;
        assert_eq!(get("/only").send().await.status, 403);
        assert_eq!(get("/api/web/status").send().await.status, 403);
        // Nobody passes a policy that can not be followed.
        let broken = security("basicAuth: {users: {name: missing}}").replace("name: eg}\nspec", "name: broken}\nspec");
        installation.manifests.remove("policy.yaml");
        installation.manifests.write("broken.yaml", broken);
        until_status("/only", 500).await;
        assert_eq!(get("/api/web/status").send().await.status, 500);
        assert_eq!(web.requests(), 1, "a request has passed that should not have");
        installation.manifests.remove("broken.yaml");
        until_from("web", "/api/web/status").await;
    });
}

/// A route of connections or datagrams on the listener of its name, or of requests on the listener `http`, to a port of ours.
fn route_of(kind: &str, listener: &str, port: u16) -> String {
    let hostnames = if kind == "TLSRoute" { "hostnames: [localhost]" } else { "" };
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{namespace: default, name: {listener}}}
spec:
  parentRefs: [{{name: eg, sectionName: {listener}}}]
  rules: [{{backendRefs: [{}]}}]
  {hostnames}
",
        to_ours("outside", port, 1)
    )
}

#[test]
fn connections_datagrams_and_grpc_requests_arrive_at_endpoints_of_ours() {
    alone(connections_datagrams_and_grpc_requests_arrive_at_endpoints_of_ours, async {
        let authority = Authority::new();
        let (chat, tls) =
            (Backend::start("chat").await, Backend::start_tls("tls", &authority.issue(&["localhost"])).await);
        let datagrams = UdpSocket::bind("127.0.0.1:0").await.expect("there is a free port");
        let target = |address: SocketAddr| address.to_string();
        let outside = endpoints(
            "outside",
            &[
                ("chat", 82, target(chat.address()), ", protocol: HTTP"),
                ("tls", 443, target(tls.address()), ", protocol: TLS"),
                ("plain", 80, target(chat.address()), ", protocol: TCP"),
                ("dns", 53, target(datagrams.local_addr().expect("it is bound")), ", protocol: UDP"),
            ],
        );
        let more = "protocol: HTTP, port: 8888}, {name: tls, protocol: TLS, port: 8443, tls: {mode: Passthrough}}, \
            {name: plain, protocol: TCP, port: 9001}, {name: dns, protocol: UDP, port: 9053}]";
        let all = [
            route_of("GRPCRoute", "http", 82),
            route_of("TLSRoute", "tls", 443),
            route_of("TCPRoute", "plain", 80),
            route_of("UDPRoute", "dns", 53),
        ];
        let _installation = Installation::start(
            &[
                ("gateway.yaml", &gateway().replace("protocol: HTTP, port: 8888}]", more)),
                ("routes.yaml", &documents(&all)),
                ("outside.yaml", &outside),
            ],
            &[],
            "",
        )
        .await;
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let say = get("/chat.Chat/Say").method("POST").header("content-type", "application/grpc");
        let answered = |response: &Response| response.status == 200;
        let echo = until_answered("an answer to gRPC", &say, answered).await.echo();
        assert_eq!((&*echo.backend, &*echo.protocol), ("chat", "HTTP/2.0"));
        let through = client::get(at(9001), "/through");
        assert_eq!(until_answered("an answer through TCP", &through, answered).await.echo().backend, "chat");
        let passed = client::get(at(8443), "/").tls(&authority, "localhost");
        assert_eq!(until_answered("an answer through TLS", &passed, answered).await.echo().backend, "tls");
        exchange(&datagrams, at(9053)).await;
    });
}

#[test]
fn a_changed_endpoint_reaches_the_envoy_without_a_call_to_us() {
    alone(a_changed_endpoint_reaches_the_envoy_without_a_call_to_us, async {
        let (a, b, plain_backend) =
            (Backend::start("a").await, Backend::start("b").await, Backend::start("plain").await);
        let to = |backend: &Backend| endpoints("outside", &[("moving", 80, backend.address().to_string(), "")]);
        let installation = Installation::start(
            &[
                ("gateway.yaml", &gateway()),
                ("plain.yaml", &plain("plain", plain_backend.address())),
                ("routes.yaml", &route("user", &[("/", &to_plain("plain", 1))])),
                ("tailscale/outside.yaml", &to(&a)),
                ("tailscale/tailnet.yaml", &tailnet(&["eg"])),
            ],
            &[],
            "",
        )
        .await;
        until_from("a", "/api/moving/x").await;
        let before = (installation.ours.calls().await, installation.translations());
        assert!(before.0 > 0, "we were not asked");
        for (name, backend) in [("b", &b), ("a", &a), ("b", &b)] {
            installation.manifests.write("tailscale/outside.yaml", to(backend));
            until_from(name, "/api/moving/x").await;
        }
        assert_eq!((installation.ours.calls().await, installation.translations()), before);
    });
}

#[test]
fn a_new_endpoint_is_offered_when_nothing_but_our_revision_changes_and_not_oftener_than_once_a_second() {
    let this = a_new_endpoint_is_offered_when_nothing_but_our_revision_changes_and_not_oftener_than_once_a_second;
    alone(this, async {
        let (web, plain_backend) = (Backend::start("web").await, Backend::start("plain").await);
        let target = web.address().to_string();
        let so_many = |count: usize| {
            let names: Vec<String> = (0..count).map(|place| format!("web-{place}")).collect();
            let list: Vec<_> = names.iter().map(|name| (&**name, 80, target.clone(), "")).collect();
            endpoints("outside", &list)
        };
        let installation = Installation::start(
            &[
                ("gateway.yaml", &gateway()),
                ("plain.yaml", &plain("plain", plain_backend.address())),
                ("routes.yaml", &route("user", &[("/", &to_plain("plain", 1))])),
                ("tailscale/outside.yaml", &so_many(1)),
                ("tailscale/tailnet.yaml", &tailnet(&["eg"])),
            ],
            &[],
            "",
        )
        .await;
        until_from("web", "/api/web-0/x").await;
        assert_eq!(get("/api/web-1/x").send().await.echo().backend, "plain");
        installation.manifests.write("tailscale/outside.yaml", so_many(2));
        until_from("web", "/api/web-1/x").await;

        let (began, before) = (Instant::now(), installation.ours.calls().await);
        const CHANGES: usize = 40;
        for count in 3..3 + CHANGES {
            installation.manifests.write("tailscale/outside.yaml", so_many(count));
            let newest = format!("endpoint/default/outside/web-{}", count - 1);
            // Each is one of ours before the next comes.
            until(&format!("{newest} to be hosted"), async || {
                let page = installation.ours.admin("/debug/extension").await.text();
                if page.contains(&format!("{newest:?}")) { Ok(()) } else { Err(page) }
            })
            .await;
        }
        until_from("web", &format!("/api/web-{}/x", 1 + CHANGES)).await;
        let calls = installation.ours.calls().await - before;
        let most = began.elapsed().as_secs() + 2;
        assert!((1..=most).contains(&calls), "{CHANGES} changes in {most} seconds have led to {calls} translations");
    });
}

#[test]
fn no_request_fails_while_we_are_killed_and_come_back() {
    alone(no_request_fails_while_we_are_killed_and_come_back, async {
        let (a, b, plain_backend) =
            (Backend::start("a").await, Backend::start("b").await, Backend::start("plain").await);
        let moving = |backend: &Backend| endpoints("moving", &[("moving", 80, backend.address().to_string(), "")]);
        let machines = endpoints("machines", &[("machine", 80, a.address().to_string(), "")]);
        let rules = [("/", &*to_plain("plain", 1)), ("/machine", &to_ours("machines", 80, 1))];
        let mut installation = Installation::start(
            &[
                ("gateway.yaml", &gateway()),
                ("plain.yaml", &plain("plain", plain_backend.address())),
                ("routes.yaml", &route("user", &rules)),
                ("machines.yaml", &machines),
                ("tailscale/moving.yaml", &moving(&a)),
                ("tailscale/tailnet.yaml", &tailnet(&["eg"])),
            ],
            &[],
            "",
        )
        .await;
        let paths = [("a", "/api/moving/x"), ("a", "/machine/x"), ("plain", "/x")];
        for (backend, path) in paths {
            until_from(backend, path).await;
        }
        let loads = paths.map(|(_, path)| Load::start(&get(path), 2));
        let more = async || {
            for load in &loads {
                load.wait_for(200).await;
            }
        };
        more().await;
        installation.ours.kill().await;
        more().await;
        // What the Envoy Gateway would like to ask meanwhile, it asks when we are back.
        let new = [rules[0], rules[1], ("/new", &to_ours("machines", 80, 1))];
        installation.manifests.write("routes.yaml", route("user", &new));
        installation.manifests.write("tailscale/moving.yaml", moving(&b));
        more().await;
        installation.ours.start_again().await;
        until_from("b", "/api/moving/x").await;
        until_from("a", "/new/x").await;
        more().await;
        for load in loads {
            let tally = load.stop().await;
            assert_eq!(tally.failures(), 0, "{tally:?}");
        }
    });
}

/// What an Envoy was served, by type and name: what tells one content from another.
type Served = BTreeMap<(&'static str, String), Value>;

/// Reads it out of an Envoy's configuration. A version is the hash of the resource's bytes, by go-control-plane's delta server.
/// Endpoints have none there; and listeners have another each time an Envoy Gateway starts, which writes the fields of the access
/// log in no order. Of these it is the content.
fn served(config: &Value) -> Served {
    let mut served = Served::new();
    for part in config["configs"].as_array().into_iter().flatten() {
        let list = |field: &str| part[field].as_array().cloned().unwrap_or_default();
        let mut note = |kind, name: &Value, version: &Value| {
            let version = version.as_str().expect("a dynamic resource has a version");
            assert_eq!(version.len(), 64, "{version} is no hash");
            served.insert((kind, name.as_str().expect("a resource has a name").to_owned()), version.into());
        };
        for cluster in list("dynamic_active_clusters") {
            note("cluster", &cluster["cluster"]["name"], &cluster["version_info"]);
        }
        for table in list("dynamic_route_configs") {
            note("routes", &table["route_config"]["name"], &table["version_info"]);
        }
        // Those by which it reaches the Envoy Gateway are files.
        let from_files = |secret: &Value| matches!(secret["name"].as_str(), Some("xds_certificate" | "xds_trusted_ca"));
        for secret in list("dynamic_active_secrets").iter().filter(|secret| !from_files(secret)) {
            note("secret", &secret["name"], &secret["version_info"]);
        }
        for assignment in list("dynamic_endpoint_configs") {
            let config = &assignment["endpoint_config"];
            let name = config["cluster_name"].as_str().expect("an assignment has a name").to_owned();
            served.insert(("endpoints", name), config.clone());
        }
        for listener in list("dynamic_listeners") {
            let name = listener["name"].as_str().expect("a listener has a name").to_owned();
            served.insert(("listener", name), listener["active_state"]["listener"].clone());
        }
    }
    served
}

#[test]
fn what_we_have_nothing_to_do_with_is_the_same_with_us() {
    alone(what_we_have_nothing_to_do_with_is_the_same_with_us, async {
        let plain_backend = Backend::start("plain").await;
        let certificate = Authority::new().issue(&["secure.example"]);
        let rules = [("/", &*to_plain("plain", 1)), ("/deep", &to_plain("plain", 2)), ("/api", &to_plain("plain", 1))];
        let manifests = Manifests::with(&[
            ("gateway.yaml", &gateway_with_https()),
            ("secret.yaml", &secret(&certificate)),
            ("routes.yaml", &documents(&[plain("plain", plain_backend.address()), route("user", &rules)])),
            ("tailscale/outside.yaml", &endpoints("outside", &[("web", 80, plain_backend.address().to_string(), "")])),
            ("tailscale/tailnet.yaml", &tailnet(&["another"])),
        ]);
        let served_with = async |extension: Option<&str>, path: &str| {
            let folders = [manifests.path()];
            let theirs = EnvoyGateway::start(Configuration { folders: &folders, extension, more: "" }).await;
            until_from("plain", path).await;
            let whole = theirs.wait_for_config("both listeners to be there", |config| {
                let tables = config["configs"].as_array().into_iter().flatten();
                tables.filter_map(|part| part["dynamic_route_configs"].as_array()).map(Vec::len).sum::<usize>() == 2
            });
            let served = served(&whole.await);
            theirs.end().await;
            served
        };
        let without = served_with(None, "/").await;
        let kinds: Vec<&str> = without.keys().map(|(kind, _)| *kind).collect();
        for kind in ["listener", "cluster", "routes", "secret", "endpoints"] {
            assert!(kinds.contains(&kind), "{kind} is not in {without:#?}");
        }
        let hosting = ["--extension-listen", EXTENSION, "--extension-xds", "{xds}"];
        let ours = Gateway::start_with(manifests.path(), &hosting).await;
        assert_eq!(served_with(Some(MANAGER), "/").await, without);
        let metrics = ours.metrics().await;
        assert!(metrics.get(ECHOED).is_some_and(|count| *count > 0.0) && !metrics.contains_key(CHANGED), "{metrics:?}");

        // And where we have something to add, all but the tables that it stands in is still the same.
        drop(ours);
        manifests.write("tailscale/tailnet.yaml", tailnet(&["eg"]));
        let _ours = Gateway::start_with(manifests.path(), &hosting).await;
        let with = served_with(Some(MANAGER), "/api/web").await;
        for (key, version) in &without {
            assert_eq!(with.get(key) == Some(version), key.0 != "routes", "{key:?}");
        }
        assert!(with.len() > without.len(), "{with:#?}");
    });
}
