//! The xDS port over a real socket. A test's name begins with the requirement of `xds.md` §1 that it is about.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use prost_reflect::DescriptorPool;
use tailscale_gateway::{
    snapshot::{Resource, TypeUrl},
    xds::{DeltaStream, ServerOptions, SotwStream, registry::Stream},
};
use tailscale_gateway_proto::envoy::{
    config::{listener::v3::Listener, route::v3::RouteConfiguration},
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest},
};
use tonic::{
    Code,
    metadata::{MetadataMap, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::xds_support::xds::{
    ADS, DELTA_ADS, DeltaClient, Server, SotwClient, ack, ack_sotw, ask, cluster, names, node, put, small_world,
    subscribe, until,
};

const CDS: &str = "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters";
const DELTA_CDS: &str = "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters";

/// Every method of the descriptors that takes a discovery request: its path, its kind, its service.
fn discovery_methods() -> Vec<(&'static str, String)> {
    let pool = DescriptorPool::decode(tailscale_gateway_proto::DESCRIPTORS).unwrap();
    let mut methods = Vec::new();
    for service in pool.services() {
        for method in service.methods() {
            if method.input().full_name().ends_with("DiscoveryRequest") {
                let path = format!("/{}/{}", service.full_name(), method.name());
                methods.push((&*path.leak(), method.name().to_owned()));
            }
        }
    }
    methods
}

#[tokio::test]
async fn p01_every_discovery_method_of_the_api_is_served_or_refused_with_a_clean_status() {
    let server = Server::start().await;
    let channel = server.connect().await;
    let methods = discovery_methods();
    assert_eq!(methods.len(), 2 + 8 * 3 + 1, "{methods:?}");
    for (path, method) in methods {
        let opened = DeltaClient::open(channel.clone(), path, MetadataMap::new()).await;
        if method.starts_with("Fetch") {
            let status = opened.err().expect("Fetch is not offered");
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
            assert!(status.message().contains("streaming"), "{path}: {status}");
        } else {
            let mut stream = opened.unwrap();
            stream.send(DeltaDiscoveryRequest::default());
            let status = stream.end().await;
            assert_eq!((status.code(), status.message().contains("`node`")), (Code::InvalidArgument, true), "{path}");
        }
    }
    let unknown =
        DeltaClient::open(channel, "/envoy.service.cluster.v3.ClusterDiscoveryService/Other", MetadataMap::new());
    assert_eq!(unknown.await.err().unwrap().code(), Code::Unimplemented);
}

#[tokio::test]
async fn p02_a_request_without_a_type_ends_an_aggregated_stream() {
    let server = Server::start().await;
    let mut sotw = server.sotw(ADS).await;
    sotw.send(DiscoveryRequest { node: node("a"), ..Default::default() });
    assert_eq!(sotw.end().await.code(), Code::InvalidArgument);
    let mut delta = server.delta(DELTA_ADS).await;
    delta.send(DeltaDiscoveryRequest { node: node("a"), ..Default::default() });
    assert_eq!(delta.end().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn p02_a_stream_of_one_type_needs_no_type_url_and_refuses_another() {
    let server = Server::start().await;
    server.publish(small_world());
    let mut delta = server.delta(DELTA_CDS).await;
    delta.send(DeltaDiscoveryRequest { node: node("a"), ..Default::default() });
    let first = delta.next().await;
    assert_eq!((first.type_url.as_str(), names(&first)), (TypeUrl::Cluster.as_str(), vec!["c"]));
    delta.send(subscribe(None, TypeUrl::Route, &["r"]));
    assert_eq!(delta.end().await.code(), Code::InvalidArgument);
    let mut sotw = server.sotw(CDS).await;
    sotw.send(DiscoveryRequest { node: node("a"), ..Default::default() });
    assert_eq!(sotw.next().await.resources.len(), 1);
}

#[tokio::test]
async fn p02_a_type_that_is_not_served_does_not_cost_the_stream() {
    let server = Server::start().await;
    server.publish(small_world());
    let mut stream = server.delta(DELTA_ADS).await;
    stream.send(DeltaDiscoveryRequest {
        node: node("a"),
        type_url: "type.googleapis.com/envoy.config.future.v9.Thing".into(),
        ..Default::default()
    });
    stream.send(subscribe(None, TypeUrl::Cluster, &[]));
    assert_eq!(names(&stream.next().await), ["c"]);
    let unknown = server.registry.clients()[0].unknown_types();
    assert_eq!(unknown, ["type.googleapis.com/envoy.config.future.v9.Thing"]);
    assert!(server.metrics.render().contains("tailscale_gateway_xds_unknown_subscription_total 1\n"));
}

/// The names to ask for, for each type of [`small_world`].
const WANTED: [(TypeUrl, &[&str]); 4] =
    [(TypeUrl::Cluster, &[]), (TypeUrl::Endpoints, &["c"]), (TypeUrl::Listener, &[]), (TypeUrl::Route, &["r"])];

type Content = BTreeMap<(TypeUrl, Vec<u8>), ()>;

async fn sotw_content(mut streams: Vec<SotwClient>) -> Content {
    let mut content = Content::new();
    for (n, (of, names)) in WANTED.into_iter().enumerate() {
        let place = n % streams.len();
        let is_first = n < streams.len();
        streams[place].send(ask(node("a").filter(|_| is_first), of, names));
        let response = streams[place].next().await;
        assert_eq!(response.type_url, of.as_str());
        streams[place].send(ack_sotw(&response, names));
        content.extend(response.resources.into_iter().map(|any| ((of, any.value.to_vec()), ())));
    }
    content
}

async fn delta_content(mut streams: Vec<DeltaClient>) -> Content {
    let mut content = Content::new();
    for (n, (of, names)) in WANTED.into_iter().enumerate() {
        let place = n % streams.len();
        let is_first = n < streams.len();
        streams[place].send(subscribe(node("a").filter(|_| is_first), of, names));
        let response = streams[place].next().await;
        assert_eq!(response.type_url, of.as_str());
        streams[place].send(ack(&response));
        let values = response.resources.into_iter().map(|resource| resource.resource.unwrap().value.to_vec());
        content.extend(values.map(|value| ((of, value), ())));
    }
    content
}

#[tokio::test]
async fn p04_all_four_transports_serve_the_same_content() {
    let server = Server::start().await;
    server.publish(small_world());
    let (mut sotw, mut delta) = (Vec::new(), Vec::new());
    for (service, methods) in [
        ("cluster.v3.ClusterDiscoveryService", "Clusters"),
        ("endpoint.v3.EndpointDiscoveryService", "Endpoints"),
        ("listener.v3.ListenerDiscoveryService", "Listeners"),
        ("route.v3.RouteDiscoveryService", "Routes"),
    ] {
        sotw.push(server.sotw(format!("/envoy.service.{service}/Stream{methods}").leak()).await);
        delta.push(server.delta(format!("/envoy.service.{service}/Delta{methods}").leak()).await);
    }
    let expected = sotw_content(vec![server.sotw(ADS).await]).await;
    assert_eq!(expected.len(), 4);
    assert_eq!(sotw_content(sotw).await, expected);
    assert_eq!(delta_content(vec![server.delta(DELTA_ADS).await]).await, expected);
    assert_eq!(delta_content(delta).await, expected);
}

#[tokio::test]
async fn p05_two_streams_of_one_node_are_both_served() {
    let server = Server::start().await;
    server.publish([cluster("a", "")]);
    let mut old = server.delta(DELTA_ADS).await;
    old.send(subscribe(node("envoy-1"), TypeUrl::Cluster, &[]));
    let first = old.next().await;
    old.send(ack(&first));
    let mut new = server.delta(DELTA_ADS).await;
    new.send(subscribe(node("envoy-1"), TypeUrl::Cluster, &[]));
    let first = new.next().await;
    assert_eq!(names(&first), ["a"]);
    new.send(ack(&first));
    server.publish([cluster("b", "")]);
    assert_eq!(names(&old.next().await), ["b"]);
    let second = new.next().await;
    assert_eq!(names(&second), ["b"]);
    new.send(ack(&second));
    drop(old);
    until(|| server.registry.clients().len() == 1).await;
    server.publish([cluster("c", "")]);
    assert_eq!(names(&new.next().await), ["c"]);
}

#[tokio::test]
async fn p05_the_types_of_one_stream_do_not_wait_for_each_other() {
    let server = Server::start().await;
    server.publish(small_world());
    let mut stream = server.delta(DELTA_ADS).await;
    stream.send(subscribe(node("a"), TypeUrl::Listener, &[]));
    assert_eq!(names(&stream.next().await), ["l"]);
    stream.send(subscribe(None, TypeUrl::Route, &["r"]));
    assert_eq!(names(&stream.next().await), ["r"], "the listener's answer is still missing");
}

#[tokio::test]
async fn p06_only_the_first_request_needs_a_node() {
    let server = Server::start().await;
    server.publish(small_world());
    let mut stream = server.sotw(ADS).await;
    stream.send(ask(node("a"), TypeUrl::Cluster, &[]));
    stream.next().await;
    stream.send(ask(None, TypeUrl::Listener, &[]));
    assert_eq!(stream.next().await.resources.len(), 1);
}

#[tokio::test]
async fn p06_a_first_request_without_a_node_or_with_a_wrong_cluster_ends_the_stream() {
    let server = Server::start().await;
    let mut stream = server.sotw(ADS).await;
    stream.send(ask(None, TypeUrl::Cluster, &[]));
    let status = stream.end().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("`node`"), "{status}");
    let mut stream = server.delta(DELTA_ADS).await;
    let mut wrong = node("a");
    wrong.as_mut().unwrap().cluster = "my-cluster".into();
    stream.send(subscribe(wrong, TypeUrl::Cluster, &[]));
    let status = stream.end().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("\"my-cluster\"") && status.message().contains("NAMESPACE/GATEWAY"), "{status}");
}

#[tokio::test]
async fn each_gateway_gets_its_own_snapshot() {
    let server = Server::start().await;
    server.publish([cluster("of-shop", "")]);
    server.cache.publish(&tailscale_gateway::model::ObjectName::new("other", "web"), [cluster("of-other", "")]);
    let mut stream = server.delta(DELTA_ADS).await;
    let mut other = node("a");
    other.as_mut().unwrap().cluster = "other/web".into();
    stream.send(subscribe(other, TypeUrl::Cluster, &[]));
    assert_eq!(names(&stream.next().await), ["of-other"]);
}

#[tokio::test]
async fn p07_every_response_says_which_control_plane_sent_it() {
    let options = ServerOptions { identifier: "tailscale-gateway/test-replica-0".into(), ..Default::default() };
    let server = Server::start_with(options).await;
    server.cache.set_ready();
    server.publish(small_world());
    let mut delta = server.delta(DELTA_ADS).await;
    delta.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    assert_eq!(delta.next().await.control_plane.unwrap().identifier, "tailscale-gateway/test-replica-0");
    let mut sotw = server.sotw(ADS).await;
    sotw.send(ask(node("a"), TypeUrl::Cluster, &[]));
    assert_eq!(sotw.next().await.control_plane.unwrap().identifier, "tailscale-gateway/test-replica-0");
}

#[tokio::test]
async fn p10_an_initial_request_is_answered_even_when_there_is_nothing() {
    let server = Server::start().await;
    let mut sotw = server.sotw(ADS).await;
    sotw.send(ask(node("a"), TypeUrl::Cluster, &[]));
    let response = sotw.next().await;
    assert_eq!((response.type_url.as_str(), response.resources.len()), (TypeUrl::Cluster.as_str(), 0));
    let mut delta = server.delta(DELTA_ADS).await;
    delta.send(subscribe(node("a"), TypeUrl::Listener, &[]));
    assert_eq!(delta.next().await.resources.len(), 0);
}

#[tokio::test]
async fn p30_every_response_has_a_nonce_of_its_own() {
    let server = Server::start().await;
    server.publish(small_world());
    let mut stream = server.delta(DELTA_ADS).await;
    stream.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    let mut nonces = std::collections::BTreeSet::new();
    for n in 0..20 {
        let response = stream.next().await;
        assert!(!response.nonce.is_empty() && nonces.insert(response.nonce.clone()), "{nonces:?}");
        assert!(!response.system_version_info.is_empty());
        stream.send(ack(&response));
        server.publish([cluster("c", &n.to_string())]);
    }
}

#[tokio::test]
async fn p36_what_is_unsubscribed_before_it_is_written_is_not_sent() {
    let server = Server::start().await;
    server.publish(small_world());
    let mut stream = server.delta(DELTA_ADS).await;
    stream.send(subscribe(node("a"), TypeUrl::Route, &["r"]));
    let first = stream.next().await;
    // In flight to the server together: both are read before anything is made from the new snapshot.
    stream.send(DeltaDiscoveryRequest { resource_names_unsubscribe: vec!["r".into()], ..ack(&first) });
    stream.send(subscribe(None, TypeUrl::Cluster, &[]));
    assert_eq!(stream.next().await.type_url, TypeUrl::Cluster.as_str());
    server.publish([put(
        TypeUrl::Route,
        "r",
        &RouteConfiguration { name: "r".into(), internal_only_headers: vec!["x".into()], ..Default::default() },
    )]);
    stream.send(subscribe(None, TypeUrl::Endpoints, &["c"]));
    assert_eq!(stream.next().await.type_url, TypeUrl::Endpoints.as_str());
}

/// A listener of about a megabyte.
fn large_listener(salt: &str) -> Listener {
    Listener { name: "l".into(), stat_prefix: format!("{salt}{}", "x".repeat(1 << 20)), ..Default::default() }
}

fn small_listener(n: usize) -> Listener {
    Listener { name: "l".into(), stat_prefix: n.to_string(), ..Default::default() }
}

/// A stream whose client grants the server 64 KiB and then nothing until it reads.
async fn slow_client(server: &Server) -> DeltaClient {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let channel: Channel = endpoint.initial_stream_window_size(65_535).connect().await.unwrap();
    DeltaClient::open(channel, DELTA_ADS, MetadataMap::new()).await.unwrap()
}

fn stat_prefix(response: &DeltaDiscoveryResponse) -> String {
    use prost::Message as _;
    let listener = Listener::decode(&response.resources[0].resource.as_ref().unwrap().value[..]).unwrap();
    listener.stat_prefix
}

#[tokio::test]
async fn p71_a_client_that_stops_reading_costs_nobody_and_gets_one_merged_response() {
    const CHANGES: usize = 10_000;
    let server = Server::start().await;
    server.publish([put(TypeUrl::Listener, "l", &large_listener("first"))]);
    let mut slow = slow_client(&server).await;
    slow.send(subscribe(node("slow"), TypeUrl::Listener, &[]));
    until(|| server.registry.clients().iter().any(|client| client.stuck_for().is_some())).await;

    let mut fast = server.delta(DELTA_ADS).await;
    fast.send(subscribe(node("fast"), TypeUrl::Listener, &[]));
    let mut seen = fast.next().await;
    let mut published: Vec<Weak<Resource>> = Vec::with_capacity(CHANGES);
    for n in 0..CHANGES {
        let change = put(TypeUrl::Listener, "l", &small_listener(n));
        published.push(Arc::downgrade(change.resource.as_ref().unwrap()));
        server.publish([change]);
        if n % 10 == 9 {
            fast.send(ack(&seen));
            seen = fast.next().await;
            assert_eq!(stat_prefix(&seen), n.to_string(), "the other client is not held up");
        }
    }
    fast.send(ack(&seen));
    let alive = published.iter().filter(|resource| resource.strong_count() > 0).count();
    assert!(alive <= 4, "of {CHANGES} resources {alive} are still held");

    let first = slow.next().await;
    assert!(stat_prefix(&first).starts_with("first"));
    slow.send(ack(&first));
    let merged = slow.next().await;
    assert_eq!((merged.resources.len(), stat_prefix(&merged)), (1, (CHANGES - 1).to_string()));
    slow.send(ack(&merged));
    slow.send(subscribe(None, TypeUrl::Route, &["none"]));
    assert_eq!(slow.next().await.type_url, TypeUrl::Route.as_str(), "nothing else came in between");
}

#[tokio::test]
async fn p72_a_connection_whose_client_does_not_read_is_closed() {
    let options = ServerOptions { stuck_after: Duration::from_millis(40), ..Default::default() };
    let server = Server::start_with(options).await;
    server.cache.set_ready();
    server.publish([put(TypeUrl::Listener, "l", &large_listener(""))]);
    let mut slow = slow_client(&server).await;
    let mut idle = server.delta(DELTA_ADS).await;
    idle.send(subscribe(node("idle"), TypeUrl::Route, &["none"]));
    idle.next().await;
    slow.send(subscribe(node("slow"), TypeUrl::Listener, &[]));
    until(|| server.metrics.render().contains("tailscale_gateway_xds_slow_stream_closed_total 1\n")).await;
    assert_ne!(slow.end().await.code(), Code::Ok);
    until(|| server.registry.clients().len() == 1).await;
    idle.send(subscribe(None, TypeUrl::Cluster, &[]));
    assert_eq!(idle.next().await.type_url, TypeUrl::Cluster.as_str(), "one that has nothing to read stays");
}

#[tokio::test]
async fn p73_a_connection_that_is_old_enough_is_ended() {
    let options = ServerOptions { max_connection_age: Some(Duration::from_secs(1)), ..Default::default() };
    let server = Server::start_with(options).await;
    server.cache.set_ready();
    let mut stream = server.delta(DELTA_ADS).await;
    stream.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    assert_eq!(stream.end().await.code(), Code::Unavailable);
}

#[tokio::test]
async fn p74_a_request_of_60_mib_is_accepted() {
    let server = Server::start().await;
    server.publish(small_world());
    let mut stream = server.delta(DELTA_ADS).await;
    let held = (0..440_000).map(|n| (format!("{n:0>100}"), "v".repeat(40)));
    let request = DeltaDiscoveryRequest {
        initial_resource_versions: held.collect(),
        ..subscribe(node("a"), TypeUrl::Endpoints, &["c"])
    };
    assert!(prost::Message::encoded_len(&request) > 60 << 20);
    stream.send(request);
    assert_eq!(names(&stream.next().await), ["c"]);
}

#[tokio::test]
async fn p74_a_request_above_the_limit_is_refused() {
    let server = Server::start_with(ServerOptions { max_request_bytes: 1000, ..Default::default() }).await;
    let mut stream = server.delta(DELTA_ADS).await;
    stream.send(subscribe(node(&"a".repeat(1000)), TypeUrl::Cluster, &[]));
    assert_eq!(stream.end().await.code(), Code::ResourceExhausted);
}

fn metadata(key: &'static str, value: &'static str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert(key, MetadataValue::from_static(value));
    metadata
}

#[tokio::test]
async fn responses_are_never_compressed_and_compressed_requests_are_refused() {
    let server = Server::start().await;
    server.publish([put(TypeUrl::Listener, "l", &large_listener(""))]);
    let accepts = metadata("grpc-accept-encoding", "gzip,deflate,zstd");
    let mut stream = DeltaClient::open(server.connect().await, DELTA_ADS, accepts).await.unwrap();
    assert_eq!(stream.headers.get("grpc-encoding"), None);
    stream.send(subscribe(node("a"), TypeUrl::Listener, &[]));
    assert_eq!(stat_prefix(&stream.next().await).len(), 1 << 20);

    let compressed = DeltaClient::open(server.connect().await, DELTA_ADS, metadata("grpc-encoding", "gzip")).await;
    let status = compressed.err().unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.metadata().get("grpc-accept-encoding").unwrap(), "identity");
}

#[tokio::test]
async fn p76_clients_that_come_all_at_once_are_all_admitted() {
    let server = Server::start_with(ServerOptions { admission: 1, ..Default::default() }).await;
    server.cache.set_ready();
    server.publish(small_world());
    let channel = server.connect().await;
    let mut streams = Vec::new();
    for n in 0..300 {
        let stream = DeltaClient::open(channel.clone(), DELTA_ADS, MetadataMap::new()).await.unwrap();
        stream.send(subscribe(node(&n.to_string()), TypeUrl::Cluster, &[]));
        streams.push(stream);
    }
    for stream in &mut streams {
        assert_eq!(names(&stream.next().await), ["c"]);
    }
}

#[tokio::test]
async fn p77_streams_are_held_until_every_source_has_synced() {
    let server = Server::start_with(ServerOptions::default()).await;
    let mut delta = server.delta(DELTA_ADS).await;
    delta.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    let mut sotw = server.sotw(ADS).await;
    sotw.send(ask(node("b"), TypeUrl::Cluster, &[]));
    until(|| server.registry.clients().iter().filter(|client| !client.status().is_empty()).count() == 2).await;
    server.publish([cluster("half", "")]);
    server.publish([cluster("whole", "")]);
    assert!(server.registry.clients().iter().all(|client| client.status()[0].sent.is_none()));
    server.cache.set_ready();
    assert_eq!(names(&delta.next().await), ["half", "whole"], "the first answer has everything");
    assert_eq!(sotw.next().await.resources.len(), 2);
}

#[tokio::test]
async fn a_shutdown_ends_streams_with_unavailable_and_accepts_no_more() {
    let options = ServerOptions { drain_window: Duration::ZERO, ..Default::default() };
    let server = Server::start_with(options).await;
    server.cache.set_ready();
    let address = server.address;
    let mut stream = server.delta(DELTA_ADS).await;
    stream.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    stream.next().await;
    let mut silent = server.delta(DELTA_ADS).await;
    let task = server.shut_down();
    assert_eq!(stream.end().await.code(), Code::Unavailable);
    assert_eq!(silent.end().await.code(), Code::Unavailable, "also one that has not said who it is");
    task.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_client_that_does_not_read() {
    let zero = Duration::ZERO;
    let server =
        Server::start_with(ServerOptions { drain_window: zero, drain_grace: zero, ..Default::default() }).await;
    server.cache.set_ready();
    server.publish([put(TypeUrl::Listener, "l", &large_listener(""))]);
    let slow = slow_client(&server).await;
    slow.send(subscribe(node("slow"), TypeUrl::Listener, &[]));
    until(|| server.registry.clients().iter().any(|client| client.stuck_for().is_some())).await;
    server.shut_down().await.unwrap();
    drop(slow);
}

#[tokio::test]
async fn a_client_that_ends_its_stream_or_goes_away_is_forgotten() {
    let server = Server::start().await;
    let mut polite = server.delta(DELTA_ADS).await;
    polite.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    polite.next().await;
    assert!(server.metrics.render().contains(r#"xds_streams{protocol="delta",gateway="shop/web"} 1"#));
    let status = polite.finish().await;
    assert_eq!(status.code(), Code::Ok);
    let gone = server.sotw(ADS).await;
    gone.send(ask(node("b"), TypeUrl::Cluster, &[]));
    until(|| server.registry.clients().len() == 1).await;
    drop(gone);
    until(|| server.registry.clients().is_empty()).await;
    assert!(!server.metrics.render().contains(r#"gateway="shop/web""#), "no label stays behind");
}

#[tokio::test]
async fn what_is_no_grpc_is_refused() {
    use axum::body::Body;
    use tower::ServiceExt as _;
    let server = Server::start().await;
    let mut channel = server.connect().await;
    futures::future::poll_fn(|cx| tower::Service::<http::Request<tonic::body::Body>>::poll_ready(&mut channel, cx))
        .await
        .unwrap();
    let request = http::Request::post(format!("http://{}{DELTA_ADS}", server.address))
        .header("content-type", "application/json")
        .body(tonic::body::Body::new(Body::empty()))
        .unwrap();
    assert_eq!(channel.oneshot(request).await.unwrap().status(), 415);
}

#[test]
fn an_idle_stream_costs_less_than_a_kibibyte_on_the_list() {
    assert!(size_of::<Stream<DeltaStream>>() < 1024, "{}", size_of::<Stream<DeltaStream>>());
    assert!(size_of::<Stream<SotwStream>>() < 1024, "{}", size_of::<Stream<SotwStream>>());
}
