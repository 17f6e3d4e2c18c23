//! The endpoints of a Service's port, from its EndpointSlices.

use std::{collections::BTreeSet, fmt, net::IpAddr, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use tailscale_gateway_proto::{
    envoy::config::{
        core::v3::{Address, Locality, SocketAddress, address, socket_address::PortSpecifier},
        endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
    },
    google::protobuf::UInt32Value,
};

use super::{Compiler, Fact, Made, Settings, Topic, World};
use crate::{
    model::{ClusterName, ObjectName},
    snapshot::{Resource, TypeUrl},
    store::{IndexKey, Output},
};

/// No EndpointSlice of a Service has a port that the Service has and that a route uses; stated for the Service's own report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnmatchedPort {
    /// The place in `spec.ports`.
    pub(super) place: usize,
    /// What the Service calls the port.
    name: Arc<str>,
    /// What the slices call theirs, sorted.
    slices_have: Vec<Arc<str>>,
}

impl fmt::Display for UnmatchedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named =
            |name: &Arc<str>| if name.is_empty() { "one without a name".to_owned() } else { format!("{name:?}") };
        let have: Vec<String> = self.slices_have.iter().map(named).collect();
        let have = if have.is_empty() { "none".to_owned() } else { have.join(", ") };
        write!(
            f,
            "no EndpointSlice of this Service has this TCP port, so that requests get 503: here it is {}, and their ports are: \
             {have}; give it the same name in both",
            named(&self.name)
        )
    }
}

/// The endpoints of a cluster that has its endpoints apart from itself, which are those of Services. A Service without any is
/// served an empty set: requests get 503. Where slices are written by hand, states when they do not fit the Service.
pub(super) fn endpoints(settings: &Settings, name: &ClusterName, world: &mut World<'_>) -> Output<Compiler> {
    let ClusterName::Service { service, port } = name else { return Output::plain(Made::Resource(None)) };
    let found = find(service, *port, world).unwrap_or_default();
    let assignment = assignment(name.to_string(), &found.addresses);
    let resource = Arc::new(Resource::new(TypeUrl::Endpoints, name.to_string(), &assignment));
    let unmatched = found.unmatched.filter(|_| !settings.in_cluster);
    let facts = unmatched.map(|port| (Topic::UnmatchedPorts(service.clone()), Fact::UnmatchedPort(port)));
    Output { value: Made::Resource(Some(resource)), facts: facts.into_iter().collect() }
}

/// One locality holds all: with its weight and the endpoints' weights set, which gRPC clients insist on and Envoy ignores.
fn assignment(cluster_name: String, addresses: &BTreeSet<(IpAddr, u16)>) -> ClusterLoadAssignment {
    let one = Some(UInt32Value { value: 1 });
    let lb_endpoints: Vec<LbEndpoint> = addresses
        .iter()
        .map(|(ip, port)| LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(socket_address(ip.to_string(), *port)),
                ..Default::default()
            })),
            load_balancing_weight: one,
            ..Default::default()
        })
        .collect();
    let locality = LocalityLbEndpoints {
        locality: Some(Locality::default()),
        load_balancing_weight: one,
        lb_endpoints,
        ..Default::default()
    };
    ClusterLoadAssignment {
        cluster_name,
        endpoints: if addresses.is_empty() { Vec::new() } else { vec![locality] },
        ..Default::default()
    }
}

/// The address of an endpoint.
pub(super) fn socket_address(host: String, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host,
            port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
            ..Default::default()
        })),
    }
}

/// What is found in the slices of a Service for one of its ports.
#[derive(Default)]
struct Found {
    addresses: BTreeSet<(IpAddr, u16)>,
    /// There are slices, and none has the port.
    unmatched: Option<UnmatchedPort>,
}

/// Ready endpoints; where none is ready, those that still serve while they terminate (Kubernetes, "EndpointSlices:
/// conditions": what kube-proxy does). Nothing when the Service has no such port.
fn find(service: &ObjectName, port: u16, world: &mut World<'_>) -> Option<Found> {
    let object = world.object::<Service>(service)?;
    let ports = object.spec.as_ref()?.ports.as_ref()?;
    let (place, declared) = ports
        .iter()
        .enumerate()
        .find(|(_, declared)| declared.port == i32::from(port) && is_tcp(declared.protocol.as_deref()))?;
    let port_name = declared.name.as_deref().unwrap_or_default();
    let (mut ready, mut serving) = (BTreeSet::new(), BTreeSet::new());
    let mut others = BTreeSet::new();
    let (mut is_sliced, mut is_matched) = (false, false);
    for name in world.index(IndexKey::SlicesOf(service.clone())) {
        let Some(slice) = world.object::<EndpointSlice>(&name) else { continue };
        is_sliced = true;
        let tcp = slice.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref()));
        let (same, other): (Vec<_>, Vec<_>) =
            tcp.partition(|port| port.name.as_deref().unwrap_or_default() == port_name);
        is_matched |= !same.is_empty();
        others.extend(other.into_iter().map(|port| Arc::<str>::from(port.name.as_deref().unwrap_or_default())));
        let numbers: Vec<u16> = same
            .into_iter()
            .filter_map(|port| port.port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0))
            .collect();
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref();
            let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
            let is_serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(is_ready);
            let set = if is_ready {
                &mut ready
            } else if is_serving {
                &mut serving
            } else {
                continue;
            };
            // All addresses of an endpoint are the same pod; the first is the one to use (EndpointSlice API, "addresses").
            if let Some(ip) = endpoint.addresses.first().and_then(|address| address.parse::<IpAddr>().ok()) {
                set.extend(numbers.iter().map(|number| (ip, *number)));
            }
        }
    }
    let unmatched = (is_sliced && !is_matched).then(|| UnmatchedPort {
        place,
        name: port_name.into(),
        slices_have: others.into_iter().collect(),
    });
    Some(Found { addresses: if ready.is_empty() { serving } else { ready }, unmatched })
}

/// TCP is the default of both Service and EndpointSlice ports.
pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}
