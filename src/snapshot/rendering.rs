//! The same resources for other clients than Envoys that use ADS. Where an Envoy does not, the source that a resource names
//! for what it refers to is the service of the type, and not the aggregated stream; gRPC clients are the business of
//! `proxyless`.
//!
//! Done only for Gateways that such a client asks for. Only clusters and listeners name sources.

use std::sync::Arc;

use prost::{Message, Name};
use tailscale_gateway_proto::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{
                ApiConfigSource, ApiVersion, ConfigSource, GrpcService, TransportSocket,
                api_config_source::ApiType,
                config_source::ConfigSourceSpecifier,
                grpc_service::{EnvoyGrpc, TargetSpecifier},
                transport_socket,
            },
            listener::v3::{Filter, Listener, filter},
        },
        extensions::{
            filters::network::http_connection_manager::v3::{
                HttpConnectionManager, http_connection_manager::RouteSpecifier, scoped_routes::ConfigSpecifier,
            },
            transport_sockets::tls::v3::{
                CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, UpstreamTlsContext,
                common_tls_context::ValidationContextType,
            },
        },
    },
    google::protobuf::Any,
};

use super::{Resource, TypeUrl, proxyless};
use crate::model::XDS_CLUSTER;

/// For whom resources are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rendering {
    /// Envoys that use the aggregated stream: as resources are compiled.
    Aggregated,
    /// Envoys that use each type's own service, state of the world; reached through the bootstrap's cluster
    /// [`XDS_CLUSTER`].
    PerTypeSotw,
    /// Envoys that use each type's own service, delta; likewise.
    PerTypeDelta,
    /// gRPC clients that route by themselves.
    Proxyless,
}

impl Rendering {
    /// The resource as these clients take it: the very same one when there is no difference, none when they have no use for
    /// it.
    pub fn render(self, resource: &Arc<Resource>) -> Option<Arc<Resource>> {
        let api_type = match self {
            Rendering::Aggregated => return Some(Arc::clone(resource)),
            Rendering::Proxyless => return proxyless::render(resource),
            Rendering::PerTypeSotw => ApiType::Grpc,
            Rendering::PerTypeDelta => ApiType::DeltaGrpc,
        };
        let source = Source(ConfigSourceSpecifier::ApiConfigSource(ApiConfigSource {
            api_type: api_type as i32,
            transport_api_version: ApiVersion::V3 as i32,
            grpc_services: vec![GrpcService {
                target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                    cluster_name: XDS_CLUSTER.to_owned(),
                    ..Default::default()
                })),
                ..Default::default()
            }],
            set_node_on_first_message_only: true,
            ..Default::default()
        }));
        let bytes = resource.message_bytes();
        let name = Arc::clone(resource.name());
        Some(match resource.type_url() {
            TypeUrl::Cluster => {
                let mut cluster: Cluster = decode(&bytes);
                source.cluster(&mut cluster);
                Arc::new(Resource::new(TypeUrl::Cluster, name, &cluster))
            }
            TypeUrl::Listener => {
                let mut listener: Listener = decode(&bytes);
                source.listener(&mut listener);
                Arc::new(Resource::new(TypeUrl::Listener, name, &listener))
            }
            _ => Arc::clone(resource),
        })
    }
}

/// Reads a message that this program encoded.
pub(super) fn decode<M: Message + Default>(bytes: &[u8]) -> M {
    M::decode(bytes).expect("the bytes are a message of this type that this program encoded")
}

/// Packs a message into an `Any`.
pub(super) fn packed<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec().into() }
}

/// Puts a source in the place of the aggregated one, wherever it stands.
struct Source(ConfigSourceSpecifier);

impl Source {
    fn put(&self, place: &mut Option<ConfigSource>) {
        if let Some(ConfigSource { config_source_specifier: specifier @ Some(ConfigSourceSpecifier::Ads(_)), .. }) =
            place
        {
            *specifier = Some(self.0.clone());
        }
    }

    fn cluster(&self, cluster: &mut Cluster) {
        if let Some(eds) = &mut cluster.eds_cluster_config {
            self.put(&mut eds.eds_config);
        }
        rewrite(socket(&mut cluster.transport_socket), |context: &mut UpstreamTlsContext| {
            self.tls(&mut context.common_tls_context);
        });
    }

    fn listener(&self, listener: &mut Listener) {
        for chain in &mut listener.filter_chains {
            rewrite(socket(&mut chain.transport_socket), |context: &mut DownstreamTlsContext| {
                self.tls(&mut context.common_tls_context);
            });
            for Filter { config_type, .. } in &mut chain.filters {
                let Some(filter::ConfigType::TypedConfig(any)) = config_type else { continue };
                rewrite(Some(any), |manager: &mut HttpConnectionManager| match &mut manager.route_specifier {
                    Some(RouteSpecifier::Rds(rds)) => self.put(&mut rds.config_source),
                    Some(RouteSpecifier::ScopedRoutes(scoped)) => {
                        self.put(&mut scoped.rds_config_source);
                        if let Some(ConfigSpecifier::ScopedRds(scopes)) = &mut scoped.config_specifier {
                            self.put(&mut scopes.scoped_rds_config_source);
                        }
                    }
                    Some(RouteSpecifier::RouteConfig(_)) | None => {}
                });
            }
        }
    }

    fn tls(&self, context: &mut Option<CommonTlsContext>) {
        let Some(context) = context else { return };
        for SdsSecretConfig { sds_config, .. } in &mut context.tls_certificate_sds_secret_configs {
            self.put(sds_config);
        }
        if let Some(ValidationContextType::CombinedValidationContext(combined)) = &mut context.validation_context_type
            && let Some(secret) = &mut combined.validation_context_sds_secret_config
        {
            self.put(&mut secret.sds_config);
        }
    }
}

fn socket(socket: &mut Option<TransportSocket>) -> Option<&mut Any> {
    match socket {
        Some(TransportSocket { config_type: Some(transport_socket::ConfigType::TypedConfig(any)), .. }) => Some(any),
        _ => None,
    }
}

/// Changes the message in an `Any`, if it is one of this type.
fn rewrite<M: Message + Name + Default>(any: Option<&mut Any>, change: impl FnOnce(&mut M)) {
    let Some(any) = any.filter(|any| any.type_url == M::type_url()) else { return };
    let mut message: M = decode(&any.value);
    change(&mut message);
    *any = packed(&message);
}
