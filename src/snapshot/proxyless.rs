//! The same resources for gRPC clients that route by themselves ("proxyless", gRFC A27 and its successors).
//!
//! Such a client asks for the listener `NAMESPACE/GATEWAY/PORT`, the target of its channel, and then talks to the backends
//! itself. It can match, divide by weight and limit the time, and nothing else: where a rule changes a request or an answer,
//! its RPCs fail instead of passing the filter by. Never adds anything that an Envoy is not told too.

use std::sync::Arc;

use prost::Message;
use tailscale_gateway_proto::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy},
            },
            listener::v3::{ApiListener, Filter, Listener, filter},
            route::v3::{
                NonForwardingAction, Route, RouteAction, RouteConfiguration, VirtualHost,
                route::Action,
                route_action::{ClusterSpecifier, MaxStreamDuration},
                route_match::PathSpecifier,
                weighted_cluster::ClusterWeight,
            },
        },
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, ScopedRoutes, http_connection_manager::RouteSpecifier,
                http_filter,
            },
        },
        r#type::matcher::v3::RegexMatcher,
    },
    google::protobuf::Duration,
};

use super::{
    Resource, Segment, TypeUrl,
    rendering::{decode, packed},
};

/// The resource as such a client takes it; nothing when it has no use for it.
pub(super) fn render(resource: &Arc<Resource>) -> Option<Arc<Resource>> {
    let bytes = resource.message_bytes();
    let name = Arc::clone(resource.name());
    match resource.type_url() {
        TypeUrl::Listener => {
            listener(decode(&bytes)).map(|listener| Arc::new(Resource::new(TypeUrl::Listener, name, &listener)))
        }
        TypeUrl::Route => {
            let table = route_table(decode(&bytes)).encode_to_vec();
            // The clusters that it names stand beside it, as they do for Envoy: they are withdrawn after the routes.
            let (shell, segment) = (RouteConfiguration::default(), Segment::new(table.into()));
            Some(Arc::new(Resource::spliced(TypeUrl::Route, name, &shell, segment, resource.references().cloned())))
        }
        TypeUrl::Cluster => {
            cluster(decode(&bytes)).map(|cluster| Arc::new(Resource::new(TypeUrl::Cluster, name, &cluster)))
        }
        TypeUrl::Endpoints => Some(Arc::clone(resource)),
        _ => None,
    }
}

/// What an HTTP port's connection manager says, as an API listener. The chains of an HTTPS port have a table each, and their
/// certificates mean nothing to somebody who does not connect to them: such a port is no target.
fn listener(listener: Listener) -> Option<Listener> {
    let [chain] = listener.filter_chains.as_slice() else { return None };
    let [Filter { config_type: Some(filter::ConfigType::TypedConfig(any)), .. }] = chain.filters.as_slice() else {
        return None;
    };
    if chain.transport_socket.is_some() {
        return None;
    }
    let manager: HttpConnectionManager = decode(&any.value);
    let rds = match manager.route_specifier? {
        RouteSpecifier::Rds(rds) => rds,
        // The whole of a divided table has its name.
        RouteSpecifier::ScopedRoutes(ScopedRoutes { name, rds_config_source, .. }) => {
            Rds { config_source: rds_config_source, route_config_name: name }
        }
        RouteSpecifier::RouteConfig(_) => return None,
    };
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(packed(&Router::default()))),
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        // gRPC refuses filters that it does not know (gRFC A39).
        http_filters: vec![router],
        ..Default::default()
    };
    Some(Listener {
        name: listener.name,
        api_listener: Some(ApiListener { api_listener: Some(packed(&manager)) }),
        ..Default::default()
    })
}

fn route_table(mut table: RouteConfiguration) -> RouteConfiguration {
    for VirtualHost { routes, typed_per_filter_config, .. } in &mut table.virtual_hosts {
        typed_per_filter_config.clear();
        routes.iter_mut().for_each(route);
    }
    table
}

fn route(route: &mut Route) {
    // Only CORS is configured by filter: a matter of browsers.
    route.typed_per_filter_config.clear();
    if let Some(wanted) = &mut route.r#match
        && let Some(PathSpecifier::PathSeparatedPrefix(prefix)) = &wanted.path_specifier
    {
        // gRPC does not know prefixes of whole segments, and refuses the table for one.
        let regex = format!("{}(/.*)?", quote(prefix));
        wanted.path_specifier = Some(PathSpecifier::SafeRegex(RegexMatcher { regex, ..Default::default() }));
    }
    let changes_headers = !route.request_headers_to_add.is_empty()
        || !route.request_headers_to_remove.is_empty()
        || !route.response_headers_to_add.is_empty()
        || !route.response_headers_to_remove.is_empty();
    let able = match &mut route.action {
        Some(Action::Route(action)) => !changes_headers && can_forward(action),
        _ => false,
    };
    if !able {
        // RPCs that it takes fail with UNAVAILABLE.
        route.action = Some(Action::NonForwardingAction(NonForwardingAction {}));
    }
}

/// Whether a client does all that is asked for. Says also how long an RPC may take in gRPC's terms (gRFC A31).
fn can_forward(action: &mut RouteAction) -> bool {
    if let Some(timeout) = action.timeout.filter(|timeout| *timeout != Duration::default()) {
        action.max_stream_duration =
            Some(MaxStreamDuration { max_stream_duration: Some(timeout), ..Default::default() });
    }
    let changes_headers = |cluster: &ClusterWeight| {
        !cluster.request_headers_to_add.is_empty()
            || !cluster.request_headers_to_remove.is_empty()
            || !cluster.response_headers_to_add.is_empty()
            || !cluster.response_headers_to_remove.is_empty()
            || cluster.host_rewrite_specifier.is_some()
    };
    let clusters_able = match &mut action.cluster_specifier {
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted.clusters.iter_mut().for_each(|cluster| cluster.typed_per_filter_config.clear());
            !weighted.clusters.iter().any(changes_headers)
        }
        _ => true,
    };
    clusters_able
        && action.prefix_rewrite.is_empty()
        && action.regex_rewrite.is_none()
        && action.host_rewrite_specifier.is_none()
        && action.request_mirror_policies.is_empty()
}

/// The cluster of a Service. Those of tailnet endpoints rewrite the Host, which a client can not.
fn cluster(mut cluster: Cluster) -> Option<Cluster> {
    if cluster.cluster_discovery_type != Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)) {
        return None;
    }
    // The only policy that every gRPC client has had from the beginning (gRFC A27).
    cluster.lb_policy = LbPolicy::RoundRobin as i32;
    cluster.typed_extension_protocol_options.clear();
    Some(cluster)
}

/// A regular expression that matches this text alone.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}
