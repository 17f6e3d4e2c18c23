//! A client that is not Envoy: gRPC's own library for Python resolves an `xds:///` target through us, and talks to the
//! backends by itself.

use std::process::Command;

use crate::{
    site::{documents, gateway_with_tables, https_listener, listener, route, route_for, secret, service_speaking},
    support::{
        gateway::Gateway, manifests::Manifests, ports::Port, process::Process, tls::Authority, tools::python_with_grpc,
    },
};

/// A server for any method, that answers with its name and the method.
const SERVER: &str = r#"
import sys, concurrent.futures, grpc

class Any(grpc.GenericRpcHandler):
    def service(self, details):
        answer = f"{sys.argv[1]} {details.method}".encode()
        return grpc.unary_unary_rpc_method_handler(lambda request, context: answer)

server = grpc.server(concurrent.futures.ThreadPoolExecutor(), handlers=[Any()])
assert server.add_insecure_port(sys.argv[2])
server.start()
print("serving", flush=True)
server.wait_for_termination()
"#;

/// A client that does an RPC for each line it is told: target, authority (or -), method, and what it expects.
const CLIENT: &str = r#"
import sys, grpc

failed = False
for line in sys.argv[1:]:
    target, authority, method, expected = line.split(" ", 3)
    options = [] if authority == "-" else [("grpc.default_authority", authority)]
    with grpc.insecure_channel(target, options=options) as channel:
        try:
            answer = channel.unary_unary(method)(b"", timeout=30, wait_for_ready=expected.startswith("200")).decode()
            said = f"200 {answer}"
        except grpc.RpcError as error:
            said = f"{error.code().name} {error.details()}"
    wanted = said.startswith(expected)
    failed |= not wanted
    print("as expected:" if wanted else "NOT as expected:", line, "->", said, flush=True)
sys.exit(failed)
"#;

async fn server(name: &str, port: &Port) -> Process {
    let mut command = python_with_grpc();
    command.args(["-c", SERVER, name, &port.address().to_string()]);
    let process = Process::spawn(format!("gRPC server {name}"), command);
    process.wait_for_line("serving").await;
    process
}

/// A Python that bootstraps xDS from this control plane.
fn client(control: &Gateway) -> Command {
    let bootstrap = serde_json::json!({
        "xds_servers": [{
            "server_uri": control.xds().to_string(),
            "channel_creds": [{ "type": "insecure" }],
            "server_features": ["xds_v3"],
        }],
        "node": { "id": "a-client", "cluster": "default/web" },
    });
    let mut command = python_with_grpc();
    command.env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap.to_string()).args(["-c", CLIENT]);
    command
}

#[tokio::test]
async fn p50_a_grpc_client_resolves_the_port_of_a_gateway_and_routes_as_its_http_routes_say() {
    let (one_port, two_port) = (Port::lease(), Port::lease());
    let (_one, _two) = (server("one", &one_port).await, server("two", &two_port).await);
    let (http, https) = (Port::lease(), Port::lease());
    let authority = Authority::new();
    let rules = "
- matches: [{path: {type: PathPrefix, value: /}}]
  backendRefs: [{name: one, port: 80}]
- matches: [{path: {type: PathPrefix, value: /shop.Cart}}]
  timeouts: {request: 20s}
  backendRefs: [{name: two, port: 80}]
- matches: [{path: {type: Exact, value: /shop.Cart/Add}}]
  backendRefs: [{name: one, port: 80}]
- matches: [{path: {type: PathPrefix, value: /shop.Old}}]
  filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /shop.New}}}]
  backendRefs: [{name: one, port: 80}]
- matches: [{path: {type: PathPrefix, value: /shop.Cors}}]
  filters: [{type: CORS, cors: {allowOrigins: ['*']}}]
  backendRefs: [{name: two, port: 80}]";
    let manifests = Manifests::with(&[
        ("secret.yaml", &secret("certificate", &authority.issue(&["web.example"]))),
        (
            "services.yaml",
            &documents(&[
                service_speaking("one", "kubernetes.io/h2c", &[one_port.address()]),
                service_speaking("two", "kubernetes.io/h2c", &[two_port.address()]),
            ]),
        ),
        (
            "routes.yaml",
            &documents(&[
                route("all", rules),
                route_for("named", &["named.example"], "- backendRefs: [{name: two, port: 80}]"),
            ]),
        ),
    ]);
    let listeners = [listener("http", &http), https_listener("https", &https, "web.example", "certificate")];
    for tables in ["Whole", "Divided"] {
        manifests.write("gateway.yaml", gateway_with_tables(tables, &listeners));
        let control = Gateway::start(manifests.path()).await;
        let target = format!("xds:///default/web/{}", http.number());
        let mut command = client(&control);
        for (authority, method, expected) in [
            ("-", "/shop.Store/List", "200 one /shop.Store/List"),
            ("-", "/shop.Cart/Remove", "200 two /shop.Cart/Remove"),
            ("-", "/shop.Cart/Add", "200 one /shop.Cart/Add"),
            ("-", "/shop.Cartoon/List", "200 one /shop.Cartoon/List"),
            ("-", "/shop.Cors/List", "200 two /shop.Cors/List"),
            ("named.example", "/shop.Store/List", "200 two /shop.Store/List"),
            // What a client can not do it must not leave undone.
            ("-", "/shop.Old/List", "UNAVAILABLE"),
        ] {
            command.arg(format!("{target} {authority} {method} {expected}"));
        }
        let client = Process::spawn("gRPC client", command);
        let status = client.wait().await;
        assert!(status.success(), "{tables}: {:#?}", client.lines());

        let log = control.process().lines();
        assert!(log.iter().any(|line| line.contains("xDS stream opened") && line.contains("gRPC C-core")), "{log:#?}");
        let metrics = control.metrics().await;
        assert!(!metrics.keys().any(|series| series.contains("_nacks_")), "{metrics:#?}");
    }
}
