//! What else is on the xDS port: health, reflection and the client status service; and what a stream leaves in the logs and
//! the metrics.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tailscale_gateway::{
    snapshot::TypeUrl,
    telemetry::{LogFormat, subscriber},
    xds::ServerOptions,
};
use tailscale_gateway_proto::{
    envoy::{
        admin::v3::ClientResourceStatus,
        config::core::v3::Node,
        extensions::transport_sockets::tls::v3::Secret,
        service::{
            discovery::v3::DeltaDiscoveryRequest,
            status::v3::{
                ClientConfig, ClientStatusRequest, ConfigStatus, client_config::GenericXdsConfig,
                client_status_discovery_service_client::ClientStatusDiscoveryServiceClient,
            },
        },
        r#type::matcher::v3::{NodeMatcher, StringMatcher, string_matcher::MatchPattern},
    },
    google::rpc::Status,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::xds_support::xds::{DELTA_ADS, DeltaClient, Server, ack, cluster, node, put, small_world, subscribe, until};

#[tokio::test]
async fn p77_health_is_not_serving_until_every_source_has_synced() {
    for service in ["", "envoy.service.discovery.v3.AggregatedDiscoveryService"] {
        let server = Server::start_with(ServerOptions::default()).await;
        let mut client = HealthClient::new(server.connect().await);
        let request = HealthCheckRequest { service: service.into() };
        assert_eq!(client.check(request.clone()).await.unwrap().into_inner().status(), ServingStatus::NotServing);
        let mut watch = client.watch(request).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        server.cache.set_ready();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        server.shut_down();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    }
}

#[tokio::test]
async fn reflection_lists_the_services_and_describes_them() {
    let server = Server::start().await;
    let mut client = ServerReflectionClient::new(server.connect().await);
    let ask = |message_request| ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
    let asked = futures::stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("envoy.config.cluster.v3.Cluster".into())),
    ]);
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let list = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = list else { panic!("{list:?}") };
    let mut services: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    services.sort_unstable();
    for expected in [
        "envoy.service.discovery.v3.AggregatedDiscoveryService",
        "envoy.service.route.v3.VirtualHostDiscoveryService",
        "envoy.service.status.v3.ClientStatusDiscoveryService",
        "grpc.health.v1.Health",
    ] {
        assert!(services.binary_search(&expected).is_ok(), "{expected} in {services:?}");
    }
    let file = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(file, MessageResponse::FileDescriptorResponse(_)), "{file:?}");
}

fn refuse(of: TypeUrl, nonce: &str, message: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: of.as_str().into(),
        response_nonce: nonce.into(),
        error_detail: Some(Status { code: 13, message: message.into(), ..Default::default() }),
        ..Default::default()
    }
}

/// An Envoy that accepted its cluster, refused its listener, has not answered to its secret, and asked for a route that does
/// not exist.
async fn envoy_in_every_state(server: &Server, id: &str) -> DeltaClient {
    server.publish(small_world());
    server.publish([put(TypeUrl::Secret, "s", &Secret { name: "s".into(), ..Default::default() })]);
    let mut stream = server.delta(DELTA_ADS).await;
    stream.send(subscribe(node(id), TypeUrl::Cluster, &[]));
    let clusters = stream.next().await;
    stream.send(ack(&clusters));
    stream.send(subscribe(None, TypeUrl::Listener, &[]));
    let listeners = stream.next().await;
    stream.send(refuse(TypeUrl::Listener, &listeners.nonce, "Error adding listener(s) l: no filter chains"));
    stream.send(subscribe(None, TypeUrl::Route, &["missing"]));
    let routes = stream.next().await;
    assert_eq!(routes.removed_resources, ["missing"]);
    stream.send(ack(&routes));
    stream.send(subscribe(None, TypeUrl::Secret, &["s"]));
    stream.next().await;
    stream
}

fn statuses(client: &ClientConfig) -> Vec<(&str, ConfigStatus, ClientResourceStatus)> {
    let status = |config: &GenericXdsConfig| (ConfigStatus::try_from(config.config_status), config.client_status);
    client
        .generic_xds_configs
        .iter()
        .map(|config| {
            let (config_status, client_status) = status(config);
            (&*config.name, config_status.unwrap(), ClientResourceStatus::try_from(client_status).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn csds_says_how_each_resource_stands_at_each_client() {
    let server = Server::start().await;
    let _envoy = envoy_in_every_state(&server, "envoy-1").await;
    let mut client = ClientStatusDiscoveryServiceClient::new(server.connect().await);
    let answer = client.fetch_client_status(ClientStatusRequest::default()).await.unwrap().into_inner();
    let [config] = &answer.config[..] else { panic!("one client: {answer:?}") };
    let seen = config.node.as_ref().unwrap();
    assert_eq!(
        (seen.id.as_str(), seen.cluster.as_str(), seen.user_agent_name.as_str()),
        ("envoy-1", "shop/web", "envoy")
    );
    assert_eq!(config.client_scope, "ads");
    assert_eq!(
        statuses(config),
        [
            ("s", ConfigStatus::Stale, ClientResourceStatus::Requested),
            ("c", ConfigStatus::Synced, ClientResourceStatus::Acked),
            ("l", ConfigStatus::Error, ClientResourceStatus::Nacked),
            ("missing", ConfigStatus::NotSent, ClientResourceStatus::DoesNotExist),
        ]
    );
    let refused = config.generic_xds_configs[2].error_state.as_ref().unwrap();
    assert_eq!(refused.details, "Error adding listener(s) l: no filter chains");
    assert_eq!(refused.version_info.len(), 22);
    assert!(config.generic_xds_configs.iter().all(|config| config.xds_config.is_none()), "a list has no contents");
}

#[tokio::test]
async fn csds_shows_contents_of_a_client_that_is_asked_for_but_never_a_secret() {
    let server = Server::start().await;
    let _one = envoy_in_every_state(&server, "envoy-1").await;
    let _two = envoy_in_every_state(&server, "envoy-2").await;
    let mut client = ClientStatusDiscoveryServiceClient::new(server.connect().await);
    let by_id = |pattern, exclude_resource_contents| ClientStatusRequest {
        node_matchers: vec![NodeMatcher {
            node_id: Some(StringMatcher { match_pattern: Some(pattern), ..Default::default() }),
            ..Default::default()
        }],
        exclude_resource_contents,
        ..Default::default()
    };
    let asked = [
        by_id(MatchPattern::Exact("envoy-2".into()), false),
        by_id(MatchPattern::Prefix("envoy-".into()), true),
        by_id(MatchPattern::Suffix("-9".into()), false),
        ClientStatusRequest { node: Some(Node { id: "envoy-1".into(), ..Default::default() }), ..Default::default() },
    ];
    let mut answers = client.stream_client_status(futures::stream::iter(asked)).await.unwrap().into_inner();
    let exact = answers.message().await.unwrap().unwrap();
    assert_eq!(exact.config.len(), 1);
    let shown: Vec<_> = exact.config[0]
        .generic_xds_configs
        .iter()
        .map(|config| (config.name.as_str(), config.xds_config.is_some()))
        .collect();
    assert_eq!(shown, [("s", false), ("c", true), ("l", false), ("missing", false)], "what the client has");
    let refused = exact.config[0].generic_xds_configs[2].error_state.as_ref().unwrap();
    assert_eq!(refused.failed_configuration.as_ref().unwrap().type_url, TypeUrl::Listener.as_str());
    let prefix = answers.message().await.unwrap().unwrap();
    assert_eq!(prefix.config.len(), 2);
    assert!(prefix.config.iter().flat_map(|client| &client.generic_xds_configs).all(|c| c.xds_config.is_none()));
    assert_eq!(answers.message().await.unwrap().unwrap().config.len(), 0);
    assert_eq!(answers.message().await.unwrap().unwrap().config[0].node.as_ref().unwrap().id, "envoy-1");
}

#[tokio::test]
async fn csds_refuses_matchers_that_it_can_not_answer() {
    let server = Server::start().await;
    let mut client = ClientStatusDiscoveryServiceClient::new(server.connect().await);
    for matcher in [NodeMatcher::default(), NodeMatcher { node_metadatas: vec![Default::default()], node_id: None }] {
        let request = ClientStatusRequest { node_matchers: vec![matcher], ..Default::default() };
        assert_eq!(client.fetch_client_status(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let server = Server::start().await;
    let mut stream = envoy_in_every_state(&server, "envoy-1").await;
    stream.send(DeltaDiscoveryRequest { response_nonce: "999".into(), ..subscribe(None, TypeUrl::Cluster, &[]) });
    stream.send(subscribe(None, TypeUrl::Endpoints, &["c"]));
    let endpoints = stream.next().await;
    stream.send(ack(&endpoints));
    server.publish([cluster("c", "changed")]);
    stream.next().await;
    server.registry.measure(&server.metrics);
    let page = server.metrics.render();
    for line in [
        r#"tailscale_gateway_xds_streams{protocol="delta",gateway="shop/web"} 1"#,
        r#"tailscale_gateway_xds_responses_total{type="Cluster",kind="initial"} 1"#,
        r#"tailscale_gateway_xds_responses_total{type="Cluster",kind="update"} 1"#,
        r#"tailscale_gateway_xds_response_bytes_count{type="Listener"} 1"#,
        r#"tailscale_gateway_xds_ack_latency_seconds_count{type="RouteConfiguration"} 1"#,
        r#"tailscale_gateway_xds_nacks_total{type="Listener",gateway="shop/web"} 1"#,
        r#"tailscale_gateway_xds_parked_resources{type="Listener"} 1"#,
        r#"tailscale_gateway_xds_stale_nonce_total 1"#,
        r#"tailscale_gateway_xds_requests_total{type="Secret"} 1"#,
        r#"tailscale_gateway_xds_view_entries{gateway="shop/web",type="Cluster"} 1.0"#,
        concat!(r#"tailscale_gateway_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        "# EOF",
    ] {
        assert!(page.lines().any(|seen| seen == line), "{line} in\n{page}");
    }
    for name in ["tailscale_gateway_xds_view_bytes{", "process_resident_memory_bytes ", "process_start_time_seconds "] {
        let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in\n{page}"));
        assert!(line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() > 0.0, "{line}");
    }
}

#[tokio::test]
async fn convergence_is_measured_once_the_client_has_accepted_everything() {
    let server = Server::start().await;
    server.publish(small_world());
    let mut stream = server.delta(DELTA_ADS).await;
    stream.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    let first = stream.next().await;
    let line = r#"tailscale_gateway_xds_convergence_seconds_count{gateway="shop/web"} 1"#;
    assert!(!server.metrics.render().contains(line));
    stream.send(ack(&first));
    until(|| server.metrics.render().contains(line)).await;
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The first line with this message, if it is there.
    fn find(&self, message: &str) -> Option<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .find(|line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains(message)))
    }
}

#[tokio::test]
async fn p12_a_refusal_is_logged_with_everything_needed_to_find_its_cause() {
    let log = Log::default();
    let writer = log.clone();
    let level = "tailscale_gateway=info";
    let _guard =
        tracing::subscriber::set_default(subscriber(LogFormat::Json, level, move || writer.clone(), false).unwrap());
    // While there is a single subscriber, tracing lets the thread that first passes a log line decide for all threads
    // whether anyone wants it; other tests' threads have no subscriber.
    let _second = tracing::Dispatch::new(subscriber(LogFormat::Json, level, io::sink, false).unwrap());
    let server = Server::start().await;
    let envoy = envoy_in_every_state(&server, "envoy-1").await;
    let opened = log.find("xDS stream opened").unwrap();
    assert_eq!((&opened["level"], &opened["node"]), (&"INFO".into(), &"envoy-1".into()));
    assert_eq!((&opened["protocol"], &opened["scope"]), (&"delta".into(), &"ads".into()));
    let refused = log.find("Envoy refused").unwrap();
    assert_eq!((&refused["level"], &refused["gateway"]), (&"WARN".into(), &"shop/web".into()));
    assert_eq!((&refused["node"], &refused["type"]), (&"envoy-1".into(), &"Listener".into()));
    assert_eq!((&refused["parked"], &refused["code"]), (&"[\"l\"]".into(), &13.into()));
    assert_eq!(refused["reason"], "Error adding listener(s) l: no filter chains");
    assert!(log.find("nothing is served").is_none());
    let mut lost = server.delta(DELTA_ADS).await;
    let mut elsewhere = node("envoy-2");
    elsewhere.as_mut().unwrap().cluster = "else/where".into();
    lost.send(subscribe(elsewhere, TypeUrl::Cluster, &[]));
    lost.next().await;
    let warned = log.find("nothing is served").unwrap();
    assert_eq!((&warned["level"], &warned["gateway"]), (&"WARN".into(), &"else/where".into()));
    assert_eq!(warned["node"], "envoy-2");
    drop(envoy);
    until(|| log.find("xDS stream closed").is_some()).await;
    assert_eq!(log.find("xDS stream closed").unwrap()["node"], "envoy-1");
}
