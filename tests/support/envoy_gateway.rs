//! An Envoy Gateway, played: makes from manifests what the real one makes of them (names, metadata, shapes: `envoy-gateway.md`
//! §5), asks the hooks in its order (§1.4), and does with their answers what it does (§1.5).
//!
//! It knows what the cases in `tests/golden/extension` need: HTTP and HTTPS listeners, HTTPRoutes and GRPCRoutes; and in `passing`
//! listeners of connections and datagrams with their routes.

mod passing;
mod requests;
mod shapes;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};
use tailscale_gateway::{
    api::{
        BackendObjectReference, FromNamespaces, Gateway, HttpBackendRef, HttpPathMatch, HttpRouteRule, Object,
        ParentReference, PathMatchType,
    },
    extension::Hook,
    model::{Kind, ObjectKey, ObjectName},
};
use tailscale_gateway_proto::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster,
                circuit_breakers::Thresholds,
                cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig},
            },
            core::v3::{DataSource, Locality, data_source::Specifier},
            endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
            listener::v3::{Listener, ListenerFilter, listener_filter},
            route::v3::{
                Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster, route,
                route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, RequestMirrorPolicy},
                route_match::PathSpecifier,
                weighted_cluster::ClusterWeight,
            },
        },
        extensions::{
            filters::listener::tls_inspector::v3::TlsInspector,
            transport_sockets::tls::v3::{Secret, TlsCertificate, secret},
        },
        r#type::matcher::v3::RegexMatcher,
    },
    envoy_gateway::{Context, ExtensionResource, PostTranslateModifyRequest, PostTranslateModifyResponse, Single},
    google::protobuf::{Duration, UInt32Value},
};

use self::{
    requests::RequestRoute,
    shapes::{RBAC, ads, any, chain, direct_response, http2_options, metadata, policy, socket},
};

/// The two ways in which an Envoy Gateway names things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The usual one.
    V1,
    /// `XDSNameSchemeV2`.
    V2,
}

/// How it is configured.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The names.
    pub scheme: Scheme,
    /// The hooks that are called.
    pub hooks: BTreeSet<Hook>,
    /// Routes are part of the last hook's call.
    pub routes_included: bool,
    /// Listeners are.
    pub listeners_included: bool,
    /// The address that listeners are bound to.
    pub address: String,
    /// Without an API server, metadata does not say that a Gateway is one.
    pub standalone: bool,
    /// What policies come to on routes, by their names: `deny`, `allow`, or `broken`.
    pub policies: BTreeMap<ObjectName, String>,
}

impl Default for Configuration {
    /// As `manifests/envoy-gateway` has it.
    fn default() -> Self {
        Self {
            scheme: Scheme::V1,
            hooks: [Hook::Translate].into(),
            routes_included: true,
            listeners_included: false,
            address: "127.0.0.1".to_owned(),
            standalone: false,
            policies: BTreeMap::new(),
        }
    }
}

/// What Envoys are served: encoded messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `Cluster`.
    pub clusters: Vec<Bytes>,
    /// `Secret`.
    pub secrets: Vec<Bytes>,
    /// `Listener`.
    pub listeners: Vec<Bytes>,
    /// `RouteConfiguration`.
    pub routes: Vec<Bytes>,
    /// `ClusterLoadAssignment`.
    pub endpoints: Vec<Bytes>,
}

/// The manifests that it looks at.
struct World<'a> {
    objects: BTreeMap<ObjectKey, &'a Object>,
    /// The routes of requests, by kind and name.
    routes: Vec<RequestRoute>,
}

/// Whether a route asks for a listener of a Gateway or a ListenerSet.
fn asks_for(route: &ObjectKey, parents: &[ParentReference], of: &ObjectKey, section: &str) -> bool {
    parents.iter().any(|parent| {
        Kind::find(&parent.group, &parent.kind) == Some(of.kind)
            && *parent.name == *of.name.name
            && parent.namespace.as_deref().unwrap_or(&route.name.namespace) == &*of.name.namespace
            && parent.section_name.as_deref().is_none_or(|name| name == section)
    })
}

/// A listener, and its name in the intermediate representation.
struct IrListener<'a> {
    gateway: &'a Gateway,
    /// The Gateway, or a ListenerSet of it.
    of: ObjectKey,
    name: String,
    section: &'a str,
    port: u16,
    hostname: Option<&'a str>,
    certificate: Option<ObjectName>,
}

/// Makes the configuration of some Gateways, which are one unless it merges them, asking `extension` what it is told to.
pub fn translate<'a>(
    objects: impl Iterator<Item = &'a Object>,
    gateways: &[ObjectName],
    configuration: &Configuration,
    extension: &mut dyn FnMut(Hook, Bytes) -> Bytes,
) -> Resources {
    let objects: BTreeMap<ObjectKey, &Object> = objects.map(|object| (object.key(), object)).collect();
    let routes = objects.values().filter_map(|object| RequestRoute::of(object)).collect();
    let world = World { objects, routes };
    let mut made = Translation {
        world: &world,
        configuration,
        extension,
        clusters: BTreeMap::new(),
        order: Vec::new(),
        resources: Resources::default(),
    };
    let listeners: Vec<IrListener<'_>> = gateways.iter().flat_map(|name| world.listeners(name)).collect();
    made.http(&listeners);
    gateways.iter().for_each(|name| made.passing(world.gateway(name)));
    made.ask_about_listeners();
    made.finish(gateways)
}

impl<'a> World<'a> {
    fn gateway(&self, name: &ObjectName) -> &'a Gateway {
        match self.objects.get(&ObjectKey::new(Kind::Gateway, name.clone())) {
            Some(Object::Gateway(gateway)) => gateway,
            _ => panic!("there is no Gateway {name}"),
        }
    }

    fn listeners(&self, name: &ObjectName) -> Vec<IrListener<'a>> {
        let gateway = self.gateway(name);
        let own = gateway.spec.listeners.iter().map(|listener| (ObjectKey::new(Kind::Gateway, name.clone()), listener));
        let allowed = gateway.spec.allowed_listeners.as_ref().map(|allowed| allowed.namespaces.from);
        let sets = self.objects.iter().filter_map(|(key, object)| match object {
            Object::ListenerSet(set) => (set.gateway().as_ref() == Some(name)).then_some((key, &set.spec.listeners)),
            _ => None,
        });
        let lets_in = |key: &ObjectKey| match allowed {
            Some(FromNamespaces::All) => true,
            Some(FromNamespaces::Same) => key.name.namespace == name.namespace,
            _ => false,
        };
        let of_sets = sets.filter(|(key, _)| lets_in(key));
        let of_sets = of_sets.flat_map(|(key, listeners)| listeners.iter().map(|listener| (key.clone(), listener)));
        let all = own.chain(of_sets).filter(|(_, listener)| matches!(&*listener.protocol, "HTTP" | "HTTPS"));
        let ir = all.map(|(of, listener)| IrListener {
            gateway,
            name: match of.kind {
                Kind::ListenerSet => format!("{name}/{}/{}", of.name, listener.name),
                _ => format!("{name}/{}", listener.name),
            },
            of,
            section: &listener.name,
            port: listener.port,
            hostname: listener.hostname.as_deref(),
            certificate: listener
                .tls
                .as_ref()
                .map(|tls| ObjectName::new(&*name.namespace, &*tls.certificate_refs[0].name)),
        });
        ir.collect()
    }

    /// The routes of a listener, by kind and name. Those that it takes no kind of ask for none.
    fn routes(&self, listener: &IrListener<'_>) -> impl Iterator<Item = &RequestRoute> {
        self.routes.iter().filter(|route| asks_for(&route.key, &route.parents, &listener.of, listener.section))
    }

    /// Whether a backend of ours is one that it does not take: it looks whether the object is there, and may be referred to.
    fn refuses(&self, from: &ObjectKey, backend: &BackendObjectReference) -> bool {
        let namespace = backend.namespace.as_deref().unwrap_or(&from.name.namespace);
        let kind = Kind::find(&backend.group, &backend.kind).expect("it is a kind of ours");
        let there = self.objects.contains_key(&ObjectKey::new(kind, ObjectName::new(namespace, &*backend.name)));
        let grants = self.objects.values().any(|object| match object {
            Object::ReferenceGrant(grant) => {
                grant.metadata.namespace.as_deref() == Some(namespace)
                    && grant
                        .spec
                        .from
                        .iter()
                        .any(|entry| entry.kind == from.kind.as_str() && *entry.namespace == *from.name.namespace)
                    && grant.spec.to.iter().any(|entry| entry.kind == backend.kind)
            }
            _ => false,
        });
        !there || (*namespace != *from.name.namespace && !grants)
    }

    /// The addresses behind a Service; nothing when there is no such Service.
    fn endpoints(&self, from: &ObjectName, backend: &BackendObjectReference) -> Option<Vec<(String, u16)>> {
        let namespace = backend.namespace.as_deref().unwrap_or(&from.namespace);
        let name = ObjectName::new(namespace, &*backend.name);
        self.objects.get(&ObjectKey::new(Kind::Service, name))?;
        let slices = self.objects.values().filter_map(|object| match object {
            Object::EndpointSlice(slice) => Some(slice),
            _ => None,
        });
        let of_service = slices.filter(|slice| {
            slice.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"))
                == Some(&backend.name)
        });
        let mut found = Vec::new();
        for slice in of_service {
            let port = slice.ports.iter().flatten().find_map(|port| port.port).expect("a slice has a port");
            let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
            found.extend(addresses.map(|address| (address.clone(), u16::try_from(port).expect("a port"))));
        }
        Some(found)
    }
}

fn is_custom(backend: &BackendObjectReference) -> bool {
    backend.group == "gateway.tailscale.com"
}

struct Translation<'a> {
    world: &'a World<'a>,
    configuration: &'a Configuration,
    extension: &'a mut dyn FnMut(Hook, Bytes) -> Bytes,
    clusters: BTreeMap<String, Bytes>,
    order: Vec<String>,
    resources: Resources,
}

impl Translation<'_> {
    fn ask(&mut self, hook: Hook, object: Bytes, context: Context) -> Bytes {
        if !self.configuration.hooks.contains(&hook) {
            return object;
        }
        let request = Single { object: Some(object.clone()), context: Some(context) };
        let response = (self.extension)(hook, request.encode_to_vec().into());
        // An object that is left out is left as it was.
        Single::decode(response).expect("the response is one").object.unwrap_or(object)
    }

    fn http(&mut self, listeners: &[IrListener<'_>]) {
        let mut tables: Vec<(String, RouteConfiguration, Vec<Bytes>)> = Vec::new();
        let mut xds: Vec<(u16, Listener)> = Vec::new();
        for listener in listeners {
            let v2 = self.configuration.scheme == Scheme::V2;
            let https = listener.certificate.is_some();
            if !xds.iter().any(|(port, _)| *port == listener.port) {
                let name = if v2 { format!("tcp-{}", listener.port) } else { listener.name.clone() };
                xds.push((listener.port, self.listener(name, listener.port)));
            }
            let (_, of_port) = xds.iter_mut().find(|(port, _)| *port == listener.port).expect("made just above");
            let table = if https {
                listener.name.clone()
            } else {
                let chain = of_port.default_filter_chain.as_ref().map(|chain| chain.name.clone());
                chain.unwrap_or_else(|| if v2 { format!("http-{}", listener.port) } else { listener.name.clone() })
            };
            let chain = chain(listener, &table, !self.configuration.policies.is_empty());
            if https {
                of_port.filter_chains.push(chain);
                if of_port.listener_filters.is_empty() {
                    of_port.listener_filters.push(ListenerFilter {
                        name: "envoy.filters.listener.tls_inspector".to_owned(),
                        config_type: Some(listener_filter::ConfigType::TypedConfig(any(&TlsInspector::default()))),
                        ..Default::default()
                    });
                }
                self.certificate(listener);
            } else if of_port.default_filter_chain.is_none() {
                of_port.default_filter_chain = Some(chain);
            }
            if !tables.iter().any(|(name, ..)| *name == table) {
                let shell = RouteConfiguration {
                    name: table.clone(),
                    ignore_port_in_host_matching: true,
                    ..Default::default()
                };
                tables.push((table.clone(), shell, Vec::new()));
            }
            let hosts = self.virtual_hosts(listener);
            let (.., all) = tables.iter_mut().find(|(name, ..)| *name == table).expect("made just above");
            all.extend(hosts);
        }
        self.resources.listeners.extend(xds.into_iter().map(|(_, listener)| Bytes::from(listener.encode_to_vec())));
        for (_, shell, hosts) in tables {
            let mut table = shell.encode_to_vec();
            for host in hosts {
                prost::encoding::bytes::encode(2, &host, &mut table);
            }
            self.resources.routes.push(table.into());
        }
    }

    /// The hook is asked about every listener, whatever it takes.
    fn ask_about_listeners(&mut self) {
        for listener in std::mem::take(&mut self.resources.listeners) {
            let listener = self.ask(Hook::HttpListener, listener, Context::default());
            self.resources.listeners.push(listener);
        }
    }

    fn listener(&self, name: String, port: u16) -> Listener {
        Listener { name, address: Some(socket(&self.configuration.address, port)), ..Default::default() }
    }

    fn certificate(&mut self, listener: &IrListener<'_>) {
        let name = listener.certificate.clone().expect("the listener has a certificate");
        let Some(Object::Secret(object)) = self.world.objects.get(&ObjectKey::new(Kind::Secret, name.clone())) else {
            panic!("there is no Secret {name}");
        };
        let part = |key: &str| {
            let bytes = object.data.as_ref().and_then(|data| data.get(key)).expect("the Secret has it").0.clone();
            Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes)), ..Default::default() })
        };
        let message = Secret {
            name: name.to_string(),
            r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
                certificate_chain: part("tls.crt"),
                private_key: part("tls.key"),
                ..Default::default()
            })),
        };
        self.resources.secrets.push(message.encode_to_vec().into());
    }

    /// The virtual hosts of a listener, in the order in which its routes ask for their hostnames.
    fn virtual_hosts(&mut self, listener: &IrListener<'_>) -> Vec<Bytes> {
        let mut hosts: Vec<(String, Vec<Entry<'_>>)> = Vec::new();
        let world = self.world;
        for route in world.routes(listener) {
            let own = listener.hostname.map_or_else(|| vec!["*".to_owned()], |hostname| vec![hostname.to_owned()]);
            let hostnames = if route.hostnames.is_empty() { own } else { route.hostnames.clone() };
            for hostname in hostnames {
                if !hosts.iter().any(|(known, _)| *known == hostname) {
                    hosts.push((hostname.clone(), Vec::new()));
                }
                let (_, entries) = hosts.iter_mut().find(|(known, _)| *known == hostname).expect("made just above");
                for (at, rule) in route.rules.iter().enumerate() {
                    let whole = [Default::default()];
                    let matches = if rule.matches.is_empty() { &whole[..] } else { &rule.matches };
                    for (place, wanted) in matches.iter().enumerate() {
                        entries.push(Entry {
                            route: &route.key,
                            rule,
                            at,
                            place: if rule.matches.is_empty() { -1 } else { i64::try_from(place).expect("small") },
                            path: wanted.path.clone(),
                            hostname: hostname.clone(),
                        });
                    }
                }
            }
        }
        let mut made = Vec::new();
        let kind = if self.configuration.standalone { "" } else { "Gateway" };
        for (hostname, mut entries) in hosts {
            let order = [PathMatchType::Exact, PathMatchType::RegularExpression, PathMatchType::PathPrefix];
            entries.sort_by_key(|entry| {
                let place = order.iter().position(|known| *known == entry.path.type_);
                (place, std::cmp::Reverse(entry.path.value.len()))
            });
            let routes: Vec<Bytes> = entries.iter().map(|entry| self.route(entry)).collect();
            let underscored = hostname.replace('.', "_");
            let name = match self.configuration.scheme {
                Scheme::V1 => format!("{}/{underscored}", listener.name),
                Scheme::V2 => underscored,
            };
            let shell = VirtualHost {
                name,
                domains: vec![hostname],
                metadata: Some(metadata(kind, &gateway_name(listener.gateway), listener.section)),
                ..Default::default()
            };
            let mut host = shell.encode_to_vec();
            for route in routes {
                prost::encoding::bytes::encode(3, &route, &mut host);
            }
            made.push(host.into());
        }
        // The hook is asked once all of the listener's routes are there.
        made.into_iter().map(|host| self.ask(Hook::VirtualHost, host, Context::default())).collect()
    }

    fn route(&mut self, entry: &Entry<'_>) -> Bytes {
        let Entry { route, rule, at, place, hostname, .. } = entry;
        let cluster = format!("{}/rule/{at}", lower(route));
        let path = match (entry.path.type_, &*entry.path.value) {
            (PathMatchType::Exact, path) => PathSpecifier::Path(path.to_owned()),
            (PathMatchType::RegularExpression, regex) => {
                PathSpecifier::SafeRegex(RegexMatcher { regex: regex.to_owned(), ..Default::default() })
            }
            (_, "/") => PathSpecifier::Prefix("/".to_owned()),
            (_, path) => PathSpecifier::PathSeparatedPrefix(path.trim_end_matches('/').to_owned()),
        };
        let policy_text = self.configuration.policies.get(&route.name).map(String::as_str);
        let message = Route {
            name: format!("{cluster}/match/{place}/{}", hostname.replace('.', "_")),
            r#match: Some(RouteMatch { path_specifier: Some(path), ..Default::default() }),
            metadata: Some(metadata(route.kind.as_str(), &route.name, "")),
            action: Some(if self.fails(route, rule) || policy_text == Some("broken") {
                route::Action::DirectResponse(direct_response(500))
            } else {
                route::Action::Route(self.action(&cluster, route, rule))
            }),
            typed_per_filter_config: policy_text
                .and_then(policy)
                .map(|config| (RBAC.to_owned(), config))
                .into_iter()
                .collect(),
            ..Default::default()
        };
        // The objects of other routes than HTTPRoutes are forgotten: no hook is asked about them.
        let custom = match route.kind {
            Kind::HttpRoute => self.extension_resources(route, rule),
            _ => Vec::new(),
        };
        let mut bytes: Bytes = message.encode_to_vec().into();
        if !custom.is_empty() {
            let context = Context {
                extension_resources: custom.clone(),
                hostnames: vec![hostname.clone()],
                ..Default::default()
            };
            bytes = self.ask(Hook::Route, bytes, context);
        }
        if !self.fails(route, rule) {
            self.clusters_of(&cluster, route, rule, &custom);
        }
        bytes
    }

    /// Whether a rule is answered with 500 and has no cluster: it has no backend that can be used, or mirrors to one of ours.
    fn fails(&self, from: &ObjectKey, rule: &HttpRouteRule) -> bool {
        let mirrors = rule.filters.iter().filter_map(|filter| filter.request_mirror.as_ref());
        let weighted = rule.backend_refs.iter().filter(|backend| backend.weight > 0);
        mirrors.into_iter().any(|mirror| is_custom(&mirror.backend_ref))
            || weighted.into_iter().all(|backend| self.is_unusable(from, &backend.object))
    }

    fn is_unusable(&self, from: &ObjectKey, backend: &BackendObjectReference) -> bool {
        match is_custom(backend) {
            true => self.world.refuses(from, backend),
            false => self.world.endpoints(&from.name, backend).unwrap_or_default().is_empty(),
        }
    }

    /// Whether each backend needs a cluster of its own.
    fn per_backend(&self, from: &ObjectKey, rule: &HttpRouteRule) -> bool {
        rule.backend_refs.iter().filter(|backend| backend.weight > 0).any(|backend| {
            self.is_unusable(from, &backend.object) || (!is_custom(&backend.object) && !backend.filters.is_empty())
        })
    }

    fn action(&self, cluster: &str, from: &ObjectKey, rule: &HttpRouteRule) -> RouteAction {
        let mirrors = rule.filters.iter().enumerate().filter(|(_, filter)| filter.request_mirror.is_some());
        let request_mirror_policies = mirrors
            .map(|(at, _)| RequestMirrorPolicy { cluster: format!("{cluster}-mirror-{at}"), ..Default::default() })
            .collect();
        let mut action = RouteAction { request_mirror_policies, ..Default::default() };
        if !self.per_backend(from, rule) {
            action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster.to_owned()));
            return action;
        }
        let entry =
            |name: String, value| ClusterWeight { name, weight: Some(UInt32Value { value }), ..Default::default() };
        let mut invalid = 0;
        let mut clusters = Vec::new();
        for (at, backend) in rule.backend_refs.iter().enumerate() {
            if self.is_unusable(from, &backend.object) {
                invalid += backend.weight;
            } else if !is_custom(&backend.object) {
                clusters.push(entry(format!("{cluster}/backend/{at}"), backend.weight));
            }
        }
        if invalid > 0 {
            clusters.insert(0, entry("invalid-backend-cluster".to_owned(), invalid));
        }
        action.cluster_not_found_response_code = ClusterNotFoundResponseCode::InternalServerError as i32;
        action.cluster_specifier =
            Some(ClusterSpecifier::WeightedClusters(WeightedCluster { clusters, ..Default::default() }));
        action
    }

    /// The objects that backends of a rule name, as JSON.
    fn extension_resources(&self, from: &ObjectKey, rule: &HttpRouteRule) -> Vec<ExtensionResource> {
        let custom = rule.backend_refs.iter().map(|backend| &backend.object);
        let custom = custom.filter(|backend| is_custom(backend) && !self.world.refuses(from, backend));
        let json = custom.map(|backend| {
            let namespace = backend.namespace.as_deref().unwrap_or(&from.name.namespace);
            let object = json!({
                "apiVersion": "gateway.tailscale.com/v1alpha1",
                "kind": backend.kind,
                "metadata": {"namespace": namespace, "name": backend.name},
            });
            ExtensionResource { unstructured_bytes: object.to_string().into() }
        });
        json.collect()
    }

    fn clusters_of(&mut self, name: &str, from: &ObjectKey, rule: &HttpRouteRule, custom: &[ExtensionResource]) {
        let settings: Vec<(String, &HttpBackendRef)> = rule
            .backend_refs
            .iter()
            .enumerate()
            .map(|(at, backend)| (format!("{name}/backend/{at}"), backend))
            .collect();
        if self.per_backend(from, rule) {
            for setting in &settings {
                self.add_cluster(setting.0.clone(), from, std::slice::from_ref(setting), Some(custom));
            }
        } else {
            self.add_cluster(name.to_owned(), from, &settings, Some(custom));
        }
        for (at, filter) in rule.filters.iter().enumerate() {
            if let Some(mirror) = &filter.request_mirror {
                let backend = HttpBackendRef { object: mirror.backend_ref.clone(), weight: 1, filters: Vec::new() };
                let name = format!("{name}-mirror-{at}");
                // No hook is asked about mirrors.
                self.add_cluster(name.clone(), from, &[(format!("{name}/backend/-1"), &backend)], None);
            }
        }
    }

    /// Adds a cluster unless it is there.
    fn add_cluster(
        &mut self,
        name: String,
        from: &ObjectKey,
        settings: &[(String, &HttpBackendRef)],
        asks: Option<&[ExtensionResource]>,
    ) {
        if self.clusters.contains_key(&name) {
            return;
        }
        let mut localities = Vec::new();
        for (setting, backend) in settings.iter().filter(|(_, backend)| !is_custom(&backend.object)) {
            let addresses = self.world.endpoints(&from.name, &backend.object).unwrap_or_default();
            if addresses.is_empty() {
                continue;
            }
            let endpoint = |(address, port): (String, u16)| LbEndpoint {
                host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
                    address: Some(socket(&address, port)),
                    ..Default::default()
                })),
                load_balancing_weight: Some(UInt32Value { value: 1 }),
                ..Default::default()
            };
            localities.push(LocalityLbEndpoints {
                locality: Some(Locality { region: setting.clone(), ..Default::default() }),
                load_balancing_weight: Some(UInt32Value { value: backend.weight }),
                lb_endpoints: addresses.into_iter().map(endpoint).collect(),
                ..Default::default()
            });
        }
        let assignment =
            ClusterLoadAssignment { cluster_name: name.clone(), endpoints: localities, ..Default::default() };
        let mut assignment: Bytes = assignment.encode_to_vec().into();
        let message = Cluster {
            name: name.clone(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
            eds_cluster_config: Some(EdsClusterConfig { eds_config: ads(None), service_name: name.clone() }),
            connect_timeout: Some(Duration { seconds: 10, nanos: 0 }),
            circuit_breakers: Some(CircuitBreakers {
                thresholds: vec![Thresholds { max_retries: Some(UInt32Value { value: 1024 }), ..Default::default() }],
                ..Default::default()
            }),
            common_lb_config: Some(Default::default()),
            dns_lookup_family: DnsLookupFamily::V4Preferred as i32,
            ignore_health_on_host_removal: true,
            per_connection_buffer_limit_bytes: Some(UInt32Value { value: 32_768 }),
            metadata: Some(metadata(from.kind.as_str(), &from.name, "")),
            typed_extension_protocol_options: http2_options(from.kind, settings),
            ..Default::default()
        };
        let mut cluster: Bytes = message.encode_to_vec().into();
        if let Some(custom) = asks {
            assignment = self.ask(Hook::Endpoints, assignment, Context::default());
            if !custom.is_empty() {
                let context = Context { extension_resources: custom.to_vec(), ..Default::default() };
                cluster = self.ask(Hook::Cluster, cluster, context);
            }
        }
        self.resources.endpoints.push(assignment);
        self.order.push(name.clone());
        self.clusters.insert(name, cluster);
    }

    fn finish(mut self, gateways: &[ObjectName]) -> Resources {
        self.resources.clusters = self.order.iter().map(|name| self.clusters[name].clone()).collect();
        let mut resources = self.resources;
        if !self.configuration.hooks.contains(&Hook::Translate) {
            return resources;
        }
        let policies = self.world.objects.values().filter_map(|object| match object {
            Object::TailscaleRoutePolicy(policy) => Some(&**policy),
            _ => None,
        });
        let about =
            policies.filter(|policy| {
                policy.spec.target_refs.iter().any(|target| {
                    target.kind == "Gateway" && gateways.iter().any(|gateway| *gateway.name == *target.name)
                })
            });
        let json = |policy| ExtensionResource { unstructured_bytes: serde_json::to_vec(policy).expect("JSON").into() };
        let included = |wanted: bool, list: &Vec<Bytes>| if wanted { list.clone() } else { Vec::new() };
        let request = PostTranslateModifyRequest {
            post_translate_context: Some(Context {
                extension_resources: about.map(json).collect(),
                ..Default::default()
            }),
            clusters: resources.clusters.clone(),
            secrets: resources.secrets.clone(),
            listeners: included(self.configuration.listeners_included, &resources.listeners),
            routes: included(self.configuration.routes_included, &resources.routes),
        };
        let response = (self.extension)(Hook::Translate, request.encode_to_vec().into());
        let response = PostTranslateModifyResponse::decode(response).expect("the response is one");
        resources.clusters = response.clusters;
        resources.secrets = response.secrets;
        if self.configuration.listeners_included {
            resources.listeners = response.listeners;
        }
        if self.configuration.routes_included {
            resources.routes = response.routes;
        }
        resources
    }
}

/// A route in the intermediate representation: one for each hostname, rule and match.
struct Entry<'a> {
    route: &'a ObjectKey,
    rule: &'a HttpRouteRule,
    at: usize,
    place: i64,
    path: HttpPathMatch,
    hostname: String,
}

/// `KIND/NAMESPACE/NAME`, the kind in small letters.
fn lower(route: &ObjectKey) -> String {
    format!("{}/{}/{}", route.kind.as_str().to_ascii_lowercase(), route.name.namespace, route.name.name)
}

fn gateway_name(gateway: &Gateway) -> ObjectName {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    ObjectName::new(part(&gateway.metadata.namespace), part(&gateway.metadata.name))
}

/// The name of a resource: field 1 of all of them.
pub fn name_of(resource: &[u8]) -> String {
    #[derive(Clone, PartialEq, Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    Named::decode(resource).expect("the resource is a message").name
}

/// The types of a configuration's lists, by what golden files call them.
pub fn lists(resources: &Resources) -> [(&'static str, &'static str, &Vec<Bytes>); 4] {
    [
        ("clusters", "envoy.config.cluster.v3.Cluster", &resources.clusters),
        ("secrets", "envoy.extensions.transport_sockets.tls.v3.Secret", &resources.secrets),
        ("listeners", "envoy.config.listener.v3.Listener", &resources.listeners),
        ("routes", "envoy.config.route.v3.RouteConfiguration", &resources.routes),
    ]
}

/// What differs between two configurations: resources that are new or changed as JSON, by list; and the names of those gone.
pub fn difference(before: &Resources, after: &Resources, json: impl Fn(&str, &Bytes) -> Value) -> Value {
    let mut whole = serde_json::Map::new();
    for ((list, type_url, old), (_, _, new)) in lists(before).into_iter().zip(lists(after)) {
        let mut shown = serde_json::Map::new();
        for resource in new.iter().filter(|resource| !old.contains(resource)) {
            shown.insert(name_of(resource), json(type_url, resource));
        }
        for resource in old.iter().filter(|old| new.iter().all(|new| name_of(new) != name_of(old))) {
            shown.insert(name_of(resource), json!("gone"));
        }
        if !shown.is_empty() {
            whole.insert(list.to_owned(), Value::Object(shown));
        }
    }
    Value::Object(whole)
}
