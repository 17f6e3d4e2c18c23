//! From the world to Envoy's resources: pure functions of what they read.
//!
//! Never fails, never does IO, never asks the clock: a wrong manifest gives a [`Problem`](crate::model::Problem) and leaves
//! out as little as possible. What exists and what reads what is told by [`OutputKey`]; the engine in `store` does the rest.

mod access_log;
mod addresses;
mod attach;
mod backend;
mod cluster;
mod cors;
mod definitions;
mod division;
mod endpoints;
mod filter;
mod findings;
mod gateway;
mod header;
mod hosted;
mod hostname;
mod listener;
mod matching;
mod objects;
mod redirect;
mod reference;
pub mod regex;
mod report;
pub mod route;
mod rule;
mod scope;
mod secret;
mod share;
mod table;
mod target;
mod timeout;
mod url;

use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub use cors::CORS_FILTER;
pub use gateway::{GatewayListeners, ListenerSpec};
pub use hosted::{Hosting, HostingIdentity, XdsAddress};
pub use matching::MatchPrecedence;
pub use secret::readable_authorities;

use crate::{
    model::{
        ClusterName, Kind, ObjectKey, ObjectName, Report, RouteTableName, ServedTable, Traffic, hosted_cluster_key,
    },
    snapshot::{
        HostedChange, HostedCluster, HostedGateway, HostedRoute, Pointer, Resource, Segment, TypeUrl, ViewChange,
    },
    store::{self, Output, Program, View},
};

/// What the compiler is told besides the world; the same for all replicas.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Envoys may bind ports below 1024 themselves; otherwise 10000 is added to these.
    pub privileged_ports: bool,
    /// The objects come from a cluster: whose a class is, only the class says; and Envoys are created for each Gateway that
    /// does not say otherwise, with a Service in front of them: these bind every address, and the addresses that the Gateway
    /// asks for are the Service's.
    pub in_cluster: bool,
    /// PEM certificates of the authorities that HTTPS targets are checked against.
    pub trusted_authorities: Option<Arc<str>>,
    /// Gateways of other controllers get routes and clusters, too; nothing when nobody asks for them.
    pub hosting: Option<Hosting>,
}

/// The compiler as a [`Program`].
#[derive(Clone, Debug, Default)]
pub struct Compiler {
    settings: Settings,
}

/// The names of everything that is made. One that holds a Gateway's name and ends up in its Envoys' snapshot says so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputKey {
    /// A Gateway's listeners, checked. States their hostnames as domains of their tables.
    Listeners(ObjectName),
    /// A TLS Secret, encoded, or why it can not be used.
    Secret(ObjectName),
    /// A cluster, encoded.
    Cluster(ClusterName),
    /// A cluster's endpoints, encoded.
    Endpoints(ClusterName),
    /// Which listeners a route is attached to, and for which domains.
    Binding(ObjectName),
    /// The endpoints of a Gateway's tailnets, conflicts settled. States what it found for the endpoints' own reports.
    Scope(ObjectName),
    /// A route's entries for one table. States them for each of its domains there.
    RouteEntries(RouteTableName, ObjectName),
    /// The entries of tailnet endpoints for one table.
    EndpointEntries(RouteTableName),
    /// One virtual host of a table. States it for the table.
    VirtualHost(RouteTableName, Arc<str>),
    /// Served: a route table, or a part of it.
    RouteTable(ServedTable),
    /// Served: the scope of a part.
    RouteScope(ServedTable),
    /// Served: the Envoy listener of a port.
    Listener(ObjectName, u16),
    /// Served: a cluster that routes of the Gateway name.
    GatewayCluster(ObjectName, ClusterName),
    /// Served: the endpoints of such a cluster.
    GatewayEndpoints(ObjectName, ClusterName),
    /// Served: a certificate that a listener of the Gateway shows.
    GatewaySecret(ObjectName, ObjectName),
    /// Served: the authorities that HTTPS targets are checked against.
    GatewayAuthorities(ObjectName),
    /// Published: a Gateway of another controller.
    HostedGateway(ObjectName),
    /// How such a Gateway's Envoys reach our xDS.
    HostedPointer(ObjectName),
    /// Published: a route of such a Gateway.
    HostedRoute(ObjectKey),
    /// Published: a cluster for such a Gateway's Envoys, and what they send there.
    HostedCluster(ObjectName, ClusterName, Traffic),
    /// Served: its endpoints.
    HostedEndpoints(ObjectName, ClusterName),
    /// What was found about an object.
    Report(ObjectKey),
}

/// An output.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// Of [`OutputKey::Listeners`].
    Listeners(Arc<GatewayListeners>),
    /// Of [`OutputKey::Secret`].
    Secret(Result<Arc<Resource>, Arc<str>>),
    /// Of the outputs that are a resource, or nothing when there is none to serve.
    Resource(Option<Arc<Resource>>),
    /// Of [`OutputKey::Binding`].
    Binding(Arc<attach::Binding>),
    /// Of [`OutputKey::Scope`].
    Scope(Arc<scope::Scope>),
    /// Of [`OutputKey::RouteEntries`].
    Entries(Arc<table::Entries>),
    /// Of [`OutputKey::EndpointEntries`].
    EndpointEntries(Arc<[table::EndpointEntry]>),
    /// Of [`OutputKey::VirtualHost`].
    Segment(Segment),
    /// Of [`OutputKey::HostedGateway`]; nothing when it is not of another controller.
    HostedGateway(Option<Arc<HostedGateway>>),
    /// Of [`OutputKey::HostedPointer`]; nothing when they do not.
    HostedPointer(Option<Arc<Pointer>>),
    /// Of [`OutputKey::HostedRoute`]; nothing when none of its Gateways is.
    HostedRoute(Option<Arc<HostedRoute>>),
    /// Of [`OutputKey::HostedCluster`]; nothing when it leads nowhere.
    HostedCluster(Option<Arc<HostedCluster>>),
    /// Of [`OutputKey::Report`]; nothing for objects that are none of our business.
    Report(Option<Arc<Report>>),
}

/// A set of facts that outputs state for others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The virtual hosts of a table, or of a part of it.
    VirtualHosts(ServedTable),
    /// The entries of routes for a domain of a table.
    Rows(RouteTableName, Arc<str>),
    /// The clusters that a table, or a part of it, routes to.
    Clusters(ServedTable),
    /// The routes attached to a listener of a Gateway.
    Attached(ObjectName, Arc<str>),
    /// Who else wants what endpoints of a TailscaleEndpoints object want.
    EndpointConflicts(ObjectName),
    /// The ports of a Service that a route uses and no EndpointSlice of it has.
    UnmatchedPorts(ObjectName),
    /// Which Gateways offer endpoints of a TailscaleEndpoints object by themselves, and why others do not.
    Offers(ObjectName),
}

/// Something an output states.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// In [`Topic::VirtualHosts`]: the domain, and the virtual host as a field of the table.
    VirtualHost(Arc<str>, Segment),
    /// In [`Topic::Rows`].
    Row(table::Row),
    /// In [`Topic::Clusters`].
    Cluster(Arc<str>),
    /// In [`Topic::Attached`].
    Route(ObjectName),
    /// In [`Topic::EndpointConflicts`].
    Conflict(scope::EndpointConflict),
    /// In [`Topic::UnmatchedPorts`].
    UnmatchedPort(endpoints::UnmatchedPort),
    /// In [`Topic::Offers`].
    Offer(scope::Offer),
}

/// Virtual hosts and rows come to the bytes of them all, in order; the rest to nothing.
impl store::Fact for Fact {
    type Sum = Segment;

    fn mark(&self) -> u64 {
        match self {
            Self::VirtualHost(text, _) | Self::Cluster(text) => xxh3_64(text.as_bytes()),
            Self::Row(row) => row.mark(),
            Self::Route(name) => xxh3_64_with_seed(name.name.as_bytes(), xxh3_64(name.namespace.as_bytes())),
            // One object has few.
            Self::Conflict(_) | Self::Offer(_) | Self::UnmatchedPort(_) => 1,
        }
    }

    fn sum(&self) -> Segment {
        match self {
            Self::VirtualHost(_, segment) => segment.clone(),
            Self::Row(row) => row.segment(),
            Self::Cluster(_) | Self::Route(_) | Self::Conflict(_) | Self::Offer(_) | Self::UnmatchedPort(_) => {
                Segment::default()
            }
        }
    }

    fn join<'a>(sums: impl Iterator<Item = &'a Segment>) -> Segment {
        Segment::join(sums)
    }
}

/// A compile function's world.
pub(crate) type World<'a> = View<'a, Compiler>;

impl Compiler {
    /// A compiler with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

impl Program for Compiler {
    type Key = OutputKey;
    type Value = Made;
    type Topic = Topic;
    type Fact = Fact;

    fn level(&self, key: &OutputKey) -> u8 {
        match key {
            OutputKey::Secret(_) | OutputKey::Cluster(_) | OutputKey::Endpoints(_) | OutputKey::HostedPointer(_) => 0,
            OutputKey::GatewayCluster(..)
            | OutputKey::GatewayEndpoints(..)
            | OutputKey::GatewaySecret(..)
            | OutputKey::GatewayAuthorities(_)
            | OutputKey::HostedCluster(..)
            | OutputKey::HostedEndpoints(..)
            | OutputKey::Listeners(_) => 1,
            OutputKey::Binding(_) | OutputKey::Scope(_) | OutputKey::HostedRoute(_) => 2,
            OutputKey::RouteEntries(..) | OutputKey::EndpointEntries(_) | OutputKey::HostedGateway(_) => 3,
            OutputKey::VirtualHost(..) => 4,
            OutputKey::RouteTable(_) | OutputKey::RouteScope(_) | OutputKey::Listener(..) => 5,
            OutputKey::Report(_) => 6,
        }
    }

    fn roots(&self, object: &ObjectKey) -> Vec<OutputKey> {
        match object.kind {
            // Its author writes its slices, too.
            Kind::Service if !self.settings.in_cluster => vec![OutputKey::Report(object.clone())],
            Kind::Namespace
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::CustomResourceDefinition
            | Kind::ReferenceGrant
            | Kind::TailscaleGatewayRevision => Vec::new(),
            Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute | Kind::UdpRoute => {
                let mut roots = vec![OutputKey::Report(object.clone())];
                roots.extend(self.settings.hosting.is_some().then(|| OutputKey::HostedRoute(object.clone())));
                roots
            }
            // What states facts comes before what looks them up: made on its own, and not when the first reader asks.
            Kind::Gateway => {
                let mut roots = vec![OutputKey::Scope(object.name.clone()), OutputKey::Report(object.clone())];
                roots.extend(self.settings.hosting.is_some().then(|| OutputKey::HostedGateway(object.name.clone())));
                roots
            }
            Kind::HttpRoute => {
                let mut roots = vec![OutputKey::Binding(object.name.clone()), OutputKey::Report(object.clone())];
                roots.extend(self.settings.hosting.is_some().then(|| OutputKey::HostedRoute(object.clone())));
                roots
            }
            _ => vec![OutputKey::Report(object.clone())],
        }
    }

    fn make(&self, key: &OutputKey, world: &mut World<'_>) -> Output<Self> {
        match key {
            OutputKey::Listeners(gateway) => gateway::listeners(&self.settings, gateway, world),
            OutputKey::Secret(secret) => Output::plain(Made::Secret(secret::certificate(secret, world))),
            OutputKey::Cluster(name) => resource(cluster::cluster(&self.settings, name, world)),
            OutputKey::Endpoints(name) => endpoints::endpoints(&self.settings, name, world),
            OutputKey::Binding(route) => attach::binding(route, world),
            OutputKey::Scope(gateway) => scope::scope(gateway, world),
            OutputKey::RouteEntries(table, route) => table::route_entries(table, route, world),
            OutputKey::EndpointEntries(table) => table::endpoint_entries(table, world),
            OutputKey::VirtualHost(table, domain) => table::virtual_host(table, domain, world),
            OutputKey::RouteTable(table) => resource(Some(table::route_table(table, world))),
            OutputKey::RouteScope(part) => resource(Some(division::scope(part))),
            OutputKey::Listener(gateway, port) => resource(listener::listener(gateway, *port, world)),
            OutputKey::GatewayCluster(_, name) => Output::plain(world.output(&OutputKey::Cluster(name.clone()))),
            OutputKey::GatewayEndpoints(_, name) => Output::plain(world.output(&OutputKey::Endpoints(name.clone()))),
            OutputKey::GatewaySecret(_, secret) => {
                resource(world.output(&OutputKey::Secret(secret.clone())).secret().ok())
            }
            OutputKey::GatewayAuthorities(_) => resource(secret::authorities(&self.settings)),
            OutputKey::HostedGateway(name) => {
                Output::plain(Made::HostedGateway(hosted::gateway(&self.settings, name, world)))
            }
            OutputKey::HostedPointer(gateway) => {
                Output::plain(Made::HostedPointer(hosted::pointer(&self.settings, gateway, world)))
            }
            OutputKey::HostedRoute(route) => Output::plain(Made::HostedRoute(hosted::route(route, world))),
            OutputKey::HostedCluster(gateway, name, traffic) => {
                Output::plain(Made::HostedCluster(hosted::cluster(&self.settings, gateway, name, *traffic, world)))
            }
            OutputKey::HostedEndpoints(_, name) => resource(hosted::endpoints(name, world)),
            OutputKey::Report(object) => {
                Output::plain(Made::Report(report::report(&self.settings, object, world).map(Arc::new)))
            }
        }
    }
}

fn resource(resource: Option<Arc<Resource>>) -> Output<Compiler> {
    Output::plain(Made::Resource(resource))
}

impl OutputKey {
    /// Where in which Gateway's snapshot a changed output belongs, if it is served.
    pub fn served(&self, value: Option<&Made>) -> Option<(&ObjectName, ViewChange)> {
        let (gateway, type_url, name): (_, _, Arc<str>) = match self {
            OutputKey::RouteTable(served) => (&served.table.gateway, TypeUrl::Route, served.to_string().into()),
            OutputKey::RouteScope(part) => (&part.table.gateway, TypeUrl::ScopedRoute, part.to_string().into()),
            OutputKey::Listener(gateway, port) => {
                (gateway, TypeUrl::Listener, crate::model::listener_name(gateway, *port).into())
            }
            OutputKey::GatewayCluster(gateway, cluster) => (gateway, TypeUrl::Cluster, cluster.to_string().into()),
            OutputKey::GatewayEndpoints(gateway, cluster) | OutputKey::HostedEndpoints(gateway, cluster) => {
                (gateway, TypeUrl::Endpoints, cluster.to_string().into())
            }
            OutputKey::GatewaySecret(gateway, secret) => {
                (gateway, TypeUrl::Secret, crate::model::secret_name(secret).into())
            }
            OutputKey::GatewayAuthorities(gateway) => (gateway, TypeUrl::Secret, crate::model::AUTHORITIES.into()),
            _ => return None,
        };
        let resource = match value {
            Some(Made::Resource(resource)) => resource.clone(),
            _ => None,
        };
        Some((gateway, ViewChange { type_url, name, resource }))
    }
}

impl OutputKey {
    /// The difference to what is put into configurations of other controllers, if a changed output is one.
    pub fn hosted(&self, value: Option<&Made>) -> Option<HostedChange> {
        match (self, value) {
            (OutputKey::HostedGateway(name), Some(Made::HostedGateway(made))) => {
                Some(HostedChange::Gateway(name.clone(), made.clone()))
            }
            (OutputKey::HostedRoute(key), Some(Made::HostedRoute(made))) => {
                Some(HostedChange::Route(key.clone(), made.clone()))
            }
            (OutputKey::HostedCluster(gateway, name, traffic), Some(Made::HostedCluster(made))) => {
                let key = hosted_cluster_key(name, *traffic);
                Some(HostedChange::Cluster(gateway.clone(), key.into(), made.clone()))
            }
            (OutputKey::HostedGateway(name), _) => Some(HostedChange::Gateway(name.clone(), None)),
            (OutputKey::HostedRoute(key), _) => Some(HostedChange::Route(key.clone(), None)),
            (OutputKey::HostedCluster(gateway, name, traffic), _) => {
                Some(HostedChange::Cluster(gateway.clone(), hosted_cluster_key(name, *traffic).into(), None))
            }
            _ => None,
        }
    }
}

/// Each output's value is of the variant that its key says; these unwrap it.
impl Made {
    pub(crate) fn listeners(self) -> Arc<GatewayListeners> {
        let Made::Listeners(value) = self else { unreachable!("OutputKey::Listeners makes Made::Listeners") };
        value
    }

    pub(crate) fn secret(self) -> Result<Arc<Resource>, Arc<str>> {
        let Made::Secret(value) = self else { unreachable!("OutputKey::Secret makes Made::Secret") };
        value
    }

    pub(crate) fn pointer(self) -> Option<Arc<Pointer>> {
        let Made::HostedPointer(value) = self else {
            unreachable!("OutputKey::HostedPointer makes Made::HostedPointer")
        };
        value
    }

    pub(crate) fn binding(self) -> Arc<attach::Binding> {
        let Made::Binding(value) = self else { unreachable!("OutputKey::Binding makes Made::Binding") };
        value
    }

    pub(crate) fn scope(self) -> Arc<scope::Scope> {
        let Made::Scope(value) = self else { unreachable!("OutputKey::Scope makes Made::Scope") };
        value
    }

    pub(crate) fn entries(self) -> Arc<table::Entries> {
        let Made::Entries(value) = self else { unreachable!("OutputKey::RouteEntries makes Made::Entries") };
        value
    }

    pub(crate) fn endpoint_entries(self) -> Arc<[table::EndpointEntry]> {
        let Made::EndpointEntries(value) = self else {
            unreachable!("OutputKey::EndpointEntries makes Made::EndpointEntries")
        };
        value
    }
}
