//! Requests and responses on the wire, against the types generated from Envoy's API.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};
use prost::{Message, Name};
use tailscale_gateway::{
    model::ObjectName,
    snapshot::{Body, Resource, Segment, TypeUrl, Version},
    xds::{
        Kind, Nonce, Response,
        node::{ClientFeatures, NodeError, parse_node},
        wire::{self, ControlPlane, Protocol, Request, response_fields},
    },
};
use tailscale_gateway_proto::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{BuildVersion, ControlPlane as Identity, Extension, Locality, Node, node::UserAgentVersionType},
            route::v3::{RouteConfiguration, VirtualHost},
        },
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource as Element,
        },
        r#type::v3::SemanticVersion,
    },
    google::{protobuf::Any, rpc},
};

/// A resource and the message it was made from.
fn resources() -> impl Strategy<Value = Vec<(Resource, Vec<u8>)>> {
    let whole = ("[a-z/]{1,20}", 0..6000_usize).prop_map(|(name, size)| {
        let cluster = Cluster { name: name.clone(), alt_stat_name: "x".repeat(size), ..Default::default() };
        (Resource::new(TypeUrl::Cluster, name, &cluster), cluster.encode_to_vec())
    });
    let spliced = ("[a-z/]{1,20}", vec(0..6000_usize, 0..4)).prop_map(|(name, sizes)| {
        let shell = RouteConfiguration { name: name.clone(), ..Default::default() };
        let hosts = sizes.iter().map(|size| VirtualHost { name: "v".repeat(*size), ..Default::default() });
        let whole = RouteConfiguration { virtual_hosts: hosts.clone().collect(), ..shell.clone() };
        let segments: Vec<Segment> = hosts
            .map(|host| {
                let part = RouteConfiguration { virtual_hosts: vec![host], ..Default::default() };
                Segment::new(part.encode_to_vec().into())
            })
            .collect();
        (Resource::spliced(TypeUrl::Route, name, &shell, Segment::join(&segments), None), whole.encode_to_vec())
    });
    prop_oneof![vec(whole, 0..6), vec(spliced, 0..6)]
}

fn response(of: TypeUrl, nonce: u64, version: u128, body: Body) -> Response {
    Response {
        type_url: of,
        nonce: Nonce::parse(&nonce.to_string()).unwrap(),
        version: Version::from_hash(version),
        body: Arc::new(body),
        kind: Kind::Update,
        resources: 0,
        removed: 0,
    }
}

fn splice(protocol: Protocol, response: &Response, identifier: &str) -> Bytes {
    let mut message = BytesMut::from(&response_fields(protocol, response, &ControlPlane::new(identifier))[..]);
    response.body.pieces().for_each(|piece| message.extend_from_slice(&piece));
    message.freeze()
}

proptest! {
    #[test]
    fn p03_a_spliced_sotw_response_is_the_message_one_would_build(
        resources in resources(), nonce in 1..u64::MAX, version: u128, identifier in "[a-z0-9/.-]{0,60}",
    ) {
        let of = resources.first().map_or(TypeUrl::Cluster, |(resource, _)| resource.type_url());
        let spliced = response(of, nonce, version, Body::sotw(resources.iter().map(|(resource, _)| resource)));
        let built = DiscoveryResponse {
            version_info: Version::from_hash(version).to_string(),
            resources: resources
                .iter()
                .map(|(_, message)| Any { type_url: of.as_str().into(), value: message.clone().into() })
                .collect(),
            type_url: of.as_str().into(),
            nonce: nonce.to_string(),
            control_plane: Some(Identity { identifier: identifier.clone() }),
            ..Default::default()
        };
        let decoded = DiscoveryResponse::decode(splice(Protocol::Sotw, &spliced, &identifier)).unwrap();
        prop_assert_eq!(decoded, built);
    }

    #[test]
    fn p03_a_spliced_delta_response_is_the_message_one_would_build(
        resources in resources(), removed in vec("[a-z/]{1,20}", 0..5), nonce in 1..u64::MAX, version: u128,
        identifier in "[a-z0-9/.-]{0,60}",
    ) {
        let of = resources.first().map_or(TypeUrl::Cluster, |(resource, _)| resource.type_url());
        let body = Body::delta(resources.iter().map(|(resource, _)| resource), removed.iter().map(String::as_str));
        let spliced = response(of, nonce, version, body);
        let built = DeltaDiscoveryResponse {
            system_version_info: Version::from_hash(version).to_string(),
            resources: resources
                .iter()
                .map(|(resource, message)| Element {
                    name: resource.name().to_string(),
                    version: resource.version().to_string(),
                    resource: Some(Any { type_url: of.as_str().into(), value: message.clone().into() }),
                    ..Default::default()
                })
                .collect(),
            type_url: of.as_str().into(),
            nonce: nonce.to_string(),
            removed_resources: removed,
            control_plane: Some(Identity { identifier: identifier.clone() }),
            ..Default::default()
        };
        let decoded = DeltaDiscoveryResponse::decode(splice(Protocol::Delta, &spliced, &identifier)).unwrap();
        prop_assert_eq!(decoded, built);
    }
}

fn envoy() -> Node {
    Node {
        id: "pod-1".into(),
        cluster: "shop/web".into(),
        locality: Some(Locality { region: "eu".into(), zone: "a".into(), sub_zone: "1".into() }),
        user_agent_name: "envoy".into(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
            version: Some(SemanticVersion { major_number: 1, minor_number: 40, patch: 0 }),
            metadata: Some(Default::default()),
        })),
        extensions: (0..1500)
            .map(|n| Extension { name: format!("envoy.filters.http.{n}"), ..Default::default() })
            .collect(),
        client_features: vec!["envoy.lb.does_not_support_overprovisioning".into()],
        ..Default::default()
    }
}

#[test]
fn a_sotw_request_is_read_field_by_field() {
    let request = DiscoveryRequest {
        version_info: "v".into(),
        node: Some(envoy()),
        resource_names: vec!["a".into(), "b".into()],
        type_url: TypeUrl::Cluster.as_str().into(),
        response_nonce: "7".into(),
        error_detail: Some(rpc::Status { code: 13, message: "no".into(), details: vec![Any::default()] }),
        ..Default::default()
    };
    let (node, content) = wire::SotwRequest::decode(&request.encode_to_vec()[..]).unwrap().split();
    assert_eq!(node.unwrap().cluster, "shop/web");
    assert_eq!((content.version_info.as_str(), content.response_nonce.as_str()), ("v", "7"));
    assert_eq!((content.type_url.as_str(), content.names), (TypeUrl::Cluster.as_str(), vec!["a".into(), "b".into()]));
    let error = content.error.unwrap();
    assert_eq!((error.code, error.message.as_str()), (13, "no"));
}

#[test]
fn a_delta_request_is_read_field_by_field() {
    let request = DeltaDiscoveryRequest {
        node: Some(envoy()),
        type_url: TypeUrl::Route.as_str().into(),
        resource_names_subscribe: vec!["a".into()],
        resource_names_unsubscribe: vec!["b".into()],
        initial_resource_versions: [("a".to_owned(), "1".to_owned()), ("c".to_owned(), String::new())].into(),
        response_nonce: "8".into(),
        error_detail: Some(rpc::Status { code: 3, message: "bad".into(), ..Default::default() }),
        ..Default::default()
    };
    let (node, content) = wire::DeltaRequest::decode(&request.encode_to_vec()[..]).unwrap().split();
    assert_eq!(node.unwrap().id, "pod-1");
    assert_eq!((content.type_url.as_str(), content.response_nonce.as_str()), (TypeUrl::Route.as_str(), "8"));
    assert_eq!((content.subscribe, content.unsubscribe), (vec!["a".into()], vec!["b".into()]));
    assert_eq!(content.initial_versions, [("a".into(), "1".into()), ("c".into(), String::new())]);
    assert_eq!(content.error.unwrap().code, 3);
}

#[test]
fn p06_of_a_node_only_what_is_needed_is_kept() {
    let request = DiscoveryRequest { node: Some(envoy()), ..Default::default() };
    let bytes = request.encode_to_vec();
    assert!(bytes.len() > 30_000, "the extensions are on the wire: {} bytes", bytes.len());
    let (node, _) = wire::SotwRequest::decode(&bytes[..]).unwrap().split();
    let node = node.unwrap();
    assert!(node.encoded_len() < 150, "and are gone once decoded: {} bytes", node.encoded_len());
    let info = parse_node(Some(&node), None).unwrap();
    assert_eq!(info.gateway, ObjectName::new("shop", "web"));
    assert_eq!((&*info.id, &*info.locality, &*info.user_agent), ("pod-1", "eu/a/1", "envoy 1.40.0"));
}

#[test]
fn p06_a_cluster_that_names_no_gateway_is_refused_with_the_form_it_must_have() {
    for cluster in ["", "web", "/web", "shop/", "shop/web/extra", "Shop/web", "shop/web ", "-a/b", "a.b/c"] {
        let node = wire::Node { cluster: cluster.into(), ..Default::default() };
        let error = parse_node(Some(&node), None).unwrap_err();
        assert_eq!(error, NodeError::Cluster(cluster.into()));
        assert!(error.to_string().contains("NAMESPACE/GATEWAY"), "{error}");
    }
    assert_eq!(parse_node(None, None).unwrap_err(), NodeError::Missing);
    let node = wire::Node { cluster: "shop/web.example-1".into(), ..Default::default() };
    assert_eq!(parse_node(Some(&node), None).unwrap().gateway.to_string(), "shop/web.example-1");
}

#[test]
fn a_header_names_the_gateway_whatever_the_node_says() {
    // An Envoy Gateway's, which merges Gateways, has their Envoys among its own or in the Gateways' namespaces.
    let node = |cluster: &str| wire::Node { cluster: cluster.into(), ..Default::default() };
    for cluster in
        ["an-envoy-gateway-class", "envoy-gateway-system/envoy-shop-web-1a2b3c4d", "shop/web", "other/web", "web"]
    {
        assert_eq!(parse_node(Some(&node(cluster)), Some("shop/web")).unwrap().gateway.to_string(), "shop/web");
    }
    let node = node("shop/web");
    assert_eq!(parse_node(Some(&node), Some("shop")).unwrap_err(), NodeError::Header("shop".into()));
}

#[test]
fn p06_a_grpc_client_states_its_version_as_a_text() {
    let node = Node {
        cluster: "shop/web".into(),
        user_agent_name: "gRPC C-core".into(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion("1.85.1".into())),
        ..Default::default()
    };
    let node = wire::Node::decode(&node.encode_to_vec()[..]).unwrap();
    assert_eq!(&*parse_node(Some(&node), None).unwrap().user_agent, "gRPC C-core 1.85.1");
}

#[test]
fn p08_client_features_are_read_in_both_spellings() {
    let features = |names: &[&str]| {
        let client_features = names.iter().map(ToString::to_string).collect();
        let node = wire::Node { cluster: "a/b".into(), client_features, ..Default::default() };
        parse_node(Some(&node), None).unwrap().features
    };
    assert_eq!(features(&["something.else"]), ClientFeatures::default());
    for spelling in ["xds.config.resource-in-sotw", "xds.config.supports-resource-in-sotw"] {
        assert_eq!(features(&[spelling]), ClientFeatures { resource_in_sotw: true, ..Default::default() });
    }
    let all = ["envoy.lb.does_not_support_overprovisioning", "xds.config.supports-resource-ttl"];
    assert_eq!(
        features(&all),
        ClientFeatures { no_overprovisioning: true, resource_ttl: true, resource_in_sotw: false }
    );
}

#[test]
fn every_type_url_is_the_name_of_a_message() {
    use tailscale_gateway_proto::envoy::{
        config::{
            core::v3::TypedExtensionConfig, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
            route::v3::ScopedRouteConfiguration,
        },
        extensions::transport_sockets::tls::v3::Secret,
        service::runtime::v3::Runtime,
    };
    let urls = [
        Secret::type_url(),
        TypedExtensionConfig::type_url(),
        Cluster::type_url(),
        ClusterLoadAssignment::type_url(),
        Listener::type_url(),
        RouteConfiguration::type_url(),
        ScopedRouteConfiguration::type_url(),
        VirtualHost::type_url(),
        Runtime::type_url(),
    ];
    assert_eq!(TypeUrl::ALL.map(TypeUrl::as_str).to_vec(), urls);
}
