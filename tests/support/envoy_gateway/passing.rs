//! Listeners of connections and datagrams with their TLSRoutes, TCPRoutes and UDPRoutes: one cluster for each route, and no hook
//! is asked about it.

use bytes::Bytes;
use prost::Message;
use tailscale_gateway::{
    api::{Gateway, HttpBackendRef, Listener as GatewayListener, Object, ParentReference, PassingRouteRule, TlsMode},
    model::{Kind, ObjectKey},
};
use tailscale_gateway_proto::{
    envoy::{
        config::{
            core::v3::socket_address::Protocol,
            listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter, listener_filter},
        },
        extensions::filters::{
            listener::tls_inspector::v3::TlsInspector,
            network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
        },
    },
    google::protobuf::Any,
};

use super::{
    IrListener, ObjectName, Scheme, Translation, asks_for, gateway_name, lower,
    shapes::{any, tls_socket},
};

/// A TLSRoute, TCPRoute or UDPRoute.
struct PassingRoute<'a> {
    key: ObjectKey,
    parents: &'a [ParentReference],
    hostnames: &'a [String],
    rules: &'a [PassingRouteRule],
}

impl<'a> PassingRoute<'a> {
    fn of(object: &'a Object) -> Option<Self> {
        let key = object.key();
        Some(match object {
            Object::TlsRoute(route) => Self {
                key,
                parents: &route.spec.passing.parent_refs,
                hostnames: &route.spec.hostnames,
                rules: &route.spec.passing.rules,
            },
            Object::TcpRoute(route) => {
                Self { key, parents: &route.spec.passing.parent_refs, hostnames: &[], rules: &route.spec.passing.rules }
            }
            Object::UdpRoute(route) => {
                Self { key, parents: &route.spec.passing.parent_refs, hostnames: &[], rules: &route.spec.passing.rules }
            }
            _ => return None,
        })
    }
}

/// `envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig` with a matcher that sends all to one cluster.
#[derive(Clone, PartialEq, Message)]
struct UdpProxy {
    #[prost(string, tag = "1")]
    stat_prefix: String,
    #[prost(message, optional, tag = "9")]
    matcher: Option<Matcher>,
}

/// `xds.type.matcher.v3.Matcher`.
#[derive(Clone, PartialEq, Message)]
struct Matcher {
    #[prost(message, optional, tag = "3")]
    on_no_match: Option<OnMatch>,
}

#[derive(Clone, PartialEq, Message)]
struct OnMatch {
    #[prost(message, optional, tag = "2")]
    action: Option<Action>,
}

/// `xds.core.v3.TypedExtensionConfig`.
#[derive(Clone, PartialEq, Message)]
struct Action {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    typed_config: Option<Any>,
}

/// `envoy.extensions.filters.udp.udp_proxy.v3.Route`.
#[derive(Clone, PartialEq, Message)]
struct UdpRoute {
    #[prost(string, tag = "1")]
    cluster: String,
}

impl Translation<'_> {
    /// The listeners of a Gateway that pass on what they get.
    pub(super) fn passing(&mut self, gateway: &Gateway) {
        for protocol in ["TLS", "TCP", "UDP"] {
            for listener in gateway.spec.listeners.iter().filter(|listener| listener.protocol == protocol) {
                self.passing_listener(gateway, listener);
            }
        }
    }

    fn passing_listener(&mut self, gateway: &Gateway, listener: &GatewayListener) {
        let kind = match listener.protocol.as_str() {
            "TLS" => Kind::TlsRoute,
            "TCP" => Kind::TcpRoute,
            _ => Kind::UdpRoute,
        };
        let world = self.world;
        let of = ObjectKey::new(Kind::Gateway, gateway_name(gateway));
        let routes = world.objects.values().filter_map(|object| PassingRoute::of(object));
        let mut routes: Vec<PassingRoute<'_>> = routes
            .filter(|route| route.key.kind == kind && asks_for(&route.key, route.parents, &of, &listener.name))
            .filter(|route| kind == Kind::TlsRoute || route.rules.len() == 1)
            .collect();
        if kind != Kind::TlsRoute {
            // The oldest one alone; of the same age the first by name.
            routes.truncate(1);
        }
        let name = gateway_name(gateway);
        let name = match (self.configuration.scheme, kind) {
            (Scheme::V1, _) => format!("{}/{}/{}", name.namespace, name.name, listener.name),
            (Scheme::V2, Kind::UdpRoute) => format!("udp-{}", listener.port),
            (Scheme::V2, _) => format!("tcp-{}", listener.port),
        };
        let mut xds: Listener = self.listener(name, listener.port);
        for route in &routes {
            let cluster = format!("{}/rule/-1", lower(&route.key));
            self.passing_cluster(&cluster, route);
            match kind {
                Kind::UdpRoute => {
                    set_udp(&mut xds);
                    xds.listener_filters.push(udp_proxy(&cluster));
                }
                _ => xds.filter_chains.push(self.filter_chain(gateway, listener, route, &cluster)),
            }
        }
        if kind == Kind::TlsRoute {
            xds.listener_filters.push(ListenerFilter {
                name: "envoy.filters.listener.tls_inspector".to_owned(),
                config_type: Some(listener_filter::ConfigType::TypedConfig(any(&TlsInspector::default()))),
                ..Default::default()
            });
        }
        if !routes.is_empty() {
            self.resources.listeners.push(Bytes::from(xds.encode_to_vec()));
        }
    }

    /// The cluster for all rules of a route, each backend with a weight a locality.
    fn passing_cluster(&mut self, name: &str, route: &PassingRoute<'_>) {
        let backends: Vec<(String, HttpBackendRef)> = route
            .rules
            .iter()
            .flat_map(|rule| rule.backend_refs.iter().enumerate())
            .filter(|(_, backend)| backend.weight > 0)
            .map(|(at, backend)| {
                let backend =
                    HttpBackendRef { object: backend.object.clone(), weight: backend.weight, filters: Vec::new() };
                (format!("{name}/backend/{at}"), backend)
            })
            .collect();
        let settings: Vec<(String, &HttpBackendRef)> =
            backends.iter().map(|(setting, backend)| (setting.clone(), backend)).collect();
        self.add_cluster(name.to_owned(), &route.key, &settings, None);
    }

    fn filter_chain(
        &mut self,
        gateway: &Gateway,
        listener: &GatewayListener,
        route: &PassingRoute<'_>,
        cluster: &str,
    ) -> FilterChain {
        let ends = listener.tls.as_ref().filter(|tls| tls.mode == TlsMode::Terminate);
        let certificate =
            ends.map(|tls| ObjectName::new(&*gateway_name(gateway).namespace, &*tls.certificate_refs[0].name));
        let prefix = match (&listener.tls, &certificate) {
            (Some(_), Some(_)) => "tls-terminate",
            (Some(_), None) => "tls-passthrough",
            _ => "tcp",
        };
        let proxy = TcpProxy {
            stat_prefix: format!("{prefix}-{}", listener.port),
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
            ..Default::default()
        };
        let transport_socket = certificate.as_ref().map(tls_socket);
        if certificate.is_some() {
            self.certificate(&IrListener {
                gateway,
                of: ObjectKey::new(Kind::Gateway, gateway_name(gateway)),
                name: String::new(),
                section: &listener.name,
                port: listener.port,
                hostname: None,
                certificate,
            });
        }
        FilterChain {
            name: lower(&route.key),
            filter_chain_match: (!route.hostnames.is_empty())
                .then(|| FilterChainMatch { server_names: route.hostnames.to_vec(), ..Default::default() }),
            filters: vec![Filter {
                name: "envoy.filters.network.tcp_proxy".to_owned(),
                config_type: Some(filter::ConfigType::TypedConfig(any(&proxy))),
            }],
            transport_socket,
            ..Default::default()
        }
    }
}

fn set_udp(listener: &mut Listener) {
    use tailscale_gateway_proto::envoy::config::core::v3::address::Address;
    let Some(Address::SocketAddress(address)) = listener.address.as_mut().and_then(|address| address.address.as_mut())
    else {
        unreachable!("the listener has been given a socket's address")
    };
    address.protocol = Protocol::Udp as i32;
}

fn udp_proxy(cluster: &str) -> ListenerFilter {
    let typed = |type_url: &str, value: Vec<u8>| {
        Some(Any { type_url: format!("type.googleapis.com/{type_url}"), value: value.into() })
    };
    let route = UdpRoute { cluster: cluster.to_owned() }.encode_to_vec();
    let action = Action {
        name: "route".to_owned(),
        typed_config: typed("envoy.extensions.filters.udp.udp_proxy.v3.Route", route),
    };
    let proxy = UdpProxy {
        stat_prefix: "service".to_owned(),
        matcher: Some(Matcher { on_no_match: Some(OnMatch { action: Some(action) }) }),
    };
    let config = typed("envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig", proxy.encode_to_vec());
    ListenerFilter {
        name: "envoy.filters.udp_listener.udp_proxy".to_owned(),
        config_type: config.map(listener_filter::ConfigType::TypedConfig),
        ..Default::default()
    }
}
