//! The Envoy listener of a port: one connection manager for HTTP, one filter chain for each HTTPS listener.

use std::{net::IpAddr, sync::Arc};

use prost::{Message, Name};
use tailscale_gateway_proto::{
    envoy::{
        config::{
            core::v3::{
                Address, AggregatedConfigSource, ApiVersion, ConfigSource, HttpProtocolOptions, SocketAddress, address,
                config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
            },
            listener::v3::{
                AdditionalAddress, Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter,
                listener_filter,
            },
        },
        extensions::{
            filters::{
                http::{cors::v3::Cors, router::v3::Router},
                listener::tls_inspector::v3::TlsInspector,
                network::http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds,
                    http_connection_manager::{CodecType, PathWithEscapedSlashesAction, RouteSpecifier, UpgradeConfig},
                    http_filter,
                },
            },
            transport_sockets::tls::v3::{CommonTlsContext, DownstreamTlsContext, SdsSecretConfig},
        },
    },
    google::protobuf::{Any, BoolValue, Duration},
};

use super::{
    CORS_FILTER, GatewayListeners, ListenerSpec, OutputKey, World, access_log::access_log, division, hostname,
};
use crate::{
    model::{ObjectName, ServedTable, listener_name, secret_name},
    snapshot::{References, Resource, Segment, TypeUrl},
};

/// The listener for a port of a Gateway, if one of its listeners is served there.
pub(super) fn listener(gateway: &ObjectName, port: u16, world: &mut World<'_>) -> Option<Arc<Resource>> {
    let listeners = world.output(&OutputKey::Listeners(gateway.clone())).listeners();
    let here: Vec<&ListenerSpec> = listeners.served().filter(|listener| listener.port == port).collect();
    let first = here.first()?;
    let mut parts: Vec<Arc<str>> = Vec::new();
    for listener in &here {
        let table = listener.table(gateway);
        if listeners.divides(&table) {
            for part in division::parts(&table) {
                parts.push(part.to_string().into());
                world.keep(OutputKey::RouteScope(part.clone()));
                world.keep(OutputKey::RouteTable(part));
            }
        }
        // There in any case: connections of a listener that is being replaced still route by it, and so do clients without an
        // Envoy.
        world.keep(OutputKey::RouteTable(ServedTable::whole(table)));
    }
    let name = listener_name(gateway, port);
    let mut addresses = listeners.addresses.iter().map(|ip| address(*ip, first.bound_port));
    let message = Listener {
        name: name.clone(),
        address: addresses.next(),
        additional_addresses: addresses
            .map(|address| AdditionalAddress { address: Some(address), ..Default::default() })
            .collect(),
        stat_prefix: format!("port_{port}"),
        filter_chains: if first.https {
            here.iter().map(|listener| https_chain(gateway, listener, &listeners)).collect()
        } else {
            vec![FilterChain { filters: vec![connection_manager(gateway, first, &listeners)], ..Default::default() }]
        },
        listener_filters: if first.https { vec![tls_inspector()] } else { Vec::new() },
        ..Default::default()
    };
    parts.sort_unstable();
    let parts: Option<Arc<dyn References>> = if parts.is_empty() { None } else { Some(Arc::new(parts)) };
    Some(Arc::new(Resource::spliced(TypeUrl::Listener, name, &message, Segment::default(), parts)))
}

/// Where all that a resource refers to is fetched: from the stream that served the resource, and without giving up, since a
/// listener or cluster that is used before what it refers to is there drops requests.
pub(super) fn from_ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        initial_fetch_timeout: Some(Duration::default()),
        resource_api_version: ApiVersion::V3 as i32,
        ..Default::default()
    })
}

/// Packs a message into an `Any`.
pub(super) fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec().into() }
}

fn address(ip: IpAddr, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: ip.to_string(),
            port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
            // "::" alone means both families, as a user who writes it expects.
            ipv4_compat: ip.is_ipv6() && ip.is_unspecified(),
            ..Default::default()
        })),
    }
}

fn https_chain(gateway: &ObjectName, listener: &ListenerSpec, listeners: &GatewayListeners) -> FilterChain {
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            tls_certificate_sds_secret_configs: listener
                .certificates
                .iter()
                .map(|secret| SdsSecretConfig { name: secret_name(secret), sds_config: from_ads() })
                .collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let server_names = listener.hostname.iter().filter(|name| ***name != *hostname::ANY);
    FilterChain {
        name: listener.name.to_string(),
        filter_chain_match: Some(FilterChainMatch {
            server_names: server_names.map(ToString::to_string).collect(),
            ..Default::default()
        }),
        filters: vec![connection_manager(gateway, listener, listeners)],
        transport_socket: Some(tailscale_gateway_proto::envoy::config::core::v3::TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(
                tailscale_gateway_proto::envoy::config::core::v3::transport_socket::ConfigType::TypedConfig(any(
                    &context,
                )),
            ),
        }),
        ..Default::default()
    }
}

fn tls_inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(&TlsInspector::default()))),
        ..Default::default()
    }
}

/// The settings are those that Envoy's "configuring Envoy as an edge proxy" asks for.
fn connection_manager(gateway: &ObjectName, listener: &ListenerSpec, listeners: &GatewayListeners) -> Filter {
    let table = listener.table(gateway);
    let (early_mutation, routes) = if listeners.divides(&table) {
        (Some(division::early_mutation(&table)), division::scoped_routes(&table))
    } else {
        (None, RouteSpecifier::Rds(Rds { config_source: from_ads(), route_config_name: table.to_string() }))
    };
    let http_filter = |name: &str, config: Any| HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: format!("{}_{}", if listener.https { "https" } else { "http" }, listener.port),
        codec_type: CodecType::Auto as i32,
        early_header_mutation_extensions: early_mutation.into_iter().collect(),
        route_specifier: Some(routes),
        http_filters: vec![
            http_filter(CORS_FILTER, any(&Cors::default())),
            http_filter("envoy.filters.http.router", any(&Router::default())),
        ],
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        access_log: access_log(&listeners.access_log).into_iter().collect(),
        use_remote_address: Some(BoolValue { value: true }),
        normalize_path: Some(BoolValue { value: true }),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::UnescapeAndRedirect as i32,
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: Some(Duration { seconds: 3600, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&manager))),
    }
}
