//! The endpoints of a Service's port, from its EndpointSlices.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use tailscale_gateway_proto::{
    envoy::config::{
        core::v3::{Address, Locality, SocketAddress, address, socket_address::PortSpecifier},
        endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
    },
    google::protobuf::UInt32Value,
};

use super::World;
use crate::{
    model::{ClusterName, ObjectName},
    snapshot::{Resource, TypeUrl},
    store::IndexKey,
};

/// The endpoints of a cluster that has its endpoints apart from itself, which are those of Services. A Service without any is
/// served an empty set: requests get 503.
pub(super) fn endpoints(name: &ClusterName, world: &mut World<'_>) -> Option<Arc<Resource>> {
    let ClusterName::Service { service, port } = name else { return None };
    let addresses = addresses(service, *port, world).unwrap_or_default();
    let assignment = assignment(name.to_string(), &addresses);
    Some(Arc::new(Resource::new(TypeUrl::Endpoints, name.to_string(), &assignment)))
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

/// Ready endpoints; where none is ready, those that still serve while they terminate (Kubernetes, "EndpointSlices:
/// conditions": what kube-proxy does). Nothing when the Service has no such port.
fn addresses(service: &ObjectName, port: u16, world: &mut World<'_>) -> Option<BTreeSet<(IpAddr, u16)>> {
    let object = world.object::<Service>(service)?;
    let ports = object.spec.as_ref()?.ports.as_ref()?;
    let declared =
        ports.iter().find(|declared| declared.port == i32::from(port) && is_tcp(declared.protocol.as_deref()))?;
    let port_name = declared.name.as_deref().unwrap_or_default();
    let (mut ready, mut serving) = (BTreeSet::new(), BTreeSet::new());
    for name in world.index(IndexKey::SlicesOf(service.clone())) {
        let Some(slice) = world.object::<EndpointSlice>(&name) else { continue };
        let numbers: Vec<u16> = slice
            .ports
            .iter()
            .flatten()
            .filter(|port| port.name.as_deref().unwrap_or_default() == port_name && is_tcp(port.protocol.as_deref()))
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
    Some(if ready.is_empty() { serving } else { ready })
}

/// TCP is the default of both Service and EndpointSlice ports.
pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}
