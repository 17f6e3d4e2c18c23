//! The Service in front of a Gateway's Envoys.

use serde_json::{Value, json};

use super::Source;
use crate::{
    api::ServiceType,
    gateways::{asked_addresses, bound_port},
};

/// The Service; none when no listener could be served, since a Service needs a port.
///
/// Of `spec.addresses` the first is the Service's own: `loadBalancerIP`, or `clusterIP` for a Service that has no load
/// balancer (GEP-1762, "Gateway IP"). Both fields hold one address; the others are `externalIPs`.
pub(super) fn service(source: &Source<'_>) -> Option<Value> {
    let ports = &source.ports.listeners;
    if ports.is_empty() {
        return None;
    }
    let ports = ports.iter().map(|(port, http)| {
        json!({
            "name": format!("{}-{port}", if *http { "http" } else { "https" }),
            "port": port,
            "protocol": "TCP",
            "targetPort": bound_port(*port, source.settings.privileged_ports),
        })
    });
    let parameters = source.parameters.service.clone().unwrap_or_default();
    let type_ = parameters.type_.unwrap_or_default();
    let mut spec = json!({
        "type": type_,
        "selector": source.common.selector(),
        "ports": ports.collect::<Value>(),
        "externalTrafficPolicy": parameters.external_traffic_policy,
        "loadBalancerClass": parameters.load_balancer_class,
        "loadBalancerSourceRanges": parameters.load_balancer_source_ranges,
        "allocateLoadBalancerNodePorts": parameters.allocate_load_balancer_node_ports,
        "ipFamilyPolicy": parameters.ip_family_policy,
        "ipFamilies": parameters.ip_families,
    });
    let mut addresses = asked_addresses(source.gateway).into_iter().map(|address| address.to_string());
    if let Some(first) = addresses.next() {
        spec[if type_ == ServiceType::LoadBalancer { "loadBalancerIP" } else { "clusterIP" }] = json!(first);
        spec["externalIPs"] = addresses.collect();
    }
    let metadata = source.common.metadata(&source.objects, parameters.annotations.as_ref());
    Some(json!({ "metadata": metadata, "spec": spec }))
}
