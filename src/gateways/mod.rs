//! What the compiler and the operator have to see alike: which Gateways are ours, whether Envoys are created for them, with
//! which parameters, and on which ports these listen.
//!
//! Reads the world through a [`View`] of whoever asks, so that each notes what it read. Never makes a message or an object.

mod access_log;
mod parameters;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use access_log::{DEFAULT_JSON, FormatProblem, HEADER_OPERATORS, PLAIN_OPERATORS, TIME_OPERATORS, check_format};
pub use parameters::{GatewayParameters, class_problem, gateway_parameters, object_problems};

use crate::{
    api::{Gateway, GatewayClass, IpFamily, IpFamilyPolicy, Service, TailscaleGatewayParametersSpec},
    model::ObjectName,
    store::{Program, View},
};

/// The controller name of the GatewayClasses that are ours.
pub const CONTROLLER_NAME: &str = "gateway.tailscale.com/gateway-controller";
/// The GatewayClass that is ours in files even when no object defines it.
pub const DEFAULT_CLASS: &str = "tailscale";
/// The annotation of a Gateway that says who creates its Envoys.
pub const INFRASTRUCTURE_ANNOTATION: &str = "gateway.tailscale.com/infrastructure";

/// What is added to ports below 1024 unless Envoy may bind them.
const PRIVILEGED_OFFSET: u16 = 10_000;

/// Who creates the Envoys of a Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Infrastructure {
    /// This program.
    Provisioned,
    /// The Gateway's author.
    External,
}

/// Whether Gateways of a class are ours to serve.
pub fn class_is_ours<P: Program>(class: &str, in_cluster: bool, view: &mut View<'_, P>) -> bool {
    match view.object::<GatewayClass>(&ObjectName::new("", class)) {
        Some(class) => class.spec.controller_name == CONTROLLER_NAME,
        // In files the class may be left out; in a cluster it may yet turn out to be another controller's.
        None => class == DEFAULT_CLASS && !in_cluster,
    }
}

/// Whether an object says whose a class is.
pub fn class_is_known<P: Program>(class: &str, view: &mut View<'_, P>) -> bool {
    view.object::<GatewayClass>(&ObjectName::new("", class)).is_some()
}

/// The port that Envoy binds for a listener's: another one below 1024, unless it may bind those.
pub fn bound_port(port: u16, privileged_ports: bool) -> u16 {
    if port < 1024 && !privileged_ports { port + PRIVILEGED_OFFSET } else { port }
}

/// The address that Envoys bind that are created: every IPv4 address, or both families' where their Service can have IPv6
/// addresses. Not both anywhere: a kernel in which IPv6 is switched off refuses `::`, while `0.0.0.0` is always taken.
pub fn bound_address<P: Program>(parameters: &TailscaleGatewayParametersSpec, view: &mut View<'_, P>) -> IpAddr {
    let asks = parameters.service.as_ref().is_some_and(|service| {
        service.ip_family_policy.is_some_and(|policy| policy != IpFamilyPolicy::SingleStack)
            || service.ip_families.iter().flatten().any(|family| *family == IpFamily::IPv6)
    });
    if asks || cluster_is_ipv6_first(view) { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Namespace and name of the API server's own Service, which every cluster has.
const CLUSTER_SERVICE: (&str, &str) = ("default", "kubernetes");

/// Whether this is the Service that tells of which family a cluster's Services are by default.
pub fn is_cluster_service(name: &ObjectName) -> bool {
    (&*name.namespace, &*name.name) == CLUSTER_SERVICE
}

fn cluster_is_ipv6_first<P: Program>(view: &mut View<'_, P>) -> bool {
    let service = view.object::<Service>(&ObjectName::new(CLUSTER_SERVICE.0, CLUSTER_SERVICE.1));
    let families = service.as_ref().and_then(|service| service.spec.as_ref()?.ip_families.as_ref());
    families.and_then(|families| families.first()).is_some_and(|first| first == "IPv6")
}

/// The addresses that a Gateway asks for by their value, each once, without what is none and without those that stand for
/// all: when Envoys are created for it, they are its Service's.
pub fn asked_addresses(gateway: &Gateway) -> Vec<IpAddr> {
    let mut asked = Vec::new();
    for address in gateway.spec.addresses.iter().filter(|address| address.type_ == "IPAddress") {
        let parsed = address.value.as_deref().and_then(|value| value.parse::<IpAddr>().ok());
        asked.extend(parsed.filter(|ip| !ip.is_unspecified() && !asked.contains(ip)));
    }
    asked
}

/// Who creates the Envoys of a Gateway, by its annotation.
///
/// # Errors
///
/// What is wrong with the annotation, in words.
pub fn infrastructure(gateway: &Gateway) -> Result<Infrastructure, String> {
    let value =
        gateway.metadata.annotations.as_ref().and_then(|annotations| annotations.get(INFRASTRUCTURE_ANNOTATION));
    match value.map(String::as_str) {
        None => Ok(Infrastructure::Provisioned),
        Some("external") => Ok(Infrastructure::External),
        Some(other) => {
            Err(format!("{other:?} is no known value; write external if you run the Envoys yourself, or remove it"))
        }
    }
}
