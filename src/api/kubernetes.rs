//! Services and EndpointSlices in files: what an API server would refuse, and what has no effect without one. Their schemas say
//! little of it, as an API server checks these kinds by code.
//!
//! Never refuses an object: what is wrong in it is left out alone.

use std::{collections::BTreeMap, net::IpAddr};

use super::{EndpointSlice, Finding, Object, Service};
use crate::model::Reason;

/// The label that ties an EndpointSlice to its Service (Kubernetes, "EndpointSlices: ownership").
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// What is wrong with an object of a file that nobody but this program will look at. An API server sees to it that no such object
/// comes from a cluster.
pub fn file_findings(object: &Object) -> Vec<Finding> {
    let mut found = Vec::new();
    match object {
        Object::Service(object) => service(object, &mut found),
        Object::EndpointSlice(object) => slice(object, &mut found),
        _ => {}
    }
    found
}

fn wrong(found: &mut Vec<Finding>, field: String, message: String) {
    found.push(Finding { field, reason: Reason::UnsupportedValue, message });
}

fn idle(found: &mut Vec<Finding>, field: impl Into<String>, message: &str) {
    found.push(Finding { field: field.into(), reason: Reason::NotActedOn, message: message.to_owned() });
}

/// Kubernetes API reference, `ServiceSpec` and `ServicePort`.
fn service(service: &Service, found: &mut Vec<Finding>) {
    let Some(spec) = &service.spec else { return };
    let types = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    if let Some(type_) = spec.type_.as_deref().filter(|type_| !types.contains(type_)) {
        let message = format!("must be one of {}; got {type_:?}, which is taken for ClusterIP", types.join(", "));
        wrong(found, "spec.type".to_owned(), message);
    }
    let mut seen = BTreeMap::new();
    for (place, port) in spec.ports.iter().flatten().enumerate() {
        let field = format!("spec.ports[{place}]");
        if !is_port(port.port) {
            wrong(found, format!("{field}.port"), no_port(port.port));
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if let Some(message) = no_protocol(protocol) {
            wrong(found, format!("{field}.protocol"), message);
        }
        if let Some(first) = seen.get(&(port.port, protocol)) {
            wrong(found, field, format!("must differ from entry {first} in port and protocol; that one counts"));
        } else {
            seen.insert((port.port, protocol), place);
        }
    }
}

/// Kubernetes API reference, `EndpointSlice`.
fn slice(slice: &EndpointSlice, found: &mut Vec<Finding>) {
    let label = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
    if label.is_none_or(String::is_empty) {
        let message = "is missing, so that these endpoints are those of no Service; write the Service's name";
        idle(found, format!("metadata.labels[{SERVICE_LABEL}]"), message);
    }
    match slice.address_type.as_str() {
        "IPv4" | "IPv6" => {}
        "FQDN" => {
            let message = "names are not looked up here, and the endpoints are left out; write addresses, or a \
                           TailscaleEndpoints with an externalTarget";
            idle(found, "addressType", message);
            return;
        }
        other => wrong(found, "addressType".to_owned(), format!("must be IPv4 or IPv6; got {other:?}")),
    }
    if slice.ports.iter().flatten().next().is_none() && !slice.endpoints.is_empty() {
        idle(
            found,
            "ports",
            "are missing, so that nothing is sent to these endpoints; write one for each port of the Service",
        );
    }
    for (place, port) in slice.ports.iter().flatten().enumerate() {
        match port.port {
            Some(number) if !is_port(number) => wrong(found, format!("ports[{place}].port"), no_port(number)),
            Some(_) => {}
            None => idle(
                found,
                format!("ports[{place}].port"),
                "is missing, so that the entry has no effect; write the number",
            ),
        }
        if let Some(message) = port.protocol.as_deref().and_then(no_protocol) {
            wrong(found, format!("ports[{place}].protocol"), message);
        }
    }
    for (place, endpoint) in slice.endpoints.iter().enumerate() {
        let field = format!("endpoints[{place}].addresses");
        if endpoint.addresses.is_empty() {
            wrong(found, field.clone(), "must have at least one address; the endpoint is left out".to_owned());
        }
        for (at, address) in endpoint.addresses.iter().enumerate() {
            if let Some(message) = no_address(address, &slice.address_type) {
                wrong(found, format!("{field}[{at}]"), message);
            }
        }
    }
}

fn is_port(number: i32) -> bool {
    (1..=65_535).contains(&number)
}

fn no_port(number: i32) -> String {
    format!("must be between 1 and 65535; got {number}, which is left out")
}

fn no_protocol(protocol: &str) -> Option<String> {
    (!["TCP", "UDP", "SCTP"].contains(&protocol)).then(|| format!("must be TCP, UDP or SCTP; got {protocol:?}"))
}

/// What is wrong with an endpoint's address.
fn no_address(text: &str, address_type: &str) -> Option<String> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return Some(format!("must be an IP address, without a port or a zone; got {text:?}, which is left out"));
    };
    if address.is_unspecified() || address.is_multicast() {
        return Some(format!("must be the address of a machine; got {text}"));
    }
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let other = ["IPv4", "IPv6"].contains(&address_type) && family != address_type;
    other.then(|| format!("is an {family} address, and addressType says {address_type}; change one of them"))
}
