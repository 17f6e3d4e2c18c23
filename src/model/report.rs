//! What the compiler found out about an object. `status` turns it into Kubernetes conditions.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::{Kind, ObjectKey, Problem};

/// The findings about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// About a GatewayClass with our controller name.
    Class(ClassReport),
    /// About a Gateway of our class.
    Gateway(GatewayReport),
    /// About an HTTPRoute.
    Route(RouteReport),
    /// About any other object.
    Object(ObjectReport),
}

impl Report {
    /// The object it is about.
    pub fn object(&self) -> &ObjectKey {
        match self {
            Report::Class(report) => &report.object,
            Report::Gateway(report) => &report.object,
            Report::Route(report) => &report.object,
            Report::Object(report) => &report.object,
        }
    }

    /// All problems in it, in the order in which they were found, each once.
    pub fn problems(&self) -> Vec<&Problem> {
        let mut all: Vec<&Problem> = match self {
            Report::Class(report) => report.problems.iter().collect(),
            Report::Gateway(report) => {
                report.problems.iter().chain(report.listeners.iter().flat_map(|listener| &listener.problems)).collect()
            }
            Report::Route(report) => {
                let parents = report.parents.iter();
                let of_parents = parents.flat_map(|parent| parent.refused.iter().chain(&parent.problems));
                of_parents.chain(&report.problems).collect()
            }
            Report::Object(report) => report.problems.iter().collect(),
        };
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|problem| seen.insert((&problem.object, &problem.field, problem.reason, &problem.message)));
        all
    }
}

/// What the Envoys of a Gateway say about its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Programmed {
    /// None has acknowledged it yet.
    Pending,
    /// All that are connected have.
    Acknowledged,
    /// One refused it, in these words.
    Refused(String),
    /// The Envoys, or what stands in front of them, could not be created or changed, for this reason.
    NotProvisioned(String),
}

/// Which state of a Gateway somebody speaks of. The same on every replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edition {
    /// Its `metadata.generation`.
    pub generation: i64,
    /// A hash of the names of the listeners that are served: one more is served when its Secret comes, which is no new
    /// generation.
    pub listeners: u64,
}

/// What Envoys say of one state of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Of which.
    pub edition: Edition,
    /// What.
    pub programmed: Programmed,
}

/// The findings about a GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassReport {
    /// The GatewayClass.
    pub object: ObjectKey,
    /// Its `metadata.generation`; 0 when it has none.
    pub generation: i64,
    /// Whether it is known of which versions the definitions of its API group are.
    pub definitions_known: bool,
    /// What is wrong with it, and with these definitions.
    pub problems: Vec<Problem>,
}

/// The findings about a Gateway of our class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayReport {
    /// The Gateway.
    pub object: ObjectKey,
    /// Its `metadata.generation`; 0 when it has none.
    pub generation: i64,
    /// The addresses that its listeners are bound to, as `spec.addresses` gave them; those of its Service when Envoys are
    /// created for it.
    pub addresses: Vec<Arc<str>>,
    /// Why nobody reaches it by the addresses that it should have, of reason `AddressNotUsable` or `AddressNotAssigned`: what
    /// is said when the Envoys have taken the configuration. Not among its problems: it is the cluster's to mend, or time's.
    pub unassigned: Option<Problem>,
    /// What is wrong with the Gateway itself (not with one listener).
    pub problems: Vec<Problem>,
    /// One entry for each listener, in the order of `spec.listeners`.
    pub listeners: Vec<ListenerReport>,
}

impl GatewayReport {
    /// Which state of the Gateway this is about.
    pub fn edition(&self) -> Edition {
        let mut listeners = Xxh3::new();
        for listener in self.listeners.iter().filter(|listener| listener.served) {
            listeners.update(listener.name.as_bytes());
            // No name has this in it.
            listeners.update(b"/");
        }
        Edition { generation: self.generation, listeners: listeners.digest() }
    }
}

/// The findings about one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerReport {
    /// The listener's name.
    pub name: Arc<str>,
    /// Whether Envoy is told to serve it.
    pub served: bool,
    /// The route kinds that it takes, of those it asks for.
    pub supported_kinds: Vec<Kind>,
    /// How many routes are attached.
    pub attached_routes: usize,
    /// What is wrong with it; the reason tells which condition it belongs to.
    pub problems: Vec<Problem>,
}

/// The findings about an HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteReport {
    /// The route.
    pub object: ObjectKey,
    /// Its `metadata.generation`; 0 when it has none.
    pub generation: i64,
    /// One entry for each parent reference to a Gateway of our class.
    pub parents: Vec<ParentReport>,
    /// What is to be said of the route that belongs to none of these; it is in no condition.
    pub problems: Vec<Problem>,
}

/// The findings about one parent reference of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentReport {
    /// The parent, as the route refers to it.
    pub parent: ParentTarget,
    /// Whether there is such a Gateway.
    pub exists: bool,
    /// Why the parent does not take the route; nothing when it does.
    pub refused: Option<Problem>,
    /// Whether some listener serves the route, so that all of it was looked at.
    pub served: bool,
    /// What is wrong inside the route although it is attached: references (ResolvedRefs) and rules left out
    /// (PartiallyInvalid); the reason tells which.
    pub problems: Vec<Problem>,
    /// Whether at least one rule of the route is served as written.
    pub any_rule_valid: bool,
}

/// A parent reference as it stands in the route, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParentTarget {
    /// `group`.
    pub group: String,
    /// `kind`.
    pub kind: String,
    /// `namespace`, when set.
    pub namespace: Option<String>,
    /// `name`.
    pub name: String,
    /// `sectionName`, when set.
    pub section_name: Option<String>,
    /// `port`, when set.
    pub port: Option<u16>,
}

/// The findings about an object of any other kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectReport {
    /// The object.
    pub object: ObjectKey,
    /// Its `metadata.generation`; 0 when it has none.
    pub generation: i64,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// What else its status says.
    pub details: Details,
}

/// What the status of an object of ours says besides conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Details {
    /// Nothing.
    #[default]
    None,
    /// Of a TailscaleEndpoints: its endpoints.
    Endpoints(Vec<EndpointDetails>),
    /// Of a TailscaleGateway.
    Tailnets {
        /// What it calls its tailnets.
        names: Vec<Arc<str>>,
        /// How many routes to tailnet endpoints its Gateway has because of it.
        egress_routes: usize,
    },
    /// Of a TailscaleRoutePolicy: its targets.
    Targets(Vec<TargetDetails>),
    /// Of a TailscaleService or a TailscaleServices: how many backends it has.
    Backends(usize),
}

impl Details {
    /// What is to be said of an object of a kind in which nothing could be looked at.
    pub fn unknown(kind: Kind) -> Self {
        match kind {
            Kind::TailscaleEndpoints => Self::Endpoints(Vec::new()),
            Kind::TailscaleGateway => Self::Tailnets { names: Vec::new(), egress_routes: 0 },
            Kind::TailscaleRoutePolicy => Self::Targets(Vec::new()),
            Kind::TailscaleService | Kind::TailscaleServices => Self::Backends(0),
            _ => Self::None,
        }
    }
}

/// An endpoint of a TailscaleEndpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointDetails {
    /// Its name.
    pub name: String,
    /// Its address in the tailnet; may be empty.
    pub tailscale_ip: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its share of the requests.
    pub weight: i32,
    /// Where its requests go.
    pub external_target: Option<String>,
}

/// A target of a policy, as the policy refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetDetails {
    /// `group`.
    pub group: String,
    /// `kind`.
    pub kind: String,
    /// `namespace`, when set.
    pub namespace: Option<String>,
    /// `name`.
    pub name: String,
}
