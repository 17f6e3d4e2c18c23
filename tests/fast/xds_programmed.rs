//! What a server says of its Envoys, from the moment at which there is something to say to them.

use tailscale_gateway::{
    model::Programmed,
    snapshot::{TypeUrl, ViewChange},
};
use tailscale_gateway_proto::{
    envoy::{config::listener::v3::Listener, service::discovery::v3::DeltaDiscoveryRequest},
    google::rpc::Status,
};

use crate::{
    support::wait::within,
    xds_support::xds::{DELTA_ADS, DeltaClient, Server, ack, gateway, names, node, put, small_world, subscribe},
};

/// Waits until the server is told of something, until its Envoys say this together.
async fn told(server: &Server, expected: Programmed) {
    let telling = async {
        while server.registry.programmed().get(&gateway()) != Some(&expected) {
            server.registry.changed().await;
        }
    };
    within(&format!("{expected:?}"), telling).await;
}

fn listener(name: &str, stat_prefix: &str) -> ViewChange {
    let message = Listener { name: name.into(), stat_prefix: stat_prefix.into(), ..Default::default() };
    put(TypeUrl::Listener, name, &message)
}

/// A server, and an Envoy that has taken all there is.
async fn served() -> (Server, DeltaClient) {
    let server = Server::start().await;
    server.publish(small_world());
    let mut envoy = server.delta(DELTA_ADS).await;
    envoy.send(subscribe(node("a"), TypeUrl::Listener, &[]));
    let first = envoy.next().await;
    assert_eq!(names(&first), ["l"]);
    envoy.send(ack(&first));
    told(&server, Programmed::Acknowledged).await;
    (server, envoy)
}

#[tokio::test]
async fn what_an_envoy_does_not_answer_is_pending_as_soon_as_it_is_sent() {
    let (server, mut envoy) = served().await;
    server.publish([listener("l", "other")]);
    told(&server, Programmed::Pending).await;
    let second = envoy.next().await;
    envoy.send(ack(&second));
    told(&server, Programmed::Acknowledged).await;
}

#[tokio::test]
async fn a_refusal_ends_with_what_was_refused_although_nobody_has_to_answer_that() {
    let (server, mut envoy) = served().await;
    server.publish([listener("bad", "")]);
    let second = envoy.next().await;
    let error_detail = Some(Status { code: 13, message: "bad: no".to_owned(), ..Status::default() });
    envoy.send(DeltaDiscoveryRequest { error_detail, ..ack(&second) });
    told(&server, Programmed::Refused("a: bad: no".to_owned())).await;
    server.publish([ViewChange { resource: None, ..listener("bad", "") }]);
    told(&server, Programmed::Acknowledged).await;
}
