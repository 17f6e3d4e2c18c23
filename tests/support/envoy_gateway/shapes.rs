//! The messages that an Envoy Gateway makes again and again.

use std::collections::BTreeMap;

use prost::{Message, Name};
use tailscale_gateway::{
    api::HttpBackendRef,
    model::{Kind, ObjectName},
};
use tailscale_gateway_proto::{
    envoy::{
        config::{
            core::v3::{
                Address, AggregatedConfigSource, ApiVersion, ConfigSource, Http2ProtocolOptions, Metadata,
                SocketAddress, TransportSocket, address, config_source::ConfigSourceSpecifier,
                socket_address::PortSpecifier, transport_socket,
            },
            listener::v3::{Filter, FilterChain, FilterChainMatch, filter},
            rbac::v3::Rbac as Rules,
            route::v3::DirectResponseAction,
        },
        extensions::{
            filters::{
                http::{
                    rbac::v3::{Rbac, RbacPerRoute},
                    router::v3::Router,
                },
                network::http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier, http_filter,
                },
            },
            transport_sockets::tls::v3::{CommonTlsContext, DownstreamTlsContext, SdsSecretConfig},
            upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
                },
            },
        },
    },
    google::protobuf::{Any, BoolValue, Duration, ListValue, Struct, Value, value},
};

use super::{IrListener, is_custom};

/// gRPC backends speak HTTP/2; of those that are not its own, an Envoy Gateway does not know what they speak.
pub(super) fn http2_options(route: Kind, settings: &[(String, &HttpBackendRef)]) -> BTreeMap<String, Any> {
    if route != Kind::GrpcRoute || settings.iter().all(|(_, backend)| is_custom(&backend.object)) {
        return BTreeMap::new();
    }
    let http2 = ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default());
    let explicit = ExplicitHttpConfig { protocol_config: Some(http2) };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..Default::default()
    };
    [("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), any(&options))].into()
}

/// `filter_metadata["envoy-gateway"]` with one resource.
pub(super) fn metadata(kind: &str, name: &ObjectName, section: &str) -> Metadata {
    let mut object = vec![("kind", kind), ("name", &*name.name), ("namespace", &*name.namespace)];
    if !section.is_empty() {
        object.push(("sectionName", section));
    }
    let text = |text: &str| Value { kind: Some(value::Kind::StringValue(text.to_owned())) };
    let fields = object.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect();
    let object = Value { kind: Some(value::Kind::StructValue(Struct { fields })) };
    let list = Value { kind: Some(value::Kind::ListValue(ListValue { values: vec![object] })) };
    let ours = Struct { fields: [("resources".to_owned(), list)].into() };
    Metadata { filter_metadata: [("envoy-gateway".to_owned(), ours)].into(), ..Default::default() }
}

pub(super) fn ads(timeout: Option<Duration>) -> Option<ConfigSource> {
    Some(ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3 as i32,
        initial_fetch_timeout: timeout,
        ..Default::default()
    })
}

pub(super) fn socket(address: &str, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: address.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
            ..Default::default()
        })),
    }
}

pub(super) fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec().into() }
}

/// The filter that authorization is left to.
pub(super) const RBAC: &str = "envoy.filters.http.rbac";

/// What a SecurityPolicy comes to on a route, which lets nobody or everybody in.
pub(super) fn policy(says: &str) -> Option<Any> {
    // What allows those that are listed, and lists nobody.
    let deny = Rules::default();
    let rules = match says {
        "deny" => Some(deny),
        "allow" => None,
        "broken" => return None,
        other => panic!("{other} is no policy"),
    };
    Some(any(&RbacPerRoute { rbac: Some(Rbac { rules, ..Default::default() }) }))
}

/// An answer without a word.
pub(super) fn direct_response(status: u32) -> DirectResponseAction {
    DirectResponseAction { status, ..Default::default() }
}

fn filter_of<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(config))),
        ..Default::default()
    }
}

pub(super) fn chain(listener: &IrListener<'_>, table: &str, authorizes: bool) -> FilterChain {
    let router = Router { suppress_envoy_headers: true, ..Default::default() };
    let rbac = authorizes.then(|| filter_of(RBAC, &Rbac::default()));
    let https = listener.certificate.is_some();
    let manager = HttpConnectionManager {
        stat_prefix: format!("{}-{}", if https { "https" } else { "http" }, listener.port),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: ads(Some(Duration::default())),
            route_config_name: table.to_owned(),
        })),
        http_filters: rbac.into_iter().chain([filter_of("envoy.filters.http.router", &router)]).collect(),
        merge_slashes: true,
        normalize_path: Some(BoolValue { value: true }),
        ..Default::default()
    };
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&manager))),
    };
    FilterChain {
        name: table.to_owned(),
        filter_chain_match: https.then(|| FilterChainMatch {
            server_names: listener.hostname.iter().map(|&name| name.to_owned()).collect(),
            ..Default::default()
        }),
        filters: vec![filter],
        transport_socket: listener.certificate.as_ref().map(tls_socket),
        ..Default::default()
    }
}

/// TLS that ends here, with this certificate.
pub(super) fn tls_socket(secret: &ObjectName) -> TransportSocket {
    let certificate = SdsSecretConfig { name: secret.to_string(), sds_config: ads(None) };
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![certificate],
            ..Default::default()
        }),
        ..Default::default()
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
    }
}
