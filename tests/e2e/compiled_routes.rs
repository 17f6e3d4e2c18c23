//! What is compiled from HTTPRoutes, given to a real Envoy: it takes all of it, and does with requests what was meant.

use std::{collections::BTreeSet, fs, net::SocketAddr, process::Command};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use prost::{Message, Name};
use tailscale_gateway::{
    api::{BackendObjectReference, HttpRoute},
    compile::{
        regex,
        route::{BackendTarget, Backends, ResolvedBackend, RouteContext, compile_route},
    },
    model::{Kind, ObjectKey, ObjectName, Problem, Reason},
};
use tailscale_gateway_proto::{
    envoy::{
        config::{
            bootstrap::v3::{
                Admin, Bootstrap, LayeredRuntime, RuntimeLayer, bootstrap::StaticResources, runtime_layer,
            },
            cluster::v3::Cluster,
            core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier},
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter},
            route::v3::{
                DirectResponseAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
                route_match::PathSpecifier,
            },
        },
        extensions::filters::{
            http::{cors::v3::Cors, router::v3::Router},
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier, http_filter,
            },
        },
        r#type::matcher::v3::RegexMatcher,
    },
    google::protobuf::{Any, BoolValue, Struct, Value, value},
};

use crate::support::{
    backend::Backend,
    client,
    envoy::{Envoy, Version},
    ports::Port,
    regex_cases::{REFUSED, TAKEN},
    tools::tool,
    ugly_routes,
};

/// How many HTTPRoutes, and how many patterns, each Envoy is shown.
const ROUTES: usize = 2500;
const PATTERNS: usize = 10_000;

/// Backends by their names: `missing` does not exist, `three` is three clusters, `hosted` wants a host of its own; every other
/// one is a cluster of its name.
struct Namespace;

impl Backends for Namespace {
    fn resolve(&mut self, backend: &BackendObjectReference, field: &str) -> Result<ResolvedBackend, Problem> {
        let target =
            |cluster: String, weight, host_rewrite| BackendTarget { cluster: cluster.into(), weight, host_rewrite };
        let targets = match &*backend.name {
            "missing" => return Err(Problem::new(key(), field, Reason::BackendNotFound, "there is none")),
            "three" => (1..=3).map(|at| target(format!("three-{at}"), at, None)).collect(),
            "hosted" => vec![target("hosted".into(), 1, Some("hosted.example".into()))],
            // A cluster's name is ours to choose: Envoy is shown none that the model would not spell.
            name if name.chars().all(|c| c.is_ascii_alphanumeric()) && !name.is_empty() => {
                vec![target(name.to_owned(), 1, None)]
            }
            _ => Vec::new(),
        };
        Ok(ResolvedBackend { targets, websocket: backend.name == "socket" })
    }
}

fn key() -> ObjectKey {
    ObjectKey::new(Kind::HttpRoute, ObjectName::new("ns", "web"))
}

/// The Envoy routes of an HTTPRoute on an HTTP listener of this port.
fn compile(route: &HttpRoute, port: u16) -> Vec<Route> {
    let context = RouteContext { scheme_https: false, port };
    let compiled = compile_route(route, &key(), &context, &mut Namespace);
    let bytes: Vec<u8> = compiled.entries.iter().flat_map(|entry| entry.bytes.iter().copied()).collect();
    VirtualHost::decode(bytes.as_slice()).expect("entries are fields of a virtual host").routes
}

fn route_of(pattern: &str) -> Route {
    let matcher = RegexMatcher { regex: pattern.into(), engine_type: None };
    Route {
        r#match: Some(RouteMatch { path_specifier: Some(PathSpecifier::SafeRegex(matcher)), ..Default::default() }),
        action: Some(Action::DirectResponse(DirectResponseAction { status: 200, ..Default::default() })),
        ..Default::default()
    }
}

fn any(message: &impl Name) -> Any {
    fn url<M: Name>(_: &M) -> String {
        M::type_url()
    }
    Any { type_url: url(message), value: message.encode_to_vec().into() }
}

fn address(at: SocketAddr) -> Option<Address> {
    let socket = SocketAddress {
        address: at.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(at.port().into())),
        ..Default::default()
    };
    Some(Address { address: Some(address::Address::SocketAddress(socket)) })
}

/// A bootstrap with one listener that has these routes. `program_size` is the runtime's limit for regular expressions.
fn bootstrap(listener: SocketAddr, routes: Vec<Route>, program_size: Option<u32>) -> Bootstrap {
    let http_filter = |name: &str, config: Any| HttpFilter {
        name: name.into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: "test".into(),
        route_specifier: Some(RouteSpecifier::RouteConfig(RouteConfiguration {
            name: "test".into(),
            virtual_hosts: vec![VirtualHost {
                name: "all".into(),
                domains: vec!["*".into()],
                routes,
                ..Default::default()
            }],
            // As for tables that are served: clusters may come later.
            validate_clusters: Some(BoolValue { value: false }),
            ..Default::default()
        })),
        http_filters: vec![
            http_filter(tailscale_gateway::compile::CORS_FILTER, any(&Cors {})),
            http_filter("envoy.filters.http.router", any(&Router::default())),
        ],
        ..Default::default()
    };
    let number = |number: u32| Value { kind: Some(value::Kind::NumberValue(number.into())) };
    let limit = program_size.map(|size| RuntimeLayer {
        name: "static".into(),
        layer_specifier: Some(runtime_layer::LayerSpecifier::StaticLayer(Struct {
            fields: [("re2.max_program_size.error_level".to_owned(), number(size))].into(),
        })),
    });
    Bootstrap {
        layered_runtime: Some(LayeredRuntime { layers: limit.into_iter().collect() }),
        static_resources: Some(StaticResources {
            listeners: vec![Listener {
                name: "test".into(),
                address: address(listener),
                filter_chains: vec![FilterChain {
                    filters: vec![Filter {
                        name: "envoy.filters.network.http_connection_manager".into(),
                        config_type: Some(filter::ConfigType::TypedConfig(any(&manager))),
                    }],
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Asks an Envoy whether it takes routes; gives what it says when it does not.
fn validate(version: &str, routes: Vec<Route>, program_size: Option<u32>) -> Result<(), String> {
    let files = tempfile::TempDir::with_prefix("routes-").expect("a temporary folder can be made");
    let config = files.path().join("bootstrap.pb");
    let bootstrap = bootstrap("127.0.0.1:0".parse().expect("an address"), routes, program_size);
    fs::write(&config, bootstrap.encode_to_vec()).expect("the temporary folder can be written");
    let mut envoy = Command::new(tool(version, "envoy/_bin/envoy"));
    envoy.arg("--config-path").arg(&config).args([
        "--mode",
        "validate",
        "--use-dynamic-base-id",
        "--log-level",
        "warning",
    ]);
    let output = envoy.output().expect("Envoy runs");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The files in `tools/requirements` that pin Envoys.
const ENVOYS: [&str; 2] = ["envoy", "envoy-older"];

/// Values of a strategy, the same ones in every run.
fn generate<S: Strategy>(strategy: &S, count: usize) -> impl Iterator<Item = S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(move |_| strategy.new_tree(&mut runner).expect("no value is rejected").current())
}

#[test]
fn envoy_takes_every_route_that_is_compiled_however_ugly_the_manifest() {
    let routes: Vec<Route> =
        generate(&ugly_routes::http_route(), ROUTES).flat_map(|route| compile(&route, 8080)).collect();
    assert!(routes.len() > ROUTES, "{} routes are not enough to show anything", routes.len());
    let forwarding = routes.iter().filter(|route| matches!(route.action, Some(Action::Route(_)))).count();
    assert!(forwarding > routes.len() / 4, "only {forwarding} of {} routes forward", routes.len());
    for envoy in ENVOYS {
        assert_eq!(validate(envoy, routes.clone(), Some(regex::MAX_PROGRAM_SIZE)), Ok(()), "{envoy}");
    }
}

#[test]
fn envoy_takes_every_regular_expression_that_is_taken_within_the_limit_that_is_promised() {
    let patterns: BTreeSet<String> = generate(&ugly_routes::pattern(), PATTERNS)
        .chain(TAKEN.iter().map(|pattern| (*pattern).to_owned()))
        // As large as it gets.
        .chain([
            "a".repeat(regex::MAX_PROGRAM_SIZE as usize - 100),
            "(?:.é[^a]){900}".into(),
            "(?i)(?:[a-z]k){900}".into(),
            r"(?:[\W\s]|(?:a{10}b?){9}){11}".into(),
            r"(?:[[:^alpha:][:^punct:]\W\S\D]\b^$){500}".into(),
            "(?:(a)(b)|(c)|)*".repeat(1000),
        ])
        .filter(|pattern| regex::check(pattern).is_ok())
        .collect();
    assert!(patterns.len() > PATTERNS / 20, "{} patterns are not enough to show anything", patterns.len());
    for envoy in ENVOYS {
        let routes = patterns.iter().map(|pattern| route_of(pattern)).collect();
        assert_eq!(validate(envoy, routes, Some(regex::MAX_PROGRAM_SIZE)), Ok(()), "{envoy}");
    }
}

#[test]
fn what_is_said_of_the_regular_expressions_that_are_refused_is_true_of_envoy() {
    for (pattern, words, by_envoy) in REFUSED {
        let verdict = validate("envoy", vec![route_of(pattern)], Some(u32::MAX));
        assert_eq!(verdict.is_err(), *by_envoy, "{pattern} ({words}): {verdict:?}");
    }
}

#[test]
fn envoys_own_limit_for_regular_expressions_is_too_low_for_plain_ones() {
    // The reason why the bootstrap has to raise it: the default is 100.
    let routes = || vec![route_of(&format!("/{}", "a".repeat(120)))];
    let refusal = validate("envoy", routes(), None).expect_err("more than 100 instructions");
    assert!(refusal.contains("max program size of 100"), "{refusal}");
    assert_eq!(validate("envoy", routes(), Some(regex::MAX_PROGRAM_SIZE)), Ok(()));
}

#[test]
fn envoy_refuses_what_the_checks_are_there_for() {
    let forward = |route: serde_json::Value| -> Route {
        let pool =
            prost_reflect::DescriptorPool::decode(tailscale_gateway_proto::DESCRIPTORS).expect("they belong together");
        let descriptor = pool.get_message_by_name("envoy.config.route.v3.Route").expect("the message is described");
        let message = prost_reflect::DynamicMessage::deserialize(descriptor, route).expect("a route");
        Route::decode(message.encode_to_vec().as_slice()).expect("a route")
    };
    let header = |field: &str, name: &str, value: &str| {
        serde_json::json!({"match": {"prefix": "/"}, "route": {"cluster": "a"},
            field: [{"header": {"key": name, "value": value}}]})
    };
    let cases = [
        header("requestHeadersToAdd", "host", "a"),
        header("responseHeadersToAdd", "Host", "a"),
        header("requestHeadersToAdd", ":path", "/"),
        header("requestHeadersToAdd", "a", "b\r\nc: d"),
        header("requestHeadersToAdd", "a", "%NO_SUCH_COMMAND%"),
        header("requestHeadersToAdd", "", "a"),
        serde_json::json!({"match": {"prefix": "/"}, "route": {"cluster": "a"}, "requestHeadersToRemove": ["host"]}),
        serde_json::json!({"match": {"pathSeparatedPrefix": "/"}, "route": {"cluster": "a"}}),
        serde_json::json!({"match": {"pathSeparatedPrefix": "/a/"}, "route": {"cluster": "a"}}),
        serde_json::json!({"match": {"pathSeparatedPrefix": "/a?b"}, "route": {"cluster": "a"}}),
        serde_json::json!({"match": {"prefix": "/"}, "route": {"weightedClusters": {"clusters": [
            {"name": "a", "weight": 4294967295u32}, {"name": "b", "weight": 1}]}}}),
        serde_json::json!({"match": {"prefix": "/"}, "route": {"weightedClusters": {"clusters": [
            {"name": "a", "weight": 0}]}}}),
        serde_json::json!({"match": {"prefix": "/"}, "route": {"cluster": "a", "hostRewriteLiteral": "a\nb"}}),
        serde_json::json!({"match": {"prefix": "/"}, "route": {"cluster": "a", "prefixRewrite": "/a\nb"}}),
        serde_json::json!({"match": {"prefix": "/"}, "redirect": {"pathRedirect": "/a\nb"}}),
    ];
    for case in cases {
        let verdict = validate("envoy", vec![forward(case.clone())], None);
        assert!(verdict.is_err(), "Envoy takes {case}");
    }
}

/// An Envoy with the routes of some rules, and a backend behind the clusters `a`, `b` and `hosted`.
struct Gateway {
    _envoy: Envoy,
    _backend: Backend,
    listener: SocketAddr,
    _ports: (Port, Port),
}

impl Gateway {
    async fn start(rules: &str, port: u16) -> Self {
        let rules: serde_json::Value = serde_saphyr::from_str(rules).expect("the rules are YAML");
        let route = serde_json::json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"namespace": "ns", "name": "web"},
            "spec": {"rules": rules},
        });
        let route = serde_json::from_value(route).expect("an HTTPRoute");
        let backend = Backend::start("behind").await;
        let (admin, listener) = (Port::lease(), Port::lease());
        let mut bootstrap = bootstrap(listener.address(), compile(&route, port), Some(regex::MAX_PROGRAM_SIZE));
        bootstrap.admin = Some(Admin { address: address(admin.address()), ..Default::default() });
        let resources = bootstrap.static_resources.as_mut().expect("they were just made");
        resources.clusters = ["a", "b", "hosted"].map(|name| cluster(name, backend.address())).into();
        let envoy = Envoy::start(Version::Latest, &json(&bootstrap)).await;
        envoy.ready().await;
        Self { _envoy: envoy, _backend: backend, listener: listener.address(), _ports: (admin, listener) }
    }

    fn get(&self, path: &str) -> client::Request {
        client::get(self.listener, path)
    }
}

fn cluster(name: &str, backend: SocketAddr) -> Cluster {
    let endpoint = Endpoint { address: address(backend), ..Default::default() };
    let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() };
    let endpoints = LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() };
    let assignment =
        ClusterLoadAssignment { cluster_name: name.into(), endpoints: vec![endpoints], ..Default::default() };
    Cluster { name: name.into(), load_assignment: Some(assignment), ..Default::default() }
}

fn json(bootstrap: &Bootstrap) -> String {
    let pool =
        prost_reflect::DescriptorPool::decode(tailscale_gateway_proto::DESCRIPTORS).expect("they belong together");
    let descriptor = pool.get_message_by_name("envoy.config.bootstrap.v3.Bootstrap").expect("the message is described");
    let message =
        prost_reflect::DynamicMessage::decode(descriptor, bootstrap.encode_to_vec().as_slice()).expect("a bootstrap");
    let options = prost_reflect::SerializeOptions::new().use_proto_field_name(true);
    let value =
        message.serialize_with_options(serde_json::value::Serializer, &options).expect("every Any is described");
    value.to_string()
}

/// The table of examples at Gateway API's HTTPPathModifier.replacePrefixMatch, and what follows from it.
#[tokio::test]
async fn a_matched_prefix_is_replaced_as_the_table_of_examples_says() {
    let cases = [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo/bar", "/foo", "/", "/bar"),
        ("/foo/bar?q=1&r=/foo", "/foo", "/", "/bar?q=1&r=/foo"),
        ("/foo?q=1", "/foo", "/", "/?q=1"),
        ("/foo?q=1", "/foo", "/xyz", "/xyz?q=1"),
        ("/a.b/c", "/a.b", "/", "/c"),
        ("/bar", "/", "/xyz", "/xyz/bar"),
        ("/", "/", "/xyz", "/xyz/"),
        ("/bar", "/", "", "/bar"),
    ];
    let header = |at: usize, to: &str| format!("headers: [{{name: case, value: {to}-{at}}}]");
    let path = |new: &str| format!("path: {{type: ReplacePrefixMatch, replacePrefixMatch: '{new}'}}");
    let rules: Vec<_> = cases
        .iter()
        .enumerate()
        .flat_map(|(at, (_, prefix, new, _))| {
            let rewrite = format!(
                "{{matches: [{{path: {{value: {prefix}}}, {}}}], backendRefs: [{{name: a, port: 80}}],
                   filters: [{{type: URLRewrite, urlRewrite: {{{}}}}}]}}",
                header(at, "rewrite"),
                path(new)
            );
            let redirect = format!(
                "{{matches: [{{path: {{value: {prefix}}}, {}}}],
                   filters: [{{type: RequestRedirect, requestRedirect: {{{}}}}}]}}",
                header(at, "redirect"),
                path(new)
            );
            [rewrite, redirect]
        })
        .collect();
    let gateway = Gateway::start(&format!("[{}]", rules.join(", ")), 80).await;
    for (at, (request, prefix, new, expected)) in cases.iter().enumerate() {
        let rewritten = gateway.get(request).header("case", &format!("rewrite-{at}")).send().await;
        assert_eq!(rewritten.echo().path, *expected, "{request} {prefix} {new}");
        let redirected =
            gateway.get(request).host("web.example").header("case", &format!("redirect-{at}")).send().await;
        assert_eq!(redirected.status, 302);
        let location = format!("http://web.example{expected}");
        assert_eq!(redirected.header("location"), Some(&*location), "{request} {prefix} {new}");
    }
}

#[tokio::test]
async fn headers_hosts_and_shares_arrive_as_they_were_written() {
    let gateway = Gateway::start(
        "[{matches: [{path: {value: /plain}}], backendRefs: [{name: a, port: 80}],
           filters: [{type: RequestHeaderModifier, requestHeaderModifier: {
             set: [{name: x-set, value: '100% %REQ(:path)%'}], add: [{name: x-add, value: more}], remove: [x-gone]}},
             {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-out, value: 'a%b'}]}}]},
          {matches: [{path: {value: /hosted}}], backendRefs: [{name: hosted, port: 80}]},
          {matches: [{path: {value: /written}}], backendRefs: [{name: hosted, port: 80}, {name: a, port: 80}],
           filters: [{type: URLRewrite, urlRewrite: {hostname: written.example, path: {type: ReplaceFullPath, replaceFullPath: /one}}}]},
          {matches: [{path: {value: /both}}],
           filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: rule}, {name: x-gone, value: rule}]}}],
           backendRefs: [{name: a, port: 80, weight: 1000000, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {
             set: [{name: x-set, value: backend}], remove: [x-gone]}}]}, {name: hosted, port: 80, weight: 0}, {name: b, port: 80, weight: 0}]},
          {matches: [{path: {value: /half}}], backendRefs: [{name: a, port: 80}, {name: missing, port: 80}]},
          {matches: [{path: {value: /none}}], backendRefs: [{name: missing, port: 80}]},
          {matches: [{path: {value: /wrong}}], backendRefs: [{name: a, port: 80}], filters: [{type: URLRewrite}]}]",
        80,
    )
    .await;
    let plain = gateway.get("/plain").header("x-add", "first").header("x-gone", "x").send().await;
    assert_eq!(plain.header("x-out"), Some("a%b"));
    let echo = plain.echo();
    assert_eq!(echo.headers.get("x-set").map(String::as_str), Some("100% %REQ(:path)%"));
    assert!(echo.headers["x-add"].starts_with("first") && echo.headers["x-add"].contains("more"), "{:?}", echo.headers);
    assert_eq!(echo.headers.get("x-gone"), None);

    assert_eq!(gateway.get("/hosted").host("web.example").send().await.echo().host, "hosted.example");
    let written = gateway.get("/written/a/b?q=1").send().await.echo();
    assert_eq!((&*written.host, &*written.path), ("written.example", "/one?q=1"));

    let both = gateway.get("/both").send().await.echo();
    assert_eq!(both.headers.get("x-set").map(String::as_str), Some("backend"));
    assert_eq!(both.headers.get("x-gone"), None);

    let mut answers = BTreeSet::new();
    for _ in 0..200 {
        answers.insert(gateway.get("/half").send().await.status);
    }
    assert_eq!(answers, BTreeSet::from([200, 500]));
    assert_eq!(gateway.get("/none").send().await.status, 500);
    assert_eq!(gateway.get("/wrong").send().await.status, 500);
}

#[tokio::test]
async fn browsers_get_their_answers_about_other_origins() {
    let gateway = Gateway::start(
        "[{matches: [{path: {value: /some}}], backendRefs: [{name: a, port: 80}],
           filters: [{type: CORS, cors: {allowOrigins: ['https://www.foo.com', 'https://*.bar.com'], allowMethods: [GET, OPTIONS],
             allowHeaders: [x-header-1], exposeHeaders: [x-header-3], allowCredentials: true, maxAge: 3600}}]},
          {matches: [{path: {value: /all}, method: PUT}], backendRefs: [{name: a, port: 80}],
           filters: [{type: CORS, cors: {allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], allowCredentials: true}}]},
          {matches: [{path: {value: /all}}]}]",
        80,
    )
    .await;
    let preflight = |path: &str, origin: &str, method: &str| {
        gateway.get(path).method("OPTIONS").header("origin", origin).header("access-control-request-method", method)
    };
    for origin in ["https://www.foo.com", "https://www.bar.com", "https://a.b.bar.com"] {
        let answer = preflight("/some", origin, "GET").send().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, OPTIONS"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("x-header-1"));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(answer.header("access-control-max-age"), Some("3600"));
        let answer = gateway.get("/some").header("origin", origin).send().await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-expose-headers"), Some("x-header-3"));
    }
    for origin in [
        "https://foobar.com",
        "https://bar.com",
        "http://www.bar.com",
        "https://www.bar.com:8443",
        "https://www.bar.com.evil",
    ] {
        let answer = preflight("/some", origin, "GET").send().await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None), "{origin}");
        let answer = gateway.get("/some").header("origin", origin).send().await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None), "{origin}");
    }
    // With credentials, wildcards are never spelled out.
    let answer =
        preflight("/all", "http://any:8080", "PUT").header("access-control-request-headers", "x-a, x-b").send().await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://any:8080"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("PUT"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("x-a, x-b"));
    // A preflight for another method is not this rule's.
    assert_eq!(preflight("/all", "http://any:8080", "DELETE").send().await.status, 500);
}

#[tokio::test]
async fn redirects_replace_the_port_that_clients_of_an_unusual_port_send() {
    let rules = "[{filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 308}}]}]";
    let location = async |listener: u16, host: &str| {
        let gateway = Gateway::start(rules, listener).await;
        let answer = gateway.get("/a?b=c").host(host).send().await;
        assert_eq!(answer.status, 308);
        answer.header("location").map(str::to_owned)
    };
    assert_eq!(location(80, "web.example").await.as_deref(), Some("https://web.example/a?b=c"));
    assert_eq!(location(8080, "web.example:8080").await.as_deref(), Some("https://web.example:443/a?b=c"));
}
