//! How xDS resources are called. Every name an Envoy sees is spelled here and only here.

use std::{fmt, sync::Arc};

use super::{ObjectKey, ObjectName};

/// The cluster by which an Envoy reaches this control plane; its bootstrap has it. No [`ClusterName`] is without a `/`.
pub const XDS_CLUSTER: &str = "xds";
/// The secret with which an Envoy proves to this control plane which Gateway it serves. It is in a file of the Envoy's own and
/// is never served.
pub const XDS_CERTIFICATE: &str = "xds-certificate";
/// The authorities by which an Envoy knows this control plane; in a file of its own, too.
pub const XDS_AUTHORITIES: &str = "xds-authorities";

/// The listener by which an Envoy says whether it is ready; the bootstrap of an Envoy in a pod has it. No listener of a
/// Gateway's is without a `/`.
pub const PROBES_LISTENER: &str = "probes";

/// The cluster by which an Envoy reaches its own admin page; its bootstrap has it. No [`ClusterName`] is without a `/`.
pub const ADMIN_CLUSTER: &str = "admin";

/// A cluster: one for each port of a Service and one for each endpoint of a TailscaleEndpoints, whatever routes use it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterName {
    /// `service/NAMESPACE/NAME/PORT`, with the Service's own port number. Its endpoints are served under the same name.
    Service {
        /// The Service.
        service: ObjectName,
        /// The port number in the Service's `spec.ports`.
        port: u16,
    },
    /// `endpoint/NAMESPACE/OBJECT/ENDPOINT`.
    Endpoint {
        /// The TailscaleEndpoints object.
        endpoints: ObjectName,
        /// The endpoint's name in it.
        endpoint: Arc<str>,
    },
}

impl ClusterName {
    /// The cluster that never exists: a share of a route's weight that names it answers 500
    /// (`cluster_not_found_response_code`), as Gateway API asks for backends that can not be resolved.
    pub const UNRESOLVED: &'static str = "unresolved";
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { service, port } => write!(f, "service/{}/{}/{port}", service.namespace, service.name),
            Self::Endpoint { endpoints, endpoint } => {
                write!(f, "endpoint/{}/{}/{endpoint}", endpoints.namespace, endpoints.name)
            }
        }
    }
}

/// What Envoys of a foreign Gateway send to a cluster: it decides how the cluster speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// Requests of HTTP.
    Http,
    /// Requests of gRPC: HTTP/2, whatever else the endpoint speaks.
    Grpc,
    /// Connections: bytes, inside TLS where the endpoint asks for it.
    Connections,
    /// Connections whose bytes are their clients' TLS already.
    Passthrough,
    /// Datagrams.
    Datagrams,
}

impl Traffic {
    /// Whether it is HTTP of some kind.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Grpc)
    }
}

/// The key of what is made of a cluster for Envoys of a foreign Gateway. No Envoy sees it.
pub fn hosted_cluster_key(cluster: &ClusterName, traffic: Traffic) -> String {
    match traffic {
        Traffic::Http => cluster.to_string(),
        Traffic::Grpc => format!("{cluster} for gRPC"),
        Traffic::Connections => format!("{cluster} for connections"),
        Traffic::Passthrough => format!("{cluster} for TLS connections"),
        Traffic::Datagrams => format!("{cluster} for datagrams"),
    }
}

/// A route table (RouteConfiguration): one for each HTTP port of a Gateway, one for each of its HTTPS listeners.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteTableName {
    /// The Gateway.
    pub gateway: ObjectName,
    /// The port that the Gateway's listener declares.
    pub port: u16,
    /// The listener, when it has a table of its own (HTTPS).
    pub section: Option<Arc<str>>,
}

impl fmt::Display for RouteTableName {
    /// `NAMESPACE/GATEWAY/PORT` or `NAMESPACE/GATEWAY/PORT/LISTENER`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.gateway.namespace, self.gateway.name, self.port)?;
        match &self.section {
            Some(section) => write!(f, "/{section}"),
            None => Ok(()),
        }
    }
}

/// A RouteConfiguration as Envoys are served it: a whole route table, or one of the parts of a divided one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServedTable {
    /// The table.
    pub table: RouteTableName,
    /// Which part of it; the whole when there is none.
    pub part: Option<u8>,
}

impl ServedTable {
    /// All of a table.
    pub fn whole(table: RouteTableName) -> Self {
        Self { table, part: None }
    }
}

impl fmt::Display for ServedTable {
    /// The table's name, with `#PART` behind it for a part. A part's scope has the part's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Some(part) => f.write_str(&table_part_name(&self.table, part)),
            None => fmt::Display::fmt(&self.table, f),
        }
    }
}

/// The name of a part of a route table. For Envoy the part is an operator that finds out which it is.
pub fn table_part_name(table: &RouteTableName, part: impl fmt::Display) -> String {
    format!("{table}#{part}")
}

/// The request header that names the part of a divided table, between a request's arrival and its route.
pub const TABLE_HEADER: &str = "x-tailscale-route-table";

/// The name of the Envoy listener for a port of a Gateway: `NAMESPACE/GATEWAY/PORT`.
pub fn listener_name(gateway: &ObjectName, port: u16) -> String {
    format!("{}/{}/{port}", gateway.namespace, gateway.name)
}

/// The name under which a Kubernetes TLS Secret is served: `secret/NAMESPACE/NAME`.
pub fn secret_name(secret: &ObjectName) -> String {
    format!("secret/{}/{}", secret.namespace, secret.name)
}

/// The name under which the authorities are served that HTTPS targets are checked against.
pub const AUTHORITIES: &str = "authorities";

/// The name of the Envoy route to a tailnet endpoint: `endpoint/NAMESPACE/OBJECT/ENDPOINT`.
pub fn endpoint_route_name(endpoints: &ObjectName, endpoint: &str) -> String {
    format!("endpoint/{}/{}/{endpoint}", endpoints.namespace, endpoints.name)
}

/// Whether an Envoy route has a name of [`endpoint_route_name`]. No name of an Envoy Gateway's routes is like it.
pub fn is_endpoint_route(name: &str) -> bool {
    name.starts_with("endpoint/")
}

/// The name of the Envoy route for a match of an HTTPRoute, in its statistics and logs:
/// `httproute/NAMESPACE/NAME/rule/RULE/match/INDEX`, where RULE is the rule's name, or its index when it has none.
pub fn http_route_name(route: &ObjectName, rule: usize, rule_name: Option<&str>, match_index: usize) -> String {
    let ObjectName { namespace, name } = route;
    match rule_name {
        Some(rule) => format!("httproute/{namespace}/{name}/rule/{rule}/match/{match_index}"),
        None => format!("httproute/{namespace}/{name}/rule/{rule}/match/{match_index}"),
    }
}

/// The name of the Envoy route that answers the CORS preflights for the requests that the route `name` takes.
pub fn preflight_route_name(name: &str) -> String {
    format!("{name}/preflight")
}

/// The name of the cluster by which Envoys of a foreign Gateway ask this control plane themselves, and of the Secret with
/// their certificate for it.
pub fn pointer_name(gateway: &ObjectName) -> String {
    format!("tailscale-xds/{}/{}", gateway.namespace, gateway.name)
}

/// The name of the Secret with the authorities by which they know it.
pub fn pointer_authorities_name(gateway: &ObjectName) -> String {
    format!("{}/authorities", pointer_name(gateway))
}

/// The header in which Envoys of a foreign Gateway say whose they are, as `NAMESPACE/GATEWAY`: what their node says is up to
/// the other controller.
pub const GATEWAY_HEADER: &str = "x-tailscale-gateway";

/// The name under which a foreign configuration holds [`AUTHORITIES`].
pub const FOREIGN_AUTHORITIES: &str = "tailscale-gateway/authorities";

/// What an Envoy Gateway calls a rule: its cluster, and the beginning of its routes' names. In both of its schemes
/// (`envoy-gateway.md` §5.2).
pub fn foreign_rule_name(route: &ObjectKey, rule: usize) -> String {
    let ObjectKey { kind, name: ObjectName { namespace, name } } = route;
    format!("{}/{namespace}/{name}/rule/{rule}", kind.as_str().to_ascii_lowercase())
}

/// What an Envoy Gateway calls the one cluster of a TLSRoute, TCPRoute or UDPRoute, which is for all of its rules.
pub fn foreign_passing_name(route: &ObjectKey) -> String {
    let ObjectKey { kind, name: ObjectName { namespace, name } } = route;
    format!("{}/{namespace}/{name}/rule/-1", kind.as_str().to_ascii_lowercase())
}

/// What an Envoy Gateway calls the cluster of one backend of a rule, where each needs its own.
pub fn foreign_backend_name(rule: &str, place: usize) -> String {
    format!("{rule}/backend/{place}")
}

/// What we call the cluster of a part of such a backend.
pub fn foreign_part_name(rule: &str, place: usize, cluster: &str) -> String {
    format!("{rule}/backend/{place}/{cluster}")
}

/// The rule in the name of a route of an Envoy Gateway: what stands in front of `/match/`.
pub fn rule_cluster_of(route: &str) -> Option<&str> {
    // KIND/NAMESPACE/NAME/rule/INDEX/…; no part has a slash in it.
    let mut slashes = route.match_indices('/').map(|(at, _)| at).skip(2);
    let (third, fourth) = (slashes.next()?, slashes.next()?);
    let end = slashes.next().unwrap_or(route.len());
    (&route[third + 1..fourth] == "rule").then(|| &route[..end])
}

/// The rule and the backend's place in the name of a cluster of one backend.
pub fn backend_of_rule_cluster(cluster: &str) -> Option<(&str, usize)> {
    let (rule, place) = cluster.rsplit_once("/backend/")?;
    Some((rule, place.parse().ok()?))
}

/// Whether a cluster has the name of one that all rules with the same backend share, as they do with an Envoy Gateway's
/// `mergeBackends`: `KIND/NAMESPACE/NAME/PORT`, with a protocol behind that in some cases.
pub fn is_shared_backend_cluster(cluster: &str) -> bool {
    ["service/", "serviceimport/", "backend/"].iter().any(|kind| cluster.starts_with(kind))
}

/// The Gateway and listener in what an Envoy Gateway calls a listener, its route table (both `NAMESPACE/GATEWAY/LISTENER`) or,
/// with its domain behind that, a virtual host. One of a ListenerSet has three parts, the set's namespace and name in front.
pub fn foreign_listener_of(name: &str) -> Option<(ObjectName, &str)> {
    let mut parts = name.splitn(3, '/');
    let (namespace, gateway, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let listener = match rest.matches('/').count() {
        0 | 2 => rest,
        1 | 3 => rest.rsplit_once('/')?.0,
        _ => return None,
    };
    Some((ObjectName::new(namespace, gateway), listener))
}

/// The name that a listener has in its Gateway or ListenerSet, from the one that it has among all listeners of a Gateway.
pub fn section_of(listener: &str) -> &str {
    listener.rsplit_once('/').map_or(listener, |(_, section)| section)
}

/// The port in what an Envoy Gateway calls a route table of the second scheme, `http-PORT`.
pub fn foreign_port_of(table: &str) -> Option<u16> {
    table.strip_prefix("http-")?.parse().ok()
}

/// What we call a virtual host that we put into a foreign route table: as an Envoy Gateway would.
pub fn virtual_host_name(gateway: &ObjectName, listener: &str, domain: &str) -> String {
    format!("{}/{}/{listener}/{}", gateway.namespace, gateway.name, domain.replace('.', "_"))
}
