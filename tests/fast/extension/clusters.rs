//! Clusters that an Envoy Gateway has made, where golden files do not show what becomes of them.

use bytes::Bytes;
use prost::Message;
use tailscale_gateway::model::{ObjectName, pointer_name};
use tailscale_gateway_proto::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{ProxyProtocolConfig, TransportSocket, transport_socket::ConfigType},
        },
        extensions::transport_sockets::{
            proxy_protocol::v3::ProxyProtocolUpstreamTransport, raw_buffer::v3::RawBuffer, tls::v3::UpstreamTlsContext,
        },
    },
    google::protobuf::Any,
};

use crate::support::{
    envoy_gateway::name_of,
    extension_cases::{Case, Played, cases, translated},
};

fn custom_backends() -> (Case, Played) {
    let case = cases().into_iter().find(|case| case.name == "custom-backends.yaml").unwrap();
    let played = case.play();
    (case, played)
}

fn cluster(list: &[Bytes], name: &str) -> Cluster {
    let found = list.iter().find(|cluster| name_of(cluster) == name);
    Cluster::decode(found.unwrap_or_else(|| panic!("there is no {name}")).clone()).unwrap()
}

#[test]
fn a_cluster_with_a_name_of_ours_goes_and_leaves_its_neighbours_whole() {
    let (case, played) = custom_backends();
    let (mut request, hosted) = (played.last_request(&case), played.hosted());
    let expected = translated(&request, &hosted);
    let pointer = pointer_name(&ObjectName::new("default", "eg"));
    let twin = Cluster { name: pointer.clone(), alt_stat_name: "theirs".to_owned(), ..Default::default() };
    let twin: Bytes = twin.encode_to_vec().into();
    let count = request.clusters.len();
    for place in 0..=count {
        request.clusters.insert(place, twin.clone());
        let response = translated(&request, &hosted);
        let decoded = |list: &[Bytes]| list.iter().map(|one| Cluster::decode(one.clone()).unwrap()).collect::<Vec<_>>();
        assert_eq!(decoded(&response.clusters), decoded(&expected.clusters), "behind {place} clusters");
        request.clusters.remove(place);
    }
    assert_eq!(cluster(&expected.clusters, &pointer).alt_stat_name, "");
}

fn socket<M: Message + prost::Name>(name: &str, config: &M) -> TransportSocket {
    let config = Any { type_url: M::type_url(), value: config.encode_to_vec().into() };
    TransportSocket { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(config)) }
}

fn config<M: Message + Default>(socket: &TransportSocket) -> M {
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else { panic!("{socket:?}") };
    M::decode(any.value.clone()).unwrap()
}

#[test]
fn the_proxy_protocol_stays_in_front_of_tls() {
    const TLS: &str = "httproute/default/user/rule/2";
    const PLAIN: &str = "httproute/default/user/rule/0";
    let (case, played) = custom_backends();
    let (mut request, hosted) = (played.last_request(&case), played.hosted());
    let version = Some(ProxyProtocolConfig { version: 1, ..Default::default() });
    let proxy = ProxyProtocolUpstreamTransport {
        config: version.clone(),
        transport_socket: Some(socket("envoy.transport_sockets.raw_buffer", &RawBuffer {})),
        ..Default::default()
    };
    let proxy = socket("envoy.transport_sockets.upstream_proxy_protocol", &proxy);
    let without = translated(&request, &hosted);
    for message in &mut request.clusters {
        if [TLS, PLAIN].contains(&&*name_of(message)) {
            let mut cluster = Cluster::decode(message.clone()).unwrap();
            cluster.transport_socket = Some(proxy.clone());
            *message = cluster.encode_to_vec().into();
        }
    }
    let response = translated(&request, &hosted);
    assert_eq!(cluster(&response.clusters, PLAIN).transport_socket, Some(proxy));
    let made = cluster(&response.clusters, TLS).transport_socket.unwrap();
    assert_eq!(made.name, "envoy.transport_sockets.upstream_proxy_protocol");
    let made: ProxyProtocolUpstreamTransport = config(&made);
    assert_eq!(made.config, version);
    let ours = cluster(&without.clusters, TLS).transport_socket.unwrap();
    assert_eq!(config::<UpstreamTlsContext>(&ours).sni, "vault.localhost");
    assert_eq!(made.transport_socket, Some(ours));
}
