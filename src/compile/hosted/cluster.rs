//! Clusters for Envoys of other controllers, and how these Envoys ask us for what changes often.

use std::sync::Arc;

use prost::Message;
use tailscale_gateway_proto::{
    envoy::{
        config::core::v3::{
            ApiConfigSource, ApiVersion, BackoffStrategy, ConfigSource, GrpcService, HeaderValue, RetryPolicy,
            api_config_source::ApiType,
            config_source::ConfigSourceSpecifier,
            grpc_service::{EnvoyGrpc, TargetSpecifier},
        },
        extensions::transport_sockets::tls::v3::SdsSecretConfig,
    },
    google::protobuf::Duration,
};

use crate::{
    api::{TailscaleEndpoint, TailscaleEndpoints},
    compile::{
        OutputKey, Settings, World,
        cluster::{self, EndpointTarget, Home, endpoint_target_for},
        listener::from_ads,
    },
    model::{AUTHORITIES, ClusterName, FOREIGN_AUTHORITIES, GATEWAY_HEADER, ObjectName, Traffic, pointer_name},
    snapshot::{HostedCluster, Resource, TypeUrl},
};

/// How long a cluster waits for its endpoints when it is new; then it is used without, and a listener that waits for it starts.
/// Long enough for a name to be resolved and a connection to be made.
const FIRST_FETCH: Duration = Duration { seconds: 5, nanos: 0 };

/// The host that Envoys ask for. Else they would ask for the cluster's name, which has slashes in it and is none.
const AUTHORITY: &str = "tailscale-gateway";

/// A cluster for a Gateway's Envoys.
pub(in crate::compile) fn cluster(
    settings: &Settings,
    gateway: &ObjectName,
    name: &ClusterName,
    traffic: Traffic,
    world: &mut World<'_>,
) -> Option<Arc<HostedCluster>> {
    let endpoint = read(name, world)?;
    let target = endpoint_target_for(&endpoint, traffic).ok()?;
    if target.tls() && settings.trusted_authorities.is_none() {
        return None;
    }
    let points = world.output(&OutputKey::HostedPointer(gateway.clone())).pointer().is_some();
    let home = Home {
        authorities: match points {
            true => SdsSecretConfig { name: AUTHORITIES.to_owned(), sds_config: Some(from_us(gateway)) },
            false => SdsSecretConfig { name: FOREIGN_AUTHORITIES.to_owned(), sds_config: from_ads() },
        },
        endpoints: points.then(|| from_us(gateway)),
        endpoints_name_host: true,
    };
    let message = cluster::endpoint_cluster(name, &endpoint, &target, home);
    let fetches_endpoints = points && target.plain_address().is_some();
    let fetches_authorities = points && target.tls();
    if fetches_endpoints {
        world.keep(OutputKey::HostedEndpoints(gateway.clone(), name.clone()));
    }
    if fetches_authorities {
        world.keep(OutputKey::GatewayAuthorities(gateway.clone()));
    }
    Some(Arc::new(HostedCluster {
        message: message.encode_to_vec().into(),
        points: fetches_endpoints || fetches_authorities,
        checks_authorities: target.tls() && !fetches_authorities,
    }))
}

/// The endpoints of such a cluster, which its Envoys fetch from us.
pub(in crate::compile) fn endpoints(name: &ClusterName, world: &mut World<'_>) -> Option<Arc<Resource>> {
    let target = plain_target(&read(name, world)?)?;
    target.plain_address()?;
    let message = cluster::assignment(name, &target, true);
    Some(Arc::new(Resource::new(TypeUrl::Endpoints, name.to_string(), &message)))
}

pub(super) fn read(name: &ClusterName, world: &mut World<'_>) -> Option<TailscaleEndpoint> {
    let ClusterName::Endpoint { endpoints, endpoint } = name else { return None };
    let object = world.object::<TailscaleEndpoints>(endpoints)?;
    object.spec.endpoints.iter().find(|candidate| *candidate.name == **endpoint).cloned()
}

/// Where an endpoint is, without TLS: that is the same for all traffic that needs none.
fn plain_target(endpoint: &TailscaleEndpoint) -> Option<EndpointTarget> {
    let kinds = [Traffic::Passthrough, Traffic::Datagrams];
    kinds.into_iter().find_map(|traffic| endpoint_target_for(endpoint, traffic).ok())
}

/// Where Envoys of a foreign Gateway fetch from us: a stream of their own, which says whose they are, since the other controller
/// decides what their node says.
fn from_us(gateway: &ObjectName) -> ConfigSource {
    let grpc = EnvoyGrpc {
        cluster_name: pointer_name(gateway),
        authority: AUTHORITY.to_owned(),
        retry_policy: Some(RetryPolicy {
            retry_back_off: Some(BackoffStrategy {
                base_interval: Some(Duration { seconds: 0, nanos: 100_000_000 }),
                max_interval: Some(Duration { seconds: 5, nanos: 0 }),
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let header = HeaderValue { key: GATEWAY_HEADER.to_owned(), value: gateway.to_string(), ..Default::default() };
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(ApiConfigSource {
            api_type: ApiType::DeltaGrpc as i32,
            transport_api_version: ApiVersion::V3 as i32,
            grpc_services: vec![GrpcService {
                target_specifier: Some(TargetSpecifier::EnvoyGrpc(grpc)),
                initial_metadata: vec![header],
                ..Default::default()
            }],
            set_node_on_first_message_only: true,
            ..Default::default()
        })),
        initial_fetch_timeout: Some(FIRST_FETCH),
        resource_api_version: ApiVersion::V3 as i32,
        ..Default::default()
    }
}
