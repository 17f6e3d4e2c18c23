//! Mutual TLS on the xDS port: who gets in, who gets what, and what happens when certificates change or expire.

use std::{io, sync::Arc, time::Duration};

use jiff::SignedDuration;
use tailscale_gateway::{
    identity::{ClientId, Credentials, TrustDomain},
    model::ObjectName,
    snapshot::TypeUrl,
    xds::{Caller, Denied, ServerOptions, Tls},
};
use tailscale_gateway_proto::envoy::service::{
    discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest, Resource},
    status::v3::{
        ClientStatusRequest, ClientStatusResponse,
        client_status_discovery_service_client::ClientStatusDiscoveryServiceClient,
    },
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, metadata::MetadataMap, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    support::{
        mtls::{self, authority, bundle, client, connect, envoy, lifetimes, now, server, shake_hands},
        wait::{self, within},
    },
    xds_support::xds::{
        ADS, Client, DELTA_ADS, DeltaClient, Server, SotwClient, ack, ask, cluster, names, node, put, small_world,
        subscribe, until,
    },
};

/// What `node` says.
const OWN: &str = "shop/web";

async fn start(tls: &Arc<Tls>) -> Server {
    start_with(tls, ServerOptions::default()).await
}

async fn start_with(tls: &Arc<Tls>, options: ServerOptions) -> Server {
    let server = Server::start_with(ServerOptions { tls: Some(Arc::clone(tls)), ..options }).await;
    server.publish(small_world());
    server.cache.set_ready();
    server
}

fn tls() -> Arc<Tls> {
    Arc::new(Tls::waiting(TrustDomain::default()))
}

async fn delta(channel: &Channel, path: &'static str) -> DeltaClient {
    Client::open(channel.clone(), path, MetadataMap::new()).await.unwrap()
}

fn series(server: &Server, series: &str) -> Option<u64> {
    let page = server.metrics.render();
    page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

async fn until_counted(server: &Server, name: &str, reason: &str, count: u64) {
    let name = format!("tailscale_gateway_{name}_total{{reason=\"{reason}\"}}");
    within(&format!("{name} to be {count}"), until(|| series(server, &name) == Some(count))).await;
}

#[test]
fn p79_a_caller_may_have_its_own_gateway_and_who_proves_nothing_may_have_all() {
    let (web, api) = (ObjectName::new("shop", "web"), ObjectName::new("shop", "api"));
    let callers = [
        (Caller::Anyone, Ok(None), None),
        (Caller::Gateway(web.clone()), Ok(Some(&web)), None),
        (Caller::Gateway(api.clone()), Ok(Some(&api)), Some("other_gateway")),
        (Caller::Unnamed, Err(Denied::NoGateway), Some("no_gateway")),
        (
            Caller::Foreign("x.example".into()),
            Err(Denied::OtherTrustDomain("x.example".into())),
            Some("other_trust_domain"),
        ),
    ];
    for (caller, own, denied) in &callers {
        assert_eq!(&caller.own(), own, "{caller:?}");
        assert_eq!(caller.may_have(&web).err().map(|denied| denied.label()), *denied, "{caller:?}");
    }
    let said = Caller::Gateway(api).may_have(&web).unwrap_err().to_string();
    assert!(said.contains("shop/api") && said.contains("shop/web") && said.contains("node.cluster"), "{said}");
}

#[tokio::test]
async fn p79_a_client_with_a_certificate_for_its_gateway_is_served_in_both_protocols() {
    let (ours, tls) = (authority(), tls());
    tls.replace(&mtls::server(&ours, &ours)).unwrap();
    let server = start(&tls).await;
    let channel = connect(server.address, client(&bundle(&ours), Some(&envoy(&ours, OWN)))).await;
    let mut incremental = delta(&channel, DELTA_ADS).await;
    incremental.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    assert_eq!(names(&incremental.next().await), ["c"]);
    let mut sotw: SotwClient = Client::open(channel, ADS, MetadataMap::new()).await.unwrap();
    sotw.send(ask(node("a"), TypeUrl::Cluster, &[]));
    assert_eq!(sotw.next().await.resources.len(), 1);
    assert_eq!(server.registry.clients().len(), 2);
}

#[tokio::test]
async fn p79_who_has_another_gateways_certificate_is_denied_on_every_service() {
    let (ours, tls) = (authority(), tls());
    tls.replace(&server(&ours, &ours)).unwrap();
    let server = start(&tls).await;
    let channel = connect(server.address, client(&bundle(&ours), Some(&envoy(&ours, "shop/api")))).await;
    let mut count = 0;
    let of_type = [
        ("cluster", "Cluster", "Clusters"),
        ("endpoint", "Endpoint", "Endpoints"),
        ("listener", "Listener", "Listeners"),
        ("route", "Route", "Routes"),
        ("route", "ScopedRoutes", "ScopedRoutes"),
        ("route", "VirtualHost", "VirtualHosts"),
        ("secret", "Secret", "Secrets"),
        ("runtime", "Runtime", "Runtime"),
        ("extension", "ExtensionConfig", "ExtensionConfigs"),
    ]
    .map(|(package, service, methods)| format!("/envoy.service.{package}.v3.{service}DiscoveryService/{{}}{methods}"));
    for method in of_type.iter().map(String::as_str).chain([&*DELTA_ADS.replace("Delta", "{}")]) {
        for protocol in ["Delta", "Stream"] {
            if method.contains("VirtualHosts") && protocol == "Stream" {
                continue;
            }
            let path: &'static str = method.replace("{}", protocol).leak();
            let status = if protocol == "Delta" {
                let mut stream = delta(&channel, path).await;
                stream.send(DeltaDiscoveryRequest { node: node("a"), ..Default::default() });
                within("the stream to end", stream.end()).await
            } else {
                let mut stream: SotwClient = Client::open(channel.clone(), path, MetadataMap::new()).await.unwrap();
                stream.send(DiscoveryRequest { node: node("a"), ..Default::default() });
                within("the stream to end", stream.end()).await
            };
            assert_eq!(status.code(), Code::PermissionDenied, "{path}: {status}");
            assert!(status.message().contains("shop/api"), "{path}: {status}");
            count += 1;
        }
    }
    assert_eq!(count, 19);
    until_counted(&server, "xds_denied", "other_gateway", count).await;
    assert_eq!(server.registry.clients().len(), 0);
    // Its own it may have, on the same connection.
    let mut own = node("a");
    own.as_mut().unwrap().cluster = "shop/api".into();
    let mut stream = delta(&channel, DELTA_ADS).await;
    stream.send(subscribe(own, TypeUrl::Cluster, &[]));
    assert!(names(&stream.next().await).is_empty());
}

async fn csds(channel: &Channel) -> Result<ClientStatusResponse, tonic::Status> {
    let mut client = ClientStatusDiscoveryServiceClient::new(channel.clone());
    client.fetch_client_status(ClientStatusRequest::default()).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn p79_csds_shows_a_caller_the_clients_of_its_own_gateway() {
    let (ours, tls) = (authority(), tls());
    tls.replace(&server(&ours, &ours)).unwrap();
    let server = start(&tls).await;
    let mut channels = Vec::new();
    let mut streams = Vec::new();
    for gateway in [OWN, "shop/api"] {
        let channel = connect(server.address, client(&bundle(&ours), Some(&envoy(&ours, gateway)))).await;
        let mut node = node(gateway);
        node.as_mut().unwrap().cluster = gateway.into();
        let mut stream = delta(&channel, DELTA_ADS).await;
        stream.send(subscribe(node, TypeUrl::Cluster, &[]));
        stream.next().await;
        streams.push(stream);
        channels.push((gateway, channel));
    }
    for (gateway, channel) in &channels {
        let seen: Vec<_> =
            csds(channel).await.unwrap().config.into_iter().map(|config| config.node.unwrap().cluster).collect();
        assert_eq!(seen, [*gateway]);
        let mut client = ClientStatusDiscoveryServiceClient::new(channel.clone());
        let requests = tokio_stream::iter([ClientStatusRequest::default()]);
        let mut answers = client.stream_client_status(requests).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().config.len(), 1);
    }
}

#[tokio::test]
async fn p79_a_certificate_without_a_gateway_of_ours_is_good_for_health_and_reflection_alone() {
    let (ours, tls) = (authority(), tls());
    tls.replace(&server(&ours, &ours)).unwrap();
    let server = start(&tls).await;
    let gateway = ObjectName::parse_namespaced(OWN).unwrap();
    let foreign = ClientId { trust_domain: "other.example".parse().unwrap(), gateway };
    let foreign = ours.issue_client(&foreign, now(), lifetimes(3600)).unwrap();
    let unnamed = unnamed_client(&ours);
    for (reason, credentials) in [("other_trust_domain", foreign), ("no_gateway", unnamed)] {
        let channel = connect(server.address, client(&bundle(&ours), Some(&credentials))).await;
        let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(health.into_inner().status, 1, "{reason}");
        let mut stream = delta(&channel, DELTA_ADS).await;
        stream.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
        assert_eq!(within("the stream to end", stream.end()).await.code(), Code::PermissionDenied, "{reason}");
        assert_eq!(csds(&channel).await.unwrap_err().code(), Code::PermissionDenied, "{reason}");
        until_counted(&server, "xds_denied", reason, 2).await;
    }
}

/// A client's certificate that names nobody.
fn unnamed_client(authority: &tailscale_gateway::identity::Authority) -> Credentials {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    let signer = rcgen::KeyPair::from_pem(authority.credentials().key.expose()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&authority.credentials().chain, signer).unwrap();
    let certificate = parameters.signed_by(&key, &issuer).unwrap();
    Credentials::read(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

#[tokio::test]
async fn p79_who_has_no_good_certificate_is_refused_and_counted_by_reason() {
    let (ours, theirs, tls) = (authority(), authority(), tls());
    tls.replace(&server(&ours, &ours)).unwrap();
    let server = start(&tls).await;
    let id = ClientId { trust_domain: TrustDomain::default(), gateway: ObjectName::new("shop", "web") };
    let expired = ours.issue_client(&id, now() - SignedDuration::from_secs(60), lifetimes(3)).unwrap();
    let stranger = envoy(&theirs, OWN);
    let trusted = bundle(&ours);
    for (reason, credentials) in
        [("no_certificate", None), ("expired", Some(&expired)), ("unknown_authority", Some(&stranger))]
    {
        let mut stream = shake_hands(server.address, client(&trusted, credentials)).await.unwrap();
        // The alert is the answer to the first read.
        let refused = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{reason}: {refused}");
        until_counted(&server, "xds_tls_handshake_failures", reason, 1).await;
    }
    // A client that does not trust the server.
    let refusal = shake_hands(server.address, client(&bundle(&theirs), Some(&envoy(&ours, OWN)))).await.unwrap_err();
    assert!(refusal.to_string().contains("UnknownIssuer"), "{refusal}");
    until_counted(&server, "xds_tls_handshake_failures", "refused_by_client", 1).await;
    // One that speaks no TLS, and one that says nothing and goes.
    let mut plain = tokio::net::TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    until_counted(&server, "xds_tls_handshake_failures", "other", 1).await;
    drop(tokio::net::TcpStream::connect(server.address).await.unwrap());
    until_counted(&server, "xds_tls_handshake_failures", "other", 2).await;
    assert_eq!(server.registry.clients().len(), 0);
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_let_go_and_keeps_nobody_else_waiting() {
    let ours = authority();
    let tls = Arc::new(Tls::waiting(TrustDomain::default()).with_handshake_timeout(Duration::from_millis(300)));
    tls.replace(&server(&ours, &ours)).unwrap();
    let server = start(&tls).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(tokio::net::TcpStream::connect(server.address).await.unwrap());
    }
    let channel = connect(server.address, client(&bundle(&ours), Some(&envoy(&ours, OWN)))).await;
    let mut stream = delta(&channel, DELTA_ADS).await;
    stream.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    stream.next().await;
    for connection in &mut silent {
        assert_eq!(connection.read(&mut [0; 1]).await.unwrap_or(0), 0, "it is closed");
    }
    until_counted(&server, "xds_tls_handshake_failures", "timeout", 50).await;
}

#[tokio::test]
async fn handshakes_wait_for_the_first_certificate() {
    let (ours, tls) = (authority(), tls());
    let server = start(&tls).await;
    assert!(!tls.has_certificate());
    let early = tokio::spawn(connect(server.address, client(&bundle(&ours), Some(&envoy(&ours, OWN)))));
    tls.replace(&mtls::server(&ours, &ours)).unwrap();
    assert!(tls.has_certificate());
    let mut stream = delta(&early.await.unwrap(), DELTA_ADS).await;
    stream.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    assert_eq!(names(&stream.next().await), ["c"]);
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_to_new_connections_and_open_ones_go_on() {
    let (old, new, tls) = (authority(), authority(), tls());
    tls.replace(&server(&old, &old)).unwrap();
    let server = start(&tls).await;
    let channel = connect(server.address, client(&bundle(&old), Some(&envoy(&old, OWN)))).await;
    let mut open = delta(&channel, DELTA_ADS).await;
    open.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    let first = open.next().await;
    open.send(ack(&first));

    tls.replace(&mtls::server(&new, &new)).unwrap();
    server.publish([cluster("c", "changed")]);
    assert_eq!(names(&open.next().await), ["c"]);
    assert!(shake_hands(server.address, client(&bundle(&old), Some(&envoy(&old, OWN)))).await.is_err());
    let channel = connect(server.address, client(&bundle(&new), Some(&envoy(&new, OWN)))).await;
    let mut fresh = delta(&channel, DELTA_ADS).await;
    fresh.send(subscribe(node("b"), TypeUrl::Cluster, &[]));
    assert_eq!(names(&fresh.next().await), ["c"]);

    // What can not be used changes nothing.
    let mut bad = mtls::server(&old, &old);
    bad.credentials.key = envoy(&old, OWN).key;
    assert!(tls.replace(&bad).unwrap_err().to_string().contains("not the one of the certificate"));
    shake_hands(server.address, client(&bundle(&new), Some(&envoy(&new, OWN)))).await.unwrap();
}

/// A certificate that expires in one or two seconds.
fn short(authority: &tailscale_gateway::identity::Authority) -> Credentials {
    let id = ClientId { trust_domain: TrustDomain::default(), gateway: ObjectName::new("shop", "web") };
    authority.issue_client(&id, now() - SignedDuration::from_secs(2), lifetimes(4)).unwrap()
}

#[tokio::test]
async fn when_a_certificate_expires_its_streams_end_and_the_client_comes_back_and_is_sent_nothing_again() {
    let (ours, tls) = (authority(), tls());
    tls.replace(&server(&ours, &ours)).unwrap();
    let server =
        start_with(&tls, ServerOptions { drain_grace: Duration::from_millis(100), ..Default::default() }).await;
    let config = client(&bundle(&ours), Some(&short(&ours)));
    let channel = connect(server.address, config.clone()).await;
    let mut stream = delta(&channel, DELTA_ADS).await;
    stream.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    let first = stream.next().await;
    stream.send(ack(&first));
    // What has no stream of xDS would keep the connection.
    let mut watch = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    let status = within("the stream to end", stream.end()).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("expired"), "{status}");
    let closed = within("the connection to be closed", watch.message()).await;
    assert!(closed.is_err(), "{closed:?}");
    until(|| series(&server, "tailscale_gateway_xds_expired_connections_total") == Some(1)).await;

    // The old certificate opens nothing any more.
    let mut late = shake_hands(server.address, config).await.unwrap();
    assert!(late.read(&mut [0; 1]).await.is_err());
    until_counted(&server, "xds_tls_handshake_failures", "expired", 1).await;

    // With a new one, only what changed meanwhile comes.
    server.publish([cluster("d", "new")]);
    let channel = connect(server.address, client(&bundle(&ours), Some(&envoy(&ours, OWN)))).await;
    let mut again = delta(&channel, DELTA_ADS).await;
    let held = |resource: &Resource| (resource.name.clone(), resource.version.clone());
    let initial_resource_versions = first.resources.iter().map(held).collect();
    again.send(DeltaDiscoveryRequest { initial_resource_versions, ..subscribe(node("a"), TypeUrl::Cluster, &[]) });
    assert_eq!(names(&again.next().await), ["d"]);
}

#[tokio::test]
async fn streams_outlive_their_certificate_when_that_is_wanted() {
    let (ours, tls) = (authority(), tls());
    tls.replace(&server(&ours, &ours)).unwrap();
    let server = start_with(&tls, ServerOptions { end_expired: false, ..Default::default() }).await;
    let credentials = short(&ours);
    let config = client(&bundle(&ours), Some(&credentials));
    let mut stream = delta(&connect(server.address, config.clone()).await, DELTA_ADS).await;
    stream.send(subscribe(node("a"), TypeUrl::Cluster, &[]));
    let first = stream.next().await;
    stream.send(ack(&first));
    wait::until("the certificate to open no new connection", async || {
        let mut other = shake_hands(server.address, config.clone()).await.map_err(|error| error.to_string())?;
        match other.read(&mut [0; 1]).await {
            Ok(_) => Err("it does".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    until_counted(&server, "xds_tls_handshake_failures", "expired", 1).await;
    server.publish([put(
        TypeUrl::Cluster,
        "e",
        &tailscale_gateway_proto::envoy::config::cluster::v3::Cluster::default(),
    )]);
    assert_eq!(names(&stream.next().await), ["e"]);
}
